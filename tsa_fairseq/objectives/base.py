"""What every objective is."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from tsa_fairseq.errors import UsageError
from tsa_fairseq.outputs import Term, TokenBlock

DIRECTIONS = ("seek", "cover")


@dataclass(frozen=True)
class KDSettings:
    """The ``--kd-`` flags that objectives share.

    Raises:
        UsageError: a value out of range.
    """

    alpha: float = 0.5
    temperature: float = 1.0
    detach_targets: bool = False
    direction: str = "seek"
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
    """A loss over the leaves' predictions: w_ce · Σ_k CE_k + Σ_terms weight · Σ values.

    The criterion computes the leaves' label-smoothed cross entropies, sums over tokens and divides
    by the number of leaves. An objective says how much the cross entropies weigh and what else
    there is; it is a pure function of a block of tokens, so that blocks can be computed apart.
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

    @abstractmethod
    def formula(self) -> str:
        """The loss as a formula with this run's numbers."""
