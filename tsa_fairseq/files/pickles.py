"""What a checkpoint's pickle would call, looked through before torch makes anything of it.

torch's weights-only loader calls what is on its list, and on ours, with whatever a file says. Three
of these do harm with what fairseq never writes: numpy's types can be told to hold what they do not,
after which numpy follows addresses of the file's choice; Python's encoders double their input at
every call; and one list may stand in another so often that walking through it never ends.
"""

import pickletools
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO

from tsa_fairseq.files.pickle_values import (
    CONFIGURATIONS,
    DEPTH,
    Call,
    Name,
    Unexpected,
    Values,
    check_size,
)

# Bytes of a pickle: 8 MiB are the names and places of a hundred thousand tensors.
_LARGEST = 2**23
# Arguments of a call: of a tensor with its metadata.
_MOST_GIVEN = 8
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
    whole = _pop(stack)
    if stack or marks:  # torch would make it all the same
        raise Unexpected("makes what it does not hold")
    check_size(whole)


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
    if not _is_of(holder, "list"):
        raise ValueError("puts values into what holds none")
    holder.items += found


def _set_items(stack: list[Any], items: Iterable[Any]) -> None:
    """Put keys and values into a dictionary."""
    found, holder = _without_guarded(list(items)), _top(stack)
    if isinstance(holder, Call) and holder.name in _FILLED:
        holder = holder.filled
    if not _is_of(holder, "dict") or len(found) % 2:
        raise ValueError("puts values into what holds none")
    holder.put(found)


def _tuple(stack: list[Any], items: list[Any]) -> None:
    depth = 1 + max((one.depth for one in items if isinstance(one, Values)), default=0)
    if depth > DEPTH:  # before there are millions of them
        raise Unexpected("holds values in each other without an end")
    stack.append(Values("tuple", _without_guarded(items), depth=depth))


def _without_guarded(items: list[Any]) -> list[Any]:
    """Who is given one of these could call it as he likes."""
    for item in items:
        if isinstance(item, Name) and item.name in _GUARDED:
            raise Unexpected(f"hands on {item.name}")
    return items


def _last(number: int) -> Callable[[list[Any], Any], None]:
    def make(stack: list[Any], _: Any) -> None:
        items = [_pop(stack) for _ in range(number)]
        _tuple(stack, items[::-1])

    return make


def _set_item(stack: list[Any], _: Any) -> None:
    value, key = _pop(stack), _pop(stack)
    _set_items(stack, [key, value])


def _call(stack: list[Any], _: Any) -> None:
    given, called = _pop(stack), _pop(stack)
    if not isinstance(called, Name) or not _is_tuple(given):
        raise Unexpected("calls what is no name")
    _check_call(called.name, given.items)
    stack.append(Call(called.name, given))


def _new(stack: list[Any], _: Any) -> None:
    given, called = _pop(stack), _pop(stack)
    if not isinstance(called, Name) or not _is_tuple(given):
        raise Unexpected("makes what is no class")
    foreign = called.name in _GUARDED or called.name.startswith(("numpy.", "torch."))
    if foreign or given.items:
        raise Unexpected(f"makes a {called.name}")
    stack.append(Call(called.name, given))


def _build(stack: list[Any], _: Any) -> None:
    state, made = _pop(stack), _top(stack)
    if not isinstance(made, Call):
        raise Unexpected("changes what it did not make")
    if made.told or (made.name not in _TOLD and not made.name.startswith(CONFIGURATIONS)):
        raise Unexpected(f"changes a {made.name}")
    if made.name == _DTYPE:
        _check_dtype_state(state)
    elif made.name not in _ARRAYS:
        _check_attributes(made.name, state)
    _without_guarded([state])
    made.state, made.told = state, True


def _storage(stack: list[Any], _: Any) -> None:
    """What a storage is said to be: torch compares it with the file, and prints it."""
    said = _pop(stack)
    items = said.items if _is_tuple(said) else []
    kinds = [type(one) for one in items]
    if kinds != [str, Name, str, str, int] or items[0] != "storage":
        raise Unexpected("has a storage that is none")
    stack.append(said)


def _check_attributes(name: str, state: Any) -> None:
    """What would be an attribute must not be a method of Python's own, or say what class it is."""
    known = _is_of(state, "dict") and state.attributes
    if not known or (name == _ORDERED and not state.keys <= {_METADATA}):
        raise Unexpected(f"changes a {name}")


def _check_call(name: str, given: list[Any]) -> None:
    if len(given) > _MOST_GIVEN:  # of which each would be looked at
        right = False
    elif name == _ENCODE:
        right = len(given) == 2 and type(given[0]) is str and given[1] == "latin1"
    elif name == _DTYPE:
        right = len(given) == 3 and given[0] in _NUMBERS and given[1:] == [False, True]
    elif name in _ARRAYS and name.endswith("scalar"):
        right = len(given) == 2 and _is_call(given[0], _DTYPE)
    elif name in _ARRAYS:
        shape = given[1].items if len(given) == 3 and _is_tuple(given[1]) else None
        right = shape == [0] and isinstance(given[0], Name) and given[0].name == _ARRAY
    elif name in _FILLED:
        right = all(isinstance(one, Name) or one is None for one in given)
    else:
        # other types of numpy's, and what takes any of its functions, are in no checkpoint; what
        # makes a list of a text, or a number of one, makes much of little
        foreign = name.startswith(("numpy.", "torch.", "builtins.", "__builtin__.", CONFIGURATIONS))
        right = name in _TENSORS or (name not in _GUARDED and not foreign)
        if not name.startswith("torch._utils."):  # one number can be a tensor of any size
            right = right and not any(isinstance(one, Call) for one in given)
    if not right:
        raise Unexpected(f"calls {name} as fairseq does not")


def _is_of(value: Any, kind: str) -> bool:
    return isinstance(value, Values) and value.kind == kind


def _is_tuple(value: Any) -> bool:
    return _is_of(value, "tuple")


def _is_call(value: Any, name: str) -> bool:
    return isinstance(value, Call) and value.name == name


def _check_dtype_state(state: Any) -> None:
    """Of a plain number's type there is nothing to say but the order of its bytes."""
    said = state.items if _is_tuple(state) else []
    if len(said) != 8 or said[0] != 3 or said[1] not in ("<", "|", "=", ">"):
        raise Unexpected(f"changes a {_DTYPE}")
    if said[2:5] != [None] * 3 or said[5:] != [-1, -1, 0]:
        raise Unexpected(f"changes a {_DTYPE}")


_PUT = ("BINPUT", "LONG_BINPUT")
_GET = ("BINGET", "LONG_BINGET")
_AFTER_MARK: dict[str, Callable[[list[Any], list[Any]], None]] = {
    "TUPLE": _tuple,
    "APPENDS": _extend,
    "SETITEMS": _set_items,
}
_OTHERS: dict[str, Callable[[list[Any], Any], None]] = {
    **dict.fromkeys(
        ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING"),
        lambda stack, argument: stack.append(argument),
    ),
    "NONE": lambda stack, _: stack.append(None),
    "NEWTRUE": lambda stack, _: stack.append(True),
    "NEWFALSE": lambda stack, _: stack.append(False),
    "EMPTY_TUPLE": lambda stack, _: stack.append(Values("tuple")),
    "EMPTY_LIST": lambda stack, _: stack.append(Values("list")),
    "EMPTY_DICT": lambda stack, _: stack.append(Values("dict")),
    "EMPTY_SET": lambda stack, _: stack.append(Values("set")),
    "GLOBAL": lambda stack, argument: stack.append(Name(argument.replace(" ", "."))),
    **{f"TUPLE{number}": _last(number) for number in (1, 2, 3)},
    "APPEND": lambda stack, _: _extend(stack, [_pop(stack)]),
    "SETITEM": _set_item,
    "REDUCE": _call,
    "NEWOBJ": _new,
    "BUILD": _build,
    "BINPERSID": _storage,
}
