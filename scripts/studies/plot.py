"""Two plots of a study: gain against training compute, and against the leaves' disagreement."""

from pathlib import Path
from typing import Any

from studies.errors import StudyError
from studies.summary import BASELINES, PLAIN, Summary, baselines, summaries
from tsa_fairseq.evidence.spread import Spread

COLOURS = ("#33658a", "#f26419", "#3c896d", "#86486f")


def draw(file: Path, out: Path) -> list[Path]:
    """Write compute.svg and disagreement.svg; returns their paths.

    Raises:
        StudyError: the file of results does not fit, matplotlib is missing, or there is no plain
            run to gain over.
    """
    try:
        import matplotlib
    except ModuleNotFoundError:
        raise StudyError(
            "plot: draws with matplotlib, which is not installed: pip install matplotlib"
        ) from None
    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "tsa_fairseq"})
    protocols = {
        name: runs for name, runs in summaries(file).items() if BASELINES[PLAIN] in baselines(runs)
    }
    if not protocols:
        raise StudyError(f"--results: {file} has no row of a plain run, named PROTOCOL-{PLAIN}")
    out.mkdir(parents=True, exist_ok=True)
    return [
        _plot(
            protocols,
            "madds_total",
            "training compute, relative to the plain model's",
            out / "compute.svg",
        ),
        _plot(
            protocols,
            "disagreement",
            "share of words on which leaves disagree",
            out / "disagreement.svg",
        ),
    ]


def _plot(protocols: dict[str, list[Summary]], column: str, label: str, path: Path) -> Path:
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for colour, (name, runs) in zip(COLOURS * len(protocols), protocols.items(), strict=False):
        _points(axis, name, runs, column, colour)
    axis.axhline(0, color="black", linewidth=0.8)
    axis.margins(x=0.15)  # for the last name
    axis.set_xlabel(label)
    axis.set_ylabel("BLEU above the plain model's, test_2016_flickr")
    axis.legend(title="protocol")
    temporary = path.with_name(f".{path.name}.tmp")
    figure.savefig(temporary, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    temporary.replace(path)
    return path


def _points(axis: Any, name: str, runs: list[Summary], column: str, colour: str) -> None:
    """A point a run, its name beside it; the bar is the standard deviation over seeds.

    The gain is over the plain model's runs of the same seeds, as in the table.
    """
    plain = baselines(runs)[BASELINES[PLAIN]]
    unit = _mean(plain.spread(column)) if column == "madds_total" else 1.0
    points: list[tuple[float, float, float, str]] = []
    for run in runs:
        place, score = run.spread(column), run.spread("bleu_average_test")
        gain = run.gained_over(plain)
        if place is not None and score is not None and gain is not None:
            points.append((place.mean / unit, gain.mean, score.deviation or 0.0, run.label))
    axis.errorbar(
        [x for x, *_ in points],
        [y for _, y, *_ in points],
        [bar for _, _, bar, _ in points],
        fmt="o",
        color=colour,
        label=name,
        capsize=3,
        linewidth=1,
    )
    for x, y, _, text in points:
        axis.annotate(text, (x, y), (5, 4), textcoords="offset points", fontsize=8, color=colour)


def _mean(spread: Spread | None) -> float:
    assert spread is not None
    return spread.mean
