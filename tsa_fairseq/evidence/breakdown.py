"""Where a system is better: by the length of the source, and by how often a word was trained on."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tsa_fairseq.evidence.scores import Counts, Measure, pooled

# As many groups of sentences, about equally many in each.
_GROUPS = 5
# Of counts in the training text: a word belongs to the last that is no more than its count.
FREQUENCIES = (0, 1, 2, 5, 10, 100, 1000)


@dataclass(frozen=True)
class Group:
    """Part of the test set, and how each system does there.

    Args:
        label: what it has in common.
        size: sentences, or words of the reference.
        values: by system.
    """

    label: str
    size: int
    values: Mapping[str, float]


def by_length(
    measure: Measure, systems: Mapping[str, Sequence[Counts]], lines: Sequence[str]
) -> list[Group]:
    """A metric's score in groups of sentences of similar length.

    Args:
        measure: the metric.
        systems: for each its seeds' counts.
        lines: whose words, split at blanks, are counted: the sources.
    """
    lengths = np.array([len(line.split()) for line in lines])
    groups = []
    counts = {name: pooled(seeds) for name, seeds in systems.items()}
    for low, high in _bounds(lengths):
        chosen = (low <= lengths) & (lengths <= high)
        values = {name: measure.score(found[chosen]).value for name, found in counts.items()}
        label = f"{low} to {high}" if low < high else f"{low}"
        groups.append(Group(label, int(chosen.sum()), values))
    return groups


def _bounds(lengths: Any) -> list[tuple[int, int]]:
    """Least and greatest length of groups that hold about as many sentences each."""
    shares = [(n + 1) / _GROUPS for n in range(_GROUPS)]
    # lengths that there are, so that no group is empty
    ends = sorted({int(end) for end in np.quantile(lengths, shares, method="inverted_cdf")})
    lows = [int(lengths.min()), *(end + 1 for end in ends[:-1])]
    return [(low, high) for low, high in zip(lows, ends, strict=True) if low <= high]


def by_frequency(
    systems: Mapping[str, Sequence[Sequence[str]]],
    references: Sequence[str],
    training: Sequence[str],
    words: "Words",
) -> list[Group]:
    """F1 of words, in hundredths, in groups of words as frequent in the training text.

    A word of a translation is right as often as it stands in the reference of the sentence.

    Args:
        systems: for each its seeds' translations.
        references: the first of them.
        training: lines of the target side.
        words: cuts all three.
    """
    known = Counter(word for line in training for word in words(line))
    wanted = [Counter(words(line)) for line in references]
    sizes = _in_groups(wanted, known)
    found: dict[str, list[float]] = {}
    for name, seeds in systems.items():
        scores = []
        for lines in seeds:
            given = [Counter(words(line)) for line in lines]
            right = [ours & theirs for ours, theirs in zip(given, wanted, strict=True)]
            total = _in_groups(given, known) + sizes
            scores.append(200 * _in_groups(right, known) / np.maximum(total, 1))
        found[name] = np.mean(scores, axis=0).tolist()
    return [
        Group(_label(place), int(size), {name: scores[place] for name, scores in found.items()})
        for place, size in enumerate(sizes)
        if size
    ]


class Words:
    """A line to words, by one of sacreBLEU's tokenizers."""

    def __init__(self, tokenize: str, lowercase: bool) -> None:
        from sacrebleu.metrics.bleu import BLEU

        self._split, self._lowercase = BLEU(tokenize=tokenize).tokenizer, lowercase

    def text(self, line: str) -> str:
        """The words, separated by blanks."""
        return self._split(line.lower() if self._lowercase else line)

    def __call__(self, line: str) -> list[str]:
        """The words in a list."""
        return self.text(line).split()


def _in_groups(sentences: Sequence[Counter[str]], known: Counter[str]) -> Any:
    """Words by group of their frequency."""
    sums = np.zeros(len(FREQUENCIES))
    for sentence in sentences:
        for word, times in sentence.items():
            sums[np.searchsorted(FREQUENCIES, known[word], side="right") - 1] += times
    return sums


def _label(place: int) -> str:
    low = FREQUENCIES[place]
    if place + 1 == len(FREQUENCIES):
        return f"{low:,} or more"
    high = FREQUENCIES[place + 1] - 1
    return "never" if low == 0 else f"{low:,}" if low == high else f"{low:,} to {high:,}"
