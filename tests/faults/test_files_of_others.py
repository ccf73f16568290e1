"""Files that are not ours: nothing of a user's is lost where this program writes."""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import command_line

from tsa_fairseq.files import whole
from tsa_fairseq.files.leftovers import clear


@pytest.fixture
def out(tree, tmp_path, capsys):
    """An export."""
    folder = tmp_path / "out"
    assert command_line(capsys, "export", tree, folder, "--leaf", "1")[0] == 0
    return folder


def refused(capsys, tree, out, said):
    before = {p: p.read_bytes() for p in out.rglob("*") if p.is_file() and not p.is_symlink()}
    status, _, err = command_line(capsys, "export", tree, out, "--force")
    assert (status, err) == (1, f"tsa-fairseq: error: OUT: '{out}' holds {said}\n")
    for path, content in before.items():
        assert path.read_bytes() == content


# ---- what --force replaces -----------------------------------------------------------------------


def test_an_export_lists_its_files(out):
    said = json.loads((out / "export.json").read_text())
    files = {path.name for path in out.iterdir()} - {"export.json"}
    assert said["files"] == {
        name: hashlib.sha256((out / name).read_bytes()).hexdigest() for name in files
    }


@pytest.mark.parametrize("name", ["config.json", "dict.fr.txt", "model.bin", "dict.de.txt.bak"])
def test_a_file_of_such_a_name(name, out, tree, capsys):
    (out / name).write_text("mine")
    refused(capsys, tree, out, f"'{name}'; --force replaces exports alone")


@pytest.mark.parametrize("name", ["README.md", "model.pt", "dict.de.txt"])
def test_a_file_that_was_changed(name, out, tree, capsys):
    with open(out / name, "a") as file:
        file.write("mine")
    said = f"'{name}', which is not as it was exported; --force replaces exports alone"
    refused(capsys, tree, out, said)


def test_a_json_that_was_changed(out, tree, capsys):
    file = out / "export.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "note": "mine"}))
    said = "'export.json', which is not as it was exported; --force replaces exports alone"
    refused(capsys, tree, out, said)


@pytest.mark.parametrize(
    "text", ["{}", "[]", "{", "[" * 100_000, '{"files": 1, "export_sha256": 1}',
             '{"files": {"export.json": "x"}}'],
)  # fmt: skip
def test_the_json_of_another_program(text, tree, tmp_path, capsys):
    out = tmp_path / "theirs"
    out.mkdir()
    (out / "export.json").write_text(text)
    status, _, err = command_line(capsys, "export", tree, out, "--force")
    assert status == 1 and err in (
        f"tsa-fairseq: error: OUT: '{out}' holds 'export.json'; --force replaces exports alone\n",
        f"tsa-fairseq: error: OUT: '{out}' holds 'export.json', which is not as it was exported; "
        "--force replaces exports alone\n",
    )
    assert (out / "export.json").read_text() == text


def test_what_is_no_regular_file(out, tree, tmp_path, capsys):
    target = tmp_path / "kept"
    (out / "README.md").rename(target)
    (out / "README.md").symlink_to(target)
    refused(capsys, tree, out, "'README.md'; --force replaces exports alone")
    (out / "README.md").unlink()
    os.mkfifo(out / "README.md")
    refused(capsys, tree, out, "'README.md'; --force replaces exports alone")


def test_an_empty_folder_in_it(out, tree, capsys):
    (out / "notes").mkdir()
    refused(capsys, tree, out, "'notes'; --force replaces exports alone")


def test_an_export_of_all_leaves(tree, tmp_path, capsys):
    out = tmp_path / "all"
    for _ in range(2):
        flags = ["--leaf", "all", "--force"]
        assert command_line(capsys, "export", tree, out, *flags)[0] == 0
    (out / "leaf1" / "notes.txt").write_text("mine")
    refused(capsys, tree, out, "'leaf1/notes.txt'; --force replaces exports alone")
    (out / "leaf1" / "notes.txt").unlink()
    (out / "leaf7").mkdir()
    (out / "leaf7" / "notes.txt").write_text("mine")
    refused(capsys, tree, out, "'leaf7/notes.txt'; --force replaces exports alone")


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/null")])
def test_an_average_in_place_of_a_device(make, tree, tmp_path, capsys):
    out = tmp_path / "mean.pt"
    make(out)
    before = out.lstat()
    status, _, err = command_line(capsys, "average", out, tree, "--force")
    assert (status, err) == (
        1, f"tsa-fairseq: error: OUT: '{out}' is no regular file; expected a new file\n",
    )  # fmt: skip
    assert stat.S_IFMT(out.lstat().st_mode) == stat.S_IFMT(before.st_mode)


@pytest.mark.parametrize("content", [b"", b"mine", b"PK\x03\x04mine"])
def test_an_average_in_place_of_a_file(content, tree, tmp_path, capsys):
    out = tmp_path / "mean.pt"
    out.write_bytes(content)
    status, _, err = command_line(capsys, "average", out, tree, "--force")
    assert (status, err) == (
        1,
        f"tsa-fairseq: error: OUT: '{out}' is no average as this program wrote it; --force "
        "replaces averages alone\n",
    )
    assert out.read_bytes() == content


# ---- the moment of the exchange ------------------------------------------------------------------


def test_at_no_moment_is_there_nothing(tree, out, capsys, monkeypatch):
    """Old and new change places at once, on Linux."""
    if not sys.platform.startswith("linux"):
        pytest.skip("renameat2 is Linux's")
    monkeypatch.setattr(Path, "rename", lambda *_: pytest.fail("in two steps"))
    assert command_line(capsys, "export", tree, out, "--leaf", "2", "--force")[0] == 0
    assert json.loads((out / "export.json").read_text())["leaf"] == 2


GONE = 2**22 + 1  # beyond any process's number on Linux


def leftovers(tmp_path):
    return sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("."))


def test_killed_between_two_renames(tree, out, tmp_path, capsys, caplog):
    """As where there is no exchange: the next call puts the old one back, and says so."""
    out.rename(tmp_path / f".out.{GONE}.old")
    (tmp_path / f".out.{GONE}.new").mkdir()
    (tmp_path / f".out.{GONE}.new" / "model.pt").write_bytes(b"half")
    status, _, err = command_line(capsys, "export", tree, out)
    new = tmp_path / f".out.{GONE}.new"
    assert caplog.messages == [
        f"warning: OUT: '{out}' was away: what replaced it was killed; it is put back",
        f"warning: OUT: '{new}', left by a process that was killed, is removed",
    ]
    assert (status, err) == (
        1, f"tsa-fairseq: error: OUT: '{out}' exists; expected a new folder, or --force\n",
    )  # fmt: skip
    assert json.loads((out / "export.json").read_text())["leaf"] == 1
    assert leftovers(tmp_path) == []


def test_what_is_left_of_others_stays(tmp_path):
    """Of a process that runs, of another name, and what holds anything else."""
    out = tmp_path / "out"
    for name, inside in (
        (f".out.{os.getpid()}.new", "model.pt"),
        (f".out.{GONE}.new", "notes.txt"),
        (f".other.{GONE}.new", "model.pt"),
        (f".out.0{GONE}.new", "model.pt"),
        (f".out.x{GONE}.new", "model.pt"),
        (f".out.{GONE}.newer", "model.pt"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / inside).write_text("mine")
    (tmp_path / f".out.{GONE + 1}.new").write_text("mine")
    (tmp_path / f".out.{GONE + 2}.new").symlink_to(tmp_path)
    before = leftovers(tmp_path)
    clear(out)
    assert leftovers(tmp_path) == before and len(before) == 8


def test_odd_names(tmp_path):
    """A name is not a pattern."""
    (tmp_path / f".ab.{GONE}.new").mkdir()
    clear(tmp_path / "a[b]")
    clear(tmp_path / "a*")
    assert leftovers(tmp_path) == [f".ab.{GONE}.new"]
    clear(tmp_path / "ab")
    assert leftovers(tmp_path) == []
    (tmp_path / f".a[b].{GONE}.new").mkdir()
    clear(tmp_path / "a[b]")
    assert leftovers(tmp_path) == []


SLOW = """
import sys, time
from pathlib import Path
sys.argv[0] = "tsa-fairseq"
from tsa_fairseq.cli.main import main
import tsa_fairseq.cli.{command} as command
def wait(*_, **__):
    {before}
    Path({ready!r}).write_text("")
    time.sleep(60)
command.{name} = wait
sys.exit(main(sys.argv[1:]))
"""


@contextlib.contextmanager
def at_work(tmp_path, tree, kind):
    """A process that has begun to write and waits."""
    ready = tmp_path / "ready"
    fill = {
        "export": dict(command="export", name="count_parameters", before="pass"),
        "average": dict(
            command="average", name="save", before="open(_[1], 'wb').write(b'PK\\x03\\x04')"
        ),
    }[kind]
    program = SLOW.format(ready=str(ready), **fill)
    out = tmp_path / ("out" if kind == "export" else "mean.pt")
    argv = [kind, tree, out] if kind == "export" else [kind, out, tree]
    process = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, argv)], stderr=subprocess.PIPE, text=True
    )
    try:
        for _ in range(600):
            if ready.exists() or process.poll() is not None:
                break
            time.sleep(0.05)
        assert ready.exists(), process.stderr.read()
        yield process, out
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("kind", ["export", "average"])
@pytest.mark.parametrize(
    ("number", "status", "said"),
    [
        (signal.SIGTERM, 143, "tsa-fairseq: ended by SIGTERM"),
        (signal.SIGINT, 130, "tsa-fairseq: interrupted"),
    ],
)
def test_signals_while_it_writes(kind, number, status, said, tree, tmp_path, capsys, monkeypatch):
    """In this process, where the signal comes after something was written."""
    before_int = signal.signal(signal.SIGINT, signal.default_int_handler)
    out, before = tmp_path / "out", {path.name for path in tmp_path.iterdir()}

    def ended(*_):
        assert leftovers(tmp_path) == [f".out.{os.getpid()}.new"] or kind == "average"
        signal.raise_signal(number)

    name = "export.count_parameters" if kind == "export" else "average.save"
    monkeypatch.setattr(f"tsa_fairseq.cli.{name}", ended)
    argv = [kind, tree, out] if kind == "export" else [kind, out, tree]
    try:
        done = command_line(capsys, *argv)
    finally:
        signal.signal(signal.SIGINT, before_int)  # which a shell may have set to be ignored
    assert (done[0], done[2].splitlines()[-1]) == (status, said)
    assert {path.name for path in tmp_path.iterdir()} == before
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["export", "average"])
@pytest.mark.parametrize(
    ("number", "status", "said"),
    [
        (signal.SIGTERM, 143, "tsa-fairseq: ended by SIGTERM"),
        (signal.SIGINT, 130, "tsa-fairseq: interrupted"),
        (signal.SIGKILL, -9, None),
    ],
)
def test_signals(kind, number, status, said, tree, tmp_path, capsys, caplog):
    """Nothing is left, in one line; of SIGKILL the next call removes what is, and says so."""
    with at_work(tmp_path, tree, kind) as (process, out):
        if number == signal.SIGINT:
            # a shell that starts others in the background has them ignore it
            if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
                pytest.skip("Ctrl-C is ignored here")
        assert leftovers(tmp_path) == [f".{out.name}.{process.pid}.new"]
        process.send_signal(number)
        _, err = process.communicate(timeout=20)
    assert process.returncode == status and not out.exists()
    if said is not None:
        assert err.splitlines()[-1] == said and "Traceback" not in err
        assert leftovers(tmp_path) == []
        return
    left = tmp_path / f".{out.name}.{process.pid}.new"
    assert left.exists()
    argv = ["export", tree, out] if kind == "export" else ["average", out, tree]
    assert command_line(capsys, *argv)[0] == 0
    assert caplog.messages == [
        f"warning: OUT: '{left}', left by a process that was killed, is removed"
    ]
    assert leftovers(tmp_path) == [] and out.exists()


# ---- a disk that is full -------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(folder, size):
    """A file system of so many bytes; root alone can make one."""
    folder.mkdir()
    options = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("takes root")
    if subprocess.run(options, capture_output=True).returncode != 0:
        pytest.skip("no tmpfs can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("flags", [[], ["--to", "ctranslate2"]])
def test_a_full_disk_is_said_of_out(flags, tree, tmp_path, capsys):
    with small_disk(tmp_path / "disk", "64k") as disk:
        (disk / "filler").write_bytes(b"x" * 30_000)
        out = disk / "out"
        err = command_line(capsys, "export", tree, out, *flags)[2]
        reason = err.removeprefix(f"tsa-fairseq: error: OUT: '{out}' cannot be written: ")
        assert reason != err and err.count("\n") == 1, err
        assert [path.name for path in disk.iterdir()] == ["filler"]


def test_a_dictionary_that_does_not_fit(tmp_path):
    """The system's message of a copy names the file that was read."""
    source = tmp_path / "dict.en.txt"
    source.write_bytes(b"w 1\n" * 50_000)
    with small_disk(tmp_path / "disk", "64k") as disk:
        out = disk / "out"
        with pytest.raises(SystemExit) as error:
            whole.write_whole(
                out, lambda folder: shutil.copyfile(source, folder / source.name), lambda: None
            )
        assert str(error.value) == f"OUT: '{out}' cannot be written: No space left on device"
        assert list(disk.iterdir()) == []
