"""Checkpoints of others: damaged, or made to do harm. Each is refused in one line by every door."""

import copy
import json
import math
import pickle
import random
import zipfile

import pytest
import torch
from fairseq.tasks.translation import TranslationTask
from helpers import save_stock, save_tree
from hostile import DOORS, STOCK_DOORS, TREE_DOORS, bring, command, fields_of, place
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tsa_fairseq.errors import UsageError
from tsa_fairseq.files import known_fields
from tsa_fairseq.files.checkpoint import read_checkpoint
from tsa_fairseq.files.parameters import own_copy
from tsa_fairseq.files.refused import Refused

QUICK = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
LONG = settings(QUICK, max_examples=2000)


@pytest.fixture(scope="module")
def at(tmp_path_factory):
    return place(tmp_path_factory.mktemp("hostile"))


def flag(kind, door):
    return (TREE_DOORS if kind == "tree" else STOCK_DOORS)[door][0]


def changed(at, kind, **fields):
    """A checkpoint with other values of its model's configuration."""
    state = copy.deepcopy(getattr(at, kind))
    fields_of(state, "model").update(fields)
    torch.save(state, at.path)


def parameters(at, kind, **tensors):
    state = dict(getattr(at, kind))
    state["model"] = {**state["model"], **{n.replace("__", "."): t for n, t in tensors.items()}}
    torch.save(state, at.path)


# ---- bytes ---------------------------------------------------------------------------------------


def same(one, other):
    return one["cfg"] == other["cfg"] and all(
        torch.equal(tensor, other["model"][name]) for name, tensor in one["model"].items()
    )


def check_bytes(at, content):
    """The checkpoint that it was, or refused: never another one."""
    at.path.write_bytes(content)
    try:
        found = read_checkpoint(str(at.path), "--flag")
    except UsageError as error:
        said = str(error)
        assert said.startswith(f"--flag: '{at.path}' ") and "\n" not in said
        assert "weights_only" not in said
        return
    assert same(found, read_checkpoint(str(at.folder / "tree.pt"), "--flag"))


@given(data=st.data())
@QUICK
def test_truncated(at, data):
    content = (at.folder / "tree.pt").read_bytes()
    check_bytes(at, content[: data.draw(st.integers(0, len(content) - 1))])


@given(data=st.data())
@QUICK
def test_flipped(at, data):
    content = bytearray((at.folder / "tree.pt").read_bytes())
    for bit in data.draw(st.lists(st.integers(0, 8 * len(content) - 1), min_size=1, max_size=3)):
        content[bit // 8] ^= 1 << bit % 8
    check_bytes(at, bytes(content))


@given(size=st.integers(1, 5000), seed=st.integers(0, 2**32))
@QUICK
def test_reordered(at, size, seed):
    content = (at.folder / "tree.pt").read_bytes()
    blocks = [content[start : start + size] for start in range(0, len(content), size)]
    random.Random(seed).shuffle(blocks)
    check_bytes(at, b"".join(blocks))


@pytest.mark.slow
@given(data=st.data())
@LONG
def test_flipped_at_length(at, data):
    content = bytearray((at.folder / "tree.pt").read_bytes())
    for bit in data.draw(st.lists(st.integers(0, 8 * len(content) - 1), min_size=1, max_size=9)):
        content[bit // 8] ^= 1 << bit % 8
    check_bytes(at, bytes(content))


@pytest.mark.parametrize(("kind", "door"), DOORS)
def test_one_flipped_bit(kind, door, at):
    """In the numbers of a parameter, of which torch does not compare the checksum."""
    content = bytearray((at.folder / f"{kind}.pt").read_bytes())
    with zipfile.ZipFile(at.folder / f"{kind}.pt") as archive:
        record = next(one for one in archive.infolist() if one.filename.endswith("/data/3"))
        start = content.index(archive.read(record))
    content[start + 3] ^= 0x40
    at.path.write_bytes(bytes(content))
    assert bring(at, kind, door) == (
        f"{flag(kind, door)}: '{at.path}' is damaged: its record 'data/3' does not have the "
        "checksum that was written with it"
    )


def repacked(source, target, **options):
    """The same records in another archive."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", **options) as new:
        for record in old.infolist():
            new.writestr(record.filename, old.read(record))


def test_a_compressed_archive(at):
    """Which may be small in the file and of any size in memory."""
    repacked(at.folder / "tree.pt", at.path, compression=zipfile.ZIP_DEFLATED)
    assert bring(at, "tree", "load") == (
        f"path: '{at.path}' is refused: its record 'data.pkl' is compressed"
    )


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_records_of_one_name(at):
    repacked(at.folder / "tree.pt", at.path)
    with zipfile.ZipFile(at.path, "a") as archive:
        archive.writestr(archive.namelist()[0], b"another")
    assert bring(at, "tree", "load") == (
        f"path: '{at.path}' is damaged: its archive has two records of one name"
    )


class Blocked:
    """Of a module that torch's loader blocks by name, with a long advice."""

    def __reduce__(self):
        return __import__("os").system, ("touch written",)


@pytest.mark.parametrize(("kind", "door"), DOORS)
def test_a_pickle_is_refused_without_advice(kind, door, at, monkeypatch):
    monkeypatch.chdir(at.folder)
    torch.save({**getattr(at, kind), "more": Blocked()}, at.path)
    name = "nt.system" if __import__("os").name == "nt" else "posix.system"
    assert bring(at, kind, door) == (
        f"{flag(kind, door)}: '{at.path}' is refused: it contains {name}, which is code and not "
        "among what fairseq's checkpoints hold; nothing of it was run"
    )
    assert not (at.folder / "written").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02.", pickle.dumps({"model": 1})])
def test_what_is_no_checkpoint(content, at):
    at.path.write_bytes(content)
    said = bring(at, "tree", "export")
    assert said.startswith(f"CHECKPOINT: '{at.path}' ") and "weights_only" not in said


# ---- configurations ------------------------------------------------------------------------------

MODEL = [*known_fields.model_fields("tsa_transformer"), "arch", "_name", "encoder", "quant_noise"]
TASK = [*known_fields.task_fields("translation"), "task", "_name"]
CODE = "open('written', 'w')"
VALUES = st.one_of(
    st.sampled_from(
        [None, True, False, "", "x", 0, -1, 10**9, 10**30, math.nan, math.inf, 1e300, "???", CODE]
        + ["${oc.env:HOME}", "[" * 500, "{'a': [1]}", "[1, 2]", b"bytes", "\ud800", "a\nb", "٣"]
        + [[], {}, [CODE], {"a": CODE}, {"layers": 10**9}, torch.ones(3), "1" * 5000]
    ),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
)


def check_fields(at, part, name, value, doors):
    state = copy.deepcopy(at.tree)
    fields_of(state, part)[name] = value
    torch.save(state, at.path)
    for door in doors:
        bring(at, "tree", door)
        assert not (at.folder / "written").exists()


@given(name=st.sampled_from(MODEL), value=VALUES, door=st.sampled_from([*TREE_DOORS][:4]))
@QUICK
def test_fields_of_a_model(at, monkeypatch, name, value, door):
    """Taken, or refused in one line; nothing is run, and nothing partial stays."""
    monkeypatch.chdir(at.folder)
    check_fields(at, "model", name, value, [door])


@given(name=st.sampled_from(TASK), value=VALUES, door=st.sampled_from([*TREE_DOORS][:4]))
@QUICK
def test_fields_of_a_task(at, monkeypatch, name, value, door):
    monkeypatch.chdir(at.folder)
    check_fields(at, "task", name, value, [door])


@pytest.mark.slow
@given(part=st.sampled_from(["model", "task"]), value=VALUES, data=st.data())
@LONG
def test_fields_at_length(at, monkeypatch, part, value, data):
    monkeypatch.chdir(at.folder)
    name = data.draw(st.sampled_from(MODEL if part == "model" else TASK))
    check_fields(at, part, name, value, [*TREE_DOORS][:4])


CUTOFF = "adaptive_softmax_cutoff"
REFUSED = {
    "code": (
        {"decoder_xformers_att_config": CODE},
        f'decoder_xformers_att_config is \'{CODE}\', which fairseq would run as code; expected '
        "numbers or a list of them",
    ),
    "code in a list": (
        {CUTOFF: [CODE]}, f"{CUTOFF} is a list of 1; expected numbers or a list of them",
    ),
    "a reference": (
        {"activation_fn": "${oc.env:HOME}"},
        "activation_fn is '${oc.env:HOME}'; expected one of relu, gelu, gelu_fast, gelu_accurate, "
        "tanh, linear",
    ),
    "layers without end": (
        {"encoder_layers": 10**9},
        "encoder_layers is 1000000000; expected a whole number from 0 to 1,024",
    ),
    "a negative size": (
        {"decoder_embed_dim": -1},
        "decoder_embed_dim is -1; expected a whole number from 1 to 65,536",
    ),
    "true for a number": (
        {"encoder_layers": True},
        "encoder_layers is True; expected a whole number from 0 to 1,024",
    ),
    "a number for true": (
        {"share_all_embeddings": 1}, "share_all_embeddings is 1; expected true or false",
    ),
    "no number": ({"dropout": math.nan}, "dropout is nan; expected a number from 0 to 1"),
    "a text": ({"dropout": "0.1"}, "dropout is '0.1'; expected a number from 0 to 1"),
    "a dictionary": (
        {"dropout": {"a": 1}}, "dropout is a dict of 1; expected a number from 0 to 1",
    ),
    "a tensor": (
        {"dropout": torch.ones(2)}, "dropout is a Tensor; expected a number from 0 to 1",
    ),
    "nested, as in a file": (
        {"encoder": {"layers": 10**9}},
        "encoder_layers is 1000000000; expected a whole number from 0 to 1,024",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize(("kind", "door"), DOORS)
def test_a_field_of_another_kind(case, kind, door, at, monkeypatch):
    monkeypatch.chdir(at.folder)
    fields, said = REFUSED[case]
    changed(at, kind, **fields)
    assert bring(at, kind, door) == (
        f"{flag(kind, door)}: '{at.path}' is refused: its {said}; nothing of it was run"
    )
    assert not (at.folder / "written").exists()


@pytest.mark.parametrize(("kind", "door"), [door for door in DOORS if door[1] != "translate"])
def test_what_is_not_followed(kind, door, at, tmp_path):
    """Files and addresses that it names, and sections and fields that nobody knows."""
    gone = str(tmp_path / "gone")
    state = copy.deepcopy(getattr(at, kind))
    fields_of(state, "model").update(
        encoder_embed_path=gone, tree_init_from=gone, user_dir=gone, unknown=CODE
    )
    state["cfg"].update(
        bpe={"_name": "gpt2", "gpt2_encoder_json": "http://127.0.0.1:9/encoder.json"},
        tokenizer={"_name": "moses"},
        optimizer={"_name": "adam", "adam_betas": CODE},
    )
    if kind == "tree":  # for which fairseq would build a tokenizer that is not installed
        fields_of(state, "task").update(eval_bleu=True, eval_bleu_detok="nltk")
    state["task_state"] = {"anything": CODE}
    torch.save(state, at.path)
    assert bring(at, kind, door) is None


def test_what_is_written_is_made_of_checked_values(at):
    """An average and an export carry nothing of what the file says beside them."""
    state = copy.deepcopy(at.tree)
    fields_of(state, "model")["unknown"] = "payload"
    fields_of(state, "task")["unknown"] = "payload"
    state["cfg"]["criterion"]["unknown"] = state["cfg"]["common"]["log_file"] = "payload"
    state["cfg"]["payload"] = state["payload"] = state["task_state"] = {"a": "payload"}
    state["cfg"]["bpe"] = {"_name": "payload"}
    state["extra_state"]["payload"] = state["optimizer_history"][-1]["payload"] = "payload"
    state["extra_state"]["train_iterator"]["payload"] = "payload"
    torch.save(state, at.path)
    mean = at.folder / "mean.pt"
    command("average", mean, at.path)
    command("export", at.path, at.out)
    for file in (mean, at.out / "model.pt"):
        assert b"payload" not in file.read_bytes()
    mean.unlink()
    bring(at, "tree", "load")


# ---- contents ------------------------------------------------------------------------------------


def broken(**parts):
    return lambda state: {**state, **parts}


def cfg(**parts):
    return lambda state: {**state, "cfg": {**state["cfg"], **parts}}


CONTENTS = {
    "a list": (lambda state: [state], "is not a fairseq checkpoint: it holds no 'model'"),
    "no model": (
        lambda state: {"cfg": state["cfg"]}, "is not a fairseq checkpoint: it holds no 'model'",
    ),
    "cfg is a text": (
        broken(cfg="x"), "is not a fairseq checkpoint: its cfg is 'x'; expected named values",
    ),
    "cfg is a tensor": (
        broken(cfg=torch.ones(2)),
        "is not a fairseq checkpoint: its cfg is a Tensor; expected named values",
    ),
    "the model's part is a number": (
        cfg(model=3), "is not a fairseq checkpoint: its cfg's model is 3; expected named values",
    ),
    "args is a list": (
        broken(args=[1]),
        "is not a fairseq checkpoint: its args is a list of 1; expected named values",
    ),
    "another architecture": (
        cfg(model={"arch": "lstm", "decoder_attention": CODE}),
        "is a model of --arch lstm; expected a tsa_transformer or fairseq's transformer",
    ),
    "another task": (
        cfg(task={"_name": "speech_to_text"}),
        "is of --task speech_to_text; expected translation or translation_multi_simple_epoch",
    ),
    "a task that is code": (
        cfg(task={"_name": [1]}),
        "is of --task a list of 1; expected translation or translation_multi_simple_epoch",
    ),
    "optimizer_history is a number": (
        broken(optimizer_history=3),
        "is not a fairseq checkpoint: its optimizer_history is 3; expected a list of what was "
        "trained before",
    ),
    "num_updates is a text": (
        broken(optimizer_history=[{"num_updates": "x"}]),
        "is not a fairseq checkpoint: its num_updates is 'x'; expected a whole number from 0 to "
        "9,223,372,036,854,775,807",
    ),
    "extra_state is a number": (
        broken(extra_state=3),
        "is not a fairseq checkpoint: its extra_state is 3; expected named values",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CONTENTS)
@pytest.mark.parametrize(("kind", "door"), DOORS)
def test_contents(case, kind, door, at):
    change, said = CONTENTS[case]
    torch.save(change(getattr(at, kind)), at.path)
    assert bring(at, kind, door) == f"{flag(kind, door)}: '{at.path}' {said}"


def test_a_tree_that_is_a_number(at):
    changed(at, "tree", tree=3)
    for door in TREE_DOORS:
        assert bring(at, "tree", door) == (
            f"{flag('tree', door)}: '{at.path}' is refused: its tree is 3; expected a line of text "
            "without '${'; nothing of it was run"
        )


PARAMETERS = {
    "a text": (
        "x",
        "is not a fairseq checkpoint: its parameter encoder.layers.0.fc1.bias is 'x'; expected a "
        "tensor",
    ),
    "4 TB in 4 bytes": (
        torch.ones(1).expand(10**12),
        "is refused: its parameter encoder.layers.0.fc1.bias claims 1,000,000,000,000 numbers and "
        "holds 1",
    ),
    "sparse": (
        torch.ones(3).to_sparse(),
        "is refused: it calls torch.serialization._get_layout as fairseq does not; nothing of it "
        "was run",
    ),
    "complex": (
        torch.ones(3, dtype=torch.complex64),
        "is not a fairseq checkpoint: its parameter encoder.layers.0.fc1.bias is a tensor of "
        "torch.complex64 that no Transformer of fairseq's has",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", PARAMETERS)
@pytest.mark.parametrize(("kind", "door"), DOORS)
def test_parameters(case, kind, door, at):
    tensor, said = PARAMETERS[case]
    parameters(at, kind, encoder__layers__0__fc1__bias=tensor)
    assert bring(at, kind, door) == f"{flag(kind, door)}: '{at.path}' {said}"


BUILDING = [("tree", "load"), ("tree", "export"), ("tree", "export to CTranslate2"),
            ("stock", "load"), ("stock", "--kd-teacher")]  # fmt: skip


@pytest.mark.parametrize(("kind", "door"), BUILDING)
def test_embeddings_are_missing(kind, door, at):
    state = dict(getattr(at, kind))
    state["model"] = {n: t for n, t in state["model"].items() if "encoder.embed_tokens" not in n}
    torch.save(state, at.path)
    assert bring(at, kind, door) == (
        f"{flag(kind, door)}: '{at.path}' is no complete checkpoint: it has no "
        "encoder.embed_tokens.weight"
    )


SIZES = {
    "encoder_layers": (
        1000, "its encoder has 1,000 layers by these, and parameters of 2",
    ),
    "decoder_embed_dim": (
        65536, "its decoder_embed_dim is 65,536, and its decoder.embed_tokens.weight is (40, 16)",
    ),
    "encoder_ffn_embed_dim": (
        60000,
        "its encoder_ffn_embed_dim is 60,000, and its encoder.layers.0.fc1.weight is (24, 16)",
    ),
    "adaptive_softmax_cutoff": (
        [2**31], "its adaptive_softmax_cutoff is 2,147,483,648, more than it has words",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize(("kind", "door"), BUILDING)
def test_sizes_that_the_file_does_not_have(name, kind, door, at):
    """What would be built of them would be much larger than the file."""
    value, said = SIZES[name]
    changed(at, kind, **{name: value})
    if name == "adaptive_softmax_cutoff" and door == "--kd-teacher":
        said = None
    found = bring(at, kind, door)
    fits = f"{flag(kind, door)}: '{at.path}' does not fit its own arguments: {said}"
    teacher = (
        f"--kd-teacher: '{at.path}' has an adaptive softmax; expected predictions over the whole "
        "vocabulary"
    )
    assert found == (teacher if said is None else fits)


def without(state, *parts):
    """A state of the same checkpoint that lacks some parameters."""
    left = {n: t for n, t in state["model"].items() if not any(part in n for part in parts)}
    return {**copy.deepcopy(state), "model": left}


def claims_wide_layers(at):
    state = without(at.stock, ".fc1.", ".fc2.")
    fields_of(state, "model").update(encoder_ffn_embed_dim=60000, decoder_ffn_embed_dim=60000)
    return state


def claims_many_leaves(at):
    state = without(at.tree, ".peers.", ".leaf_norms.")
    fields_of(state, "model")["tree"] = f"1[{','.join(['2'] * 100)}]"
    return state


def claims_parts_of_one(at):
    """All matrices of the layers of one shape are the same one of the file."""
    state = without(at.stock)
    shapes: dict[torch.Size, torch.Tensor] = {}
    for name, tensor in state["model"].items():
        if ".layers." in name and tensor.dim() == 2:
            state["model"][name] = shapes.setdefault(tensor.shape, tensor)
    return state


CLAIMS = {
    "wide layers": ("stock", claims_wide_layers, "Missing key(s) in state_dict: "),
    "many leaves": ("tree", claims_many_leaves, "Missing key(s) in state_dict: "),
    "parts of one": ("stock", claims_parts_of_one, "they take 15,080 numbers, and it holds 4,072"),
}


@pytest.mark.parametrize("case", CLAIMS)
def test_nothing_is_built_of_what_the_file_does_not_hold(case, at, monkeypatch):
    kind, claim, said = CLAIMS[case]
    torch.save(claim(at), at.path)
    devices = set()
    build = TranslationTask.build_model

    def watched(*args, **kwargs):
        model = build(*args, **kwargs)
        devices.update(parameter.device.type for parameter in model.parameters())
        return model

    monkeypatch.setattr(TranslationTask, "build_model", watched)
    found = bring(at, kind, "load")
    assert found.startswith(f"path: '{at.path}' does not fit its own arguments: {said}")
    assert devices == {"meta"}


def test_layers_that_are_not_kept_are_no_contradiction(at):
    """fairseq leaves out those of the file that are not named."""
    changed(at, "stock", encoder_layers_to_keep="0", decoder_layers_to_keep="1")
    assert bring(at, "stock", "load") is None


def test_windows_on_one_storage(at):
    """A small file's one storage, seen as many large parameters that overlap."""
    state = without(at.stock)
    numbers = torch.zeros(2000)
    state["model"].update({f"more.{start}": numbers[start:] for start in range(9)})
    torch.save(state, at.path)
    assert bring(at, "stock", "load") == (
        f"path: '{at.path}' is refused: its parameters lie in each other, more than the file holds"
    )


def test_a_storage_that_is_longer_than_the_file():
    """torch takes the pickle's word for it."""
    model = {"a": torch.zeros(10)}
    assert own_copy(model, 40)["a"].tolist() == [0.0] * 10
    with pytest.raises(Refused, match="lie in each other, more than the file holds"):
        own_copy(model, 39)


@pytest.mark.parametrize("name", ["9", "01", "\u0661"])
@pytest.mark.parametrize("door", ["load", "export"])
def test_layers_under_other_names(name, door, at):
    """Of which an export could not be loaded."""
    state = without(at.tree)
    names = [key.split(".")[2] for key in state["model"] if key.startswith("decoder.layers.")]
    last = max(map(int, names))
    renamed = {
        key.replace(f"decoder.layers.{last}.", f"decoder.layers.{name}."): tensor
        for key, tensor in state["model"].items()
    }
    torch.save({**state, "model": renamed}, at.path)
    assert bring(at, "tree", door) == (
        f"{flag('tree', door)}: '{at.path}' does not fit its own arguments: its decoder has "
        f"parameters of layers that are not called 0 to {last}"
    )


BRIDGES = {
    "layers": (
        dict(kd_bridge_layers=9000),
        "its kd_bridge_layers is 9,000, and it has parameters of 2",
    ),
    "width": (
        dict(kd_teacher_layout=json.dumps({"decoder_embed_dim": 60000})),
        "its teacher's decoder_embed_dim is 60,000, and its heads.bridge.output_projection.weight "
        "is (40, 16)",
    ),
}


@pytest.mark.parametrize("case", BRIDGES)
def test_a_bridge_that_the_file_does_not_have(case, at, tmp_path):
    teacher, path = tmp_path / "teacher.pt", tmp_path / "tree.pt"
    save_stock(teacher, at.task)
    save_tree(path, at.task, at.data, objective="sokd", teacher=teacher)
    state = torch.load(path, weights_only=True)
    fields, said = BRIDGES[case]
    fields_of(state, "model").update(fields)
    torch.save(state, at.path)
    with pytest.raises(UsageError) as error:
        command("export", at.path, at.out, "--leaf", "bridge")
    assert str(error.value) == (f"CHECKPOINT: '{at.path}' does not fit its own arguments: {said}")


def test_positions_without_end(at):
    changed(at, "stock", max_source_positions=10_000_000, encoder_embed_dim=16)
    state = torch.load(at.path, weights_only=True)
    state["model"]["encoder.embed_tokens.weight"] = torch.zeros(40, 64)
    fields_of(state, "model")["encoder_embed_dim"] = 64
    torch.save(state, at.path)
    assert bring(at, "stock", "load") == (
        f"path: '{at.path}' is refused: its max_source_positions is 10,000,000, and a table of so "
        "many positions of 64 numbers each is more than 268,435,456"
    )


@pytest.mark.parametrize(("kind", "door"), BUILDING)
def test_a_name_that_is_too_long(kind, door, at, monkeypatch):
    monkeypatch.setattr(at, "path", at.folder / ("x" * 300))
    assert bring(at, kind, door) == (
        f"{flag(kind, door)}: '{at.path}' does not exist or is not a file"
    )


def test_an_out_that_is_too_long(at):
    for out in ("x" * 300, "x" * 250):
        with pytest.raises(UsageError) as error:
            command("export", at.folder / "tree.pt", at.folder / out)
        assert str(error.value) == (
            f"OUT: '{at.folder / out}' cannot be written: File name too long"
        )
