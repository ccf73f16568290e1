"""``--kd-views``: every sentence several times in one batch, each time under its own dropout.

Peers that share encoder, trunk and dropout masks differ little; independent masks are the cheap
source of difference. R-Drop (Liang, Wu et al., NeurIPS 2021) is the plain Transformer in 2 views.
The rows of a batch in V views are those of view 0, then those of view 1, and so on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from tsa_fairseq.tree.topology import Topology

VIEWS_LEAVES = ("all", "deal")


@dataclass(frozen=True)
class Views:
    """How often a batch is computed, and who reads which of its views.

    Args:
        count: V.
        dealt: leaf k reads view k mod V only; otherwise every leaf reads every view.
    """

    count: int = 1
    dealt: bool = False

    def repeat(self, tensor: Tensor) -> Tensor:
        """B x ... to V · B x ..."""
        return tensor if self.count == 1 else torch.cat([tensor] * self.count)

    def view(self, tensor: Tensor, number: int) -> Tensor:
        """V · B x ... to the B x ... of one view."""
        return tensor if self.count == 1 else tensor.chunk(self.count)[number]

    def members(self, leaves: Sequence[int]) -> list[tuple[int, int]]:
        """View and leaf of everyone who predicts."""
        if self.dealt:
            return [(leaf % self.count, leaf) for leaf in leaves]
        return [(view, leaf) for view in range(self.count) for leaf in leaves]


@dataclass(frozen=True)
class NodeViews:
    """The views that each node of a tree computes: those that the leaves above it read.

    Below the first split every node computes all of them, V times the batch's rows; so do all
    nodes if every leaf reads every view.
    """

    topology: Topology
    views: Views

    @property
    def divided(self) -> bool:
        """Whether there are nodes that compute some of the views only."""
        return self.views.dealt and self.views.count > 1

    def of(self, depth: int, peer: int) -> tuple[int, ...]:
        """The views that the node computes, one after the other."""
        if not self.divided or depth < self.topology.split:
            return tuple(range(self.views.count))
        return self._dealt[depth, peer]

    @cached_property
    def _dealt(self) -> dict[tuple[int, int], tuple[int, ...]]:
        found: dict[tuple[int, int], set[int]] = {}
        for leaf, path in enumerate(self.topology.paths):
            for node in enumerate(path):
                found.setdefault(node, set()).add(leaf % self.views.count)
        return {node: tuple(sorted(views)) for node, views in found.items()}

    def take(
        self, tensor: Tensor, have: tuple[int, ...], want: tuple[int, ...], dim: int
    ) -> Tensor:
        """The rows, along ``dim``, of the views wanted."""
        if have == want:
            return tensor
        parts = tensor.chunk(len(have), dim)
        return torch.cat([parts[have.index(view)] for view in want], dim)

    def children(self, depth: int, peer: int) -> list[int]:
        """For each view of a node (depth -1: the embedded tokens), how many children read it."""
        below = [
            set(self.of(depth + 1, child))
            for child in self.topology.children_of(depth, peer)
        ]  # fmt: skip
        return [sum(view in views for views in below) for view in self.of(depth, peer)]

    def shares(self, depth: int, peer: int) -> list[float]:
        """For each view of a node, 1 / (readers at the first split above it · at the next ...)."""
        shares = dict.fromkeys(self.of(depth, peer), 1.0)
        while depth >= 0:
            depth, peer = depth - 1, self.topology.parents[depth][peer]
            readers = dict(zip(self.of(depth, peer), self.children(depth, peer), strict=True))
            shares = {view: share / readers[view] for view, share in shares.items()}
        return list(shares.values())
