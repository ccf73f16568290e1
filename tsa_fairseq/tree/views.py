"""``--kd-views``: every sentence several times in one batch, each time under its own dropout.

Peers that share encoder, trunk and dropout masks differ little; independent masks are the cheap
source of difference. R-Drop (Liang, Wu et al., NeurIPS 2021) is the plain Transformer in 2 views.
The rows of a batch in V views are those of view 0, then those of view 1, and so on.

Who computes and reads which of these rows is decided here; everyone else asks :class:`ViewPlan`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from tsa_fairseq.tree.topology import Topology

VIEWS_LEAVES = ("all", "deal")


class Member(NamedTuple):
    """One of those that predict: a leaf, in the view that it reads."""

    view: int
    leaf: int


@dataclass(frozen=True)
class Views:
    """How often a batch is computed, and how leaves share that out.

    Args:
        count: V.
        dealt: leaf k reads view k mod V only; otherwise every leaf reads every view.
    """

    count: int = 1
    dealt: bool = False

    def repeat(self, tensor: Tensor) -> Tensor:
        """B x ... to V · B x ..."""
        return tensor if self.count == 1 else torch.cat([tensor] * self.count)

    def members(self, leaves: Sequence[int]) -> list[Member]:
        """Everyone who predicts."""
        if self.dealt:
            return [Member(leaf % self.count, leaf) for leaf in leaves]
        return [Member(view, leaf) for view in range(self.count) for leaf in leaves]


@dataclass(frozen=True)
class ViewPlan:
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

    @cached_property
    def everything(self) -> tuple[int, ...]:
        """All views."""
        return tuple(range(self.views.count))

    def views_of(self, depth: int, peer: int) -> tuple[int, ...]:
        """The views that a node computes, one after the other; depth -1: the embedded tokens."""
        if not self.divided or depth < self.topology.split:
            return self.everything
        return self._dealt[depth, peer]

    @cached_property
    def _dealt(self) -> dict[tuple[int, int], tuple[int, ...]]:
        found: dict[tuple[int, int], set[int]] = {}
        for leaf, path in enumerate(self.topology.paths):
            for node in enumerate(path):
                found.setdefault(node, set()).add(leaf % self.views.count)
        return {node: tuple(sorted(views)) for node, views in found.items()}

    def from_parent(self, state: Tensor, depth: int, peer: int) -> Tensor:
        """What a node reads of its parent's state: T x rows x D, the rows of the node's views."""
        parent = self.topology.parents[depth][peer]
        return _rows(state, self.views_of(depth - 1, parent), self.views_of(depth, peer), dim=1)

    def from_everything(self, tensor: Tensor, depth: int, peer: int, dim: int) -> Tensor:
        """What a node reads of a tensor that has the rows of all views, along ``dim``."""
        return _rows(tensor, self.everything, self.views_of(depth, peer), dim)

    def of_member(self, features: Tensor, member: Member) -> Tensor:
        """The rows of one member, B x ..., of what its leaf computed."""
        have = self.views_of(self.topology.depth - 1, member.leaf)
        return features.chunk(len(have))[have.index(member.view)]

    def readers(self, depth: int, peer: int) -> list[int]:
        """For each view of a node (depth -1: the embedded tokens), how many children read it."""
        below = [
            set(self.views_of(depth + 1, child))
            for child in self.topology.children_of(depth, peer)
        ]  # fmt: skip
        return [sum(view in views for views in below) for view in self.views_of(depth, peer)]

    def shares(self, depth: int, peer: int) -> list[float]:
        """For each view of a node, 1 / (readers at the first split above it · at the next ...)."""
        shares = dict.fromkeys(self.views_of(depth, peer), 1.0)
        while depth >= 0:
            depth, peer = depth - 1, self.topology.parents[depth][peer]
            readers = dict(zip(self.views_of(depth, peer), self.readers(depth, peer), strict=True))
            shares = {view: share / readers[view] for view, share in shares.items()}
        return list(shares.values())


def _rows(tensor: Tensor, have: tuple[int, ...], want: tuple[int, ...], dim: int) -> Tensor:
    """Of a tensor with the rows of some views along ``dim``, those of the views wanted."""
    if have == want:
        return tensor
    parts = tensor.chunk(len(have), dim)
    return torch.cat([parts[have.index(view)] for view in want], dim)
