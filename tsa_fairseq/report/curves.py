"""What a training's log says over time, as lines of a plot."""

from collections.abc import Sequence

from tsa_fairseq.evidence.log_lines import Point
from tsa_fairseq.evidence.logs import Log
from tsa_fairseq.evidence.systems import System
from tsa_fairseq.report.html import Markup
from tsa_fairseq.report.plots import Line, figure

# Of training, a point for every few updates: more than can be told apart are left out.
_POINTS = 200
_OF_LEAVES = ("nll_ensemble", "nll_teacher", "nll_bridge", "nll_gated")
_NAMES = {
    "nll_ensemble": "all leaves together",
    "nll_teacher": "the teacher",
    "nll_bridge": "the bridge",
    "nll_gated": "the gated ensemble",
}


def learning(systems: Sequence[System]) -> list[Markup]:
    """The nll on the validation data: of each tree's leaves and ensemble, with every other system
    beside them, and last of all systems together.
    """
    known = [(system, log) for system in systems for log in logs(system)[:1]]
    made = []
    grown = [(system, log) for system, log in known if leaves_of(log)]
    for place, (system, log) in enumerate(grown):
        lines = []
        for leaf in range(leaves_of(log)):
            lines += series(log.valid, f"nll_leaf{leaf}", f"leaf {leaf}", leaf + 1)
        for name in _OF_LEAVES:
            lines += series(log.valid, name, _NAMES[name], 0, "dashed", 1.8)
        others = [(other, theirs) for other, theirs in known if not leaves_of(theirs)]
        for number, (other, theirs) in enumerate(others):
            style = "dotted" if number == 0 else "dashed"
            lines += series(theirs.valid, "nll_loss", other.name, 7 - number, style, 2.0)
        title = f"{system.name}: nll of the validation data"
        made += _figure(f"learning{place}", title, "bits a token", lines)
    if len(known) > 1 or not grown:
        lines = [
            line
            for place, (system, log) in enumerate(known)
            for line in series(log.valid, "nll_loss", _of(system, log), place)
        ]
        made += _figure("systems", "All systems: nll of the validation data",
                        "bits a token", lines)  # fmt: skip
    return made


def distillation(systems: Sequence[System]) -> list[Markup]:
    """The term and its weight."""
    made = []
    for title, name, unit in (
        ("What the leaves still have to learn from each other", "kd_loss", "bits a token"),
        ("The weight of that in the loss", "kd_weight", "factor"),
    ):
        made += _of_trees(systems, title, name, unit)
    return made


def disagreement(systems: Sequence[System]) -> list[Markup]:
    """How far the leaves differ."""
    made = []
    for title, name, unit in (
        ("Leaves that prefer another word", "disagreement", "share of tokens"),
        ("How far the leaves' predictions are apart", "pairwise_kl", "KL, bits a token"),
        ("Distance of the peers' probabilities", "diversity", "norm"),
    ):
        made += _of_trees(systems, title, name, unit)
    return made


def _of_trees(systems: Sequence[System], title: str, name: str, unit: str) -> list[Markup]:
    """On the validation data, and dotted while training."""
    lines = []
    for place, system in enumerate(systems):
        for log in logs(system)[:1]:
            lines += series(log.valid, name, f"{system.name}, validation", place, width=1.8)
            inner = thinned(log.inner)
            lines += series(inner, name, f"{system.name}, training", place, "dotted", 1.4)
    return _figure(name, title, unit, lines)


def _figure(name: str, title: str, unit: str, lines: list[Line]) -> list[Markup]:
    return [figure(name, title, unit, lines)] if lines else []


def series(
    points: Sequence[Point],
    name: str,
    label: str,
    colour: int,
    style: str = "solid",
    width: float = 1.4,
) -> list[Line]:
    """One line, or none if the log has no such figure."""
    known = [(p["num_updates"], p[name]) for p in points if name in p and p[name] == p[name]]
    if not known:
        return []
    x, y = zip(*known, strict=True)
    return [Line(label, x, y, colour, style, width)]


def thinned(points: Sequence[Point]) -> Sequence[Point]:
    """Every so many of them, and the last."""
    step = max(1, -(-len(points) // _POINTS))
    return [*points[:-1:step], *points[-1:]]


def logs(system: System) -> list[Log]:
    """Of its seeds, those that have one with any figures."""
    found = [run.log for run in system.runs if run.log is not None]
    return [log for log in found if log.valid or log.inner]


def leaves_of(log: Log) -> int:
    """How many leaves it has figures of; 0 of a plain model."""
    points = log.valid or log.inner
    number = 0
    while points and f"nll_leaf{number}" in points[-1]:
        number += 1
    return number


def _of(system: System, log: Log) -> str:
    return f"{system.name}, leaf 0" if leaves_of(log) else system.name
