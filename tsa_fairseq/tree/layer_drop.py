"""fairseq's layer drop, for a decoder whose inner states must be told apart."""

from collections.abc import Iterator
from typing import Any

from fairseq.modules import LayerDropModuleList
from torch import Tensor, nn


def in_a_row(layers: list[nn.Module], drop: float, training: bool) -> nn.ModuleList:
    """The list that fairseq's forward pass iterates over."""
    if drop == 0:
        return nn.ModuleList(layers)
    row = LayerDropInPlace(drop, layers)
    row.training = training
    return row


class LayerDropInPlace(LayerDropModuleList):
    """fairseq's layer drop, with the same draws, but a dropped layer passes its input on.

    The stock list leaves dropped layers out, after which nobody could say which of the decoder's
    inner states went into which layer.
    """

    def __iter__(self) -> Iterator[Any]:
        kept = set(super().__iter__())
        for index in range(len(self)):
            yield self[index] if self[index] in kept else pass_on


def pass_on(state: Tensor, *_: Any, **__: Any) -> tuple[Tensor, None, None]:
    """A dropped layer. The view keeps its output apart from its input, for gradient hooks."""
    return state.view_as(state), None, None
