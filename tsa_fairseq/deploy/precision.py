"""In what precision the parameters of a checkpoint are stored."""

from typing import Any

import torch
from torch import Tensor

from tsa_fairseq.errors import check_choice

DTYPES = ("float32", "float16", "bfloat16")


def read_dtype(name: str | None, flag: str = "--dtype") -> torch.dtype:
    """torch's type of one of :data:`DTYPES`; float32 if none is given.

    Raises:
        UsageError: it is none of them.
    """
    check_choice(flag, name, DTYPES)
    return getattr(torch, name or DTYPES[0])


def cast(model: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Parameters in another type; what is one tensor under several names stays one.

    fairseq makes them float32 again where it loads them. Versions are no parameters.
    """
    made: dict[tuple[int, Any], Tensor] = {}
    found = {}
    for name, tensor in model.items():
        if tensor.is_floating_point() and not name.endswith(".version"):
            tensor = made.setdefault((tensor.data_ptr(), tensor.shape), tensor.to(dtype))
        found[name] = tensor
    return found
