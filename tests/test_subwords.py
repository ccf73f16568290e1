"""Subwords: told by the dictionary, and joined as fairseq joins them."""

import pytest
import sentencepiece
from fairseq.data.data_utils import post_process
from helpers import command_line, exactly

from tsa_fairseq.errors import UsageError
from tsa_fairseq.files.subwords import kind_of, read_subwords

FOREIGN = (
    "makes 0 % of the words of the source dictionary, and not 'w0', 'w1', 'w2'; expected "
    "the model that it was made with, at least 90 %"
)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"#version: 0.2\nt h\n", FOREIGN),
        (b"t h\nth e</w>\n", FOREIGN),
        (None, FOREIGN),
        (b"#version: 0.2\nt h e\n",
         "is neither a sentencepiece model nor codes of subword-nmt"),
        (b"#version: 0.2\n", "is neither a sentencepiece model nor codes of subword-nmt"),
        (b"\xff\x00", "is neither a sentencepiece model nor codes of subword-nmt"),
        (b"", "is neither a sentencepiece model nor codes of subword-nmt"),
    ],
)  # fmt: skip
def test_subwords_of_something_else(content, said, tree, data, pieces, tmp_path, capsys):
    path = pieces
    if content is not None:
        path = tmp_path / "codes"
        path.write_bytes(content)
    err = command_line(capsys, "export", tree, tmp_path / "out", "--subwords", path)[2]
    assert err == f"tsa-fairseq: error: --subwords: '{path}' {said}\n"
    assert not (tmp_path / "out").exists()


def test_pieces_that_leave_no_character(tmp_path):
    """One that no text has stands for unknown words."""
    text, model = tmp_path / "text", tmp_path / "pieces.model"
    text.write_text("das haus\n" * 9)
    private = [chr(number) for number in range(0xE000, 0xF8FF)]
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(model)[:-6], vocab_size=len(private) + 20,
        user_defined_symbols=private, hard_vocab_limit=False, minloglevel=3,
    )  # fmt: skip
    message = (
        f"--subwords: '{model}' has every private character of Unicode for a piece; expected one "
        "left over, for unknown words"
    )
    with pytest.raises(UsageError, match=exactly(message)):
        read_subwords(str(model), "--subwords")


@pytest.mark.parametrize(
    ("symbols", "text"),
    [
        (["▁ein", "▁hau", "s"], "ein haus"),
        (["ein", "hau@@", "▁", "s@@"], "ein hau▁ s"),
        (["ein", "hau@@", "s"], "ein haus"),
        (["ein", "hau", "s"], "ein hau s"),
    ],
)
def test_subwords_are_joined(symbols, text):
    """As fairseq's --remove-bpe does, told by the dictionary."""
    assert post_process(" ".join(symbols), kind_of(symbols)) == text


@pytest.mark.parametrize(
    ("symbols", "kind"),
    [
        ([*(["word"] * 99), "▁odd"], None),
        ([*(["word"] * 101), "odd@@"], None),
        ([*(["字"] * 99), "▁"], "sentencepiece"),
        ([*(["s"] * 19), "▁ein"], "sentencepiece"),
        ([*(["word"] * 99), "hau@@"], "subword_nmt"),
    ],
)
def test_odd_words_do_not_make_subwords(symbols, kind):
    assert kind_of(symbols) == kind
