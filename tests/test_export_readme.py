"""The README.md of an export: its commands are those of the programs, and do what the others do."""

import re
import shlex

import pytest
from fairseq import options
from helpers import command_line
from made_up import make

from tsa_fairseq.cli.main import build_parser

DOORS = "tsa-fairseq translate . < in > out\n"


def commands(text):
    return re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("to", ["fairseq", "ctranslate2"])
def test_two_models(to, made_up):
    """fairseq has one for both sides, so that its own command is not there."""
    text = (getattr(made_up, to) / "README.md").read_text(encoding="utf-8")
    name, extra = ("fairseq", "fairseq") if to == "fairseq" else ("CTranslate2", "serve")
    assert text.startswith(
        f"# de to sr\n\nA Transformer for {name}: leaf 0 of `checkpoint.pt`. "
        f"It takes `tsa_fairseq[{extra}]`. In this folder:\n"
    )
    assert commands(text) == [DOORS]
    assert 'translator = tsa_fairseq.load(".")\n' in text
    assert text.endswith(
        "\nText is cut into words by `sentencepiece.source.model` and "
        "`sentencepiece.target.model`. "
        "What it was made of, and how text becomes its words: `export.json`.\n"
    )
    assert build_parser(["translate", "."]).parse_args(["translate", "."]).run


@pytest.mark.parametrize(
    ("kind", "flags", "command"),
    [
        ("none", [], ""),
        ("none", ["--lowercase"], None),
        ("none", ["--tokenizer", "moses"], " --tokenizer moses"),
        (
            "sentencepiece", [],
            " --bpe sentencepiece --sentencepiece-model sentencepiece.bpe.model",
        ),
        (
            "subword_nmt", ["--tokenizer", "moses", "--moses-no-escape", "--moses-no-dash-splits"],
            " --tokenizer moses --moses-no-dash-splits --moses-no-escape --bpe subword_nmt "
            "--bpe-codes bpecodes",
        ),
    ],
)  # fmt: skip
def test_with_fairseq_alone(kind, flags, command, tmp_path, capsys, monkeypatch):
    made, out = make(tmp_path / "made", kind, joined=True), tmp_path / "out"
    subwords = ["--subwords", *made.files] if made.files else []
    assert command_line(capsys, "export", made.path, out, *subwords, *flags)[0] == 0
    found = commands((out / "README.md").read_text(encoding="utf-8"))
    if command is None:
        assert found == [DOORS]
        return
    expected = f"fairseq-interactive . --path model.pt -s de -t sr --beam 5{command}\n"
    assert found == [DOORS, expected]
    monkeypatch.chdir(out)
    argv = shlex.split(expected)[1:]
    args = options.parse_args_and_arch(options.get_interactive_generation_parser(), argv)
    assert (args.beam, args.source_lang, args.target_lang) == (5, "de", "sr")
