"""Translating from Python."""

import json
from pathlib import Path

import pytest
import sentencepiece
import torch
from helpers import TinyTask, command_line, exactly, save_stock, save_tree
from test_checkpoint import Hostile

import tsa_fairseq
from tsa_fairseq.errors import UsageError

RELEASE = Path(__file__).parent / "stored" / tsa_fairseq.__version__
EXPECTED = json.loads((RELEASE / "expected.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def translator():
    return tsa_fairseq.load(RELEASE / "tree.pt")


@pytest.fixture(params=["fairseq", "ctranslate2"])
def exported(request, tmp_path, capsys):
    """A folder of each kind, of leaf 0."""
    out = tmp_path / "out"
    flags = ["--data", RELEASE, "--to", request.param]
    assert command_line(capsys, "export", RELEASE / "tree.pt", out, *flags)[0] == 0
    return out


def test_one_sentence_or_several(exported):
    loaded = tsa_fairseq.load(str(exported))
    assert loaded.translate("3 1 4") == "drei eins vier"
    assert loaded.translate(["3 1 4", "7", "2 2"], beam=2) == [
        "drei eins vier",
        "sieben",
        "zwei zwei",
    ]
    assert loaded.translate([]) == []


def test_fairseqs_options(exported):
    loaded = tsa_fairseq.load(exported)
    assert loaded.translate("1 2 3 4 5", max_len_b=2).split() == ["eins", "zwei"]
    assert loaded.translate("7", min_len=3).split()[:1] == ["sieben"]
    assert len(loaded.translate("7", min_len=3, beam=1).split()) >= 2


def test_options_of_fairseq_alone(translator):
    torch.manual_seed(0)
    drawn = {translator.translate("1 2 3", beam=1, sampling=True, temperature=9.0) for _ in "123"}
    assert len(drawn) == 3
    assert translator.translate("1 2 3 4 5", max_len_a=0.5, max_len_b=0).split() == [
        "eins",
        "zwei",
        "drei",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(beam=0), "beam: got 0; expected 1 or more"),
        (dict(len_pen=0.6), "len_pen: no such option; expected some of "),
    ],
)
def test_options_that_do_not_exist(options, message, exported):
    """fairseq would take a misspelt one without a word."""
    with pytest.raises(UsageError) as error:
        tsa_fairseq.load(exported).translate("7", **options)
    assert str(error.value).startswith(message)


def test_the_options_are_named(exported):
    with pytest.raises(UsageError, match="lenpen, "):
        tsa_fairseq.load(exported).translate("7", lenpen=0.6, beams=3)


def test_a_sentence_that_is_too_long(translator):
    message = "sentences: number 1 has 81 words or pieces; expected at most 64"
    with pytest.raises(UsageError, match=exactly(message)):
        translator.translate(["7", "7 " * 80])


def test_subwords(tmp_path, capsys):
    """Plain text goes in and comes out, with the pieces of the model in between."""
    text, data = tmp_path / "text", tmp_path / "bin"
    data.mkdir()
    text.write_text("ein kleines haus\neine kleine maus\nkein kleiner baum\n")
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(tmp_path / "spm"), vocab_size=39, model_type="bpe",
        minloglevel=2, hard_vocab_limit=False,
    )  # fmt: skip
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "spm.model"))
    words = [pieces.id_to_piece(n) for n in range(3, pieces.get_piece_size())]
    for language in ("de", "en"):
        lines = "".join(f"{word} 1\n" for word in words)
        (data / f"dict.{language}.txt").write_text(lines, encoding="utf-8")
    path, out = tmp_path / "tree.pt", tmp_path / "out"
    save_tree(path, TinyTask(len(words) + 4), data)
    sentence = "eine kleine maus"
    ids = [words.index(piece) + 4 for piece in pieces.encode(sentence, out_type=str)] + [2]
    given = tsa_fairseq.load(path, subwords=str(tmp_path / "spm.model"))
    assert given.encode(sentence).tolist() == ids
    assert given.decode(given.encode(sentence)) == sentence
    translation = given.translate(sentence, beam=1, max_len_b=8)
    assert translation and "▁" not in translation
    for target in ("fairseq", "ctranslate2"):
        flags = ["--subwords", tmp_path / "spm.model", "--to", target, "--force"]
        assert command_line(capsys, "export", path, out, *flags)[0] == 0
        assert tsa_fairseq.load(out).translate(sentence, beam=1, max_len_b=8) == translation
    assert "▁" in tsa_fairseq.load(path).translate(sentence, beam=1, max_len_b=8)


def test_a_stock_checkpoint(task, data, tmp_path):
    """Beside a tree, with the same interface."""
    path = tmp_path / "tree.pt"
    save_tree(path, task, data)
    assert isinstance(tsa_fairseq.load(path).translate("w3 w4", max_len_b=3), str)
    stock = tmp_path / "stock.pt"
    save_stock(stock, task)
    message = f"inference: got 'ensemble'; '{stock}' is no tree's checkpoint"
    with pytest.raises(UsageError, match=exactly(message)):
        tsa_fairseq.load(stock, inference="ensemble")


@pytest.mark.parametrize(
    ("path", "options", "message"),
    [
        ("nowhere.pt", {}, "path: 'nowhere.pt' does not exist or is not a file"),
        (
            RELEASE / "tree.pt", dict(data="nowhere"),
            "data: got 'nowhere', which has no dict.digits.txt; "
            "expected what fairseq-preprocess made",
        ),
        (
            RELEASE / "tree.pt", dict(subwords="nowhere"),
            "subwords: 'nowhere' does not exist or is not a file",
        ),
        (
            RELEASE / "tree.pt", dict(inference="leaf:3"),
            "--tree-inference: got 'leaf:3'; the tree '1[2,1[1,1]]' has leaf:0 to leaf:2",
        ),
        (
            RELEASE / "tree.pt", dict(inference="best"),
            "--tree-inference: got 'best'; expected leaf:N, such as leaf:0, ensemble or gate",
        ),
    ],
)  # fmt: skip
def test_bad_input(path, options, message):
    with pytest.raises(UsageError, match=exactly(message)):
        tsa_fairseq.load(path, **options)


def test_a_folder_without_a_model(tmp_path):
    file = tmp_path / "model.pt"
    message = f"path: '{file}' does not exist or is not a file"
    with pytest.raises(UsageError, match=exactly(message)):
        tsa_fairseq.load(tmp_path)


@pytest.mark.parametrize("name", ["inference", "data"])
def test_what_a_ctranslate2_model_cannot(name, tmp_path):
    (tmp_path / "model.bin").write_bytes(b"")
    message = f"{name}: got 'ensemble'; '{tmp_path}' is a model for CTranslate2"
    with pytest.raises(UsageError, match=exactly(message)):
        tsa_fairseq.load(tmp_path, **{name: "ensemble"})


def test_a_broken_ctranslate2_model(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"x")
    with pytest.raises(UsageError) as error:
        tsa_fairseq.load(tmp_path)
    assert str(error.value).startswith(f"path: CTranslate2 refuses '{tmp_path}': ")
    assert "\n" not in str(error.value)


def test_without_ctranslate2(tmp_path, monkeypatch):
    (tmp_path / "model.bin").write_bytes(b"x")
    monkeypatch.setattr("tsa_fairseq.hub_ctranslate2.importlib.util.find_spec", lambda name: None)
    message = (
        f"path: '{tmp_path}' takes CTranslate2, which is not installed: pip install ctranslate2"
    )
    with pytest.raises(UsageError, match=exactly(message)):
        tsa_fairseq.load(tmp_path)


@pytest.mark.parametrize("folder", [False, True])
def test_foreign_code_does_not_run(folder, tmp_path):
    path, target = tmp_path / "model.pt", tmp_path / "written"
    torch.save({"model": {}, "extra": Hostile(target)}, path)
    with pytest.raises(UsageError, match="which is code"):
        tsa_fairseq.load(tmp_path if folder else path)
    assert not target.exists()
