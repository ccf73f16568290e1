"""What several tests need, beside the fixtures."""

import argparse
import dataclasses
import hashlib
import re
import weakref

import torch
from fairseq.data import Dictionary
from fairseq.dataclass.configs import DatasetConfig, GenerationConfig
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY
from torch.utils._python_dispatch import TorchDispatchMode

from tsa_fairseq.cli.main import main
from tsa_fairseq.deploy.validation import Scores
from tsa_fairseq.loss.fused import FusedLoss
from tsa_fairseq.objectives import KDSettings, Objective
from tsa_fairseq.objectives.settings import Published


def command_line(capsys, *argv):
    """Run tsa-fairseq in this process: its status, what it printed, what it complained."""
    status = main([str(word) for word in argv])
    shown = capsys.readouterr()
    return status, shown.out, shown.err


def translate_lines(capsys, monkeypatch, folder, text, *argv):
    """Run tsa-fairseq translate in this process on a text: status, output, complaints."""
    file = folder / "in.txt"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with open(file, encoding="utf-8") as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        return command_line(capsys, "translate", *argv)


def exactly(message):
    """A pattern for ``pytest.raises(match=...)`` that only the whole message matches."""
    return f"^{re.escape(message)}$"


class GivenTerms(Objective):
    """A test's objective, which overrides ``terms`` itself."""

    published = Published("test")
    distillation = divergence = None

    def __init__(self, settings=None):
        super().__init__(settings or KDSettings())


class TinyTask:
    """As much of fairseq's translation task as models and criterions ask for."""

    def __init__(self, words=40):
        self.source_dictionary = self.target_dictionary = Dictionary()
        for word in range(words - len(self.target_dictionary)):
            self.target_dictionary.add_symbol(f"w{word}")


TINY = dict(
    encoder_layers=2,
    decoder_layers=3,
    encoder_embed_dim=16,
    encoder_ffn_embed_dim=24,
    encoder_attention_heads=2,
    decoder_embed_dim=16,
    decoder_ffn_embed_dim=24,
    decoder_attention_heads=2,
    dropout=0.0,
)


# What a leaf may be built with, beside the defaults.
VARIANTS = {
    "post-norm": {},
    "pre-norm": dict(encoder_normalize_before=True, decoder_normalize_before=True),
    "learned positions": dict(encoder_learned_pos=True, decoder_learned_pos=True),
    "shared embeddings": dict(share_all_embeddings=True),
    "shared decoder embeddings": dict(share_decoder_input_output_embed=True),
}


def make_batch(task, lengths=(7, 4, 5), seed=0):
    """A batch of random sentences, sources padded left and targets right as fairseq does."""
    pad, eos = task.target_dictionary.pad(), task.target_dictionary.eos()
    generator = torch.Generator().manual_seed(seed)
    width = max(lengths)
    source = torch.full((len(lengths), width), pad)
    target, shifted = source.clone(), source.clone()
    for row, length in enumerate(lengths):
        words = torch.randint(4, len(task.target_dictionary), (2, length), generator=generator)
        words[:, -1] = eos
        source[row, width - length :] = words[0]
        target[row, :length] = words[1]
        shifted[row, :length] = torch.cat([words[1, -1:], words[1, :-1]])
    return {
        "net_input": {
            "src_tokens": source,
            "src_lengths": torch.tensor(lengths),
            "prev_output_tokens": shifted,
        },
        "target": target,
        "ntokens": sum(lengths),
        "nsentences": len(lengths),
        "id": torch.arange(len(lengths)),
    }


def save_stock(path, task, arch="transformer", seed=1, **flags):
    """A checkpoint of fairseq's transformer, as far as a teacher is read from it; the model."""
    args = argparse.Namespace(**{**TINY, **flags}, arch=arch)
    ARCH_CONFIG_REGISTRY[arch](args)
    torch.manual_seed(seed)
    model = ARCH_MODEL_REGISTRY[arch].build_model(args, task)
    torch.save({"cfg": {"model": args}, "model": model.state_dict()}, path)
    return model


TREE = "1[1[1,1],2]"


def save_tree(path, task, data, dtype=torch.float32, objective=None, teacher=None, **flags):
    """As fairseq writes it; the model."""
    args = argparse.Namespace(**{**TINY, **flags}, tree=TREE, arch="tsa_transformer")
    args.kd_objective, args.kd_bridge_layers, args.kd_bridge_init = objective, None, None
    if teacher is not None:
        args.kd_teacher = str(teacher)
        args.kd_teacher_checksum = hashlib.sha256(teacher.read_bytes()).hexdigest()
    ARCH_CONFIG_REGISTRY["tsa_transformer"](args)
    torch.manual_seed(0)
    model = ARCH_MODEL_REGISTRY["tsa_transformer"].build_model(args, task)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    model.to(dtype)
    args._name, args.criterion, args.user_dir = "tsa_transformer", "tsa_online_kd", "tsa_fairseq"
    criterion = {"_name": "tsa_online_kd", "kd_alpha": 0.5, "label_smoothing": 0.1}
    state = {
        "args": None,
        "cfg": {
            "model": args,
            "task": {"_name": "translation", "data": str(data), "source_lang": "de",
                     "target_lang": "en"},
            "criterion": criterion,
            "common": {"user_dir": "tsa_fairseq", "seed": 3},
            "generation": dataclasses.asdict(GenerationConfig()),
            "dataset": dataclasses.asdict(DatasetConfig(max_tokens=1000)),
            "bpe": None, "tokenizer": None,
        },
        "model": model.state_dict(),
        "optimizer_history": [
            {"criterion_name": "TSAOnlineKDCriterion", "optimizer_name": "FairseqAdam",
             "lr_scheduler_state": {}, "num_updates": 7}
        ],
        "extra_state": {"train_iterator": {"epoch": 2, "version": 2}, "metrics": {}},
        "last_optimizer_state": {"state": {}},
    }  # fmt: skip
    torch.save(state, path)
    return model


def meanwhile(monkeypatch, do):
    """Something happens while the best leaf is looked for."""

    def score(*_):
        do()
        return Scores("nll", (1.0, 2.0, 3.0))

    monkeypatch.setattr("tsa_fairseq.cli.export.leaf_scores", score)


def fused_loss(*settings):
    """FusedLoss of features K x N x D, member by member, as references have them."""
    loss = FusedLoss(*settings)
    return lambda features, *rest: loss(features.transpose(0, 1), *rest)


class Alive(TorchDispatchMode):
    """Bytes of the tensors that are alive at a time, of those made while it watches."""

    def __init__(self):
        super().__init__()
        self.now, self.most, self.known = 0, 0, set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.watch(tensor.untyped_storage())
        return result

    def watch(self, storage):
        key, size = storage._cdata, storage.nbytes()
        if key not in self.known and size:
            self.known.add(key)
            self.now += size
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self.gone, key, size)

    def gone(self, key, size):
        self.known.discard(key)
        self.now -= size


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that any operation returns."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.untyped_storage().nbytes() // 8)
        return result
