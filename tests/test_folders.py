"""Nothing is lost where an export is written, and nothing half-written stays."""

import contextlib
import json
import resource
from pathlib import Path

import pytest
from helpers import command_line, meanwhile


def test_nothing_is_overwritten(tree, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    status, _, err = command_line(capsys, "export", tree, out)
    assert (status, err) == (
        1, f"tsa-fairseq: error: OUT: '{out}' exists; expected a new folder, or --force\n",
    )  # fmt: skip
    status, _, err = command_line(capsys, "export", tree, out, "--force")
    assert (status, err) == (
        1, f"tsa-fairseq: error: OUT: '{out}' holds 'mine.txt'; --force replaces exports alone\n",
    )  # fmt: skip
    assert [p.name for p in out.iterdir()] == ["mine.txt"]
    out = tmp_path / "export"
    command_line(capsys, "export", tree, out, "--leaf", "1")
    assert command_line(capsys, "export", tree, out, "--leaf", "2", "--force")[0] == 0
    assert json.loads((out / "export.json").read_text())["leaf"] == 2


def test_what_an_export_is_made_of_is_not_replaced(tree, data, tmp_path, capsys):
    """Nor files beside an export, nor an export when the new one fails."""
    out = tmp_path / "out"
    command_line(capsys, "export", tree, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    for flag, value in (("--data", out), ("--subwords", out / "model.pt")):
        err = command_line(capsys, "export", tree, out, "--force", flag, value)[2]
        assert err == (
            f"tsa-fairseq: error: OUT: '{out}' holds '{value}', which the export is made of; "
            "expected another folder\n"
        )
    err = command_line(capsys, "export", tree, tmp_path, "--leaf", "all", "--force")[2]
    assert err.startswith(f"tsa-fairseq: error: OUT: '{tmp_path}' holds '{tree}', which")
    (out / "notes.txt").write_text("mine")
    err = command_line(capsys, "export", tree, out, "--force")[2]
    assert "holds 'notes.txt'; --force replaces exports alone" in err
    (out / "notes.txt").unlink()
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.parametrize("flags", [["--leaf", "2"], ["--leaf", "2", "--to", "ctranslate2"]])
def test_a_disk_that_is_full(flags, tree, tmp_path, capsys):
    """The old export stays, and nothing half-written."""
    out = tmp_path / "out"
    command_line(capsys, "export", tree, out, "--leaf", "1")
    with files_no_larger_than(20_000):
        err = command_line(capsys, "export", tree, out, "--force", *flags)[2]
    reason = err.removeprefix(f"tsa-fairseq: error: OUT: '{out}' cannot be written: ")
    assert reason != err and err.count("\n") == 1, err
    assert json.loads((out / "export.json").read_text())["leaf"] == 1
    assert {path.name for path in tmp_path.iterdir()} == {"out", "bin", "tree.pt"}


@contextlib.contextmanager
def files_no_larger_than(size):
    """The system refuses to write more, as where a disk is full; Python ignores its signal."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_folder_that_appears_meanwhile_stays(tree, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"

    def write_thesis():
        out.mkdir()
        (out / "thesis.txt").write_text("mine")

    meanwhile(monkeypatch, write_thesis)
    err = command_line(capsys, "export", tree, out, "--leaf", "best")[2]
    assert err == (f"tsa-fairseq: error: OUT: '{out}' exists; expected a new folder, or --force\n")
    assert (out / "thesis.txt").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"out", "bin", "tree.pt"}


@pytest.mark.parametrize("at", [0, 1])
def test_an_interrupt_loses_nothing(at, tree, tmp_path, capsys, monkeypatch):
    """Ctrl-C right after the old export was moved away, or right before the new one comes.

    On a system that cannot exchange them at once.
    """
    out, rename, calls = tmp_path / "out", Path.rename, []
    monkeypatch.setattr("tsa_fairseq.files.whole._rename_at_once", lambda *_: False)
    command_line(capsys, "export", tree, out, "--leaf", "1")

    def interrupted(path, target):
        calls.append(path)
        if len(calls) == at + 1:
            if at == 0:
                rename(path, target)
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    done = command_line(capsys, "export", tree, out, "--leaf", "2", "--force")
    assert done == (130, "", "tsa-fairseq: interrupted\n")
    assert json.loads((out / "export.json").read_text())["leaf"] == 1
    assert {path.name for path in tmp_path.iterdir()} == {"out", "bin", "tree.pt"}


def test_a_mount_point(tree, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.setattr("tsa_fairseq.files.folders.os.path.ismount", lambda path: path == out)
    err = command_line(capsys, "export", tree, out, "--force")[2]
    assert err == (
        f"tsa-fairseq: error: OUT: '{out}' is a mount point; expected a folder inside it\n"
    )


def test_another_model_is_not_an_export(tree, data, tmp_path, capsys):
    """The files of an export without its JSON may be somebody's download."""
    out = tmp_path / "out"
    out.mkdir()
    for name in ("model.pt", "dict.de.txt", "sentencepiece.bpe.model"):
        (out / name).write_text("mine")
    err = command_line(capsys, "export", tree, out, "--force")[2]
    assert err == (
        f"tsa-fairseq: error: OUT: '{out}' holds 'dict.de.txt'; --force replaces exports alone\n"
    )
    assert len(list(out.iterdir())) == 3


def test_an_export_of_any_language_is_replaced(tree, data, tmp_path, capsys):
    out, pair = tmp_path / "out", ["-s", "de", "-t", "zh-Hans"]
    (data / "dict.en.txt").rename(data / "dict.zh-Hans.txt")
    assert command_line(capsys, "export", tree, out, *pair)[0] == 0
    assert command_line(capsys, "export", tree, out, *pair, "--force")[0] == 0


def test_places_that_are_no_folder(tree, tmp_path, capsys, monkeypatch):
    file, link, inside = tmp_path / "file", tmp_path / "link", tmp_path / "file" / "out"
    file.write_text("mine")
    link.symlink_to("nowhere")
    for out, said in (
        (file, "is not a folder; expected a new one"),
        (link, "is not a folder; expected a new one"),
        (inside, f"cannot be written: '{file}' is not a folder"),
    ):
        err = command_line(capsys, "export", tree, out, "--force")[2]
        assert err == f"tsa-fairseq: error: OUT: '{out}' {said}\n"
    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.chdir(out)
    err = command_line(capsys, "export", tree, ".", "--force")[2]
    assert err == (
        "tsa-fairseq: error: OUT: '.' is where this was called from; expected another folder\n"
    )


def test_new_parents_do_not_stay_behind(tree, tmp_path, capsys):
    out = tmp_path / "new" / "folder" / "out"
    with files_no_larger_than(20_000):
        err = command_line(capsys, "export", tree, out)[2]
    assert "cannot be written" in err and not (tmp_path / "new").exists()
    assert command_line(capsys, "export", tree, out)[0] == 0
