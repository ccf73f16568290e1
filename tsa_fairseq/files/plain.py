"""Values without any meaning of their own: numbers, lines of text, and lists of them."""

import ast
import math
import unicodedata
from typing import Any

# Longer texts, deeper nests and larger lists than any of fairseq's.
_LENGTH, _DEPTH, ITEMS = 4096, 6, 4096
# In all, of one field: as many as a hundred languages have pairs, and more.
VALUES = 4 * ITEMS
# Of what fairseq's configurations are read by: a reference to elsewhere, and a value left open.
_REFERENCES = ("${", "???")


def is_plain_text(value: Any) -> bool:
    """Whether it is one line of text that refers to nothing."""
    return (
        type(value) is str
        and len(value) <= _LENGTH
        and all(c.isprintable() or unicodedata.category(c) == "Zs" for c in value)
        and not any(mark in value for mark in _REFERENCES)
    )


def is_plain(value: Any) -> bool:
    """Whether it is made of numbers and lines of text alone, in lists and dictionaries.

    Not too deep, and not too many: one list may stand in another a thousand times.
    """
    level, left = [value], VALUES
    for _ in range(_DEPTH + 1):
        left -= len(level)
        inside: list[Any] = []
        for one in level:
            if type(one) in (list, tuple):
                inside += one
            elif type(one) is dict:
                if not all(map(is_plain_text, one)):
                    return False
                inside += one.values()
            elif type(one) in (int, float):
                if not math.isfinite(one):
                    return False
            elif not (one is None or type(one) is bool or is_plain_text(one)):
                return False
            if len(inside) > left:
                return False
        if not inside:
            return True
        level = inside
    return False


def literal_of(value: Any) -> Any:
    """What a text says as a literal of Python; nothing of an empty one.

    Raises:
        ValueError: it is no text, or more than a literal.
    """
    if type(value) is not str or len(value) > _LENGTH:
        raise ValueError("no literal")
    if not value.strip():
        return None
    try:
        return ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError("no literal") from error
