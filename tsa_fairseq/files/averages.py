"""Averages of checkpoints, which say inside that this program wrote them."""

import os
import stat
from typing import Any

from tsa_fairseq.errors import UsageError
from tsa_fairseq.files.archive import is_archive
from tsa_fairseq.files.checkpoint import load_safely
from tsa_fairseq.version import __version__

# Beside what fairseq knows.
_AVERAGE = "tsa_fairseq_average"


def mark_average(state: dict[str, Any], number: int) -> dict[str, Any]:
    """A checkpoint that says that it is the mean of so many, which fairseq takes no notice of."""
    return {**state, _AVERAGE: {"of": number, "version": __version__}}


def is_average(path: str) -> bool:
    """Whether a file is an average that this program wrote."""
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode) or not is_archive(path):
            return False
        state = load_safely(path, "OUT", contents_only=True)
    except (OSError, UsageError):
        return False
    return isinstance(state, dict) and isinstance(state.get(_AVERAGE), dict)
