"""What is wrong with a file of others, in words that a line can hold."""

from collections.abc import Mapping, Sequence
from typing import Any


class Refused(ValueError):
    """What is wrong with a checkpoint, in words that go on after its name."""


def shown(value: Any) -> str:
    """A value of a file, in so many words that a line can hold it."""
    if isinstance(value, (Mapping, Sequence)) and not isinstance(value, (str, bytes)):
        return f"a {type(value).__name__} of {len(value):,}"
    if type(value) in (str, bytes):
        if type(value) is bytes:
            return "bytes"
        start = value[:40]
        return f"'{start if start.isprintable() else ascii(start)[1:-1]}'"
    known = value is None or type(value) in (bool, int, float)
    return f"{value!r:.40}" if known else f"a {type(value).__name__}"
