"""Whether one run translates better than another: ``tsa-fairseq compare``, of stored counts.

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

import numpy as np

from studies import results
from studies.errors import StudyError
from tsa_fairseq.evidence import pairs
from tsa_fairseq.evidence.scores import CountedBLEU, Measure

COUNTS = ("hypothesis", "reference", *(f"right{n}" for n in "1234"), *(f"all{n}" for n in "1234"))
Statistics = list[list[int]]


@dataclass(frozen=True)
class Comparison:
    """Of a run with a baseline, on the test set.

    Args:
        seeds: that both were trained with, and that are pooled.
        gain: in BLEU of the pooled translations, with its interval and p.
    """

    seeds: tuple[int, ...]
    gain: pairs.Gain


def measure(references: Sequence[str] | None = None) -> Measure:
    """BLEU of tokenised text; without references, of counts alone."""
    metric = CountedBLEU(
        tokenize="none", force=True, references=None if references is None else [references]
    )
    metric.num_refs = 1
    return Measure("bleu", "BLEU", metric)


def count(hypotheses: Sequence[str], references: Sequence[str]) -> Statistics:
    """Lengths and n-gram counts of every sentence, as sacreBLEU takes them."""
    return measure(references).metric.counts(hypotheses).tolist()


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
    found = measure().score(np.array(statistics)).value
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
    counts = {
        name: [np.array(side[seed]) for seed in seeds]
        for name, side in (("run", runs), ("baseline", baseline))
    }
    return Comparison(seeds, pairs.paired(measure(), counts, "baseline").gains["run"])
