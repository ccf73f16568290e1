"""Reading checkpoints without running code that they may contain."""

import argparse
import collections
import os
import re
import typing
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from tsa_fairseq.errors import UsageError
from tsa_fairseq.files.archive import Damaged, check_archive, check_not_early, is_archive
from tsa_fairseq.files.gate import checked_state
from tsa_fairseq.files.names import check_exists
from tsa_fairseq.files.parameters import check_sizes, checked_parameters, own_copy
from tsa_fairseq.files.pickle_values import Unexpected
from tsa_fairseq.files.pickles import check_pickle
from tsa_fairseq.files.refused import Refused

# What of a state dict is no parameter.
_BUFFERS = (".version", "._float_tensor")


def allow_fairseq_checkpoints() -> None:
    """Tell torch's weights-only loader what fairseq's checkpoints contain beside tensors.

    Legacy model arguments (``Namespace``); the numpy counts that ``--eval-bleu`` leaves in the
    meters; and on resume with several processes the configuration, which rank 0 sends to the others
    through ``torch.save``. Does nothing before torch 2.4, whose loader takes no such list.
    """
    if hasattr(torch.serialization, "add_safe_globals"):
        torch.serialization.add_safe_globals(_fairseq_globals())


def _fairseq_globals() -> list[Any]:
    # imported here: reading the list needs fairseq, reading the module does not
    from fairseq.distributed.utils import _TensorPlaceholder
    from omegaconf import DictConfig, ListConfig
    from omegaconf.base import ContainerMetadata, Metadata
    from omegaconf.nodes import AnyNode

    core: Any = np._core if hasattr(np, "_core") else np.core
    dtypes = [
        np.dtype(name) for name in ("bool", "int32", "int64", "float16", "float32", "float64")
    ]
    return [
        argparse.Namespace,
        *(np.ndarray, np.dtype, core.multiarray.scalar, core.multiarray._reconstruct),
        *{type(dtype) for dtype in dtypes},
        *(DictConfig, ListConfig, ContainerMetadata, Metadata, AnyNode),
        *(typing.Any, dict, list, int, collections.defaultdict),
        _TensorPlaceholder,
    ]


def read_checkpoint(path: str, flag: str, lazy: bool = False) -> dict[str, Any]:
    """The content of a fairseq checkpoint on the CPU, checked and made anew (:mod:`.gate`).

    Args:
        path: the file.
        flag: the option that named it, for the message.
        lazy: leave the tensors in the file, for who looks at all else and soon forgets the result:
            a training may write into the file later. Their checksums are not compared.

    Raises:
        UsageError: the file is missing, damaged or no checkpoint of a Transformer, contains more
            than tensors and what fairseq itself stores, or a value that its field may not have.
    """
    stored = load_safely(path, flag, contents_only=lazy)
    try:
        state = checked_state(stored)
        state["model"] = checked_parameters(state["model"])
        if not lazy:
            state["model"] = own_copy(state["model"], os.path.getsize(path))
    except (Refused, MemoryError) as error:
        reason = error if isinstance(error, Refused) else "takes more memory than there is"
        raise UsageError(f"{flag}: '{path}' {reason}") from None
    return state


def check_fits(state: dict[str, Any], path: str, flag: str) -> None:
    """Refuse, before it is built, a model that its arguments and its parameters contradict.

    Args:
        state: of :func:`read_checkpoint`.
        path: its file, for the message.
        flag: what named it.

    Raises:
        UsageError: they do, or embeddings are missing.
    """
    try:
        check_sizes(state["model"], model_arguments(state))
    except Refused as error:
        raise UsageError(f"{flag}: '{path}' {error}") from None


def load_safely(path: str, flag: str, contents_only: bool = False) -> Any:
    """What torch's weights-only loader makes of a file whose checksums are right; nothing is run.

    Args:
        path: the file.
        flag: the option that named it, for the message.
        contents_only: see :func:`tsa_fairseq.files.archive.check_archive`.

    Raises:
        UsageError: the file is missing or damaged, or contains more than tensors and what fairseq
            itself stores.
    """
    if not hasattr(torch.serialization, "add_safe_globals"):
        raise UsageError(
            f"{flag}: reading '{path}' safely takes torch 2.4 or newer; this is {torch.__version__}"
        )
    check_exists(path, flag)
    try:
        if not is_archive(path):
            check_not_early(path)
            with open(path, "rb") as file:
                check_pickle(file)
            raise ValueError("no archive")
        check_archive(path, contents_only)
        # by torch's own reader: what it takes from the archive is what is looked through
        check_pickle(torch._C.PyTorchFileReader(path).get_record("data.pkl"))
        # mapped, no tensor can reach beyond the file
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Damaged as error:
        raise UsageError(f"{flag}: '{path}' {error}") from None
    except Unexpected as error:
        raise UsageError(
            f"{flag}: '{path}' is refused: it {error}; nothing of it was run"
        ) from None
    except OSError as error:
        reason = error.strerror or "it is no file"
        raise UsageError(f"{flag}: '{path}' cannot be read: {reason}") from None
    except Exception as error:
        # torch raises UnpicklingError, RuntimeError, EOFError and others, by how the file is broken
        raise UsageError(f"{flag}: '{path}' {_reason(error)}") from None


def model_arguments(state: dict[str, Any], part: str = "model") -> argparse.Namespace:
    """The model's arguments in a checkpoint, or another part's, old layout or new.

    Empty if it holds none.
    """
    found = (state.get("cfg") or {}).get(part) or state.get("args") or {}
    return argparse.Namespace(**(found if isinstance(found, Mapping) else vars(found)))


def architecture(arguments: argparse.Namespace) -> str | None:
    """The name of ``--arch`` among a model's arguments, old layout or new."""
    return getattr(arguments, "arch", None) or getattr(arguments, "_name", None)


def stored_data(state: dict[str, Any]) -> str:
    """The first folder of data that a checkpoint says it was trained on; empty if it names none."""
    data = getattr(model_arguments(state, "task"), "data", None)
    return str(data or "").split(os.pathsep)[0]


def count_parameters(state: dict[str, Any], names: set[str] | None = None) -> int:
    """Numbers in a state dict's parameters, those in ``names`` only if given; shared ones once."""
    sizes = {
        tensor.data_ptr(): tensor.numel()
        for name, tensor in state.items()
        if not name.endswith(_BUFFERS) and (names is None or name in names)
    }
    return sum(sizes.values())


def _reason(error: Exception) -> str:
    """What is wrong with a file, in our own words: torch's advise to read it unsafely."""
    foreign = re.search(r"GLOBAL ([\w.]+)", str(error))
    if foreign is not None:
        return (
            f"is refused: it contains {foreign.group(1)}, which is code and not among "
            "what fairseq's checkpoints hold; nothing of it was run"
        )
    return (
        "cannot be loaded as a checkpoint: it is damaged, no file of torch's, or holds more than "
        "fairseq stores; nothing of it was run"
    )
