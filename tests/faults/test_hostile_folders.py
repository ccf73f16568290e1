"""Folders of others: damaged data under ``--leaf best``, and garbage beside a CTranslate2 model."""

import json
import os

import pytest
from fairseq.data import Dictionary
from fairseq.data.indexed_dataset import make_builder
from helpers import command_line, exactly
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tsa_fairseq
from tsa_fairseq.errors import UsageError

QUICK = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def valid(data):
    """Validation data of two sentences."""
    for language in ("de", "en"):
        words = Dictionary.load(str(data / f"dict.{language}.txt"))
        prefix = data / f"valid.de-en.{language}"
        builder = make_builder(f"{prefix}.bin", "mmap", vocab_size=len(words))
        for line in ("w1 w2 w3", "w4 w5"):
            builder.add_item(words.encode_line(line, add_if_not_exist=False))
        builder.finalize(f"{prefix}.idx")
    return data


def best(capsys, tree, tmp_path):
    status, _, err = command_line(capsys, "export", tree, tmp_path / "out", "--leaf", "best")
    *progress, said = err.splitlines()
    assert status == 1 and not (tmp_path / "out").exists()
    assert not [line for line in progress if not line.startswith(("nll of", "translating"))]
    return said.removeprefix("tsa-fairseq: error: ")


DAMAGED = {
    "no magic number": ("valid.de-en.de.idx", lambda content: b"x" * len(content)),
    "half an index": ("valid.de-en.de.idx", lambda content: content[: len(content) // 2]),
    "no index": ("valid.de-en.en.idx", lambda content: b""),
    "half of the words": ("valid.de-en.en.bin", lambda content: content[:3]),
    "no words": ("valid.de-en.de.bin", lambda content: b""),
    "words of another dictionary": ("valid.de-en.de.bin", lambda content: b"\xff" * len(content)),
    "other words of the target": ("valid.de-en.en.bin", lambda content: b"\x7f" * len(content)),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_validation_data(case, valid, tree, tmp_path, capsys):
    name, damage = DAMAGED[case]
    file = valid / name
    file.write_bytes(damage(file.read_bytes()))
    said = best(capsys, tree, tmp_path)
    assert said.startswith(f"--data: the valid data of '{valid}' are damaged: ")
    assert said.endswith("; expected what fairseq-preprocess made")


def test_a_number_of_no_word(valid, tree, tmp_path, capsys):
    file = valid / "valid.de-en.de.bin"
    file.write_bytes(b"\xff" * len(file.read_bytes()))
    assert best(capsys, tree, tmp_path) == (
        f"--data: the valid data of '{valid}' are damaged: a word's number is not one of 40; "
        "expected what fairseq-preprocess made"
    )


def test_a_pipe_among_validation_data(valid, tree, tmp_path, capsys):
    """Who opens it waits for somebody to write."""
    file = valid / "valid.de-en.en.idx"
    file.unlink()
    os.mkfifo(file)
    assert best(capsys, tree, tmp_path) == (
        f"--data: the valid data of '{valid}' are damaged: 'valid.de-en.en.idx' is no file; "
        "expected what fairseq-preprocess made"
    )


@pytest.fixture(scope="module")
def served(made_up, tmp_path_factory):
    """A CTranslate2 folder of its own, whose files are put back."""
    folder = tmp_path_factory.mktemp("served") / "model"
    folder.mkdir()
    for path in made_up.ctranslate2.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def answers(folder, name, content):
    """What load says to a folder one of whose files has other content; None if it takes it."""
    file = folder / name
    before = file.read_bytes()
    file.write_bytes(content)
    try:
        assert isinstance(tsa_fairseq.load(folder).translate("das haus"), str)
    except UsageError as error:
        assert "\n" not in str(error) and len(str(error)) < 500
        return str(error)
    finally:
        file.write_bytes(before)
    return None


@given(content=st.one_of(st.binary(max_size=40), st.text(max_size=40).map(str.encode)))
@QUICK
def test_garbage_for_its_json(served, content):
    assert answers(served, "export.json", content)


TEXTS = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)
FIELDS = ["source", "target", "subwords", "vocabulary", "vocabulary_threshold", "tokenizer",
          "moses_no_escape", "lowercase"]  # fmt: skip


@given(name=st.sampled_from(FIELDS), value=TEXTS)
@QUICK
def test_any_json_for_a_field(served, name, value):
    said = json.loads((served / "export.json").read_text())
    said["text"][name] = value
    answers(served, "export.json", json.dumps(said).encode())


@given(value=TEXTS)
@QUICK
def test_any_json_for_positions(served, value):
    said = json.loads((served / "export.json").read_text())
    said["max_positions"] = value
    answers(served, "export.json", json.dumps(said).encode())


@pytest.mark.parametrize("content", [b"", b"{", b"3", b"[1]", b"\xff", b"[" * 100_000])
def test_garbage_for_its_vocabulary(content, served):
    name = next(p.name for p in served.iterdir() if p.name.endswith("source_vocabulary.json"))
    said = answers(served, name, content)
    refused = f"path: CTranslate2 refuses '{served}': "
    ours = f"path: '{served / name}' is no list of words, as CTranslate2 writes it"
    assert said == ours or said.startswith(refused)


@pytest.mark.parametrize("name", ["config.json", "model.spm"])
def test_a_pipe_beside_its_model(name, served):
    """CTranslate2 would wait for somebody to write."""
    file, kept = served / name, served.parent / name
    there = file.exists()
    if there:
        file.rename(kept)
    os.mkfifo(file)
    try:
        with pytest.raises(
            UsageError, match=exactly(f"path: '{file}' is no file; expected what an export made")
        ):
            tsa_fairseq.load(served)
    finally:
        file.unlink()
        if there:
            kept.rename(file)


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"\x06\x00\x00\x00" * 50])
def test_garbage_for_its_model(content, served):
    message = answers(served, "model.bin", content)
    assert message.startswith(f"path: CTranslate2 refuses '{served}': ")


def test_a_name_that_is_too_long(tmp_path):
    path = tmp_path / ("x" * 300)
    with pytest.raises(
        UsageError, match=exactly(f"path: '{path}' does not exist or is not a file")
    ):
        tsa_fairseq.load(path)
