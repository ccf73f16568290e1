"""Where a model of fairseq's is run."""

import torch

from tsa_fairseq.errors import UsageError


def choose_device(device: str | None, flag: str) -> torch.device:
    """The one that was asked for; a GPU if there is one if none was.

    Args:
        device: ``cpu`` or ``cuda``; None if the user did not say.
        flag: how the user says it.

    Raises:
        UsageError: a GPU was asked for, and there is none.
    """
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise UsageError(f"{flag}: got 'cuda'; torch sees no GPU here; expected cpu")
    return torch.device(device or ("cuda" if available else "cpu"))
