"""What an objective is given, predictions for a block of tokens, and what it gives back: sums."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Block:
    """What is known of N real (non-pad) target tokens beside the members' predictions for them.

    A member is a leaf, or with several views a leaf in one of them; they come view by view.

    Args:
        leaf_of: the leaf of each of the K members.
        target: the reference token of each position, N.
        heads: the outputs of the model's heads at these tokens, by name, N x ...
        others: predictions of who else predicts, by name, N x V; what of them, the block says.
        label_smoothing: ε of the cross entropy.
    """

    leaf_of: tuple[int, ...]
    target: Tensor
    heads: Mapping[str, Tensor] = field(default_factory=dict)
    others: Mapping[str, Tensor] = field(default_factory=dict)
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
            those of ``others`` are scratch: whoever works on the block overwrites them.
        gradient: where their gradient goes, if it is wanted: the logits themselves, or N x K x V in
            another type. That of ``others`` takes their place.
        ramp: how far the distillation's weight has risen, from 0 to 1.
        gradient_scale: what all gradients are to be multiplied by.
        wants_gradient: whether there is to be one.
        wants_heads: the heads whose gradients are wanted as well.
        wants_others: those of ``others`` that are to become their gradient.
    """

    logits: Tensor
    gradient: Tensor
    ramp: float
    gradient_scale: float = 1.0
    wants_gradient: bool
    wants_heads: tuple[str, ...] = ()
    wants_others: tuple[str, ...] = ()


@dataclass(frozen=True)
class Term:
    """One term of a loss beside the members' cross entropy.

    Args:
        name: as it appears in logs.
        weight: what the values are multiplied by.
        values: nats per member and token, K x N, per leaf and token, or per token, N.
    """

    name: str
    weight: float
    values: Tensor

    def summed(self, total: Callable[[Tensor], Tensor]) -> "Term":
        """The same summed over tokens, by a function that sums over the last dimension."""
        return replace(
            self, values=total(self.values if self.values.dim() > 1 else self.values[None])
        )


@dataclass(frozen=True)
class LossSums:
    """What tokens cost, summed over them, in nats.

    Args:
        vocabulary: number of words, V.
        leaf_of: the leaf of each of the K members.
        nll, smooth: −log p(target) and −Σ_v log p(v) of every member, K.
        terms: what the objective adds: each has a value for every member, for every leaf, or one.
        compared: figures for the log, about the members together and from the objective.
    """

    vocabulary: int
    leaf_of: tuple[int, ...]
    nll: Tensor
    smooth: Tensor
    terms: tuple[Term, ...] = ()
    compared: Mapping[str, Tensor] = field(default_factory=dict)

    def add_(self, other: "LossSums") -> None:
        """Add what other tokens cost, in place: these must have no graph."""
        self.nll.add_(other.nll)
        self.smooth.add_(other.smooth)
        for mine, theirs in zip(self.terms, other.terms, strict=True):
            mine.values.add_(theirs.values)
        for name, value in self.compared.items():
            value.add_(other.compared[name])

    def detach(self) -> "LossSums":
        """The same figures without a graph."""
        terms = tuple(replace(term, values=term.values.detach()) for term in self.terms)
        return replace(self, nll=self.nll.detach(), smooth=self.smooth.detach(), terms=terms)

    def of_members(self, members: list[int]) -> "LossSums":
        """With the cross entropies of some members only; the rest as it is."""
        leaf_of = tuple(self.leaf_of[member] for member in members)
        nll, smooth = chosen(self.nll, members), chosen(self.smooth, members)
        return replace(self, leaf_of=leaf_of, nll=nll, smooth=smooth)

    def first_not_finite(self) -> str | None:
        """The first leaf and term that is NaN or infinite, such as ``leaf 2: kd is nan``."""
        named = {"cross entropy": self.nll + self.smooth}
        named.update({term.name: term.values for term in self.terms})
        by_member = {
            name: v.detach().flatten(1).sum(1) if v.dim() > 1 else v for name, v in named.items()
        }
        # one tensor, so that a GPU is waited for once
        numbers = iter(torch.cat(list(by_member.values())).tolist())
        leaves = tuple(dict.fromkeys(self.leaf_of))
        for name, values in by_member.items():
            size = values.size(0)
            owners = next((of for of in (self.leaf_of, leaves) if len(of) == size), None)
            for place in range(size):
                number = next(numbers)
                if not math.isfinite(number):
                    where = "all leaves" if owners is None else f"leaf {owners[place]}"
                    return f"{where}: {name} is {number}"
        return None


def chosen(by_member: Tensor, members: list[int]) -> Tensor:
    """The entries of some members; a list as an index would be copied to a GPU, and waited for."""
    return torch.stack([by_member[member] for member in members])


def first_members(leaf_of: tuple[int, ...]) -> list[int]:
    """The member that every leaf is in the first view that it reads."""
    return [leaf_of.index(leaf) for leaf in dict.fromkeys(leaf_of)]
