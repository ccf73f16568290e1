"""What passes between model, objective and criterion."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Prediction(NamedTuple):
    """What predicts words beside the leaves: features, and the matrix that projects them."""

    features: Tensor  # B x T x D'
    matrix: Tensor  # V x D'


class TreeRun(NamedTuple):
    """What a pass through the tree leaves behind."""

    features: tuple[Tensor, ...]  # of every leaf wanted, before the output projection, B x T x D
    shared: Tensor  # after the last layer that all leaves share, B x T x D
    states: dict[tuple[int, int], Tensor]  # after every node, by depth and peer, T x B x D
    extra: dict[str, Any]  # what fairseq's decoder says of the first leaf


@dataclass(frozen=True)
class TreeOutput:
    """What the tree computed for one batch.

    Args:
        leaves: the leaves computed, in this order; with several views, the leaf of each member.
        features: for each of them the decoder's output before the output projection, B x T x D.
        output_matrix: what projects features to the vocabulary, V x D. A view: as an output of the
            model it is seen by ``DistributedDataParallel``, which would otherwise take an output
            projection that is used outside of ``forward`` for unused.
        num_updates: updates done so far in this training; None outside of training.
        heads: what the learnable parts that an objective needs computed, by name, B x T x ...
        others: who else predicts, by name: a teacher, a bridge.
    """

    leaves: tuple[int, ...]
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


@dataclass(frozen=True)
class TokenBlock:
    """What an objective sees: the leaves' predictions for N real (non-pad) target tokens.

    Args:
        log_probs: log softmax of the leaves' logits at temperature 1, K x N x V, float32 or wider.
            A softmax does not change when a constant is added to its logits, so that tempered
            distributions and mixtures of logits can be had from these too.
        target: the reference token of each position, N.
        heads: the outputs of the model's heads at these tokens, by name, N x ...
        others: log softmax of the logits of who else predicts, by name, N x V.
        leaves: the leaf that each of the K is; not 0 to K - 1 where a leaf is there in several
            views.
        label_smoothing: ε of the cross entropy.
    """

    log_probs: Tensor
    target: Tensor
    heads: Mapping[str, Tensor] = field(default_factory=dict)
    others: Mapping[str, Tensor] = field(default_factory=dict)
    leaves: tuple[int, ...] = ()
    label_smoothing: float = 0.0


@dataclass(frozen=True)
class LogitBlock:
    """The logits of M tokens to be worked on without a graph, and what to make of them.

    Args:
        logits: M x K x V, float32 or wider, contiguous, a token's leaves side by side. Scratch:
            whoever works on the block overwrites them, with their gradient if that is wanted.
        target: the reference token of each position, M.
        heads: the outputs of the model's heads at these tokens, by name, M x ...
        ramp: how far the distillation's weight has risen, from 0 to 1.
        label_smoothing: ε of the cross entropy.
        wants_gradient: whether ``logits`` are to become their gradient.
        wants_heads: the heads whose gradients are wanted as well.
        others: logits of who else predicts, by name, M x V; scratch, too.
        wants_others: those of ``others`` that are to become their gradient.
        leaves: see :class:`TokenBlock`.
    """

    logits: Tensor
    target: Tensor
    heads: Mapping[str, Tensor]
    ramp: float
    label_smoothing: float
    wants_gradient: bool
    wants_heads: tuple[str, ...] = ()
    others: Mapping[str, Tensor] = field(default_factory=dict)
    wants_others: tuple[str, ...] = ()
    leaves: tuple[int, ...] = ()


@dataclass(frozen=True)
class Term:
    """One term of a loss beside the leaves' cross entropy.

    Args:
        name: as it appears in logs.
        weight: what the values are multiplied by.
        values: nats per leaf and token, K x N, or per token, N.
    """

    name: str
    weight: float
    values: Tensor

    def summed(self, total: Callable[[Tensor], Tensor]) -> "Term":
        """The same with values K, or 1, by a function that sums over the last dimension."""
        return replace(
            self, values=total(self.values if self.values.dim() > 1 else self.values[None])
        )


@dataclass(frozen=True)
class LossSums:
    """What tokens cost, summed over them, in nats.

    Args:
        vocabulary: number of words, V.
        nll, smooth: −log p(target) and −Σ_v log p(v) of every leaf, K.
        terms: what the objective adds, K values or 1 each.
        compared: figures for the log, about the leaves together and from the objective.
    """

    vocabulary: int
    nll: Tensor
    smooth: Tensor
    terms: tuple[Term, ...] = ()
    compared: Mapping[str, Tensor] = field(default_factory=dict)

    def __add__(self, other: "LossSums") -> "LossSums":
        return LossSums(
            self.vocabulary,
            self.nll + other.nll,
            self.smooth + other.smooth,
            tuple(
                Term(mine.name, mine.weight, mine.values + theirs.values)
                for mine, theirs in zip(self.terms, other.terms, strict=True)
            ),
            {name: value + other.compared[name] for name, value in self.compared.items()},
        )

    def detach(self) -> "LossSums":
        """The same figures without a graph."""
        terms = tuple(replace(term, values=term.values.detach()) for term in self.terms)
        return replace(self, nll=self.nll.detach(), smooth=self.smooth.detach(), terms=terms)

    def first_not_finite(self, numbers_of_leaves: tuple[int, ...]) -> str | None:
        """The first leaf and term that is NaN or infinite, such as ``leaf 2: kd is nan``."""
        named = {"cross entropy": self.nll + self.smooth}
        named.update({term.name: term.values for term in self.terms})
        by_leaf = {
            name: v.detach().flatten(1).sum(1) if v.dim() > 1 else v for name, v in named.items()
        }
        # one tensor, so that a GPU is waited for once
        numbers = iter(torch.cat(list(by_leaf.values())).tolist())
        leaves = self.nll.size(0)
        for name, values in by_leaf.items():
            for member in range(values.size(0)):
                number = next(numbers)
                if not math.isfinite(number):
                    of_leaves = values.size(0) == leaves
                    where = f"leaf {numbers_of_leaves[member]}" if of_leaves else "all leaves"
                    return f"{where}: {name} is {number}"
        return None
