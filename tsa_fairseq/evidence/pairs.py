"""Would another test set say the same? sacreBLEU's paired tests, which resample sentences."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import lcm
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sacrebleu.significance import PairedTest

from tsa_fairseq.evidence.scores import Counts, Measure, pooled

# sacreBLEU's own defaults.
RESAMPLES = 1000
TRIALS = 10_000
SEED = 12345
_SEED_VARIABLE = "SACREBLEU_SEED"
_TESTS = ("bs", "ar")
# A difference of scores that is of rounding alone.
_NOTHING = 1e-9


@dataclass(frozen=True)
class Sampled:
    """A system on resampled test sets.

    Args:
        value: on the test set itself.
        mean: over resampled ones.
        reach: half the width of the 95 % interval around that mean.
    """

    value: float
    mean: float
    reach: float


@dataclass(frozen=True)
class Gain:
    """Over the baseline, on the same sentences; of TER a negative one is an improvement.

    Args:
        value: difference of the scores.
        low: of its 95 % interval, by a paired bootstrap over sentences.
        high: its other end.
        p_bootstrap: of sacreBLEU's paired bootstrap.
        p: of sacreBLEU's paired approximate randomisation. Both are 1 of equal scores, where
            sacreBLEU gives the least p possible: it counts only what differs by more.
        differing: sentences that the metric counts otherwise.
    """

    value: float
    low: float
    high: float
    p_bootstrap: float
    p: float
    differing: int

    @property
    def p_least(self) -> float:
        """What no randomisation can go below: two of all ways to swap these sentences give this.

        Of few, sacreBLEU's p may be far below, for it counts only what differs by more.
        """
        return min(1.0, 2.0 ** (1 - self.differing))


@dataclass(frozen=True)
class Paired:
    """Of all systems by one metric.

    Args:
        sampled: by system.
        gains: by system, all but the baseline.
        signatures: sacreBLEU's, of both tests.
    """

    sampled: Mapping[str, Sampled]
    gains: Mapping[str, Gain]
    signatures: tuple[str, ...]


def paired(
    measure: Measure,
    systems: Mapping[str, Sequence[Counts]],
    baseline: str,
    resamples: int = RESAMPLES,
    trials: int = TRIALS,
) -> Paired:
    """Every system's counts beside the baseline's.

    A system with several seeds is its sentences with all their translations. Systems with other
    numbers of seeds weigh the same, whose counts are multiplied: a ratio of sums stays what it is.

    Args:
        measure: the metric.
        systems: for each its seeds' counts, sentences x columns.
        baseline: the name of one of them.
        resamples: of the bootstrap.
        trials: of the randomisation.
    """
    weight = lcm(*(len(seeds) for seeds in systems.values()))
    counts = {name: pooled(seeds) * (weight // len(seeds)) for name, seeds in systems.items()}
    names = [baseline, *(name for name in counts if name != baseline)]
    found = {test: _sacrebleu(measure, names, counts, test, n)
             for test, n in zip(_TESTS, (resamples, trials), strict=True)}  # fmt: skip
    (by_bs, said_bs), (by_ar, said_ar) = found["bs"], found["ar"]
    gains = _gains(measure, names, counts, resamples)
    return Paired(
        {name: Sampled(r.score, float(r.mean), float(r.ci)) for name, r in by_bs.items()},
        {
            name: _gain(by_bs[name].score - by_bs[baseline].score, gains[name],
                        by_bs[name].p_value, by_ar[name].p_value,
                        int((counts[name] != counts[baseline]).any(axis=1).sum()))
            for name in names[1:]
        },
        (said_bs, said_ar),
    )  # fmt: skip


def _gain(
    value: float, ends: tuple[float, float], p_bootstrap: float, p: float, differing: int
) -> Gain:
    if abs(value) < _NOTHING:
        return Gain(0.0, *ends, 1.0, 1.0, differing)
    return Gain(value, *ends, p_bootstrap, p, differing)


def _sacrebleu(
    measure: Measure, names: list[str], counts: dict[str, Counts], test: str, number: int
) -> tuple[dict[str, Any], str]:
    """What sacreBLEU's test says of each system, and its signature."""
    systems: Any = [(name, counts[name].tolist()) for name in names]  # where it expects sentences
    jobs = max(1, min(os.cpu_count() or 1, len(names) - 1))
    with _fixed_seed():
        metrics = {measure.title: measure.metric}
        made = PairedTest(systems, metrics, None, test, number, n_jobs=jobs)
        signatures, scores = made()
    (title,) = signatures
    return dict(zip(names, scores[title], strict=True)), str(signatures[title])


@contextmanager
def _fixed_seed() -> Iterator[None]:
    """The environment must not change a table."""
    before = os.environ.get(_SEED_VARIABLE)
    os.environ[_SEED_VARIABLE] = str(SEED)
    try:
        yield
    finally:
        if before is None:
            del os.environ[_SEED_VARIABLE]
        else:
            os.environ[_SEED_VARIABLE] = before


def _gains(
    measure: Measure, names: list[str], counts: dict[str, Counts], resamples: int
) -> dict[str, tuple[float, float]]:
    """The middle 95 % of gains on resampled test sets, by system."""
    size = len(counts[names[0]])
    drawn = np.random.default_rng(SEED).integers(size, size=(resamples, size))
    # how often each sentence was drawn: resamples x sentences
    times: NDArray[Any] = np.array([np.bincount(row, minlength=size) for row in drawn])
    scores = {name: measure.of_sums(times @ counts[name]) for name in names}
    ends = {
        name: np.quantile(scores[name] - scores[names[0]], [0.025, 0.975]) for name in names[1:]
    }
    return {name: (float(low), float(high)) for name, (low, high) in ends.items()}
