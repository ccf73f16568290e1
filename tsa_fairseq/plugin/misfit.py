"""How a checkpoint's parameters differ from those that they are to become, in one line."""

from collections.abc import Mapping
from typing import Any


def misfit(loaded: Mapping[str, Any], wanted: Mapping[str, Any]) -> str | None:
    """The first difference, and how many more there are; None if names and sizes are the same."""
    problems: list[str] = []
    for name in sorted(wanted.keys() | loaded.keys()):
        if name not in loaded:
            problems.append(f"it has no {name}")
        elif name not in wanted:
            problems.append(f"it has {name}, which this model has not")
        elif loaded[name].shape != wanted[name].shape:
            have, want = tuple(loaded[name].shape), tuple(wanted[name].shape)
            problems.append(f"its {name} is {have}, this model's {want}")
    if not problems:
        return None
    return problems[0] + (f" (and {len(problems) - 1} more)" if len(problems) > 1 else "")
