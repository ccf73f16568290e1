"""What a pickle would make, as its records say and nobody calls: how much that is, and how deep."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

# Deeper nests, and more values and characters, counted wherever they stand, than any of fairseq's.
_DEPTH, _VALUES = 100, 5 * 10**7
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
    """A tuple, which is fixed, or a list, dictionary or set; keys and values in turn."""

    items: list[Any] = field(default_factory=list)
    fixed: bool = False


@dataclass(eq=False)
class Call:
    """What a call would make, and what that is told afterwards."""

    name: str
    given: Values
    states: list[Any] = field(default_factory=list)


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
            if depth > _DEPTH or size > _VALUES:
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
        yield value.given
        for state in value.states:
            if _is_configuration(value) and isinstance(state, Values):
                pairs = zip(state.items[::2], state.items[1::2], strict=False)
                yield from (one for key, one in pairs if key != _PARENT)
            else:
                yield state


def _check_parents(value: Any, ended: set[int]) -> None:
    """Refuse a configuration whose way to what holds it comes back to itself."""
    way: set[int] = set()
    while _is_configuration(value) and id(value) not in ended:
        if id(value) in way:
            raise Unexpected("holds values in each other without an end")
        way.add(id(value))
        items = [item for state in value.states for item in getattr(state, "items", [])]
        pairs = zip(items[::2], items[1::2], strict=False)
        value = next((parent for key, parent in pairs if key == _PARENT), None)
    ended |= way


def _is_configuration(value: Any) -> bool:
    return isinstance(value, Call) and value.name.startswith(CONFIGURATIONS)
