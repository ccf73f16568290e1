"""The Moses scripts of the literature's preparations, by sacremoses, a line at a time.

sacremoses ports the tokeniser of before November 2018. Since then Moses splits off the full stop
that ends a line even from abbreviations, initials and ordinals ("ca ." and not "ca."; its pull
request 204): :func:`tokenise` does so unless it is told not to.
"""

from collections.abc import Callable
from dataclasses import dataclass

import regex  # type: ignore[import-untyped]
from sacremoses import (  # type: ignore[import-untyped]
    MosesDetokenizer,
    MosesPunctNormalizer,
    MosesTokenizer,
)

from recipe.markup import straight_apostrophe


class Moses:
    """Moses for one language.

    Args:
        language: such as de.
        split_dashes: -a of its tokeniser: a hyphen inside a word becomes ``@-@``.
        split_last_stop: as Moses does since November 2018.
    """

    def __init__(self, language: str, split_dashes: bool, split_last_stop: bool = True) -> None:
        self._split_dashes, self._split_last_stop = split_dashes, split_last_stop
        self._tokenizer = MosesTokenizer(lang=language)
        self._detokenizer = MosesDetokenizer(lang=language)
        # perl_parity: as the script does, where sacremoses otherwise does better
        self._normalizer = MosesPunctNormalizer(lang=language, perl_parity=True)

    def tokenise(self, line: str) -> str:
        """Words and punctuation apart, special characters escaped."""
        text: str = self._tokenizer.tokenize(
            line, aggressive_dash_splits=self._split_dashes, return_str=True, escape=True
        )
        # Not of dots in a row, nor of a stop that stands alone.
        if self._split_last_stop and regex.search(r"[^\s.]\.$", text):
            return f"{text[:-1]} ."
        return text

    def detokenise(self, line: str) -> str:
        """Plain text again, as far as it can be known."""
        text: str = self._detokenizer.detokenize(line.split())
        return text

    def normalise(self, line: str) -> str:
        """Punctuation in one form, and no characters that cannot be printed: a blank each."""
        # With its newline, which in the script counts as a character after a final quotation mark.
        text: str = self._normalizer.normalize(f"{line}\n")
        return regex.sub(r"\p{C}", " ", text)


@dataclass(frozen=True)
class Treatment:
    """Makes, in any process, the function that does to lines what a preparation does.

    Args:
        language: of the text.
        split_dashes: as of :class:`Moses`.
        normalise: punctuation first.
        straighten: apostrophes first, as in test sets.
        lower: all becomes lower case at the end.
    """

    language: str
    split_dashes: bool = False
    normalise: bool = False
    straighten: bool = False
    lower: bool = False

    def __call__(self) -> Callable[[list[str]], list[str]]:
        """The function, with Moses loaded."""
        moses = Moses(self.language, self.split_dashes)

        def treat(line: str) -> str:
            if self.straighten:
                line = straight_apostrophe(line)
            if self.normalise:
                line = moses.normalise(line)
            line = moses.tokenise(line)
            return line.lower() if self.lower else line

        return lambda lines: [treat(line) for line in lines]
