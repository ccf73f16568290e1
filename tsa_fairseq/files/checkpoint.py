"""Reading checkpoints without running code that they may contain."""

import argparse
import collections
import os
import re
import typing
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from tsa_fairseq.errors import UsageError
from tsa_fairseq.files.evaluated import check_evaluated
from tsa_fairseq.files.names import check_exists

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
    """The content of a fairseq checkpoint, on the CPU.

    Args:
        path: the file.
        flag: the option that named it, for the message.
        lazy: leave the tensors in the file, for who looks at all else and soon forgets the result:
            a training may write into the file later.

    Raises:
        UsageError: the file is missing, is no checkpoint, or contains more than tensors and what
            fairseq itself stores.
    """
    if not hasattr(torch.serialization, "add_safe_globals"):
        raise UsageError(
            f"{flag}: reading '{path}' safely takes torch 2.4 or newer; this is {torch.__version__}"
        )
    check_exists(path, flag)
    try:
        # files of old releases of torch are no zip files, and cannot be mapped
        mapped = lazy and zipfile.is_zipfile(path)
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:
        # torch raises UnpicklingError, RuntimeError, EOFError and others, by how the file is broken
        raise UsageError(f"{flag}: '{path}' {_reason(error)}") from error
    if not isinstance(state, dict) or not isinstance(state.get("model"), dict):
        raise UsageError(f"{flag}: '{path}' is not a fairseq checkpoint: it holds no 'model'")
    check_evaluated(state, path, flag)
    return state


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
    """What is wrong with a file, from the many lines that torch's loader says about it."""
    text = str(error).strip()
    foreign = re.search(r"Unsupported global: GLOBAL (\S+)", text)
    if foreign is not None:
        return (
            f"is refused: it contains {foreign.group(1)}, which is code and not among "
            "what fairseq's checkpoints hold; nothing of it was run"
        )
    first_line = text.splitlines()[0] if text else type(error).__name__
    return f"cannot be loaded as a checkpoint: {first_line}"
