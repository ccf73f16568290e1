"""The gate: a checkpoint with code where fairseq would run it is refused by every door."""

import json
from argparse import Namespace

import pytest
import torch
from helpers import command_line, exactly, save_stock, save_tree

import tsa_fairseq
from tsa_fairseq.errors import UsageError
from tsa_fairseq.files.checkpoint import read_checkpoint
from tsa_fairseq.plugin.teacher import Teacher

FIELDS = ["adaptive_softmax_cutoff", "decoder_xformers_att_config", "encoder_xformers_att_config"]


def refusal(flag, path, name, code, expected="numbers or a list of them"):
    return (
        f"{flag}: '{path}' is refused: its {name} is '{code:.40}', which fairseq would run as "
        f"code; expected {expected}; nothing of it was run"
    )


@pytest.fixture
def code(tmp_path):
    """What writes a file when it is evaluated, as a list and a dictionary at once."""
    return f"open({str(tmp_path / 'written')!r}, 'w') and []"


@pytest.fixture
def unharmed(tmp_path):
    yield
    assert not (tmp_path / "written").exists(), "code of a checkpoint was run"


def poison(path, name, value, part="model"):
    state = torch.load(path, weights_only=True)
    section = state["cfg"][part]
    (vars(section) if isinstance(section, Namespace) else section)[name] = value
    torch.save(state, path)


@pytest.mark.parametrize("name", FIELDS)
def test_a_tree(name, code, unharmed, tree, data, tmp_path, capsys):
    poison(tree, name, code)
    with pytest.raises(UsageError, match=exactly(refusal("path", tree, name, code))):
        tsa_fairseq.load(tree, data=str(data))
    for argv, flag in [
        (["export", tree, tmp_path / "out", "--leaf", "best"], "CHECKPOINT"),
        (["export", tree, tmp_path / "out", "--to", "ctranslate2"], "CHECKPOINT"),
        (["average", tmp_path / "mean.pt", tree, tree], "CHECKPOINT"),
        (["translate", tree], "MODEL"),
    ]:
        expected = f"tsa-fairseq: error: {refusal(flag, tree, name, code)}\n"
        status, _, said = command_line(capsys, *argv)
        assert status == 1 and said.removeprefix(f"reading {tree}\n") == expected
    assert not (tmp_path / "out").exists() and not (tmp_path / "mean.pt").exists()


@pytest.mark.parametrize("name", FIELDS)
def test_a_stock_checkpoint(name, code, unharmed, task, build, tmp_path):
    path = str(tmp_path / "stock.pt")
    save_stock(path, task)
    poison(path, name, code)
    with pytest.raises(UsageError, match=exactly(refusal("--kd-teacher", path, name, code))):
        Teacher(path, task)
    with pytest.raises(UsageError, match=exactly(refusal("--tree-init-from", path, name, code))):
        build(tree="1,2,4", tree_init_from=path)


def test_in_a_task_and_inside_of_json(code, unharmed, task, data, tmp_path):
    for place, part, value, name, *expected in [
        ("left_pad_source", "task", code, "left_pad_source", "True or False"),
        ("kd_teacher_layout", "model", json.dumps({FIELDS[1]: code}), FIELDS[1]),
    ]:
        path = tmp_path / f"{place}.pt"
        save_tree(path, task, data)
        poison(path, place, value, part)
        with pytest.raises(
            UsageError, match=exactly(refusal("--flag", path, name, code, *expected))
        ):
            read_checkpoint(str(path), "--flag")


@pytest.mark.parametrize("value", [None, "", "None", "[10, 20]", "10,20", "(10, 20)", [10, 20]])
def test_literals_are_what_fairseq_stores(value, tree):
    poison(tree, FIELDS[0], value)
    read_checkpoint(str(tree), "--flag")


def test_another_architecture_is_not_built(tree, data):
    state = torch.load(tree, weights_only=True)
    state["cfg"]["model"].arch = state["cfg"]["model"]._name = "lstm"
    torch.save(state, tree)
    message = (
        f"path: '{tree}' is a model of --arch lstm; expected a tsa_transformer or fairseq's "
        "transformer"
    )
    with pytest.raises(UsageError, match=exactly(message)):
        tsa_fairseq.load(tree, data=str(data))
