"""From raw text to words and back: tokeniser, lower case, subwords, and pairs that are wrong."""

import json
import random
import re

import pytest
from fairseq.data.encoders.moses_tokenizer import MosesTokenizer, MosesTokenizerConfig
from fairseq.data.encoders.subword_nmt_bpe import SubwordNMTBPE, SubwordNMTBPEConfig
from helpers import command_line, exactly
from made_up import PAIRS, SOURCES, TARGETS, learn_codes, learn_pieces, make

import tsa_fairseq
from tsa_fairseq.errors import UsageError
from tsa_fairseq.files.subwords import read_subwords
from tsa_fairseq.files.text import Text, check_sentences, is_empty
from tsa_fairseq.files.text_settings import TextSettings, find_text


@pytest.mark.parametrize("text", ["", " ", "\t\n", "\u200b", "\ufeff ", "▁", " ▁\u2060", "\x00"])
def test_what_has_nothing_to_see_is_empty(text):
    assert is_empty(text)
    assert Text(TextSettings()).source_words(text) == []


@pytest.mark.parametrize("text", ["a", ".", "\u200ba", "字", "\U0001f600", "\ue000"])
def test_what_has_something_is_not(text):
    assert not is_empty(text)


@pytest.mark.parametrize("tokenizer", [{}, dict(moses_no_dash_splits=True, moses_no_escape=True)])
def test_moses_is_fairseqs(tokenizer):
    sentence = 'It\'s a well-known "fact", Mr. Smith & Co. [really].'
    text = Text(TextSettings("en", "de", tokenizer="moses", **tokenizer))
    theirs = MosesTokenizer(MosesTokenizerConfig(source_lang="en", target_lang="de", **tokenizer))
    words = theirs.encode(sentence).split()
    assert text.source_words(sentence) == words and len(words) > 12
    assert ("@-@" in words) == ("&quot;" in words) == (not tokenizer)
    assert text.sentence(words) == theirs.decode(" ".join(words))


def test_a_language_of_each_side():
    """An apostrophe belongs to what is before it in French, and to what is behind it in English."""
    text = Text(TextSettings("fr", "en", tokenizer="moses", moses_no_escape=True))
    assert text.source_words("l'homme") == ["l'", "homme"]
    assert text.target_words("it's") == ["it", "'s"]
    assert text.sentence(["it", "'s"]) == "it's"


def test_lower_case_comes_after_moses():
    """Or else Moses would not know "Mr." again."""
    text = Text(TextSettings("en", "de", tokenizer="moses", lowercase=True))
    assert text.source_words("Mr. X-ray") == ["mr.", "x", "@-@", "ray"]


def test_codes_are_applied_as_fairseq_does(tmp_path):
    codes = learn_codes(tmp_path / "codes", SOURCES, merges=15)
    text = Text(TextSettings("de", "en", (str(codes),)))
    theirs = SubwordNMTBPE(SubwordNMTBPEConfig(bpe_codes=str(codes)))
    for sentence in (*SOURCES, "  die  baum\t,haus  ", "xyz"):
        words = text.source_words(sentence)
        assert words == theirs.encode(sentence.strip()).split()
        assert text.sentence(words) == theirs.decode(" ".join(words)).strip()
    assert any(word.endswith("@@") for word in text.source_words("ein alter baum"))


def test_a_vocabulary_reverts_merges(tmp_path):
    codes = learn_codes(tmp_path / "codes", SOURCES)
    vocabulary = tmp_path / "vocabulary"
    vocabulary.write_text("haus 4\nha@@ 9\nus 9\n")
    for threshold, whole in ((None, True), (4, True), (5, False)):
        settings = TextSettings("de", "en", (str(codes),), (str(vocabulary),), threshold)
        words = Text(settings).source_words("haus")
        assert (words == ["haus"]) == whole
        assert "".join(words).replace("@@", "") == "haus"


def test_a_broken_vocabulary(tmp_path):
    codes, vocabulary = learn_codes(tmp_path / "codes", SOURCES), tmp_path / "vocabulary"
    vocabulary.write_text("haus\n")
    settings = TextSettings("de", "en", (str(codes),), (str(vocabulary),))
    message = (
        f"vocabulary: '{vocabulary}' is no vocabulary of subword-nmt; expected lines of a word and "
        "its count"
    )
    with pytest.raises(UsageError, match=exactly(message)):
        Text(settings)


def test_the_unknown_word_has_one_spelling(tmp_path):
    """fairseq's, whatever cuts the words; sentencepiece alone would say ⁇."""
    pieces = learn_pieces(tmp_path / "pieces", SOURCES, 40)
    codes = learn_codes(tmp_path / "codes", SOURCES)
    for files, words, sentence in (
        ((), ["das", "<unk>", "ist"], "das <unk> ist"),
        ((pieces,), ["▁das", "<unk>", "▁ist"], "das<unk> ist"),
        ((pieces,), ["<unk>", "▁", "<unk>"], "<unk> <unk>"),
        ((codes,), ["das", "<unk>", "ha@@", "us"], "das <unk> haus"),
    ):
        settings = TextSettings("de", "en", tuple(map(str, files)))
        assert Text(settings).sentence(words) == sentence


def test_bytes_are_joined(tmp_path):
    """Of a sentencepiece model that falls back to bytes."""
    import sentencepiece

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SOURCES * 5), model_prefix=str(tmp_path / "pieces"),
        vocab_size=320, byte_fallback=True, model_type="bpe", minloglevel=2,
        hard_vocab_limit=False, normalization_rule_name="identity",
    )  # fmt: skip
    text = Text(TextSettings("de", "en", (str(tmp_path / "pieces.model"),)))
    assert text.models["source"].cut("\u200b")[-3:] == ["<0xE2>", "<0x80>", "<0x8B>"]
    assert text.source_words("\u200b") == [], "which would be three words otherwise"
    words = text.source_words("das é\n")
    assert "<0xC3>" in words and text.sentence(words) == "das é"
    assert text.sentence(["▁das", "<0x0A>", "▁ist"]) == "das  ist", "one line"


@pytest.mark.parametrize(
    ("sentences", "message"),
    [
        (None, "sentences: got NoneType; expected a string, or a list of strings"),
        (3, "sentences: got int; expected a string, or a list of strings"),
        (b"das", "sentences: got bytes; expected a string, or a list of strings"),
        (["das", None], "sentences: number 1 is NoneType, None; expected a string"),
        (["das", "ist", 3.5], "sentences: number 2 is float, 3.5; expected a string"),
        ([b"das"], "sentences: number 0 is bytes, b'das'; expected a string"),
    ],
)
def test_what_is_no_text(sentences, message, made_up):
    with pytest.raises(TypeError, match=exactly(message)):
        check_sentences(sentences)
    for folder in (made_up.fairseq, made_up.ctranslate2):
        loaded = tsa_fairseq.load(folder)
        with pytest.raises(TypeError, match=exactly(message)):
            loaded.translate(sentences)
        with pytest.raises(TypeError, match=exactly(message.replace("sentences", "target", 1))):
            loaded.score("das haus", sentences)


def test_what_is_not_installed(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sacremoses", None)
    message = "tokenizer: 'moses' takes sacremoses, which is not installed: pip install sacremoses"
    with pytest.raises(UsageError, match=exactly(message)):
        Text(TextSettings("de", "en", tokenizer="moses"))


# ---- pairs of a dictionary and a model that cannot be right --------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make(tmp_path_factory.mktemp("made") / "two", "two", joined=False)


@pytest.mark.parametrize(
    ("chosen", "file", "side"),
    [([1], 1, "source"), ([0], 0, "target"), ([1, 0], 1, "source"), ([0, 0], 0, "target")],
)
def test_the_model_of_the_other_side(chosen, file, side, made, tmp_path, capsys):
    files = [made.files[number] for number in chosen]
    out = tmp_path / "out"
    err = command_line(capsys, "export", made.path, out, "--subwords", *files)[2]
    assert re.fullmatch(
        rf"tsa-fairseq: error: --subwords: '{made.files[file]}' makes \d+ % of the words of the "
        rf"{side} dictionary, and not ('\S+', )+'\S+'; expected the model that it was made with, "
        r"at least 90 %\n",
        err,
    ), err
    share = int(re.search(r"(\d+) %", err).group(1))
    assert share < 50 and not out.exists()
    with pytest.raises(UsageError, match="^subwords: "):
        tsa_fairseq.load(made.path, subwords=list(map(str, files)))


def test_digits_in_common_say_nothing(tmp_path):
    """Nor do a few words that somebody put into the text."""
    pieces = str(learn_pieces(tmp_path / "pieces", [*SOURCES, "1 2 3 4 ."], 50))
    text = Text(TextSettings("de", "sr", (pieces,)))
    own = ["▁das", "▁haus", "▁ist", "▁ein", "▁alt", "▁die", "au", "▁maus", "▁k", "ei"]
    own = [piece for piece in own if text.models["source"].makes(piece)]
    assert len(own) >= 5
    special = ["<s>", "<pad>", "</s>", "<unk>", "madeupword0001", "__de__", "[de_DE]", "<mask>"]
    text.check([*special, *own, "1", "字"], [*special, *own])
    with pytest.raises(UsageError, match="makes 0 % of the words of the target dictionary"):
        text.check(own, ["1", "2", "3", "4", ".", "▁дрво", "▁миш"])


def test_codes_of_something_else(made, tmp_path, capsys):
    codes = learn_codes(tmp_path / "codes", SOURCES + TARGETS)
    err = command_line(capsys, "export", made.path, tmp_path / "out", "--subwords", codes)[2]
    assert "of the words of the source dictionary, and not '" in err


@pytest.mark.parametrize("version", ["", " abc", " .0" + ".0" * 9999 + "x", " 0.2.1"])
def test_codes_of_no_version(version, tmp_path):
    codes = tmp_path / "codes"
    codes.write_text(f"#version:{version}\na b\n")
    with pytest.raises(UsageError, match=f"--subwords: '{codes}'"):
        read_subwords(str(codes), "--subwords")


def test_subwords_without_a_model(made, tmp_path, capsys, caplog):
    """Text must be cut already then, and comes out so; that is said."""
    said = [
        f"warning: subwords: not given, but the {side} dictionary consists of subwords "
        "(sentencepiece): text must be cut into them, and comes out so"
        for side in ("source", "target")
    ]
    loaded = tsa_fairseq.load(made.path)
    assert ours(caplog) == said
    assert "▁" in loaded.translate("▁das ▁haus", max_len_b=5)
    caplog.clear()
    for to in ("fairseq", "ctranslate2"):
        command_line(capsys, "export", made.path, tmp_path / to, "--to", to)
        tsa_fairseq.load(tmp_path / to)
    flagged = [line.replace("subwords:", "--subwords:", 1) for line in said]
    assert ours(caplog) == [*flagged, *said] * 2


def ours(caplog):
    return [record.message for record in caplog.records if record.name == "tsa_fairseq"]


# ---- what an export carries ----------------------------------------------------------------------


@pytest.mark.parametrize("to", ["fairseq", "ctranslate2"])
def test_an_export_carries_all_of_it(to, tmp_path, capsys):
    """Codes, vocabularies, Moses and lower case; and what is said differently when it is loaded."""
    made, out = make(tmp_path / "made", "subword_nmt", joined=True), tmp_path / "out"
    vocabulary = tmp_path / "vocabulary"
    words = {word for dictionary in made.words for word in dictionary.symbols}
    vocabulary.write_text("".join(f"{word} 7\n" for word in sorted(words)), encoding="utf-8")
    status, _, err = command_line(
        capsys, "export", made.path, out, "--to", to, "--subwords", *made.files, *made.files,
        "--vocabulary", vocabulary, "--vocabulary-threshold", 5, "--tokenizer", "moses",
        "--moses-no-escape", "--lowercase",
    )  # fmt: skip
    assert (status, err) == (0, "")
    assert json.loads((out / "export.json").read_text())["text"] == {
        "source": "de", "target": "sr", "subwords": ["bpecodes"],
        "vocabulary": ["bpevocabulary.source"], "vocabulary_threshold": 5, "tokenizer": "moses",
        "moses_no_dash_splits": False, "moses_no_escape": True, "lowercase": True,
    }  # fmt: skip
    assert (out / "bpecodes").read_bytes() == made.files[0].read_bytes()
    source, target = PAIRS[3]
    raw = source.replace(" ,", ",").title()
    assert raw == "Ein Alter Baum, Ein Haus"
    loaded = tsa_fairseq.load(out)
    assert loaded.translate(raw) == target.replace(" ,", ",")
    assert tsa_fairseq.load(out, lowercase=False).translate(raw) != target.replace(" ,", ",")
    assert command_line(capsys, "export", made.path, out, "--to", to, "--force")[0] == 0


def test_which_model_an_export_has(made_up):
    """Of the same content, one; of two, each under its own name."""
    for folder in (made_up.fairseq, made_up.ctranslate2):
        for number, side in enumerate(("source", "target")):
            stored = folder / f"sentencepiece.{side}.model"
            assert stored.read_bytes() == made_up.files[number].read_bytes()


def test_files_beside_a_checkpoint(made, tmp_path):
    """Under the names that an export has for them, without its JSON."""
    for name, file in (("source", made.files[0]), ("target", made.files[1])):
        (tmp_path / f"sentencepiece.{name}.model").write_bytes(file.read_bytes())
    (tmp_path / "checkpoint.pt").write_bytes(made.path.read_bytes())
    loaded = tsa_fairseq.load(tmp_path / "checkpoint.pt")
    assert loaded.translate(SOURCES[:2]) == TARGETS[:2]


@pytest.mark.parametrize("to", ["fairseq", "ctranslate2"])
def test_an_export_of_an_earlier_release(to, tmp_path, capsys):
    """Its JSON says nothing of text: the sentencepiece model is found by its name."""
    made, out = make(tmp_path / "made", "sentencepiece", joined=True), tmp_path / "out"
    command_line(capsys, "export", made.path, out, "--to", to, "--subwords", *made.files)
    said = json.loads((out / "export.json").read_text())
    del said["text"]
    (out / "export.json").write_text(json.dumps(said))
    (out / "README.md").unlink()
    assert (out / "sentencepiece.bpe.model").is_file()
    assert tsa_fairseq.load(out).translate(SOURCES) == TARGETS
    if to == "ctranslate2":  # which knows no languages either
        message = "tokenizer: got 'moses'; expected the languages of source and target, too"
        with pytest.raises(UsageError, match=exactly(message)):
            tsa_fairseq.load(out, tokenizer="moses", source_lang="de")
        assert tsa_fairseq.load(out, tokenizer="moses", source_lang="de", target_lang="sr")
        message = "split_sentences: got True; expected load(..., source_lang=...), too"
        with pytest.raises(UsageError, match=exactly(message)):
            tsa_fairseq.load(out).translate("das haus", split_sentences=True)


def test_runs_of_foreign_characters_at_the_end_of_a_dictionary_say_nothing(tmp_path):
    """sentencepiece leaves such a run uncut, and the dictionary has it as a word, a rare one."""
    draw = random.Random(1)
    words = ["".join(draw.choices("aeioumnkt", k=5)) for _ in range(1600)]
    lines = [" ".join(words[start : start + 8]) for start in range(0, 1600, 8)]
    pieces = Text(TextSettings("de", "sr", (str(learn_pieces(tmp_path / "of", lines, 300)),)))
    model = pieces.models["source"]
    frequent = [model.model.id_to_piece(number) for number in range(3, len(model))]
    foreign = [f"龘靐{chr(0x4E00 + number)}" for number in range(300)]
    pieces.check([*frequent, *foreign], [*frequent, *foreign])
    with pytest.raises(UsageError, match=r"^subwords: .* makes \d+ % of the words of the source "):
        pieces.check([*foreign, *frequent], [*foreign, *frequent])


def test_codes_may_have_spaces_of_other_kinds(tmp_path):
    """subword-nmt separates by the space alone."""
    file = tmp_path / "codes"
    file.write_text("#version: 0.2\na \u00a0\na\u00a0 b</w>\n", encoding="utf-8")
    text = Text(TextSettings("de", "sr", (str(file),)))
    assert text.models["source"].makes("a\u00a0@@") and text.models["source"].makes("a\u00a0b")


def test_other_subwords_than_the_folders_take_no_vocabulary_from_it(tmp_path):
    said = {"subwords": ["bpecodes"], "vocabulary": ["bpevocabulary.source"],
            "vocabulary_threshold": 5}  # fmt: skip
    (tmp_path / "export.json").write_text(json.dumps({"text": said}))
    codes = str(learn_codes(tmp_path / "other", SOURCES))
    found = find_text(tmp_path, "de", "sr", {"subwords": codes})
    assert found == TextSettings("de", "sr", (codes,))


@pytest.mark.parametrize("sentences", [{"a", "b"}, {"a": 1}, frozenset("a")])
def test_sentences_have_an_order(sentences):
    kind = type(sentences).__name__
    message = f"sentences: got {kind}; expected a string, or a list of strings"
    with pytest.raises(TypeError, match=exactly(message)):
        check_sentences(sentences)
