"""Whether one run translates better than another: sacreBLEU's paired tests, from stored counts.

The counts of matching n-grams of every test sentence are kept beside the translations: tests need
them alone, and no reference text. Seeds are pooled by sentence, so that what is drawn at random is
sentences with all their translations, not translations as if they were independent.
"""

import csv
import gzip
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.significance import PairedTest

from studies import results
from studies.errors import StudyError

COUNTS = ("hypothesis", "reference", *(f"right{n}" for n in "1234"), *(f"all{n}" for n in "1234"))
RESAMPLES = 1000
SEED = 12345
Statistics = list[list[int]]


class CountedBLEU(BLEU):
    """BLEU of sentences that are given as their counts."""

    def __init__(self) -> None:
        super().__init__(tokenize="none", force=True)
        self.num_refs = 1

    def _extract_corpus_statistics(
        self, hypotheses: Sequence, references: Sequence | None
    ) -> Sequence:
        return hypotheses

    def of(self, statistics: Statistics) -> float:
        """The corpus's score."""
        return float(self._aggregate_and_compute(statistics).score)


@dataclass(frozen=True)
class Comparison:
    """Of a run with a baseline, on the test set.

    Args:
        seeds: that both were trained with, and that are pooled.
        gain: in BLEU of the pooled translations.
        low: of the gain's 95 % interval, by a paired bootstrap over sentences.
        high: its other end.
        p: of sacreBLEU's paired approximate randomisation.
    """

    seeds: tuple[int, ...]
    gain: float
    low: float
    high: float
    p: float


def count(hypotheses: Sequence[str], references: Sequence[str]) -> Statistics:
    """Lengths and n-gram counts of every sentence, as sacreBLEU takes them."""
    metric = BLEU(tokenize="none", force=True)
    found = metric._extract_corpus_statistics(hypotheses, [references])
    return [[int(number) for number in sentence] for sentence in found]


def statistics_file(rows: Path, run_id: str) -> Path:
    """Where the counts of a run's averaged model on the test set are kept."""
    return rows.parent / "hypotheses" / f"{run_id}.average.test.counts.gz"


def write_statistics(rows: Path, run_id: str, statistics: Statistics) -> None:
    """One line a sentence."""
    lines = io.StringIO(newline="")
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(COUNTS)
    writer.writerows(statistics)
    content = gzip.compress(lines.getvalue().encode(), compresslevel=9, mtime=0)
    results.write_whole(statistics_file(rows, run_id), content)


def read_statistics(rows: Path, row: results.Row) -> Statistics:
    """Of a run's row, whose score they must give.

    Raises:
        StudyError: they are missing, or of other translations.
    """
    path = statistics_file(rows, results.id_of(row))
    try:
        text = gzip.decompress(path.read_bytes()).decode("ascii")
    except (OSError, EOFError, UnicodeDecodeError):
        raise StudyError(
            f"{path} cannot be read; 'study.py run' makes it for finished runs whose --out is there"
        ) from None
    header, *lines = csv.reader(io.StringIO(text))
    if tuple(header) != COUNTS or any(len(line) != len(COUNTS) for line in lines):
        raise StudyError(f"{path} has other columns than {', '.join(COUNTS)}")
    statistics = [[int(number) for number in line] for line in lines]
    found = CountedBLEU().of(statistics)
    if abs(found - float(row["bleu_average_test"])) > 1e-3:
        raise StudyError(
            f"{path} gives BLEU {found:.4f}, its row has {float(row['bleu_average_test']):.4f}"
        )
    return statistics


def compare(runs: dict[int, Statistics], baseline: dict[int, Statistics]) -> Comparison | None:
    """A run and a baseline, each by seed; None if they have no seed in common."""
    seeds = tuple(sorted(runs.keys() & baseline.keys()))
    if not seeds:
        return None
    ours, theirs = _pooled([runs[seed] for seed in seeds]), _pooled([baseline[s] for s in seeds])
    metric = CountedBLEU()
    systems: Any = [("baseline", theirs), ("run", ours)]  # counts where it expects sentences
    test = PairedTest(systems, {"BLEU": metric}, None, "ar")
    test._seed = SEED  # the environment must not change a table
    result: Any = test()[1]["BLEU"][1]
    low, high = _interval(metric, np.array(ours), np.array(theirs))
    return Comparison(seeds, metric.of(ours) - metric.of(theirs), low, high, result.p_value)


def _pooled(seeds: list[Statistics]) -> Statistics:
    """Sentence by sentence, the sums over seeds."""
    return [[int(n) for n in sentence] for sentence in np.array(seeds).sum(0)]


def _interval(metric: CountedBLEU, ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of gains on resampled test sets."""
    drawn = np.random.default_rng(SEED).integers(len(ours), size=(RESAMPLES, len(ours)))
    gains = [
        metric.of([ours[some].sum(0).tolist()]) - metric.of([theirs[some].sum(0).tolist()])
        for some in drawn
    ]
    low, high = np.quantile(gains, [0.025, 0.975])
    return float(low), float(high)
