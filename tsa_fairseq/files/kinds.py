"""Kinds of values that a configuration may have: what each takes, and what it hands on.

None of them looks up a name or runs anything: a text that fairseq would evaluate is parsed as a
literal, and the literal is what is handed on.
"""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tsa_fairseq.files.plain import ITEMS, VALUES, is_plain, is_plain_text, literal_of

_LANGUAGE = re.compile(r"\w[\w.@+-]{0,63}")


@dataclass(frozen=True)
class Kind:
    """What a field may be.

    Args:
        expected: in words, for the message.
        read: the value to hand on.

            Raises:
                ValueError: the value is not of this kind.
        evaluated: fairseq runs it if it is a text.
        optional: None says something; for other fields it is as if they were not there.
    """

    expected: str
    read: Callable[[Any], Any]
    evaluated: bool = False
    optional: bool = True


class Unfit(ValueError):
    """A field inside of a value is not of its kind.

    Args:
        name: of the field.
        value: what it is.
        kind: what it may be.
    """

    def __init__(self, name: str, value: Any, kind: Kind) -> None:
        super().__init__(name)
        self.name, self.value, self.kind = name, value, kind


def boolean() -> Kind:
    """True or false; a number is neither."""

    def read(value: Any) -> bool:
        if isinstance(value, np.bool_):
            return bool(value)
        return _need(value, type(value) is bool)

    return Kind("true or false", read, optional=False)


def boolean_text() -> Kind:
    """The same, or a text that says it, which fairseq evaluates; each stays what it is."""

    def read(value: Any) -> bool | str:
        if type(value) is bool:
            return value
        return repr(_need(literal_of(value), type(literal_of(value)) is bool))

    return Kind("True or False", read, evaluated=True)


def yes_or_no() -> Kind:
    """A text that says it, or true or false, as the first release of this package wrote."""

    def read(value: Any) -> bool | str:
        return _need(value, type(value) is bool or (type(value) is str and value in ("yes", "no")))

    return Kind("yes or no", read)


def whole(least: int, most: int) -> Kind:
    """A whole number; true and false are none."""

    def read(value: Any) -> int:
        if isinstance(value, np.integer):
            value = int(value)
        return _need(value, type(value) is int and least <= value <= most)

    return Kind(f"a whole number from {least:,} to {most:,}", read, optional=False)


def whole_text(least: int, most: int) -> Kind:
    """A whole number, which fairseq's parser leaves a text; the number is handed on."""
    one = whole(least, most)

    def read(value: Any) -> int:
        digits = type(value) is str and value.isascii() and value.isdecimal() and len(value) < 19
        return one.read(int(value) if digits else value)

    return Kind(one.expected, read, optional=False)


def number(least: float, most: float) -> Kind:
    """A finite number."""

    def read(value: Any) -> float:
        if isinstance(value, (np.integer, np.floating)):
            value = value.item()
        fits = type(value) in (int, float) and math.isfinite(value) and least <= value <= most
        return _need(value, fits)

    return Kind(f"a number from {least:g} to {most:g}", read, optional=False)


def text() -> Kind:
    """A line that refers to nothing else in a configuration."""
    return Kind("a line of text without '${'", lambda value: _need(value, is_plain_text(value)))


def languages() -> Kind:
    """Names of languages, of pairs of them too: parts of files' names, and of printed commands."""

    def read(value: Any) -> Any:
        found = value.split(",") if type(value) is str else value
        fits = type(found) in (list, tuple) and len(found) <= VALUES
        named = fits and all(type(one) is str and _LANGUAGE.fullmatch(one) for one in found)
        _need(value, named)
        return value if type(value) is str else list(value)

    return Kind("names of languages, such as de or zh-Hans", read)


def choice(choices: Sequence[Any]) -> Kind:
    """One of a few texts."""
    known = [str(one) for one in choices]
    return Kind(
        f"one of {', '.join(known)}",
        lambda value: _need(value, type(value) is str and value in known),
    )


def whole_numbers(least: int, most: int) -> Kind:
    """Whole numbers, in a list or in a text that fairseq evaluates; a list is handed on."""
    one = whole(least, most)

    def read(value: Any) -> list[int]:
        found = literal_of(value) if type(value) is str else value
        found = list(found) if type(found) in (list, tuple) else [found]
        found = [] if found == [None] else found
        return [one.read(item) for item in _need(found, len(found) <= ITEMS)]

    return Kind("numbers or a list of them", read, evaluated=True)


def layer_numbers() -> Kind:
    """Whole numbers as fairseq wants them of layers to keep: a text with commas."""
    numbers = whole_numbers(0, 10_000)
    return Kind(
        numbers.expected, lambda value: ",".join(map(str, numbers.read(value))), evaluated=True
    )


def texts() -> Kind:
    """Texts in a list, or one with commas."""

    def read(value: Any) -> Any:
        found = [value] if type(value) is str else value
        fits = type(found) in (list, tuple) and len(found) <= ITEMS
        _need(value, fits and all(map(is_plain_text, found)))
        return value if type(value) is str else list(value)

    return Kind("texts without '${'", read)


def literal() -> Kind:
    """Numbers and texts, nested or not, or a text that says them, which fairseq evaluates.

    Of a text, the text of what it says is handed on.
    """

    def read(value: Any) -> Any:
        if type(value) is str:
            found = literal_of(value)
            return repr(_need(found, is_plain(found)))
        return _need(value, is_plain(value))

    return Kind("numbers or a list of them", read, evaluated=True)


def json_object(fields: Mapping[str, Kind] | None = None) -> Kind:
    """A text in JSON, of an object with such fields, or with any that are plain; others go."""

    def read(value: Any) -> str:
        # what a shell's script writes over several lines is one object all the same
        _need(value, type(value) is str and is_plain_text(" ".join(value.split())))
        try:
            found = json.loads(value)
        except RecursionError:
            raise ValueError("nested too deeply") from None
        _need(found, type(found) is dict and is_plain(found))
        if fields is not None:
            found = {n: _inside(n, one, fields[n]) for n, one in found.items() if n in fields}
        return json.dumps(found)

    return Kind("an object in JSON with plain values", read)


def nothing() -> Kind:
    """A field that is not followed, whatever it says."""
    return Kind("nothing", lambda value: None)


def _inside(name: str, value: Any, kind: Kind) -> Any:
    try:
        return None if value is None else kind.read(value)
    except ValueError as error:
        raise Unfit(name, value, kind) from error


def _need(value: Any, fits: bool) -> Any:
    if not fits:
        raise ValueError("of another kind")
    return value
