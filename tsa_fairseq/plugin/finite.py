"""Where a number that is not finite came from, and which checkpoint was good.

fairseq's detector of such numbers fails with torch 2, by hooks that take no module whose output is
a dictionary. Nothing of this runs before such a number has been met.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tsa_fairseq.errors import UsageError
from tsa_fairseq.files.checkpoint import read_checkpoint
from tsa_fairseq.plugin.restore import torn


def unwrapped(model: Any) -> nn.Module:
    """The model inside what fairseq and torch put around it for several processes."""
    while isinstance(inner := getattr(model, "module", None), nn.Module):
        model = inner
    return model


def is_retried(model: Any) -> bool:
    """Whether fairseq repeats a batch because its gradient was not finite.

    It puts its detector's hooks on every module first, with the name of each; all processes do, for
    the gradient is the same in all. It always ends the training.
    """
    return hasattr(unwrapped(model), "_NanDetector__module_name")


def without_detector(model: Any) -> None:
    """Take the detector's backward hooks off, with which no model of fairseq's can be run."""
    for module in unwrapped(model).modules():
        module._backward_hooks.clear()


@torch.no_grad()
def first_output(model: Any, compute: Callable[[nn.Module], Any]) -> str | None:
    """The first module whose output is not finite, such as ``decoder.layers.1.fc2``.

    Args:
        model: it is run once more, with other dropout.
        compute: runs it.
    """
    found: list[str] = []

    def look(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if not found and not all(bool(t.isfinite().all()) for t in _numbers(output)):
                found.append(name)

        return hook

    inner = unwrapped(model)
    handles = [m.register_forward_hook(look(name)) for name, m in inner.named_modules() if name]
    try:
        compute(inner)
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None


def first_gradient(model: Any, compute: Callable[[nn.Module], Tensor]) -> str | None:
    """The parameter nearest to the output whose gradient is not finite.

    Args:
        model: it is run once more, with other dropout; gradients that it has are lost.
        compute: its loss.
    """
    inner = unwrapped(model)
    inner.zero_grad()
    compute(inner).backward()
    for name, parameter in reversed(list(inner.named_parameters())):
        if parameter.grad is not None and not parameter.grad.isfinite().all():
            return name
    return None


def parameters_are_finite(model: Any) -> bool:
    """Whether every parameter is a number."""
    return all(bool(parameter.isfinite().all()) for parameter in model.parameters())


def last_good(folder: str) -> str:
    """Which checkpoint of a training's folder to go on from, as the end of a message."""

    def age(path: Path) -> tuple[float, bool]:
        # copies of one moment may be of one age; fairseq goes on from the last by itself
        return -path.stat().st_mtime, path.name != "checkpoint_last.pt"

    for path in sorted(Path(folder).glob("checkpoint*.pt"), key=age):
        if torn(str(path)) is None and _is_finite(str(path)):
            return f"the last good checkpoint is '{path}'"
    return "no good checkpoint has been written"


def _is_finite(path: str) -> bool:
    try:
        state = read_checkpoint(path, "--save-dir", lazy=True)
    except UsageError:
        return False
    return all(bool(tensor.isfinite().all()) for tensor in _numbers(state["model"]))


def _numbers(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
    elif isinstance(output, dict):
        for value in output.values():
            yield from _numbers(value)
    elif isinstance(output, (tuple, list)):
        for value in output:
            yield from _numbers(value)
