"""What an objective is given, predictions for a block of tokens, and what it gives back: sums."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Block:
    """What is known of N real (non-pad) target tokens beside the members' predictions for them.

    A member is a leaf, or with several views a leaf in one of them.

    Args:
        target: the reference token of each position, N.
        heads: the outputs of the model's heads at these tokens, by name, N x ...
        others: predictions of who else predicts, by name, N x V; what of them, the block says.
        leaf_of: the leaf of each of the K members.
        label_smoothing: ε of the cross entropy.
    """

    target: Tensor
    heads: Mapping[str, Tensor] = field(default_factory=dict)
    others: Mapping[str, Tensor] = field(default_factory=dict)
    leaf_of: tuple[int, ...] = ()
    label_smoothing: float = 0.0


@dataclass(frozen=True, kw_only=True)
class TokenBlock(Block):
    """What an objective sees; ``others`` are log softmax of logits, too.

    Args:
        log_probs: log softmax of the members' logits at temperature 1, K x N x V, float32 or wider.
            A softmax does not change when a constant is added to its logits, so that tempered
            distributions and mixtures of logits can be had from these too.
    """

    log_probs: Tensor


@dataclass(frozen=True, kw_only=True)
class LogitBlock(Block):
    """Logits to be worked on without a graph, and what to make of them; ``others`` are logits, too.

    Args:
        logits: N x K x V, float32 or wider, contiguous, a token's members side by side. They and
            those of ``others`` are scratch: whoever works on the block overwrites them, with their
            gradient if that is wanted.
        ramp: how far the distillation's weight has risen, from 0 to 1.
        wants_gradient: whether ``logits`` are to become their gradient.
        wants_heads: the heads whose gradients are wanted as well.
        wants_others: those of ``others`` that are to become their gradient.
    """

    logits: Tensor
    ramp: float
    wants_gradient: bool
    wants_heads: tuple[str, ...] = ()
    wants_others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Term:
    """One term of a loss beside the members' cross entropy.

    Args:
        name: as it appears in logs.
        weight: what the values are multiplied by.
        values: nats per member and token, K x N, or per token, N.
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
        nll, smooth: −log p(target) and −Σ_v log p(v) of every member, K.
        terms: what the objective adds, K values or 1 each.
        compared: figures for the log, about the members together and from the objective.
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

    def first_not_finite(self, leaf_of: tuple[int, ...]) -> str | None:
        """The first leaf and term that is NaN or infinite, such as ``leaf 2: kd is nan``.

        Args:
            leaf_of: the leaf of each member.
        """
        named = {"cross entropy": self.nll + self.smooth}
        named.update({term.name: term.values for term in self.terms})
        by_member = {
            name: v.detach().flatten(1).sum(1) if v.dim() > 1 else v for name, v in named.items()
        }
        # one tensor, so that a GPU is waited for once
        numbers = iter(torch.cat(list(by_member.values())).tolist())
        for name, values in by_member.items():
            for member in range(values.size(0)):
                number = next(numbers)
                if not math.isfinite(number):
                    alone = values.size(0) == self.nll.size(0)
                    where = f"leaf {leaf_of[member]}" if alone else "all leaves"
                    return f"{where}: {name} is {number}"
        return None
