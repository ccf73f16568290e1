"""Of a tree: how well every leaf translates, how far they agree, and which one to keep."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

from tsa_fairseq.evidence.costs import topology_of
from tsa_fairseq.evidence.logs import Log
from tsa_fairseq.evidence.scores import Measure
from tsa_fairseq.evidence.systems import System

ENSEMBLE = "ensemble"


@dataclass(frozen=True)
class Leaves:
    """Of a tree's first seed.

    Args:
        system: its name.
        nll: of every leaf on the validation data, bits a token, where the checkpoint was kept;
            empty if the log does not tell.
        scores: of every leaf on the test set, by the first metric.
        ensemble: of all leaves together.
        agreement: share of the sentences that two leaves translate alike, the mean over pairs.
        lines: translations by leaf, and of the ensemble at the end.
    """

    system: str
    nll: tuple[float, ...]
    scores: tuple[float, ...]
    ensemble: float
    agreement: float
    lines: tuple[list[str], ...]

    @property
    def kept(self) -> int | None:
        """The leaf that validation keeps; None if the log does not tell."""
        if not self.nll:
            return None
        return min(range(len(self.nll)), key=self.nll.__getitem__)

    def verdict(self, measure: Measure) -> str:
        """Whether validation chose well, in a sentence."""
        order = sorted(self.scores, reverse=measure.sign > 0)
        best = self.scores.index(order[0])
        if self.kept is None:
            return f"Leaf {best} translates best; no validation log says which would be kept."
        if self.scores[self.kept] == order[0]:
            return f"Validation keeps leaf {self.kept}, and it translates best."
        short = abs(order[0] - self.scores[self.kept])
        return (
            f"Validation keeps leaf {self.kept}; leaf {best} translates better by "
            f"{short:.2f} {measure.title}, which the test set alone knows."
        )


def nll_of_leaves(log: Log) -> tuple[float, ...]:
    """Every leaf's on the validation data, at the validation that the best checkpoint is of."""
    point = log.best() or {}
    found: list[float] = []
    while (name := f"nll_leaf{len(found)}") in point:
        found.append(point[name])
    return tuple(found)


def is_grown(system: System) -> bool:
    """Whether its first seed is a run with a checkpoint and the log of a tree of several leaves."""
    run = system.seeds[0].run
    if run is None or run.log is None or run.checkpoint is None:
        return False
    topology = topology_of(run.log)
    return topology is not None and topology.num_leaves > 1


def leaves(system: System, measure: Measure, translate: Callable[[str], list[str]]) -> Leaves:
    """Translate with every leaf and with all together.

    Args:
        system: for which :func:`is_grown` is true.
        measure: a metric.
        translate: the test set, with a value of ``--tree-inference``.
    """
    run = system.seeds[0].run
    assert run is not None and run.log is not None
    topology = topology_of(run.log)
    assert topology is not None
    ways = [*(f"leaf:{leaf}" for leaf in range(topology.num_leaves)), ENSEMBLE]
    lines = tuple(translate(way) for way in ways)
    values = [measure.score(measure.counts(one)).value for one in lines]
    return Leaves(
        system.name, nll_of_leaves(run.log), tuple(values[:-1]), values[-1],
        _agreement(lines[:-1]), lines,
    )  # fmt: skip


def _agreement(lines: Sequence[Sequence[str]]) -> float:
    shares = [
        sum(a == b for a, b in zip(one, other, strict=True)) / len(one)
        for one, other in combinations(lines, 2)
    ]
    return sum(shares) / len(shares)
