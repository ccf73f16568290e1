"""The gate: a checkpoint with code where fairseq would run it is refused by every door."""

import json
import time
from argparse import ArgumentParser, Namespace

import numpy as np
import pytest
import torch
from fairseq.models import MODEL_REGISTRY
from fairseq.tasks import TASK_REGISTRY
from helpers import command_line, exactly, save_stock, save_tree
from omegaconf import OmegaConf

import tsa_fairseq
from tsa_fairseq.errors import UsageError
from tsa_fairseq.files import kinds, known_fields, plain
from tsa_fairseq.files.checkpoint import read_checkpoint
from tsa_fairseq.files.gate import checked_state
from tsa_fairseq.files.refused import Refused
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


# ---- what is kept --------------------------------------------------------------------------------


def layouts(tree):
    """The same checkpoint as fairseq wrote it at different times."""
    state = torch.load(tree, weights_only=True)
    model, task = vars(state["cfg"]["model"]), state["cfg"]["task"]
    yield "a Namespace", state
    yield "a dictionary", {**state, "cfg": {**state["cfg"], "model": dict(model)}}
    whole = OmegaConf.create({**state["cfg"], "model": dict(model)})
    yield "a DictConfig", {**state, "cfg": whole}
    flat = {n: v for n, v in model.items() if not n.startswith(("encoder_layers", "encoder_embed"))}
    nested = {"layers": 2, "embed_dim": 16}
    yield "nested", {**state, "cfg": {**state["cfg"], "model": {**flat, "encoder": nested}}}
    args = Namespace(**{**model, **task, "task": "translation", "max_positions": 77, "lr": 0.1})
    args.__dict__.pop("_name")
    args.__dict__.pop("max_source_positions")
    yield "args of old", {**state, "cfg": None, "args": args}


def test_every_layout_translates_the_same(tree, data):
    sentences = ["w3 w4 w5", "w7", "w1 w2 w3 w4 w5 w6"]
    expected = tsa_fairseq.load(tree, data=str(data)).translate(sentences, max_len_b=8)
    found = list(layouts(tree))
    for name, state in found:
        torch.save(state, tree)
        loaded = tsa_fairseq.load(tree, data=str(data))
        assert loaded.translate(sentences, max_len_b=8) == expected, name
        assert loaded.longest()[0] == (77 if name == "args of old" else 1024)


def test_what_is_kept_and_what_is_not(tree):
    state = read_checkpoint(str(tree), "--flag")
    assert state.keys() == {
        "args", "cfg", "model", "optimizer_history", "extra_state", "last_optimizer_state",
        "task_state",
    }  # fmt: skip
    assert state["cfg"].keys() == {
        "model", "task", "criterion", "common", "generation", "dataset", "bpe", "tokenizer",
    }  # fmt: skip
    stored = torch.load(tree, weights_only=True)["cfg"]["model"]
    dropped = vars(stored).keys() - vars(state["cfg"]["model"]).keys()
    assert dropped == {"criterion", "user_dir"}
    for name, value in vars(state["cfg"]["model"]).items():
        assert value == getattr(stored, name), name
    assert state["cfg"]["common"]["user_dir"] is None and state["cfg"]["common"]["seed"] == 3
    assert state["cfg"]["criterion"] == {
        "_name": "tsa_online_kd", "kd_alpha": 0.5, "label_smoothing": 0.1,
    }  # fmt: skip
    assert state["last_optimizer_state"] == {}, "that there was one is known"


@pytest.mark.parametrize("part", ["model", "task"])
def test_fields_of_others_are_those_of_their_parsers(part, tree):
    """Every field of fairseq's parser is known, and nothing that no parser knows is kept."""
    fields = known_fields.model_fields("transformer")
    if part == "task":
        fields = known_fields.task_fields("translation")
    parser = ArgumentParser(allow_abbrev=False, add_help=False)
    registry = MODEL_REGISTRY["transformer"] if part == "model" else TASK_REGISTRY["translation"]
    registry.add_args(parser)
    assert {action.dest for action in parser._actions} <= fields.keys()
    # which eval() is done on, by the list in docs/security.md
    evaluated = {name for name, kind in fields.items() if kind.evaluated}
    assert evaluated == {
        "model": {
            "adaptive_softmax_cutoff", "encoder_xformers_att_config", "decoder_xformers_att_config",
            "encoder_layers_to_keep", "decoder_layers_to_keep",
        },
        "task": {"left_pad_source", "left_pad_target"},
    }[part]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "value", "read"),
    [
        (kinds.literal(), "{'a': (1, 2.5)}", "{'a': (1, 2.5)}"),
        (kinds.literal(), " [1] ", "[1]"),
        (kinds.literal(), {"a": [1, None]}, {"a": [1, None]}),
        (kinds.boolean_text(), "True", "True"),
        (kinds.boolean_text(), False, False),
        (kinds.whole_numbers(0, 9), "(1,2)", [1, 2]),
        (kinds.whole_numbers(0, 9), 3, [3]),
        (kinds.layer_numbers(), "0,2", "0,2"),
        (kinds.layer_numbers(), [0, 2], "0,2"),
        (kinds.whole(0, 9), np.int64(3), 3),
        (kinds.number(0, 1), np.float32(0.5), 0.5),
        (kinds.number(0, 1), 1, 1),
        (kinds.boolean(), np.bool_(True), True),
        (kinds.languages(), "de-en,de-zh_Hans", "de-en,de-zh_Hans"),
        (kinds.languages(), ["de", "sr"], ["de", "sr"]),
        (kinds.texts(), ("a", "b"), ["a", "b"]),
        (kinds.json_object(), '{"beam": 4, "a": [1]}', '{"beam": 4, "a": [1]}'),
        (kinds.json_object(), '{"beam": 4,\n\t"a": [1]}\n', '{"beam": 4, "a": [1]}'),
        (kinds.yes_or_no(), True, True),
        (kinds.text(), "/a b/\u3000c", "/a b/\u3000c"),
        (kinds.nothing(), "/etc/passwd", None),
    ],
)
def test_kinds_hand_on(kind, value, read):
    found = kind.read(value)
    assert found == read and type(found) is type(read)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (kinds.literal(), "f()"),
        (kinds.literal(), "[" * 1000),
        (kinds.literal(), "'${x}'"),
        (kinds.literal(), [[[[[[[[1]]]]]]]]),
        (kinds.literal(), {"a": float("inf")}),
        (kinds.literal(), {1, 2}),
        (kinds.boolean_text(), "1"),
        (kinds.boolean_text(), "f()"),
        (kinds.boolean_text(), 1),
        (kinds.whole_numbers(0, 9), "[1, 10]"),
        (kinds.whole_numbers(0, 9), [True]),
        (kinds.whole_numbers(0, 9), "1+1"),
        (kinds.whole(0, 9), 3.0),
        (kinds.whole(0, 9), np.bool_(True)),
        (kinds.number(0, 1), float("nan")),
        (kinds.number(0, 1), 10**400),
        (kinds.languages(), "../x"),
        (kinds.languages(), "de;rm -rf ~"),
        (kinds.languages(), ["de", 1]),
        (kinds.text(), "a\x1b[2J"),
        (kinds.text(), "a\u202eb"),
        (kinds.text(), "x" * 5000),
        (kinds.choice(["a"]), "b"),
        (kinds.choice(["a"]), ["a"]),
        (kinds.json_object(), "[]"),
        (kinds.json_object(), "{" * 4000),
        (kinds.json_object(), '{"a": NaN}'),
        (kinds.json_object({"a": kinds.whole(0, 1)}), '{"a": 2}'),
        (kinds.yes_or_no(), "maybe"),
    ],
)
def test_kinds_refuse(kind, value):
    with pytest.raises((ValueError, OverflowError)):
        kind.read(value)


@pytest.mark.parametrize(("given", "read"), [("8", 8), (8, 8)])
def test_a_width_that_fairseq_stores_as_a_text(given, read):

    assert kinds.whole_text(1, 16).read(given) == read
    for other in ("17", "0", "-8", "8.0", "٣", "", True, None):
        with pytest.raises(ValueError):
            kinds.whole_text(1, 16).read(other)


def test_a_field_has_not_any_number_of_values():
    """Each list is small, and stands in the next one many times."""
    value = [1] * 60
    for _ in range(3):
        value = [value] * 60
    began = time.process_time()
    assert not plain.is_plain(value)
    assert plain.is_plain([[1, 2.5, None, "x"], {"a": (True,)}])
    assert time.process_time() - began < 1


def test_many_parts_of_data_and_many_languages(tmp_path):
    parts = ":".join(f"/data/part{number:03}" for number in range(600))
    pairs = ",".join(f"l{one}-l{other}" for one in range(100) for other in range(100))
    task = {"_name": "translation_multi_simple_epoch", "data": parts, "lang_pairs": pairs}
    found = checked_state({"model": {}, "cfg": {"model": Namespace(), "task": task}})
    assert found["cfg"]["task"]["data"] == "/data/part000"
    assert found["cfg"]["task"]["lang_pairs"] == pairs


def test_references_stay_texts(monkeypatch):
    """Of the environment, and of each other: neither followed nor shown."""
    monkeypatch.setenv("PIN", "1234")
    made = OmegaConf.create({"epoch": 1, "pin": "${oc.decode:${oc.env:PIN}}"})
    state = {"model": {}, "extra_state": {"train_iterator": made}}
    assert checked_state(state)["extra_state"]["train_iterator"] == {"epoch": 1}
    with pytest.raises(Refused, match="it holds no 'model'"):
        checked_state({"model": made})


def test_how_long_a_training_took():
    for given, found in ((12.5, 12.5), (float("inf"), None), ("12", None), ({}, None)):
        state = {"model": {}, "extra_state": {"previous_training_time": given}}
        assert checked_state(state)["extra_state"] == {"previous_training_time": found}


def test_data_that_a_shell_would_see():
    task = {"_name": "translation", "dataset_impl": "fasta"}
    with pytest.raises(Refused, match="its dataset_impl is 'fasta'; expected one of raw, lazy,"):
        checked_state({"model": {}, "cfg": {"model": Namespace(), "task": task}})
