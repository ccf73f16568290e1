"""The same raw text in gives the same raw text out, through every door of every kind of model."""

import sys

import pytest
from fairseq_cli.interactive import cli_main
from helpers import command_line, translate_lines
from made_up import PAIRS, SOURCES, SUBWORDS, make

import tsa_fairseq

# Beside what is known by heart: another order, unknown words and letters, nothing at all.
LINES = [*SOURCES, "ein baum", "die maus ist alt", "xyz haus", "", " \u200b\t", "▁"]
LENGTH = 12


@pytest.fixture(scope="module", params=SUBWORDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module", params=["joined", "separate"])
def made(request, kind, tmp_path_factory):
    return make(tmp_path_factory.mktemp("made") / kind, kind, request.param == "joined")


def through_interactive(capsys, monkeypatch, folder, lines, data, model, *flags):
    """The translations without ``D-``, in order; it invents some for empty lines."""
    file = folder / "in.txt"
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    argv = ["fairseq-interactive", data, "--path", model, "-s", "de", "-t", "sr", "--cpu",
            "--beam", "5", "--max-len-b", LENGTH, "--input", file, *flags]  # fmt: skip
    monkeypatch.setattr(sys, "argv", [str(word) for word in argv])
    cli_main()
    found = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    return [line[2] for line in found if line[0].startswith("D-")]


def test_matrix(made, kind, tmp_path, capsys, monkeypatch):
    subwords = ["--subwords", *made.files] if made.files else []
    folders = {to: tmp_path / to for to in ("fairseq", "ctranslate2")}
    for to, out in folders.items():
        status, said, err = command_line(capsys, "export", made.path, out, "--to", to, *subwords)
        assert (status, err) == (0, "")
        assert said.splitlines()[-1] == f"tsa-fairseq translate {out}"
    options = {"subwords": list(map(str, made.files))} if made.files else {}
    expected = tsa_fairseq.load(made.path, **options).translate(LINES, max_len_b=LENGTH)
    assert expected[:4] == [target for _, target in PAIRS]
    assert expected[-3:] == ["", "", ""] and all(expected[:-3])
    for model in (made.path, *folders.values()):
        given = options if model == made.path else {}
        loaded = tsa_fairseq.load(model, **given)
        assert loaded.translate(LINES, max_len_b=LENGTH) == expected
        flags = subwords if model == made.path else []
        argv = [model, *flags, "--max-length", LENGTH]
        text = "".join(f"{line}\n" for line in LINES)
        done = translate_lines(capsys, monkeypatch, tmp_path, text, *argv)
        assert done == (0, "".join(f"{line}\n" for line in expected), "")
    of_fairseq = {
        "sentencepiece": ["--bpe", "sentencepiece", "--sentencepiece-model"],
        "subword_nmt": ["--bpe", "subword_nmt", "--bpe-codes"],
        "none": [],
    }
    if kind in of_fairseq:
        flags = [*of_fairseq[kind], *made.files]
        places = [(made.data, made.path), (folders["fairseq"], folders["fairseq"] / "model.pt")]
        for data, model in places:
            found = through_interactive(
                capsys, monkeypatch, tmp_path, LINES[:-3], data, model, *flags
            )
            assert found == expected[:-3]
