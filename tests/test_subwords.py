"""Subwords: told by the dictionary, and joined as fairseq joins them."""

import pytest
from fairseq.data.data_utils import post_process
from helpers import command_line

from tsa_fairseq.files.subwords import kind_of


def test_subwords_of_something_else(tree, data, pieces, tmp_path, capsys):
    codes = tmp_path / "codes"
    codes.write_text("#version: 0.2\nt h\n")
    for path, said in (
        (codes, "is not a sentencepiece model"),
        (pieces, "has no piece that is in the model's dictionary"),
    ):
        err = command_line(capsys, "export", tree, tmp_path / "out", "--subwords", path)[2]
        assert err == f"tsa-fairseq: error: --subwords: '{path}' {said}\n"


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
