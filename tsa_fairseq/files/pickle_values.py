"""What a pickle would make, as its records say and nobody calls: how much that is, and how deep."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

# Deeper nests, and more values and characters, counted wherever they stand, than any of fairseq's.
DEPTH, _VALUES = 100, 2 * 10**7
# The keys that are numbers are those of parameters.
_NUMBERS = 2**31
# Made of their state alone, in which the way back to what holds them is no part of the content.
CONFIGURATIONS = "omegaconf."
_PARENT = "_parent"


class Unexpected(ValueError):
    """What a pickle does, in words that go on after "which"."""


@dataclass(eq=False)
class Name:
    """A global, not looked up."""

    name: str


@dataclass(eq=False)
class Values:
    """A tuple, a list, a set or a dictionary, that one with keys and values in turn.

    Args:
        kind: the name of its type.
        items: what is in it.
        keys: of a dictionary.
        attributes: whether all keys may be attributes of an object, without changing what it is;
            known from the beginning, for one dictionary may be told to many objects.
        depth: of a tuple, how deep it is nested in tuples alone.
    """

    kind: str
    items: list[Any] = field(default_factory=list)
    keys: set[str | int] = field(default_factory=set)
    attributes: bool = True
    depth: int = 0

    def put(self, items: list[Any]) -> None:
        """Add keys and values, as a dictionary of fairseq's has them: names, or small numbers.

        Of others, one can be made whose search for a place, or whose own number, never ends.

        Raises:
            Unexpected: a key is none of these, or is there already.
        """
        for key in items[::2]:
            if type(key) is not str and not (type(key) is int and 0 <= key < _NUMBERS):
                raise Unexpected("has a dictionary with a key that is no name")
            if key in self.keys:
                raise Unexpected("has a dictionary with a key twice")
            self.keys.add(key)
            self.attributes &= type(key) is str and not key.startswith("__")
        self.items += items


@dataclass(eq=False)
class Call:
    """What a call would make, what is put into it, and what it is told about itself, once."""

    name: str
    given: Values
    filled: Values = field(default_factory=lambda: Values("dict"))
    state: Any = None
    told: bool = False


def check_size(whole: Any) -> None:
    """Bound how deep values are nested, and how many there are where each counts every time."""
    sizes: dict[int, tuple[int, int]] = {}  # by value: how many are in it, and how deep
    begun: set[int] = set()
    ended: set[int] = set()
    todo = [whole]
    while todo:
        value = todo[-1]
        if id(value) in sizes:
            todo.pop()
            continue
        _check_parents(value, ended)
        inside = [one for one in _inside(value) if isinstance(one, (Values, Call))]
        unknown = {id(one): one for one in inside if id(one) not in sizes}
        if not unknown:
            todo.pop()
            known = [sizes[id(one)] for one in inside]
            depth = 1 + max((depth for _, depth in known), default=0)
            size = sum(map(_own_size, _inside(value))) + sum(size for size, _ in known)
            if depth > DEPTH or size > _VALUES:
                raise Unexpected("holds values in each other without an end")
            sizes[id(value)] = size, depth
        elif id(value) in begun:
            raise Unexpected("holds values in each other without an end")
        else:
            begun.add(id(value))
            todo += unknown.values()


def _own_size(value: Any) -> int:
    return 1 + len(value) if type(value) is str else 1


def _inside(value: Any) -> Iterator[Any]:
    if isinstance(value, Values):
        yield from value.items
    elif isinstance(value, Call):
        yield from (value.given, value.filled)
        if _is_configuration(value) and isinstance(value.state, Values):
            yield from (one for key, one in _pairs(value.state) if key != _PARENT)
        else:
            yield value.state


def _pairs(values: Values) -> Iterator[tuple[Any, Any]]:
    return zip(values.items[::2], values.items[1::2], strict=True)


def _check_parents(value: Any, ended: set[int]) -> None:
    """Refuse a configuration whose way to what holds it comes back to itself."""
    way: set[int] = set()
    while _is_configuration(value) and id(value) not in ended:
        if id(value) in way:
            raise Unexpected("holds values in each other without an end")
        way.add(id(value))
        told = _pairs(value.state) if isinstance(value.state, Values) else iter(())
        value = next((parent for key, parent in told if key == _PARENT), None)
        if value is not None and not _is_configuration(value):
            raise Unexpected("has a configuration in what is none")
    ended |= way


def _is_configuration(value: Any) -> bool:
    return isinstance(value, Call) and value.name.startswith(CONFIGURATIONS)
