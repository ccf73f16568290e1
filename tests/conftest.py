"""A tiny translation task, trees over it, and batches with padding."""

import argparse
import os
from types import SimpleNamespace

os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # tiny tensors: more threads only get in each other's way
if not os.path.exists("/dev/nvidiactl"):  # read when triton is imported: no kernel runs here
    os.environ.setdefault("TRITON_INTERPRET", "1")

import pytest
import sentencepiece
import torch
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY
from helpers import TINY, TinyTask, make_batch, save_tree
from made_up import make

import tsa_fairseq  # noqa: F401 - registers the architectures
from tsa_fairseq.cli.main import main


@pytest.fixture
def task():
    return TinyTask()


@pytest.fixture
def build(task):
    """build(arch, seed=0, noise=0, **flags): a model with tiny dimensions, from the seed."""

    def build_model(arch="tsa_transformer", seed=0, noise=0.0, **flags):
        args = argparse.Namespace(**{**TINY, **flags})
        ARCH_CONFIG_REGISTRY[arch](args)
        torch.manual_seed(seed)
        model = ARCH_MODEL_REGISTRY[arch].build_model(args, task)
        with torch.no_grad():  # norms begin as 1 and 0: without noise one stands for any other
            for parameter in model.parameters():
                parameter.add_(noise * torch.randn_like(parameter))
        return model

    return build_model


@pytest.fixture
def batch(task):
    return make_batch(task)


@pytest.fixture
def criterion(task):
    """criterion(**flags): tsa_online_kd."""
    from tsa_fairseq.plugin.criterion import TSAOnlineKDConfig, TSAOnlineKDCriterion

    def build_criterion(**flags):
        defaults = {"sentence_avg": False, "label_smoothing": 0.1, "max_update": 0}
        return TSAOnlineKDCriterion(TSAOnlineKDConfig(**{**defaults, **flags}), task)

    return build_criterion


@pytest.fixture
def inference_config():
    """What fairseq-generate hands to prepare_for_inference_."""
    return SimpleNamespace(generation=SimpleNamespace(beam=5))


@pytest.fixture
def data(tmp_path):
    """A folder with the dictionaries of TinyTask, as fairseq-preprocess leaves them."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for language in ("de", "en"):
        (folder / f"dict.{language}.txt").write_text("".join(f"w{n} 1\n" for n in range(36)))
    return folder


@pytest.fixture
def tree(tmp_path, task, data):
    """A tree's checkpoint, as fairseq writes it."""
    path = tmp_path / "tree.pt"
    save_tree(path, task, data)
    return path


@pytest.fixture(scope="session")
def pieces(tmp_path_factory):
    """A sentencepiece model of 36 pieces."""
    folder = tmp_path_factory.mktemp("pieces")
    (folder / "text").write_text("ein kleines haus\neine kleine maus\nkein kleiner baum\n")
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text"), model_prefix=str(folder / "spm"), vocab_size=39,
        model_type="bpe", minloglevel=2, hard_vocab_limit=False,
    )  # fmt: skip
    return folder / "spm.model"


@pytest.fixture
def pieces_data(tmp_path, pieces):
    """A folder with dictionaries of these pieces."""
    folder = tmp_path / "bin.pieces"
    folder.mkdir()
    model = sentencepiece.SentencePieceProcessor(model_file=str(pieces))
    words = [model.id_to_piece(n) for n in range(3, model.get_piece_size())]
    for language in ("de", "en"):
        lines = "".join(f"{word} 1\n" for word in words)
        (folder / f"dict.{language}.txt").write_text(lines, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def made_up(tmp_path_factory):
    """A checkpoint that knows made-up sentences, with a sentencepiece model for each side; and its
    exports: ``fairseq`` and ``ctranslate2``.
    """
    folder = tmp_path_factory.mktemp("made_up")
    made = make(folder / "made", "two", joined=False)
    for to in ("fairseq", "ctranslate2"):
        argv = ["export", made.path, folder / to, "--to", to, "--subwords", *made.files]
        assert main(list(map(str, argv))) == 0
        setattr(made, to, folder / to)
    return made
