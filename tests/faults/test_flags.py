"""Bad input on every command: ``refused.txt`` has it, and what is answered, in one line each."""

import io
import shlex
import time
from pathlib import Path

import fairseq_cli.train
import pytest
from trainings import arguments

from tsa_fairseq.cli.main import main

TABLE = Path(__file__).with_name("refused.txt")
# What stands for what in the table.
LONG = {"BIG": "9" * 5000, "NESTED": "1[" * 3000}


def table():
    """(command, its arguments, the answer): two lines each, the second one indented."""
    lines = [s for s in TABLE.read_text(encoding="utf-8").splitlines() if s and s[0] != "#"]
    assert len(lines) % 2 == 0 and all(line.startswith("    ") for line in lines[1::2])
    for call, answer in zip(lines[::2], lines[1::2], strict=True):
        name, *argv = shlex.split(call)
        yield pytest.param(name, argv, answer.strip(), id=call)


def files_under(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


CASES = list(table())


@pytest.mark.parametrize(("name", "argv", "answer"), CASES)
def test_refused(name, argv, answer, tree, data, request, tmp_path, monkeypatch, capsys):
    places = {"TREE": tree, "DATA": tree.parent / "bin", "OUT": tmp_path / "out"}
    words = {**LONG, **{word: str(path) for word, path in places.items()}}
    argv = [words.get(word, word) for word in argv]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO("w1 w2\n"))
    if name == "train":
        given = arguments(request.getfixturevalue("digits"), "save", "--max-update", "1", *argv)
    before, start = files_under(tmp_path), time.monotonic()
    if name == "train":
        monkeypatch.setattr("sys.argv", ["fairseq-train", *given])
        with pytest.raises(SystemExit) as raised:
            fairseq_cli.train.cli_main()
        said = raised.value.code
    else:
        assert main([name, *argv]) == 1
        said = capsys.readouterr().err.strip().removeprefix("tsa-fairseq: ")
    assert time.monotonic() - start < 10
    for word, path in places.items():
        said = said.replace(str(path), word)
    assert said == f"error: {answer}"
    assert files_under(tmp_path) == before and not places["OUT"].exists()
    assert not (tmp_path / "save").exists()


def test_how_many():
    """Of every command, and no case twice."""
    calls = [case.id for case in CASES]
    assert len(set(calls)) == len(calls) >= 120
    assert {case.values[0] for case in CASES} == {"train", "tree", "export", "average", "translate"}
