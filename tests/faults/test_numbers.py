"""Checkpoints whose parameters are no numbers, and who says so."""

import json
import math

import pytest
import torch
from helpers import command_line, translate_lines
from test_validation import write_valid

TRUNK = "encoder.layers.0.fc1.weight"


@pytest.fixture
def spoil(tree):
    """spoil(name): the checkpoint with NaN in one parameter."""

    def make(name):
        state = torch.load(tree)
        state["model"][name].view(-1)[0] = math.nan
        torch.save(state, tree)
        return tree

    return make


def test_a_trunk_without_numbers_translates_nothing(spoil, tmp_path, monkeypatch, capsys):
    path = spoil(TRUNK)
    status, _, err = translate_lines(capsys, monkeypatch, tmp_path, "w1 w2\n", path)
    assert status == 1
    assert err.splitlines()[-1] == (
        f"tsa-fairseq: error: the model cannot translate: its 0.{TRUNK} is not finite"
    )


@pytest.mark.parametrize("metric", ["nll", "bleu"])
def test_a_peer_without_numbers_is_not_the_best(metric, spoil, data, tmp_path, capsys):
    """It lies on the path of leaf 1 alone; the others are compared."""
    write_valid(data, ["w1 w2 w3", "w4 w5"])
    path, out = spoil("decoder.peers.2.1.fc1.weight"), tmp_path / "out"
    status, said, err = command_line(capsys, "export", path, out, "--leaf", "best",
                                     "--metric", metric)  # fmt: skip
    assert status == 0, err
    assert "leaf 1 nan" in said and "leaf 0 nan" not in said and "leaf 2 nan" not in said
    assert json.loads((out / "export.json").read_text())["leaf"] != 1


@pytest.mark.parametrize("metric", ["nll", "bleu"])
def test_no_leaf_has_a_number(metric, spoil, data, tmp_path, capsys):
    write_valid(data, ["w1 w2 w3"])
    path = spoil(TRUNK)
    status, _, err = command_line(capsys, "export", path, tmp_path / "out", "--leaf", "best",
                                  "--metric", metric)  # fmt: skip
    assert status == 1 and not (tmp_path / "out").exists()
    assert err.splitlines()[-1] == (
        f"tsa-fairseq: error: CHECKPOINT: '{path}': no leaf has a {metric} that is a number"
    )
