"""What a checkpoint's pickle would call, looked through before torch makes anything of it.

torch's weights-only loader calls what is on its list, and on ours, with whatever a file says. Three
of these do harm with what fairseq never writes: numpy's types can be told to hold what they do not,
after which numpy follows addresses of the file's choice; Python's encoders double their input at
every call; and one list may stand in another so often that walking through it never ends.
"""

import pickletools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

# Deeper nests, and more values and characters, counted wherever they stand, than any of fairseq's.
_DEPTH, _VALUES = 100, 5 * 10**7
# Bytes of a pickle: 8 MiB are the names and places of a hundred thousand tensors.
_LARGEST = 2**23
_NUMBERS = ("b1", "i4", "i8", "f2", "f4", "f8")
_ARRAYS = tuple(
    f"numpy.{core}.multiarray.{name}"
    for core in ("core", "_core")
    for name in ("_reconstruct", "scalar")
)
_DTYPE, _ARRAY, _ENCODE = "numpy.dtype", "numpy.ndarray", "_codecs.encode"
# What may be called in one way alone, and therefore by nobody else.
_GUARDED = (*_ARRAYS, _DTYPE, _ENCODE, "builtins.bytearray", "__builtin__.bytearray")
# All of torch's that fairseq's checkpoints call: a tensor is made of a storage in the file. Another
# call makes one of memory as it is, or gives it methods of its own.
_TENSORS = (
    *("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"),
    *("torch._utils._rebuild_parameter", "torch.Size", "torch.device"),
)
_FILLED = ("collections.OrderedDict", "collections.Counter", "collections.defaultdict")
_ORDERED, _METADATA = "collections.OrderedDict", "_metadata"
# What is told its state when it is there; an OrderedDict, that of a module's state dict.
_PLACEHOLDER = "fairseq.distributed.utils._TensorPlaceholder"
_TOLD = (_DTYPE, _ORDERED, "argparse.Namespace", _PLACEHOLDER, *_ARRAYS)
# Made of their state alone, in which the way back to what holds them is no part of the content.
_CONFIGURATIONS = "omegaconf."
_PARENT = "_parent"


class Unexpected(ValueError):
    """What a pickle does, in words that go on after "which"."""


@dataclass(eq=False)
class _Name:
    """A global, not looked up."""

    name: str


@dataclass(eq=False)
class _Values:
    """A tuple, which is fixed, or a list, dictionary or set; keys and values in turn."""

    items: list[Any] = field(default_factory=list)
    fixed: bool = False


@dataclass(eq=False)
class _Call:
    """What a call would make, and what that is told afterwards."""

    name: str
    given: _Values
    states: list[Any] = field(default_factory=list)


def check_pickle(content: bytes | BinaryIO) -> None:
    """Refuse a pickle that calls something as fairseq's checkpoints do not, or has no end.

    Nothing is called or looked up.

    Args:
        content: the pickle, or a file that is at its beginning and is read up to its end.

    Raises:
        Unexpected: it does.
        ValueError: it is no pickle, or not one that torch's loader reads.
    """
    stack: list[Any] = []
    marks: list[list[Any]] = []
    memo: dict[int, Any] = {}
    argument: Any
    content = content if isinstance(content, bytes) else content.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise Unexpected(f"has a pickle of more than {_LARGEST:,} bytes")
    for operation, argument, _ in pickletools.genops(content):
        name = operation.name
        if name == "MARK":
            marks.append(stack)
            stack = []
        elif name in _AFTER_MARK:
            items, stack = stack, _pop(marks)
            _AFTER_MARK[name](stack, items)
        elif name in _PUT:
            memo[argument] = _top(stack)
        elif name in _GET:
            stack.append(_known(memo, argument))
        elif name in _OTHERS:
            _OTHERS[name](stack, argument)
        elif name not in ("PROTO", "STOP"):
            raise ValueError(f"an operation {name}")
    _check_size(_pop(stack))


def _pop(stack: list[Any]) -> Any:
    return stack.pop() if stack else _nothing()


def _top(stack: list[Any]) -> Any:
    return stack[-1] if stack else _nothing()


def _known(memo: dict[int, Any], number: Any) -> Any:
    return memo[number] if number in memo else _nothing()


def _nothing() -> Any:
    raise ValueError("takes what is not there")


def _extend(stack: list[Any], items: Iterable[Any]) -> None:
    """Put values into another one."""
    found, holder = _without_guarded(list(items)), _top(stack)
    if isinstance(holder, _Call) and holder.name in _FILLED:
        holder.states.append(_Values(found))
    elif isinstance(holder, _Values) and not holder.fixed:
        holder.items += found
    else:
        raise ValueError("puts values into what holds none")


def _tuple(stack: list[Any], items: list[Any]) -> None:
    stack.append(_Values(_without_guarded(items), fixed=True))


def _without_guarded(items: list[Any]) -> list[Any]:
    """Who is given one of these could call it as he likes."""
    for item in items:
        if isinstance(item, _Name) and item.name in _GUARDED:
            raise Unexpected(f"hands on {item.name}")
    return items


def _last(number: int) -> Callable[[list[Any], Any], None]:
    def make(stack: list[Any], _: Any) -> None:
        items = [_pop(stack) for _ in range(number)]
        _tuple(stack, items[::-1])

    return make


def _set_item(stack: list[Any], _: Any) -> None:
    value, key = _pop(stack), _pop(stack)
    _extend(stack, [key, value])


def _call(stack: list[Any], _: Any) -> None:
    given, called = _pop(stack), _pop(stack)
    if not isinstance(called, _Name) or not _is_tuple(given):
        raise Unexpected("calls what is no name")
    _check_call(called.name, given.items)
    stack.append(_Call(called.name, given))


def _new(stack: list[Any], _: Any) -> None:
    given, called = _pop(stack), _pop(stack)
    if not isinstance(called, _Name) or not _is_tuple(given):
        raise Unexpected("makes what is no class")
    foreign = called.name in _GUARDED or called.name.startswith(("numpy.", "torch."))
    if foreign or any(isinstance(one, _Call) for one in given.items):
        raise Unexpected(f"makes a {called.name}")
    stack.append(_Call(called.name, given))


def _build(stack: list[Any], _: Any) -> None:
    state, made = _pop(stack), _top(stack)
    if not isinstance(made, _Call):
        raise Unexpected("changes what it did not make")
    if made.name not in _TOLD and not made.name.startswith(_CONFIGURATIONS):
        raise Unexpected(f"changes a {made.name}")
    if made.name == _DTYPE:
        _check_dtype_state(state)
    if made.name == _ORDERED:
        names = state.items[::2] if isinstance(state, _Values) else [None]
        if any(type(name) is not str or name != _METADATA for name in names):
            raise Unexpected(f"changes a {_ORDERED}")
    _without_guarded([state])
    if made.name.startswith(_CONFIGURATIONS) and made.states:
        raise Unexpected(f"changes a {made.name}")
    made.states.append(state)


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
    return isinstance(value, _Call) and value.name.startswith(_CONFIGURATIONS)


def _check_call(name: str, given: list[Any]) -> None:
    if name == _ENCODE:
        right = len(given) == 2 and type(given[0]) is str and given[1] == "latin1"
    elif name == _DTYPE:
        right = len(given) == 3 and given[0] in _NUMBERS and given[1:] == [False, True]
    elif name in _ARRAYS and name.endswith("scalar"):
        right = len(given) == 2 and _is_call(given[0], _DTYPE)
    elif name in _ARRAYS:
        shape = given[1].items if len(given) == 3 and _is_tuple(given[1]) else None
        right = shape == [0] and isinstance(given[0], _Name) and given[0].name == _ARRAY
    else:
        # other types of numpy's, and what takes any of its functions, are in no checkpoint
        foreign = name.startswith(("numpy.", "torch.", _CONFIGURATIONS))
        right = name in _TENSORS or (name not in _GUARDED and not foreign)
        if not name.startswith("torch._utils."):  # one number can be a tensor of any size
            right = right and not any(isinstance(one, _Call) for one in given)
    if not right:
        raise Unexpected(f"calls {name} as fairseq does not")


def _is_tuple(value: Any) -> bool:
    return isinstance(value, _Values) and value.fixed


def _is_call(value: Any, name: str) -> bool:
    return isinstance(value, _Call) and value.name == name


def _check_dtype_state(state: Any) -> None:
    """Of a plain number's type there is nothing to say but the order of its bytes."""
    said = state.items if _is_tuple(state) else []
    if len(said) != 8 or said[0] != 3 or said[1] not in ("<", "|", "=", ">"):
        raise Unexpected(f"changes a {_DTYPE}")
    if said[2:5] != [None] * 3 or said[5:] != [-1, -1, 0]:
        raise Unexpected(f"changes a {_DTYPE}")


def _check_size(whole: Any) -> None:
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
        inside = [one for one in _inside(value) if isinstance(one, (_Values, _Call))]
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
    if isinstance(value, _Values):
        yield from value.items
    elif isinstance(value, _Call):
        yield value.given
        for state in value.states:
            if _is_configuration(value) and isinstance(state, _Values):
                pairs = zip(state.items[::2], state.items[1::2], strict=False)
                yield from (one for key, one in pairs if key != _PARENT)
            else:
                yield state


_PUT = ("BINPUT", "LONG_BINPUT")
_GET = ("BINGET", "LONG_BINGET")
_AFTER_MARK: dict[str, Callable[[list[Any], list[Any]], None]] = {
    "TUPLE": _tuple,
    "APPENDS": _extend,
    "SETITEMS": _extend,
}
_OTHERS: dict[str, Callable[[list[Any], Any], None]] = {
    **dict.fromkeys(
        ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING"),
        lambda stack, argument: stack.append(argument),
    ),
    "NONE": lambda stack, _: stack.append(None),
    "NEWTRUE": lambda stack, _: stack.append(True),
    "NEWFALSE": lambda stack, _: stack.append(False),
    "EMPTY_TUPLE": lambda stack, _: stack.append(_Values(fixed=True)),
    **dict.fromkeys(
        ("EMPTY_LIST", "EMPTY_DICT", "EMPTY_SET"), lambda stack, _: stack.append(_Values())
    ),
    "GLOBAL": lambda stack, argument: stack.append(_Name(argument.replace(" ", "."))),
    **{f"TUPLE{number}": _last(number) for number in (1, 2, 3)},
    "APPEND": lambda stack, _: _extend(stack, [_pop(stack)]),
    "SETITEM": _set_item,
    "REDUCE": _call,
    "NEWOBJ": _new,
    "BUILD": _build,
    # of a storage: what it is said to be, which torch compares with the file
    "BINPERSID": lambda stack, _: stack.append(_Values([_pop(stack)])),
}
