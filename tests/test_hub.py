"""Translating from Python."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import sentencepiece
import torch
from fairseq.models.transformer import TransformerModel
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


def test_a_sentence_that_is_too_long(exported):
    message = "sentences: number 1 has 81 words or pieces, its end included; expected at most 64"
    with pytest.raises(UsageError, match=exactly(message)):
        tsa_fairseq.load(exported).translate(["7", "7 " * 80])


def test_a_translation_ends_where_the_model_does(exported):
    """It has 64 positions, fewer than the 200 words that are the limit otherwise."""
    loaded = tsa_fairseq.load(exported)
    assert len(loaded.translate("7", min_len=60, beam=1).split()) >= 59


@pytest.mark.parametrize("options", [dict(min_len=64), dict(min_len=3, max_len_b=2)])
def test_options_that_contradict_each_other(options, exported):
    with pytest.raises(UsageError, match="min_len"):
        tsa_fairseq.load(exported).translate("7", **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            dict(sampling=True, diverse_beam_groups=5),
            "fairseq refuses the options: Provided Search parameters are mutually exclusive.",
        ),
        (
            dict(diverse_beam_groups=2),
            "fairseq refuses the options: DiverseBeamSearch requires --beam to be divisible by "
            "the number of groups",
        ),
    ],
)
def test_what_fairseq_refuses(options, message, translator):
    with pytest.raises(UsageError, match=exactly(message)):
        translator.translate("7", **options)


def test_subwords_of_something_else(pieces):
    message = (
        f"subwords: '{pieces}' makes 0 % of the words of the source dictionary, and not '9', '1', "
        "'0'; expected the model that it was made with, at least 90 %"
    )
    with pytest.raises(UsageError, match=exactly(message)):
        tsa_fairseq.load(RELEASE / "tree.pt", subwords=str(pieces))


@pytest.mark.parametrize(("positions", "limit"), [([64, 64], 63), ([1024, 1024], 200)])
def test_how_long_a_translation_may_be(positions, limit, tmp_path, capsys):
    out, asked = tmp_path / "out", {}
    flags = ["--data", RELEASE, "--to", "ctranslate2"]
    command_line(capsys, "export", RELEASE / "tree.pt", out, *flags)
    (out / "export.json").write_text(json.dumps({"max_positions": positions}))
    loaded = tsa_fairseq.load(out)
    one = SimpleNamespace(hypotheses=[["sieben"]])
    loaded.model = SimpleNamespace(translate_batch=lambda _, **given: asked.update(given) or [one])
    assert loaded.translate(["7"], lenpen=0.6) == ["sieben"]
    assert asked == {
        "beam_size": 5, "max_batch_size": 32, "max_input_length": 0, "length_penalty": 0.6,
        "max_decoding_length": limit,
    }  # fmt: skip


def test_no_translation_at_all(tmp_path, capsys):
    out = tmp_path / "out"
    command_line(
        capsys, "export", RELEASE / "tree.pt", out, "--data", RELEASE, "--to", "ctranslate2"
    )
    for options, message in (
        (dict(max_len_b=0), "max_len_b: got 0; expected 1 or more"),
        (dict(min_len=64), "min_len: got 64; expected 1 to 63"),
        (dict(min_len=0), "min_len: got 0; expected 1 to 63"),
    ):
        with pytest.raises(UsageError, match=exactly(message)):
            tsa_fairseq.load(out).translate("7", **options)


@pytest.mark.parametrize("name", ["verbose", "prefix_size", "replace_unk", "score_reference"])
def test_options_that_would_do_nothing(name, exported):
    with pytest.raises(UsageError, match=f"^{name}: no such option; expected some of lenpen, "):
        tsa_fairseq.load(exported).translate("7", **{name: 1})


def test_dictionaries_of_something_else_beside_the_checkpoint(tree, data):
    """Those of the data that it names are taken then; and those beside it before them."""
    (tree.parent / "dict.fr.txt").write_text("un 1\n")
    assert tsa_fairseq.load(tree).task.cfg.data == str(data)
    for name in ("dict.de.txt", "dict.en.txt"):
        (tree.parent / name).write_bytes((data / name).read_bytes())
    assert tsa_fairseq.load(tree).task.cfg.data == str(tree.parent)


def test_embeddings_came_from_a_file_that_is_gone(tree):
    state = torch.load(tree, weights_only=False)
    state["cfg"]["model"].encoder_embed_path = state["cfg"]["model"].decoder_embed_path = "gone.vec"
    torch.save(state, tree)
    assert tsa_fairseq.load(tree).translate("w3", max_len_b=3)


def test_subwords(pieces, pieces_data, tmp_path, capsys):
    """Plain text goes in and comes out, with the pieces of the model in between."""
    path, out = tmp_path / "tree.pt", tmp_path / "out"
    words = [line.split()[0] for line in (pieces_data / "dict.de.txt").open(encoding="utf-8")]
    save_tree(path, TinyTask(len(words) + 4), pieces_data)
    model = sentencepiece.SentencePieceProcessor(model_file=str(pieces))
    sentence = "eine kleine maus"
    ids = [words.index(piece) + 4 for piece in model.encode(sentence, out_type=str)] + [2]
    given = tsa_fairseq.load(path, subwords=str(pieces))
    assert given.encode(sentence).tolist() == ids
    assert given.decode(given.encode(sentence)) == sentence
    translation = given.translate(sentence, beam=1, max_len_b=8)
    assert translation and "▁" not in translation
    for target in ("ctranslate2", "fairseq"):
        flags = ["--subwords", pieces, "--to", target, "--force"]
        assert command_line(capsys, "export", path, out, *flags)[0] == 0
        assert tsa_fairseq.load(out).translate(sentence, beam=1, max_len_b=8) == translation
    stock = TransformerModel.from_pretrained(str(out), bpe="sentencepiece").eval()
    assert stock.translate(sentence, beam=1, max_len_b=8) == translation
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
            RELEASE / "tree.pt", dict(subwords=str(RELEASE / "expected.json")),
            f"subwords: '{RELEASE / 'expected.json'}' is neither a sentencepiece model nor codes "
            "of subword-nmt",
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
    message = (
        f"path: '{tmp_path}' is a folder without model.pt and model.bin; "
        "expected a checkpoint, or the folder of an export"
    )
    with pytest.raises(UsageError, match=exactly(message)):
        tsa_fairseq.load(tmp_path)


def test_a_part_of_a_ctranslate2_model():
    folder = RELEASE / "exported.ctranslate2"
    message = (
        f"path: '{folder / 'model.bin'}' is a part of a model for CTranslate2; "
        f"expected its folder, '{folder}'"
    )
    with pytest.raises(UsageError, match=exactly(message)):
        tsa_fairseq.load(folder / "model.bin")


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
    monkeypatch.setattr(
        "tsa_fairseq.deploy.hub_ctranslate2.importlib.util.find_spec", lambda name: None
    )
    message = (
        f"path: '{tmp_path}' takes CTranslate2, which is not installed: pip install ctranslate2"
    )
    with pytest.raises(UsageError, match=exactly(message)):
        tsa_fairseq.load(tmp_path)


@pytest.mark.parametrize("version", ["4.8.4", "3.24.0"])
def test_a_ctranslate2_that_believes_a_model(version, monkeypatch):
    folder = RELEASE / "exported.ctranslate2"
    monkeypatch.setattr("ctranslate2.__version__", version)
    message = (
        f"path: '{folder}' takes CTranslate2 4.8.5 or newer, and this is {version}: what a "
        "hostile model says of its size was believed"
    )
    with pytest.raises(UsageError, match=exactly(message)):
        tsa_fairseq.load(folder)


@pytest.mark.parametrize("folder", [False, True])
def test_foreign_code_does_not_run(folder, tmp_path):
    path, target = tmp_path / "model.pt", tmp_path / "written"
    torch.save({"model": {}, "extra": Hostile(target)}, path)
    with pytest.raises(UsageError, match="which is code"):
        tsa_fairseq.load(tmp_path if folder else path)
    assert not target.exists()
