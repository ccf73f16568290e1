"""Before fairseq builds a checkpoint's model, and what it says if it cannot, in one line."""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch.overrides import TorchFunctionMode

from tsa_fairseq.errors import UsageError
from tsa_fairseq.files.checkpoint import count_parameters

_LONGEST = 200
# What fills a parameter.
_FILLS = (Tensor.normal_, Tensor.uniform_, Tensor.fill_, Tensor.zero_, Tensor.copy_)


class _WithoutMemory(TorchFunctionMode):
    """Parameters get a shape alone, and whatever would fill one does nothing.

    ``torch.device("meta")`` alone would import a second's worth of torch to fill nothing with.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function is torch.empty:
            return function(*args, **{**kwargs, "device": "meta"})
        if function in _FILLS or getattr(function, "__module__", None) == torch.nn.init.__name__:
            filled: Tensor = args[0] if args else kwargs["tensor"]
            if filled.is_meta:
                return filled
        return function(*args, **kwargs)


@contextmanager
def in_one_line(path: str, flag: str) -> Iterator[None]:
    """Whatever goes wrong while a checkpoint's model is built is said of the checkpoint.

    fairseq asserts and indexes: of a file that contradicts itself nearly any exception may come.

    Args:
        path: the checkpoint's file.
        flag: the option that named it.

    Raises:
        UsageError: something went wrong.
    """
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(
            f"{flag}: '{path}' does not fit its own arguments: {reason(error)}"
        ) from error


def check_outline(
    make: Callable[[], Module], parameters: Mapping[str, Tensor], **more: Any
) -> None:
    """Refuse a file that holds less than its arguments would have built.

    The model is made without memory for its parameters, and the file's are laid over it: of a small
    file that claims a large model, nothing large is ever made.

    Args:
        make: builds the model.
        parameters: the file's.
        more: what fairseq's ``load_state_dict`` is told beside them.

    Raises:
        RuntimeError: some are missing, too many, or of another size; torch says which.
        ValueError: one of the file's stands for several of the model's.
    """
    with _WithoutMemory(), torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        outline = make()
        warnings.simplefilter("ignore")  # that nothing is copied into what has no memory
        outline.load_state_dict(dict(parameters), strict=True, **more)
    takes = sum(parameter.numel() for parameter in outline.parameters())
    holds = count_parameters(dict(parameters))
    if takes > holds:
        raise ValueError(f"they take {takes:,} numbers, and it holds {holds:,}")


def reason(error: Exception) -> str:
    """The last line of what an exception says, which of torch's and fairseq's tells most."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    last = "".join(c for c in lines[-1] if c.isprintable()) if lines else ""
    if len(last) > _LONGEST:
        last = f"{last[:_LONGEST]} ..."
    known = isinstance(error, (RuntimeError, ValueError, OSError))
    return last if known and last else f"{type(error).__name__}{f': {last}' if last else ''}"
