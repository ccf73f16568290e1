"""What is done about a loss or a gradient that is not finite: a training ends, in all processes.

Who meets such a loss tells the others without a word of its own: the loss becomes NaN, and so do
the gradients that fairseq adds up over all processes. It checks their norm in each, and repeats the
batch; here all know then that it is the end. In validation, which has no gradient, a figure in the
log says so, which fairseq adds up as well.
"""

import logging
import math
from collections.abc import Callable
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from tsa_fairseq.plugin.finite import (
    first_gradient,
    first_output,
    last_good,
    parameters_are_finite,
    unwrapped,
    without_detector,
)
from tsa_fairseq.plugin.processes import world_size
from tsa_fairseq.tree.outputs import TreeOutput

logger = logging.getLogger(__name__)

# What a figure is called that says how many losses were not finite.
NOT_FINITE = "not_finite"


class Watch:
    """Of one training.

    Args:
        save_dir: where its checkpoints are.
    """

    def __init__(self, save_dir: str) -> None:
        self.save_dir = save_dir
        self._met: str | None = None

    def meet(
        self,
        found: str,
        loss: Tensor,
        output: TreeOutput,
        real: Tensor,
        model: Any,
        compute: Callable[[nn.Module], Tensor],
    ) -> Tensor:
        """Stop before a NaN reaches any parameter, and say where it came from.

        In half precision a batch whose features overflow is left to fairseq, which leaves it out.

        Args:
            found: the leaf and term that is not finite.
            loss: of the batch.
            output: of the tree.
            real: where its tokens are no pads.
            model: as fairseq wraps it.
            compute: the loss of a model.

        Returns:
            The loss; NaN where other processes have to stop as well.

        Raises:
            SystemExit: there are no others.
        """
        if not all(bool(f[real].isfinite().all()) for f in output.features):
            if output.features[0].dtype == torch.float16 and parameters_are_finite(model):
                return loss
            name = first_output(model, compute)
            found = f"the output of {name or 'the decoder'} is not finite"
        self._met = f"{_when(model, output.num_updates)}, {found}"
        if world_size() > 1 and model.training:
            # the first process may still be copying the last checkpoint
            logger.error(self._met)
            return loss * math.nan
        self._met += f"; {last_good(self.save_dir)}"
        if world_size() == 1:
            raise SystemExit(f"error: {self._met}")
        logger.error(self._met)
        return loss * math.nan

    def log(self) -> dict[str, int]:
        """The figure that tells other processes of it; nothing if there are none."""
        return {} if world_size() == 1 else {NOT_FINITE: int(self._met is not None)}

    def explain(self, model: Any, compute: Callable[[nn.Module], Tensor]) -> NoReturn:
        """Say why fairseq repeats a batch: the gradients of some process are not finite.

        Raises:
            SystemExit: always.
        """
        message = self._met
        without_detector(model)
        inner: Any = unwrapped(model)
        if message is None:
            name = first_gradient(model, compute)
            # the detector would print all that are not finite
            inner.zero_grad()
            message = f"{_when(inner, inner.num_updates)}, {_of_gradient(inner, name)}"
        message = f"error: {message}; {last_good(self.save_dir)}"
        if world_size() > 1:
            # one that leaves earlier may take the others with it before they have spoken
            torch.distributed.barrier()
        raise SystemExit(message)


def stop_if_met(sums: dict[str, Any]) -> None:
    """Stop where a process has met a loss that is not finite; it has said which.

    Raises:
        SystemExit: one has.
    """
    if sums.get(NOT_FINITE):
        raise SystemExit("error: a loss is not finite; the process that computed it says which")


def _of_gradient(model: nn.Module, name: str | None) -> str:
    if name is not None:
        return f"the gradient of {name} is not finite, though the loss is"
    if next(model.parameters()).dtype == torch.float16:
        return "gradients overflow at the smallest loss scale, --min-loss-scale"
    if world_size() > 1:
        return "a gradient of another process is not finite"
    return "a gradient was not finite, and was when the batch was repeated"


def _when(model: Any, updates: int | None) -> str:
    return "in validation" if updates is None or not model.training else f"at update {updates}"
