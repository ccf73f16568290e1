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
        cut: in all views but the first, a token's embedding is zero with this probability while the
            model is in training, see :mod:`tsa_fairseq.tree.cut`.
    """

    count: int = 1
    dealt: bool = False
    cut: float = 0.0

    def repeat(self, tensor: Tensor) -> Tensor:
        """B x ... to V · B x ..."""
        return tensor if self.count == 1 else torch.cat([tensor] * self.count)

    def of(self, tensor: Tensor, view: int) -> Tensor:
        """V · B x ... to the B x ... of one view."""
        return tensor.chunk(self.count)[view]

    def members(self, leaves: Sequence[int]) -> list[Member]:
        """Everyone who predicts, view by view; dealt out, leaf by leaf."""
        if self.dealt:
            return [Member(leaf % self.count, leaf) for leaf in leaves]
        return [Member(view, leaf) for view in range(self.count) for leaf in leaves]

    def __str__(self) -> str:
        read = "dealt out to the leaves" if self.dealt else "each read by every leaf"
        cut = f", tokens cut with probability {self.cut:g} in all but the first" if self.cut else ""
        return f"{self.count} views, {read}{cut}"


@dataclass(frozen=True)
class ViewPlan:
    """The views that each node of a tree computes: those that the leaves on whose path it is read.

    Before the first split every node computes all of them, V times the batch's rows; so do all
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
        for view, leaf in self.views.members(range(self.topology.num_leaves)):
            for node in self.topology.nodes(leaf):
                found.setdefault(node, set()).add(view)
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
        of_children = [
            set(self.views_of(depth + 1, child))
            for child in self.topology.children_of(depth, peer)
        ]  # fmt: skip
        return [sum(view in views for views in of_children) for view in self.views_of(depth, peer)]

    def shares(self, depth: int, peer: int) -> list[float]:
        """For each view of a node, 1 / (readers at the split before it · at that before ...)."""
        shares = dict.fromkeys(self.views_of(depth, peer), 1.0)
        while depth >= 0:
            depth, peer = depth - 1, self.topology.parents[depth][peer]
            readers = dict(zip(self.views_of(depth, peer), self.readers(depth, peer), strict=True))
            shares = {view: share / readers[view] for view, share in shares.items()}
        return list(shares.values())

    @staticmethod
    def by_row(of_views: list[float], state: Tensor) -> Tensor | float:
        """Factors of views to factors of rows, 1 x rows x 1; one number, if they are equal.

        Args:
            of_views: one for each view that the node computes.
            state: the node's, T x rows x D.
        """
        if len(set(of_views)) == 1:
            return of_views[0]
        factors = state.new_tensor(of_views).repeat_interleave(state.size(1) // len(of_views))
        return factors.view(1, -1, 1)


def _rows(tensor: Tensor, have: tuple[int, ...], want: tuple[int, ...], dim: int) -> Tensor:
    """Of a tensor with the rows of some views along ``dim``, those of the views wanted."""
    if have == want:
        return tensor
    parts = tensor.chunk(len(have), dim)
    return torch.cat([parts[have.index(view)] for view in want], dim)
