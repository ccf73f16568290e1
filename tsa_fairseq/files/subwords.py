"""Subwords: what a dictionary is made of, and the models that cut text into them and join them."""

import io
import re
from collections.abc import Collection, Iterable, Sequence
from importlib import import_module
from typing import Any, Literal, Protocol

from tsa_fairseq.errors import UsageError
from tsa_fairseq.files.names import check_exists

# By fairseq's names for --remove-bpe.
Kind = Literal["sentencepiece", "subword_nmt"]
# The one spelling of a word that the dictionary does not have, which is fairseq's.
UNKNOWN = "<unk>"
# Of the words of a dictionary that are no special symbols, how many its subword model must make.
# Some of a right pair are not: tags that somebody put into the text, and what was never cut.
SHARE = 0.9
# fairseq's and CTranslate2's own symbols, those of languages, and what fills up a dictionary.
_SPECIAL = re.compile(r"<[^<>\s]+>|madeupword\d+|__\w+__|\[\w+\]")
# Of a dictionary, words that are looked at in any case.
_LEAST = 100
_CODE = re.compile(r"[^ ]+ [^ ]+")
_VERSION = re.compile(r"#version: ?\d{1,3}(\.\d{1,3})?")
# Of a character that no text has, for words that sentencepiece is to leave alone.
_PRIVATE = range(0xE000, 0xF8FF)


class Subwords(Protocol):
    """A model of subwords."""

    kind: Kind

    def cut(self, text: str) -> list[str]:
        """The subwords of a text."""

    def join(self, words: Sequence[str]) -> str:
        """The text that they are of."""

    def makes(self, word: str) -> bool:
        """Whether it may cut a text so that this word of a dictionary is a part."""

    def __len__(self) -> int:
        """How many subwords it has."""


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


def read_subwords(
    path: str, flag: str, vocabulary: str | None = None, threshold: int | None = None
) -> Subwords:
    """A sentencepiece model or the codes of subword-nmt, told by the file's content.

    Args:
        path: the file.
        flag: what named it, for the message.
        vocabulary: of subword-nmt, the words that it may make, with their counts.
        threshold: the least count of a word that it may make; None for any.

    Raises:
        UsageError: it is missing, or is neither; or what reads it is not installed.
    """
    check_exists(path, flag)
    codes = _read_codes(path)
    if codes is not None:
        of_vocabulary = flag.replace("subwords", "vocabulary")
        return Codes(codes, _read_vocabulary(vocabulary, of_vocabulary, threshold))
    if vocabulary is not None:
        raise UsageError(
            f"{flag}: '{path}' takes no vocabulary; expected codes of subword-nmt beside one"
        )
    return Pieces(path, flag)


def needed(package: str, module: str, why: str) -> Any:
    """A module that is imported only when it is needed.

    Raises:
        UsageError: its package is not installed; one line says who needs it.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.split(".")[0]:
            raise
        raise UsageError(
            f"{why} takes {package}, which is not installed: pip install {package}"
        ) from None


class Pieces:
    """Of sentencepiece."""

    kind: Kind = "sentencepiece"

    def __init__(self, path: str, flag: str) -> None:
        sentencepiece = needed("sentencepiece", "sentencepiece", f"{flag}: '{path}'")
        try:
            self.model = sentencepiece.SentencePieceProcessor(model_file=str(path))
        except (RuntimeError, OSError):
            raise UsageError(
                f"{flag}: '{path}' is neither a sentencepiece model nor codes of subword-nmt"
            ) from None
        unknown = self.model.unk_id()
        spare = (chr(n) for n in _PRIVATE if self.model.piece_to_id(chr(n)) == unknown)
        self._stand_in = next(spare, None)
        if self._stand_in is None:
            raise UsageError(
                f"{flag}: '{path}' has every private character of Unicode for a piece; expected "
                "one left over, for unknown words"
            )

    def cut(self, text: str) -> list[str]:
        """The pieces of a text."""
        return self.model.encode(text, out_type=str)

    def join(self, words: Sequence[str]) -> str:
        """Their text, in which an unknown word stays one, in fairseq's spelling."""
        pieces = [self._stand_in if word == UNKNOWN else word for word in words]
        return self.model.decode(pieces).replace(self._stand_in, UNKNOWN).strip()

    def makes(self, word: str) -> bool:
        """Whether it is one of the pieces."""
        return self.model.piece_to_id(word) != self.model.unk_id()

    def __len__(self) -> int:
        return self.model.get_piece_size()


class Codes:
    """Of subword-nmt.

    Args:
        lines: of the file of codes.
        vocabulary: words that may be made; None for any.
    """

    kind: Kind = "subword_nmt"

    def __init__(self, lines: list[str], vocabulary: Collection[str] | None = None) -> None:
        apply_bpe = needed("subword-nmt", "subword_nmt.apply_bpe", "a file of subword-nmt's codes")
        self._bpe = apply_bpe.BPE(io.StringIO("\n".join(lines)), vocab=vocabulary)
        merges = (line.split(" ") for line in lines if not line.startswith("#version:"))
        self._units = {(left + right).removesuffix("</w>") for left, right in merges}

    def cut(self, text: str) -> list[str]:
        """The subwords of a text; all but a word's last end in @@."""
        return self._bpe.segment(text).split()

    def join(self, words: Sequence[str]) -> str:
        """As fairseq joins them."""
        return f"{' '.join(words)} ".replace("@@ ", "").strip()

    def makes(self, word: str) -> bool:
        """Whether it is a character, or what one of the merges makes."""
        unit = word.removesuffix("@@")
        return len(unit) == 1 or unit in self._units

    def __len__(self) -> int:
        return len(self._units)


def check_fit(models: dict[str, Subwords], flag: str, symbols: Iterable[str], side: str) -> None:
    """Refuse models of subwords that a dictionary was not made with.

    Single characters say nothing, where there are longer words: digits are in every model. Words
    beyond as many as the models have subwords, or a hundred, say nothing either: dictionaries begin
    with their most frequent words, and end with runs of foreign characters that a model left uncut.
    Where both sides have one dictionary and a model each, it cannot be told which model is whose.

    Args:
        models: by the files that they were read from: one; or two, if both sides have one
            dictionary and a model each.
        flag: what named them.
        symbols: of the dictionary.
        side: whose dictionary it is, ``source`` or ``target``.

    Raises:
        UsageError: they make less than :data:`SHARE` of the words; some that they do not make.
    """
    most = max(_LEAST, sum(map(len, models.values())))
    words = [word for word in symbols if not _SPECIAL.fullmatch(word)][:most]
    telling = [word for word in words if len(word.removesuffix("@@")) > 1] or words
    foreign = [word for word in telling if not any(one.makes(word) for one in models.values())]
    if len(telling) - len(foreign) < SHARE * len(telling):
        share = 100 * (len(telling) - len(foreign)) / len(telling)
        files, named = (", ".join(f"'{it}'" for it in found) for found in (models, foreign[:3]))
        raise UsageError(
            f"{flag}: {files} makes {share:.0f} % of the words of the {side} dictionary, and not "
            f"{named}; expected the model that it was made with, at least {100 * SHARE:.0f} %"
        )


def _read_codes(path: str) -> list[str] | None:
    """The lines of a file of codes; None if it is none."""
    try:
        with open(path, encoding="utf-8", newline="\n") as file:
            lines = [line.strip("\r\n ") for line in file]
    except UnicodeDecodeError:
        return None
    while lines and not lines[-1]:
        lines.pop()
    merges = lines
    if lines and lines[0].startswith("#version:"):
        # subword-nmt takes what is no number apart, which has no end if it is long
        if not _VERSION.fullmatch(lines[0]):
            return None
        merges = lines[1:]
    return lines if merges and all(map(_CODE.fullmatch, merges)) else None


def _read_vocabulary(path: str | None, flag: str, threshold: int | None) -> set[str] | None:
    """Of subword-nmt's get-vocab: a word and its count a line."""
    if path is None:
        return None
    check_exists(path, flag)
    try:
        with open(path, encoding="utf-8", newline="\n") as file:
            counts = [line.strip("\r\n ").rsplit(" ", 1) for line in file]
        return {word for word, count in counts if int(count) >= (threshold or 0)}
    except ValueError:
        raise UsageError(
            f"{flag}: '{path}' is no vocabulary of subword-nmt; expected lines of a word and "
            "its count"
        ) from None
