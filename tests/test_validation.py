"""The best leaf, by nll or BLEU."""

import hashlib
import json
import math
import re

import pytest
import torch
from fairseq.data import Dictionary
from fairseq.data.indexed_dataset import make_builder
from helpers import command_line, meanwhile, save_tree

from tsa_fairseq.deploy.device import choose_device
from tsa_fairseq.deploy.validation import Scores, leaf_scores
from tsa_fairseq.files.checkpoint import read_checkpoint


@pytest.mark.parametrize("metric", [[], ["--metric", "nll"], ["--metric", "bleu"]])
def test_the_best_leaf(metric, task, data, tmp_path, capsys):
    """Of three leaves, the one that has seen the validation data for reference."""
    path, out = tmp_path / "tree.pt", tmp_path / "out"
    model = save_tree(path, task, data, share_decoder_input_output_embed=True, tree_peers="fresh")
    write_valid(data, ["w1 w2 w3 w4 w5", "w1 w2 w1 w2 w3", "w3 w4 w3 w2 w1"])
    train_leaf(model, 1, task, data, path)
    status, said, err = command_line(capsys, "export", path, out, "--leaf", "best", *metric)
    assert status == 0, err
    assert json.loads((out / "export.json").read_text())["leaf"] == 1
    figures = json.loads((out / "export.json").read_text())
    line = said.splitlines()[1]
    values = [float(x) for x in re.findall(r"leaf \d ([\d.]+)", line)]
    if metric == ["--metric", "bleu"]:
        signature = figures["signature"]
        assert signature.startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
        assert line == f"validation bleu, {signature}: " + shown(values, 2)
        assert values[1] == pytest.approx(100.0) and max(values[0], values[2]) < 50
        assert figures["valid_bleu"] == pytest.approx(100.0)
        assert err.splitlines() == [f"translating 3 sentences with leaf {k}" for k in range(3)]
    else:
        assert line == "validation nll, bits a token: " + shown(values, 3)
        assert figures["valid_nll"] == pytest.approx(min(values), abs=5e-4)
        assert err.splitlines() == ["nll of 3 leaves, 1 batch"]


def shown(values, digits):
    return ", ".join(f"leaf {k} {value:.{digits}f}" for k, value in enumerate(values))


def write_valid(data, lines):
    """What fairseq-preprocess makes of sentences that are their own translation."""
    dictionary = Dictionary.load(str(data / "dict.en.txt"))
    for language in ("de", "en"):
        path = data / f"valid.de-en.{language}"
        builder = make_builder(f"{path}.bin", "mmap", len(dictionary))
        for line in lines:
            builder.add_item(dictionary.encode_line(line, add_if_not_exist=False))
        builder.finalize(f"{path}.idx")


def train_leaf(model, leaf, task, data, path):
    """Until it knows the validation data by heart; into the checkpoint."""
    state = torch.load(path, weights_only=True)
    lines = [line.split() for line in ("w1 w2 w3 w4 w5", "w1 w2 w1 w2 w3", "w3 w4 w3 w2 w1")]
    words = torch.tensor(
        [[task.target_dictionary.index(word) for word in line] + [2] for line in lines]
    )
    net = {"src_tokens": words, "src_lengths": torch.full((3,), 6),
           "prev_output_tokens": words.roll(1, dims=1)}  # fmt: skip
    model.decoder.inference = leaf
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(200):
        loss = torch.nn.functional.cross_entropy(model(**net)[0].flatten(0, 1), words.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.05
    torch.save({**state, "model": model.state_dict()}, path)


@pytest.mark.parametrize("metric", ["nll", "bleu"])
def test_on_a_gpu_if_there_is_one(metric, tree, data, tmp_path, capsys, monkeypatch):
    """Here a stand-in, that stays on the CPU: the model and every batch go there."""
    write_valid(data, ["w1 w2 w3 w4 w5", "w1 w2"])
    plain = command_line(capsys, "export", tree, tmp_path / "cpu", "--leaf", "best",
                         "--metric", metric)[1]  # fmt: skip
    moved = []

    def stand_in(kind):
        real = kind.to

        def to(self, *where, **options):
            if where == (torch.device("cuda"),):
                moved.append(type(self).__name__)
                return self
            return real(self, *where, **options)

        monkeypatch.setattr(kind, "to", to)

    assert choose_device(None, "--device") == torch.device(
        "cuda" if torch.cuda.is_available() else "cpu"
    )
    assert choose_device("cpu", "--device") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    stand_in(torch.Tensor)
    stand_in(torch.nn.Module)
    state = read_checkpoint(str(tree), "CHECKPOINT")
    score = leaf_scores(metric, state, str(tree), str(data), lambda _: None)
    assert moved[0] == "TSATransformerModel"
    # tokens, lengths, shifted tokens, target and numbers of the one batch; of BLEU once for the
    # references, and once a leaf
    assert moved.count("Tensor") == 5 * (1 if metric == "nll" else 4)
    assert str(score) in plain


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--leaf", "best", "--device", "tpu"], "--device: got 'tpu'; expected one of cpu, cuda"),
        (["--device", "cpu"], "--device: got 'cpu', which --leaf 0 does not take"),
        (
            ["--leaf", "best", "--device", "cuda"],
            "--device: got 'cuda'; torch sees no GPU here; expected cpu",
        ),
    ],
)
def test_bad_devices(flags, message, tree, data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    write_valid(data, ["w1 w2 w3"])
    err = command_line(capsys, "export", tree, tmp_path / "out", *flags)[2]
    assert err == f"tsa-fairseq: error: {message}\n"


def test_no_validation_data(tree, data, tmp_path, capsys):
    err = command_line(capsys, "export", tree, tmp_path / "out", "--leaf", "best")[2]
    assert err == (
        f"tsa-fairseq: error: --data: '{data}' has no valid data; expected what "
        "fairseq-preprocess made\n"
    )


@pytest.mark.parametrize("metric", ["nll", "bleu"])
def test_a_leaf_without_a_number_is_not_the_best(metric):
    better = 1.0 if metric == "nll" else 3.0
    assert Scores(metric, (math.nan, 2.0, better)).best == 2


def test_no_leaf_has_a_number(tree, data, tmp_path, capsys):
    write_valid(data, ["w1 w2 w3"])
    state = torch.load(tree, weights_only=False)
    state["model"]["encoder.layers.0.fc1.bias"][:] = math.nan
    torch.save(state, tree)
    err = command_line(capsys, "export", tree, tmp_path / "out", "--leaf", "best")[2]
    assert err.splitlines()[-1] == (
        f"tsa-fairseq: error: CHECKPOINT: '{tree}': no leaf has a nll that is a number"
    )
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_that_is_replaced_meanwhile(tree, tmp_path, capsys, monkeypatch):
    """By the training that still goes on: what was read is looked at and exported."""
    before = hashlib.sha256(tree.read_bytes()).hexdigest()
    meanwhile(monkeypatch, lambda: tree.write_bytes(b"another"))
    assert command_line(capsys, "export", tree, tmp_path / "out", "--leaf", "best")[0] == 0
    assert json.loads((tmp_path / "out" / "export.json").read_text())["source_sha256"] == before
