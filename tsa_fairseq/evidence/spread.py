"""Would another seed say the same? Means and spreads over trainings, and a test over them."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb, sqrt

import numpy as np
from scipy.special import stdtr, stdtrit

# More ways to deal out seeds than these are drawn from at random.
_MOST_WAYS = 20_000
_SEED = 12345


@dataclass(frozen=True)
class Spread:
    """The mean of several seeds, and their standard deviation; None of a single one."""

    mean: float
    deviation: float | None
    seeds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread | None":
        """None without values."""
        if not values:
            return None
        deviation = statistics.stdev(values) if len(values) > 1 else None
        return cls(statistics.mean(values), deviation, len(values))


@dataclass(frozen=True)
class SeedTest:
    """A system's seeds beside the baseline's.

    Args:
        difference: of the means.
        low: of its 95 % interval, by Welch's t, which assumes no equal variances.
        high: its other end.
        p: of Welch's test, two-sided.
        p_permutation: of the test that deals the seeds out anew, two-sided; it assumes nothing.
        p_least: the least that the latter could have been with so few seeds.
    """

    difference: float
    low: float
    high: float
    p: float
    p_permutation: float
    p_least: float


def seed_test(ours: Sequence[float], theirs: Sequence[float]) -> SeedTest | None:
    """Whether the means of two groups of trainings differ; None with one seed on either side.

    t = (m1 - m2) / sqrt(v1/n1 + v2/n2), with the degrees of freedom of Welch (Biometrika 1947).
    """
    if min(len(ours), len(theirs)) < 2:
        return None
    difference = statistics.mean(ours) - statistics.mean(theirs)
    parts = [statistics.variance(group) / len(group) for group in (ours, theirs)]
    error = sqrt(sum(parts))
    permutation = _permutation(ours, theirs)
    if error == 0:  # no spread at all, which makes t infinite: there is nothing to estimate it by
        low = high = difference
        p = permutation[0]
    else:
        freedom = sum(parts) ** 2 / sum(
            part**2 / (len(group) - 1) for part, group in zip(parts, (ours, theirs), strict=True)
        )
        reach = float(stdtrit(freedom, 0.975)) * error
        low, high = difference - reach, difference + reach
        p = float(2 * stdtr(freedom, -abs(difference) / error))
    return SeedTest(difference, low, high, p, *permutation)


def _permutation(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """p over the ways to deal all values out to groups of these sizes, and the least p possible."""
    values, size = np.array([*ours, *theirs]), len(ours)
    ways = comb(len(values), size)
    if ways <= _MOST_WAYS:
        chosen = np.array(list(combinations(range(len(values)), size)))
    else:
        draw = np.random.default_rng(_SEED)
        chosen = np.array([draw.permutation(len(values))[:size] for _ in range(_MOST_WAYS)])
        chosen[0] = np.arange(size)  # what was observed is one of the ways
    first = values[chosen].mean(1)
    second = (values.sum() - values[chosen].sum(1)) / (len(values) - size)
    found = np.abs(first - second)
    observed = abs(np.mean(ours) - np.mean(theirs))
    # a hair's breadth for sums in another order
    p = float(np.mean(found >= observed - 1e-9))
    least = (2 if size == len(theirs) else 1) / min(ways, _MOST_WAYS)
    return p, least
