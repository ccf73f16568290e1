"""What a user may set about an objective, and what the method's authors set."""

import math
from dataclasses import dataclass, fields, replace
from typing import Literal

from tsa_fairseq.errors import UsageError, check_choice

Direction = Literal["seek", "cover"]
DIRECTIONS: tuple[Direction, ...] = ("seek", "cover")
Aggregation = Literal["logits", "probabilities"]
AGGREGATIONS: tuple[Aggregation, ...] = ("logits", "probabilities")

# Within these the loss and its gradients hold to 1e-4 of float64's, with logits in float32. At the
# upper end T² KL is its limit, half the mean square of the distance of logits, to less than that.
TEMPERATURES = (0.01, 10_000.0)


@dataclass(frozen=True)
class KDSettings:
    """The ``--kd-`` flags that objectives share; None: what the method was published with.

    Args:
        alpha: weight of the distillation.
        ce_weight: weight of the cross entropy; None in an objective that is a convex combination
            means what ``alpha`` leaves of 1.
        temperature: T.
        detach_targets: whether no gradient flows into a target made of the leaves.
        direction: KL(p ‖ target), ``seek``, or KL(target ‖ p), ``cover``.
        rampup_updates: over how many updates ``alpha`` is reached.
        max_update: updates of the training, of which a published ramp takes a share; 0: unknown.
        aggregation, mask_self: of OKDDip alone.

    Raises:
        UsageError: a value out of range.
    """

    alpha: float | None = None
    ce_weight: float | None = None
    temperature: float | None = None
    detach_targets: bool | None = None
    direction: Direction | None = None
    rampup_updates: int | None = None
    max_update: int = 0
    aggregation: Aggregation | None = None
    mask_self: bool = False

    def __post_init__(self) -> None:
        for flag, weight in (("--kd-alpha", self.alpha), ("--kd-ce-weight", self.ce_weight)):
            if weight is not None and not 0.0 <= weight < math.inf:
                raise UsageError(f"{flag}: got {weight:g}; expected a number of 0 or more")
        low, high = TEMPERATURES
        if self.temperature is not None and not low <= self.temperature <= high:
            raise UsageError(
                f"--kd-temperature: got {self.temperature:g}; "
                f"expected a number from {low:g} to {high:g}"
            )
        check_choice("--kd-direction", self.direction, DIRECTIONS)
        check_choice("--kd-aggregation", self.aggregation, AGGREGATIONS)
        if self.rampup_updates is not None and self.rampup_updates < 0:
            raise UsageError(f"--kd-rampup-updates: got {self.rampup_updates}; expected 0 or more")

    def over(self, published: "Published") -> "Settled":
        """These settings where they are given, the published ones elsewhere.

        Raises:
            UsageError: the published ramp is a share of a training of unknown length, or ``alpha``
                leaves the cross entropy less than nothing.
        """
        given = {
            field.name: getattr(self, field.name)
            for field in fields(published)
            if getattr(self, field.name, None) is not None
        }
        settled = replace(published, **given)
        updates = self.rampup_updates
        if updates is None:
            if settled.ramp_share > 0 and self.max_update < 1:
                raise UsageError(
                    "--kd-rampup-updates: not given; the weight of --kd-objective "
                    f"{published.objective} rises over {settled.ramp_share:.0%} of a training "
                    "whose length --max-update tells: expected one of the two flags"
                )
            updates = round(settled.ramp_share * self.max_update)
        if settled.convex and self.ce_weight is None and settled.alpha > 1.0:
            raise UsageError(f"--kd-alpha: got {settled.alpha:g}; expected a number from 0 to 1")
        return Settled(**vars(settled), rampup_updates=updates, mask_self=self.mask_self)


@dataclass(frozen=True)
class Published:
    """How a method was published; the flags change it.

    Args:
        objective: the name of ``--kd-objective``.
        alpha, temperature, detach_targets, direction, aggregation: see :class:`KDSettings`.
        ce_weight: None: 1, or what ``alpha`` leaves if the loss is ``convex``.
        convex: whether the weights of cross entropy and distillation add up to 1.
        ramp_share: of the training's updates, over which ``alpha`` is reached.
    """

    objective: str
    alpha: float = 1.0
    temperature: float = 1.0
    detach_targets: bool = True
    direction: Direction = "cover"
    aggregation: Aggregation = "logits"
    ce_weight: float | None = None
    convex: bool = False
    ramp_share: float = 0.0


@dataclass(frozen=True)
class Settled(Published):
    """What holds in this run: every value is given."""

    rampup_updates: int = 0
    mask_self: bool = False

    def ramp(self, num_updates: int | None) -> float:
        """w(t) = exp(−5 (1 − min(t, R) / R)²), R = ``rampup_updates``; R = 0 means w = 1.

        OKDDip's ramp (Chen et al., AAAI 2020), in updates where the authors count epochs.

        Args:
            num_updates: t; None, of a model that was never trained, means the ramp's end.
        """
        if self.rampup_updates == 0 or num_updates is None:
            return 1.0
        done = min(num_updates, self.rampup_updates) / self.rampup_updates
        return math.exp(-5.0 * (1.0 - done) ** 2)
