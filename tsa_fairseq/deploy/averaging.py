"""The mean of several checkpoints of one training."""

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from tsa_fairseq.errors import UsageError, plural
from tsa_fairseq.files.checkpoint import model_arguments, read_checkpoint
from tsa_fairseq.tree.outputs import widened

# What fairseq writes after an epoch, after so many updates, and of the best; not its copies
# checkpoint_last.pt and checkpoint_best.pt.
_WRITTEN = re.compile(r"checkpoint(\d+|_\d+_\d+|\.best_\w+_[\d.]+)\.pt")

# What a model computes with parameters that have the same names and shapes.
_SHAPING = (
    *("tree", "encoder_attention_heads", "decoder_attention_heads", "activation_fn"),
    *("encoder_normalize_before", "decoder_normalize_before"),
)


def average(paths: Sequence[str], say: Callable[[str], None]) -> dict[str, Any]:
    """A checkpoint whose parameters are the mean of several, added up in float32.

    Everything else is the last one's, without the optimizer's state: it loads to translate, to be
    exported and to start another training. Half-precision parameters become float32.

    Args:
        paths: at least one.
        say: shows progress.

    Raises:
        UsageError: a file cannot be read, or does not have the parameters of the first.
    """
    total: dict[str, Tensor] = {}
    state: dict[str, Any] = {}
    arguments: dict[str, Any] = {}
    for path in paths:
        say(f"reading {path}")
        state = read_checkpoint(path, "CHECKPOINT")
        model = {name: widened(tensor) for name, tensor in state["model"].items()}
        if not total:
            total = {name: tensor.clone() for name, tensor in model.items()}
            arguments = vars(model_arguments(state))
            continue
        _check_arguments(paths[0], arguments, path, vars(model_arguments(state)))
        _check_same(paths[0], total, path, model)
        for name, tensor in model.items():
            if tensor.is_floating_point():
                total[name] += tensor
    means = {
        name: tensor / len(paths) if tensor.is_floating_point() else tensor
        for name, tensor in total.items()
    }
    # one tensor where the model has one, as for shared embeddings
    shared: dict[tuple[int, Any], Tensor] = {}
    for name, tensor in state["model"].items():
        means[name] = shared.setdefault((tensor.data_ptr(), tensor.shape), means[name])
    return {**state, "model": means, "last_optimizer_state": None}


def newest(folder: str, number: int, say: Callable[[str], None]) -> list[str]:
    """The last checkpoints that a training wrote, oldest first; ``say`` shows progress.

    Raises:
        UsageError: there are fewer.
    """
    return _choose(folder, number, "--last", _updates, say)


def best(folder: str, number: int, say: Callable[[str], None]) -> list[str]:
    """The checkpoints with the best validation score, as fairseq keeps it; the best one last.

    Raises:
        UsageError: there are fewer.
    """

    def score(state: dict[str, Any]) -> float | None:
        value = state.get("extra_state", {}).get("val_loss")
        settings = model_arguments(state, "checkpoint")
        maximize = getattr(settings, "maximize_best_checkpoint_metric", False)
        return None if value is None else (value if maximize else -value)

    return _choose(folder, number, "--best", score, say)


def _choose(
    folder: str,
    number: int,
    flag: str,
    key: Callable[[dict[str, Any]], float | None],
    say: Callable[[str], None],
) -> list[str]:
    if number < 1:
        raise UsageError(f"{flag}: got {number}; expected 1 or more")
    # of a training that wrote one twice, as an epoch's end and as the best, it counts once
    found: dict[int, tuple[float, str]] = {}
    for path in sorted(Path(folder).iterdir()):
        if _WRITTEN.fullmatch(path.name):
            say(f"looking at {path}")
            state = read_checkpoint(str(path), "CHECKPOINT", lazy=True)
            value = key(state)
            if value is not None:
                found[_updates(state)] = (value, str(path))
    if len(found) < number:
        has = plural(len(found), "checkpoint")
        raise UsageError(f"{flag}: got {number}; '{folder}' has {has} to choose")
    return [path for _, path in sorted(found.values())[-number:]]


def _updates(state: dict[str, Any]) -> int:
    history = state.get("optimizer_history") or [{}]
    return history[-1].get("num_updates", 0)


def _check_arguments(first: str, theirs: dict[str, Any], path: str, ours: dict[str, Any]) -> None:
    """Parameters of the same shapes need not be of the same model."""
    for name in _SHAPING:
        here, there = ours.get(name), theirs.get(name)
        if here != there:
            raise UsageError(
                f"CHECKPOINT: '{path}' does not fit '{first}': its --{name.replace('_', '-')} is "
                f"{here}, there {there}"
            )


def _check_same(first: str, theirs: dict[str, Tensor], path: str, ours: dict[str, Tensor]) -> None:
    for name in sorted(theirs.keys() | ours.keys()):
        if name not in ours or name not in theirs:
            has, lacks = (first, path) if name in theirs else (path, first)
            raise UsageError(
                f"CHECKPOINT: '{path}' does not fit '{first}': "
                f"'{os.path.basename(has)}' has {name}, '{os.path.basename(lacks)}' has not"
            )
        if ours[name].shape != theirs[name].shape:
            here, there = tuple(ours[name].shape), tuple(theirs[name].shape)
            raise UsageError(
                f"CHECKPOINT: '{path}' does not fit '{first}': its {name} is {here}, there {there}"
            )
