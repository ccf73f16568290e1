"""Sentence by sentence: who wins, by how much, and which words it is about."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tsa_fairseq.evidence.scores import Counts, Measure

# As many sentences either way, and n-grams.
SHOWN = 20
NGRAMS = 10
_LONGEST = 4


@dataclass(frozen=True)
class Difference:
    """A sentence on which two systems differ.

    Args:
        number: its place in the test set, from 0.
        ours: the metric's score of the system, the mean over its seeds.
        theirs: of the baseline.
    """

    number: int
    ours: float
    theirs: float

    @property
    def value(self) -> float:
        """By how much the system is better."""
        return self.ours - self.theirs


@dataclass(frozen=True)
class Duel:
    """A system against the baseline on single sentences; all shares are of the test set.

    Args:
        identical: the same translation; with several seeds, the mean over seeds, pair by pair.
        won: a higher score.
        tied: another translation with the same score.
        lost: a lower score.
        best: the sentences with the largest difference for the system, largest first.
        worst: against it.
    """

    identical: float
    won: float
    tied: float
    lost: float
    best: tuple[Difference, ...]
    worst: tuple[Difference, ...]


@dataclass(frozen=True)
class NGram:
    """Some words in a row of which one system finds more in the references than the other.

    Args:
        words: separated by blanks.
        ours: how often the system has them where the reference does, per seed.
        theirs: the baseline.
    """

    words: str
    ours: float
    theirs: float


def of_sentences(measure: Measure, seeds: Sequence[Counts]) -> NDArray[Any]:
    """Every sentence's own score, seeds x sentences."""
    return np.array([measure.of_sums(counts) for counts in seeds])


def duel(
    ours: NDArray[Any],
    theirs: NDArray[Any],
    our_lines: Sequence[Sequence[str]],
    their_lines: Sequence[Sequence[str]],
) -> Duel:
    """Compare two systems; of several seeds each one with each.

    Args:
        ours: scores of sentences, seeds x sentences; more is better.
        theirs: of the baseline.
        our_lines: translations, by seed.
        their_lines: of the baseline.
    """
    shares = np.zeros(4)
    for mine, lines in zip(ours, our_lines, strict=True):
        for other, other_lines in zip(theirs, their_lines, strict=True):
            same = np.array([a == b for a, b in zip(lines, other_lines, strict=True)])
            better, worse = mine > other + 1e-9, mine < other - 1e-9
            shares += [same.mean(), *((~same & part).mean() for part in
                                      (better, ~better & ~worse, worse))]  # fmt: skip
    shares /= len(ours) * len(theirs)
    mean, other = ours.mean(0), theirs.mean(0)
    order = np.argsort(other - mean, kind="stable")
    found = [Difference(int(n), float(mean[n]), float(other[n])) for n in order]
    identical, won, tied, lost = (float(part) for part in shares)
    return Duel(
        identical,
        won,
        tied,
        lost,
        tuple(one for one in found[:SHOWN] if one.value > 0),
        tuple(one for one in found[::-1][:SHOWN] if one.value < 0),
    )


def ngrams(
    ours: Sequence[Sequence[str]],
    theirs: Sequence[Sequence[str]],
    references: Sequence[str],
    split: Any,
) -> tuple[list[NGram], list[NGram]]:
    """The n-grams that a system wins most over a baseline, and those that it loses.

    An n-gram is found as often as it stands in both a translation and the reference.

    Args:
        ours: translations, by seed.
        theirs: of the baseline.
        references: the first of them.
        split: a tokenizer, from text to words separated by blanks.
    """
    wanted = [_all_ngrams(split(line)) for line in references]
    mine, other = (_found(side, wanted, split) for side in (ours, theirs))
    gains = {words: mine[words] - other[words] for words in mine.keys() | other.keys()}
    # of equal gains the longer n-gram says more
    order = sorted(gains, key=lambda words: (-abs(gains[words]), -words.count(" "), words))
    sides = ([words for words in order if gains[words] > 0],
             [words for words in order if gains[words] < 0])  # fmt: skip
    won, lost = ([NGram(w, mine[w], other[w]) for w in _telling(side, gains)] for side in sides)
    return won, lost


def _telling(order: Sequence[str], gains: Mapping[str, float]) -> list[str]:
    """The first ones, without those that are part of a longer one with the same gain."""
    chosen: list[str] = []
    for words in order:
        if len(chosen) == NGRAMS:
            break
        if not any(f" {words} " in f" {one} " and gains[one] == gains[words] for one in chosen):
            chosen.append(words)
    return chosen


def _found(
    seeds: Sequence[Sequence[str]], wanted: Sequence[Counter[str]], split: Any
) -> Counter[Any]:
    sums: Counter[str] = Counter()
    for lines in seeds:
        for line, reference in zip(lines, wanted, strict=True):
            sums.update(_all_ngrams(split(line)) & reference)
    return Counter({words: times / len(seeds) for words, times in sums.items()})


def _all_ngrams(text: str) -> Counter[str]:
    words = text.split()
    return Counter(
        " ".join(words[start : start + size])
        for size in range(1, _LONGEST + 1)
        for start in range(len(words) - size + 1)
    )
