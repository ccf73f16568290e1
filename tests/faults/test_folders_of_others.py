"""Folders of others, in which names, links and settings lie in wait: nothing runs, and nothing is
written elsewhere.
"""

import json
import os
import subprocess
import sys

import pytest
from fairseq import options
from fairseq.data import Dictionary
from fairseq.data.indexed_dataset import make_builder
from helpers import command_line, exactly

from tsa_fairseq.cli.progress import progress
from tsa_fairseq.errors import UsageError, visible, warn
from tsa_fairseq.evidence.test_set import read_data
from tsa_fairseq.files import whole
from tsa_fairseq.files.origin import read_origin
from tsa_fairseq.plugin.lock import LOCK, hold_folder

# What a shell would make of a name.
SHELL = "$(touch RAN)"
TITLE = "\x1b]0;title\x07"


def fasta(path):
    path.write_text(">1\nab\n>2\nba\n")


# ---- data that fairseq would hand to a shell -----------------------------------------------------


def test_a_name_in_a_folder_of_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / f"test.a-{SHELL}.a.idx").write_bytes(b"")
    for language in ("a", SHELL):
        (folder / f"dict.{language}.txt").write_text("a 1\nb 1\n")
        fasta(folder / f"test.a-{SHELL}.{language}.fasta")
    before = sorted(folder.iterdir())
    with pytest.raises(UsageError, match=exactly("--data: 'bin' has no test data of 'a'")):
        read_data("bin", "test")
    assert sorted(folder.iterdir()) == before
    assert not (tmp_path / "RAN").exists()


def test_validation_data_of_such_a_name(tree, data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / SHELL
    folder.mkdir()
    for language in ("de", "en"):
        (folder / f"dict.{language}.txt").write_bytes((data / f"dict.{language}.txt").read_bytes())
    words = Dictionary.load(str(folder / "dict.de.txt"))
    source = folder / "valid.de-en.de"
    builder = make_builder(f"{source}.bin", "mmap", vocab_size=len(words))
    for line in ("w1 w2", "w3"):
        builder.add_item(words.encode_line(line, add_if_not_exist=False))
    builder.finalize(f"{source}.idx")
    fasta(folder / "valid.de-en.en.fasta")
    before = sorted(folder.iterdir())
    argv = ["export", tree, tmp_path / "out", "--leaf", "best", "--data", folder]
    status, _, err = command_line(capsys, *argv)
    assert (status, err) == (
        1,
        f"tsa-fairseq: error: --data: the valid data of '{folder}' are damaged: KeyError: "
        "'prev_output_tokens'; expected what fairseq-preprocess made\n",
    )
    assert sorted(folder.iterdir()) == before
    assert not (tmp_path / "RAN").exists() and not (tmp_path / "out").exists()


def test_training_on_data_of_such_a_name(tmp_path):
    """Which fairseq reads itself, and of which it infers the kind."""
    folder = tmp_path / "bin"
    folder.mkdir()
    fasta(folder / f"valid.de-{SHELL}.de.fasta")
    argv = [f"{tmp_path}{os.pathsep}{folder}", "--arch", "tsa_transformer", "--criterion",
            "tsa_online_kd", "--save-dir", str(tmp_path / "save")]  # fmt: skip
    message = (
        f"DATA: '{folder}' holds 'valid.de-{SHELL}.de.fasta', whose name fairseq would hand to a "
        "shell; expected what fairseq-preprocess made"
    )
    with pytest.raises(UsageError, match=exactly(message)):
        options.parse_args_and_arch(options.get_training_parser(), argv)


def test_dictionaries_that_are_none(tmp_path):
    (tmp_path / "test.de-en.de.idx").write_bytes(b"")
    (tmp_path / "dict.de.txt").write_text(f"{TITLE} 1\n{TITLE} 1\n")
    with pytest.raises(UsageError) as error:
        read_data(str(tmp_path), "test")
    file = tmp_path / "dict.de.txt"
    assert str(error.value).startswith(f"--data: '{file}' is not a dictionary of fairseq's: Dupl")
    assert "\x1b" not in str(error.value)


# ---- links under the names that are written to ---------------------------------------------------


def test_a_link_under_a_temporary_name(tmp_path):
    """Of a number of a process that somebody guessed."""
    mine, out = tmp_path / "mine", tmp_path / "out.txt"
    mine.write_text("mine")
    whole.temporary(out, "new").symlink_to(mine)

    def write(path):
        with open(path, "w") as file:
            file.write("new")

    whole.write_file(str(out), write, lambda: None)
    assert mine.read_text() == "mine" and out.read_text() == "new" and not out.is_symlink()
    assert sorted(tmp_path.iterdir()) == [mine, out]


def test_a_link_for_a_lock(tmp_path):
    mine, save = tmp_path / "mine", tmp_path / "save"
    mine.write_text("mine")
    save.mkdir()
    (save / LOCK).symlink_to(mine)
    message = (
        f"--save-dir: '{save}' cannot be written to: Too many levels of symbolic links; expected "
        "one that can"
    )
    with pytest.raises(UsageError, match=exactly(message)):
        hold_folder(str(save), object())
    assert mine.read_text() == "mine"


# ---- settings that lie about ---------------------------------------------------------------------


def test_settings_of_matplotlib_in_the_folder(tmp_path):
    """Some start programs; matplotlib reads them where it is imported."""
    (tmp_path / "matplotlibrc").write_text("font.size: 33\n")
    code = (
        "from tsa_fairseq.report.plots import check_matplotlib; check_matplotlib(); "
        "import matplotlib, os; print(matplotlib.rcParams['font.size'], os.getcwd())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"10.0 {os.path.realpath(tmp_path)}\n"


# ---- characters that command a terminal ----------------------------------------------------------


def test_messages_command_no_terminal(caplog, capsys):
    assert visible(f"ü\xa0\n\t{TITLE}\x9b") == "ü\xa0\n\t\\x1b]0;title\\x07\\x9b"
    error = UsageError(f"--x: '{TITLE}\n'")
    assert str(error) == "--x: '\\x1b]0;title\\x07\\n'"
    assert error.code == f"error: {error}"
    warn(TITLE)
    assert caplog.messages == ["warning: \\x1b]0;title\\x07"]
    # turns the order of letters around
    assert visible("a\u202eb\u2066c \u05d0") == "a\\u202eb\\u2066c \u05d0"
    progress(TITLE)
    assert capsys.readouterr().err == "\\x1b]0;title\\x07\n"


def test_what_an_export_says_is_one_line(tmp_path):
    """It goes into a model card."""
    (tmp_path / "export.json").write_text(json.dumps({"tree": "x\nrm"}))
    message = (
        f"path: '{tmp_path / 'export.json'}' is not what an export writes: its tree is 'x\\nrm'; "
        "expected a line of text"
    )
    with pytest.raises(UsageError, match=exactly(message)):
        read_origin(tmp_path)


def test_what_is_shown_of_translations_commands_no_terminal(tmp_path, capsys):
    for name, line in (("reference", "a b c d"), ("one", f"a {TITLE} c d"), ("two", "a b d")):
        (tmp_path / name).write_text(f"{line}\n" * 3, encoding="utf-8")
    argv = ["compare", tmp_path / "one", tmp_path / "two", "--reference", tmp_path / "reference"]
    status, said, _ = command_line(capsys, *argv, "--trials", "10")
    assert status == 0
    assert "\\x1b]0;title\\x07" in said and "\x1b" not in said
