"""Subwords: told by the dictionary, and joined as fairseq joins them."""

import pytest
from fairseq.data.data_utils import post_process
from helpers import command_line

from tsa_fairseq.files.subwords import kind_of

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
