"""Subwords: sentencepiece models, and how the words of a dictionary are joined to text."""

from collections.abc import Iterable
from typing import Literal

import sentencepiece

from tsa_fairseq.errors import UsageError
from tsa_fairseq.files.checkpoint import check_exists

# By fairseq's names for --remove-bpe.
Kind = Literal["sentencepiece", "subword_nmt"]


def kind_of(symbols: Iterable[str]) -> Kind | None:
    """What a dictionary is made of; None for whole words.

    A few odd words do not count: sentencepiece has ▁ by itself, or at the beginning of one word in
    twenty; subword-nmt has @@ at the end of one in a hundred.
    """
    words = list(symbols)
    pieces = sum(word.startswith("▁") for word in words)
    halves = sum(word.endswith("@@") for word in words)
    if pieces >= halves and ("▁" in words or 20 * pieces >= len(words)):
        return "sentencepiece"
    return "subword_nmt" if 100 * halves >= len(words) else None


def read_pieces(path: str, flag: str) -> sentencepiece.SentencePieceProcessor:
    """A sentencepiece model.

    Raises:
        UsageError: the file that ``flag`` named is missing, or is none.
    """
    check_exists(path, flag)
    try:
        return sentencepiece.SentencePieceProcessor(model_file=str(path))
    except (RuntimeError, OSError):
        raise UsageError(f"{flag}: '{path}' is not a sentencepiece model") from None


def check_pieces(path: str, flag: str, symbols: Iterable[str]) -> None:
    """Refuse a sentencepiece model that a dictionary was not made with.

    Raises:
        UsageError: it has no piece in common with the dictionary, or is no sentencepiece model.
    """
    model = read_pieces(path, flag)
    known = {model.id_to_piece(number) for number in range(model.get_piece_size())}
    special = {model.id_to_piece(number) for number in range(3)}
    if not (known - special) & set(symbols):
        raise UsageError(f"{flag}: '{path}' has no piece that is in the model's dictionary")
