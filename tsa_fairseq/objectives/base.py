"""What every objective is."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tsa_fairseq.divergence import SmoothedCrossEntropy
from tsa_fairseq.errors import UsageError
from tsa_fairseq.outputs import LogitBlock, LossSums, Term, TokenBlock
from tsa_fairseq.token_loss import sum_up

Direction = Literal["seek", "cover"]
DIRECTIONS: tuple[Direction, ...] = ("seek", "cover")


@dataclass(frozen=True)
class KDSettings:
    """The ``--kd-`` flags that objectives share.

    Raises:
        UsageError: a value out of range.
    """

    alpha: float = 0.5
    temperature: float = 1.0
    detach_targets: bool = False
    direction: Direction = "seek"
    rampup_updates: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.alpha <= 1.0:
            raise UsageError(f"--kd-alpha: got {self.alpha:g}; expected a number from 0 to 1")
        if not 0.0 < self.temperature < math.inf:
            raise UsageError(
                f"--kd-temperature: got {self.temperature:g}; expected a number above 0"
            )
        if self.direction not in DIRECTIONS:
            raise UsageError(
                f"--kd-direction: got '{self.direction}'; expected one of {', '.join(DIRECTIONS)}"
            )
        if self.rampup_updates < 0:
            raise UsageError(f"--kd-rampup-updates: got {self.rampup_updates}; expected 0 or more")

    def ramp(self, num_updates: int | None) -> float:
        """w(t) = exp(−5 (1 − min(t, R) / R)²), R = ``rampup_updates``; R = 0 means w = 1.

        OKDDip's ramp (Chen et al., AAAI 2020), in updates where the authors count epochs.

        Args:
            num_updates: t; None, outside of training, means the ramp's end.
        """
        if self.rampup_updates == 0 or num_updates is None:
            return 1.0
        done = min(num_updates, self.rampup_updates) / self.rampup_updates
        return math.exp(-5.0 * (1.0 - done) ** 2)


class Objective(ABC):
    """A loss over the leaves' predictions: (1/K) [w_ce · Σ_k CE_k + Σ_terms weight · Σ values].

    An objective says how much the leaves' label-smoothed cross entropies weigh and what else there
    is. It is a pure function of a block of tokens, so that blocks can be computed apart: whoever
    writes one gives ``terms``, and the fused loss differentiates them a block at a time. Where the
    gradient can be written down, ``block_sums_`` is overridden, which is faster.
    """

    def __init__(self, settings: KDSettings) -> None:
        self.settings = settings

    @property
    def kd_is_pairwise_kl(self) -> bool:
        """Whether the distillation's mean over leaves is their mean pairwise KL at temperature 1.

        The criterion logs that divergence, and need not compute it twice.
        """
        return False

    @abstractmethod
    def cross_entropy_weight(self, leaves: int, ramp: float) -> float:
        """What every leaf's cross entropy is multiplied by."""

    @abstractmethod
    def kd_weight(self, leaves: int, ramp: float) -> float:
        """What the distillation term is multiplied by, for the log."""

    @abstractmethod
    def terms(self, block: TokenBlock, ramp: float) -> list[Term]:
        """The terms beside the cross entropies; the term named ``kd`` is the distillation."""

    def sums(self, block: TokenBlock, ramp: float, total: Callable[[Tensor], Tensor]) -> LossSums:
        """The parts of the loss of a block, with a graph; ``total`` sums over its tokens."""
        return sum_up(block, self.terms(block, ramp), self.kd_is_pairwise_kl, total)

    def block_sums_(self, block: LogitBlock) -> tuple[LossSums, Mapping[str, Tensor]]:
        """Sums over a block's tokens and the gradient of the loss, which :meth:`weigh` defines.

        By autograd, which serves every objective: the graph lives as long as this call, and is as
        large as the block. Whoever overrides this, ``terms`` or ``weigh`` must keep them agreeing.

        Returns:
            The sums, without a graph, and the gradients of the heads wanted, by name; a head that
            is not named has none. The logits' gradient replaces the logits.
        """
        logits = block.logits.detach()
        heads = {name: head.detach() for name, head in block.heads.items()}
        inputs = [logits, *(heads[name] for name in block.wants_heads)]
        with torch.set_grad_enabled(block.wants_gradient):
            for tensor in inputs:
                tensor.requires_grad_(block.wants_gradient)
            log_probs = torch.log_softmax(logits, dim=-1).transpose(0, 1)  # K x M x V
            sums = self.sums(
                TokenBlock(log_probs, block.target, heads),
                block.ramp,
                lambda values: values.sum(dim=-1),
            )
            loss = self.weigh(sums, block.ramp, block.label_smoothing)
        by_head: dict[str, Tensor] = {}
        if block.wants_gradient:
            of_logits, *of_heads = torch.autograd.grad(
                loss, inputs, allow_unused=True, materialize_grads=True
            )
            by_head = dict(zip(block.wants_heads, of_heads, strict=True))
            block.logits.copy_(of_logits)
        return sums.detach(), by_head

    def weigh(self, sums: LossSums, ramp: float, label_smoothing: float) -> Tensor:
        """The loss, from its parts.

        Dividing by K keeps learning rates and the loss scales of half precision those of the plain
        model.
        """
        leaves = sums.nll.size(0)
        parts = SmoothedCrossEntropy(sums.nll, sums.smooth)
        cross_entropy = parts.combine(label_smoothing, sums.vocabulary).sum(dim=0)
        loss = self.cross_entropy_weight(leaves, ramp) * cross_entropy
        for term in sums.terms:
            loss = loss + term.weight * term.values.sum(dim=0)
        return loss / leaves

    @abstractmethod
    def formula(self) -> str:
        """The loss as a formula with this run's numbers."""
