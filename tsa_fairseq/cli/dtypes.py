"""The flag ``--dtype`` of ``export`` and ``average``: in what precision parameters are stored."""

import torch

# Those that a checkpoint of fairseq's can have.
DTYPES = ("float32", "float16", "bfloat16")


def read_dtype(name: str | None) -> torch.dtype | None:
    """torch's type of one of these names; None for what was not given."""
    return None if name is None else getattr(torch, name)
