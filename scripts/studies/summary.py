"""Rows of several seeds as one line of a table: means, spreads, gains over the baselines."""

import csv
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from studies import paired, results
from studies.errors import StudyError
from tsa_fairseq.evidence.spread import Spread

# What a protocol's runs are compared with, by the names of runs: PROTOCOL-plain and so on.
PLAIN = "plain"
BASELINES = {PLAIN: "plain", "rdrop": "R-Drop", "simcut": "SimCut"}
# Where the early curve is compared: at these shares of the updates that plain's best epoch takes.
EARLY = (0.25, 0.5, 0.75)
Curve = list[tuple[float, float]]


@dataclass(frozen=True)
class Summary:
    """All seeds of one run.

    Args:
        name: of the run.
        rows: one a seed.
        file: the file of results, which curves and translations lie beside.
    """

    name: str
    rows: tuple[results.Row, ...]
    file: Path

    @property
    def protocol(self) -> str:
        """Which rows it can be compared with."""
        return self.rows[0]["protocol"]

    @property
    def label(self) -> str:
        """Its name beside others of the protocol."""
        return self.name.removeprefix(f"{self.protocol}-")

    def spread(self, column: str) -> Spread | None:
        """Of a column's numbers; None if it is empty."""
        return Spread.of([float(row[column]) for row in self.rows if row[column]])

    def gained(self, system: str) -> Spread | None:
        """BLEU of another system over the average's, on the test set."""
        column = f"bleu_{system}_test"
        return Spread.of(
            [float(r[column]) - float(r["bleu_average_test"]) for r in self.rows if r[column]]
        )

    def gained_over(self, other: "Summary") -> Spread | None:
        """BLEU of the average over that of another run of the same seed, on the test set."""
        theirs = {row["seed"]: float(row["bleu_average_test"]) for row in other.rows}
        ours = [(row["seed"], float(row["bleu_average_test"])) for row in self.rows]
        return Spread.of([score - theirs[seed] for seed, score in ours if seed in theirs])

    @cached_property
    def counts(self) -> dict[int, paired.Statistics]:
        """The n-gram counts of the test set's translations, by seed."""
        return {int(row["seed"]): paired.read_statistics(self.file, row) for row in self.rows}

    @cached_property
    def curves(self) -> dict[int, Curve]:
        """Least nll so far by updates, after every epoch, by seed."""
        return {int(row["seed"]): _curve(self.file, row) for row in self.rows}


def summaries(file: Path) -> dict[str, list[Summary]]:
    """The runs of every protocol, in the order in which they were finished.

    Raises:
        StudyError: there are no rows, or they do not fit each other.
    """
    rows = results.read(file)
    if not rows:
        raise StudyError(f"--results: {file} has no rows")
    ids = [results.id_of(row) for row in rows]
    for run_id in ids:
        if ids.count(run_id) > 1:
            raise StudyError(f"--results: {file}: two rows are of '{run_id}'")
    found: dict[str, list[Summary]] = {}
    for name in dict.fromkeys(row["run"] for row in rows):
        some = tuple(row for row in rows if row["run"] == name)
        if len({row["protocol"] for row in some}) > 1:
            raise StudyError(f"--results: {file}: run '{name}' has rows of several protocols")
        summary = Summary(name, some, file)
        found.setdefault(summary.protocol, []).append(summary)
    return found


def baselines(runs: list[Summary]) -> dict[str, Summary]:
    """Those of a protocol that there are, by what tables call them."""
    return {BASELINES[summary.label]: summary for summary in runs if summary.label in BASELINES}


def nll_within(run: Summary, budget: float) -> Spread | None:
    """The least nll that a run reached within so many plain updates' worth of computing.

    What a run started from counts as computed before its first update.
    """
    found = []
    for row in run.rows:
        step = float(row["madds_step"])
        before = float(row["madds_total"]) - step * float(row["updates"])
        steps = (budget - before) / step
        reached = [nll for updates, nll in run.curves[int(row["seed"])] if updates <= steps]
        found += reached[-1:]
    return Spread.of(found)


def lag(run: Summary, plain: Summary) -> Spread | None:
    """Updates that a run needs more than plain, as a share, to come as far early in training."""
    found = []
    for row in plain.rows:
        seed = int(row["seed"])
        if seed not in run.curves:
            continue
        for share in EARLY:
            updates = share * float(row["best_updates"])
            needed = _updates_to(run.curves[seed], _nll_at(plain.curves[seed], updates))
            if needed is not None:
                found.append(needed / updates - 1)
    return Spread.of(found)


def _curve(file: Path, row: results.Row) -> Curve:
    path = file.parent / "curves" / f"{results.id_of(row)}.csv"
    try:
        with open(path, encoding="utf-8", newline="") as lines:
            points = [
                (float(e["num_updates"]), float(e["nll_loss"])) for e in csv.DictReader(lines)
            ]
    except (OSError, KeyError, ValueError):
        raise StudyError(f"{path} cannot be read as a curve of nll_loss by num_updates") from None
    least, curve = float("inf"), []
    for updates, nll in points:
        least = min(least, nll)
        curve.append((updates, least))
    return curve


def _nll_at(curve: Curve, updates: float) -> float:
    """Between two epochs, on a straight line."""
    for (before, high), (after, low) in zip(curve, curve[1:], strict=False):
        if before <= updates <= after:
            return high + (low - high) * (updates - before) / (after - before)
    return curve[0][1] if updates < curve[0][0] else curve[-1][1]


def _updates_to(curve: Curve, nll: float) -> float | None:
    """When a curve reaches an nll; None if it does not, or has at its first epoch."""
    for (before, high), (after, low) in zip(curve, curve[1:], strict=False):
        if high > nll >= low:
            return before + (after - before) * (high - nll) / (high - low)
    return None
