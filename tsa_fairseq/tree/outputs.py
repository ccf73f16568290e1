"""What a pass through the tree leaves behind, and what the model makes of it for the criterion."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from tsa_fairseq.tree.views import Member


class Prediction(NamedTuple):
    """What predicts words beside the leaves: features, and the matrix that projects them."""

    features: Tensor  # B x T x D'
    matrix: Tensor  # V x D'


class TreeRun(NamedTuple):
    """What a pass through the tree leaves behind."""

    members: tuple[Member, ...]
    features: tuple[Tensor, ...]  # of every member, before the output projection, B x T x D
    shared: Tensor  # after the last layer that all leaves share, of every view, V · B x T x D
    attention: Tensor | None  # of the first leaf to the source, as fairseq's decoder has it


@dataclass(frozen=True)
class TreeOutput:
    """What the tree computed for one batch.

    Args:
        leaf_of: the leaf of each member: of everyone who predicts, which with several views is a
            leaf in one of them.
        features: for each member the decoder's output before the output projection, B x T x D.
        output_matrix: what projects features to the vocabulary, V x D. A view: as an output of the
            model it is seen by ``DistributedDataParallel``, which would otherwise take an output
            projection that is used outside of ``forward`` for unused.
        num_updates: updates done by the training that the model is in, or was loaded from; None
            for one that was just built.
        heads: what the learnable parts that an objective needs computed, by name, B x T x ...
        others: who else predicts, by name: a teacher, a bridge.
    """

    leaf_of: tuple[int, ...]
    features: tuple[Tensor, ...]
    output_matrix: Tensor
    num_updates: int | None
    heads: Mapping[str, Tensor] = field(default_factory=dict)
    others: Mapping[str, Prediction] = field(default_factory=dict)

    def at_tokens(self, choose: Callable[[Tensor], Tensor]) -> "TreeOutput":
        """The same for the tokens that ``choose`` takes from B x T x ..., in whatever shape."""
        return replace(
            self,
            features=tuple(map(choose, self.features)),
            heads={name: choose(head) for name, head in self.heads.items()},
            others={
                name: Prediction(choose(other.features), other.matrix)
                for name, other in self.others.items()
            },
        )


def widened(tensor: Tensor) -> Tensor:
    """Half precision to float32; float32, float64 and whole numbers as they are."""
    if not tensor.is_floating_point():
        return tensor
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
