"""The one exception this package raises for bad input, warnings of what may be, and their words."""

import logging
import unicodedata
from collections.abc import Sequence

# Unicode's overrides, embeddings and isolates of the direction of writing.
_TURNING = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_LOGGER = logging.getLogger("tsa_fairseq")


class UsageError(ValueError, SystemExit):
    """A flag, a file or a value that cannot be used, said in one line.

    A ``ValueError`` to Python callers. Uncaught in a command such as ``fairseq-train`` it ends
    the process as ``SystemExit`` does: the message alone on standard error, status 1, no traceback.
    """

    def __init__(self, message: str) -> None:
        message = visible(message, kept="")
        super().__init__(message)
        # ValueError comes first in the MRO, so SystemExit's own initialiser, which would set the
        # code that the interpreter prints, never runs.
        self.code = f"error: {message}"


def check_choice(flag: str, value: str | None, choices: Sequence[str]) -> None:
    """Refuse a flag's value that is none of its choices; None stands for a flag not given.

    Raises:
        UsageError: it is none of them.
    """
    if value is not None and value not in choices:
        raise UsageError(f"{flag}: got '{value}'; expected one of {', '.join(choices)}")


def plural(number: int, noun: str, several: str | None = None) -> str:
    """1 sentence, 2,000 sentences; of a noun that takes no bare s, with its plural."""
    return f"{number:,} {noun if number == 1 else several or noun + 's'}"


def visible(text: str, kept: str = "\n\t") -> str:
    """A text in which no character commands the terminal, or turns the order of letters around.

    Names and words of files are others'.

    Args:
        text: to be printed.
        kept: control characters that stay.
    """
    return "".join(ascii(c)[1:-1] if _commands(c) and c not in kept else c for c in text)


def _commands(character: str) -> bool:
    return character in _TURNING or unicodedata.category(character) == "Cc"


def warn(message: str) -> None:
    """One line, on standard error unless logging was set up otherwise."""
    _LOGGER.warning("warning: %s", visible(message, kept=""))
