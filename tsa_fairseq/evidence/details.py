"""Where two systems differ and what they cost, as tables."""

from collections.abc import Mapping, Sequence

from tsa_fairseq.evidence.breakdown import Group
from tsa_fairseq.evidence.comparison import Comparison
from tsa_fairseq.evidence.costs import Cost
from tsa_fairseq.evidence.formats import EMPTY, Cell, Table, number, share, words
from tsa_fairseq.evidence.sentences import Difference, NGram


def shares(found: Comparison) -> Table:
    """Sentences won and lost."""
    rows = []
    for name, duel in found.duels.items():
        parts = (duel.identical, duel.won, duel.tied, duel.lost)
        rows.append((words(name), *map(share, parts)))
    return Table(
        "shares",
        f"Sentence by sentence against {found.baseline}",
        ("system", "identical", "won", "tied", "lost"),
        tuple(rows),
        "By the chrF of each sentence; identical translations are not counted as tied.",
    )


def lengths(found: Comparison) -> Table:
    """By the length of the source, or of the reference where the source is not known."""
    side = "source" if found.test.sources is not None else "reference"
    title = f"{found.judged[0].measure.title} by words of the {side}"
    return _groups(found, "by_length", title, ("words", "sentences"), found.lengths)


def frequencies(found: Comparison) -> Table:
    """By how often a word stands in the training text."""
    title = "F1 of words by their number in the training text"
    return _groups(found, "by_frequency", title, ("times", "words"), found.frequencies)


def _groups(
    found: Comparison, name: str, title: str, of: tuple[str, str], groups: Sequence[Group]
) -> Table:
    """A row a group, a column a system; ``of`` says what groups have in common, and hold."""
    names = [system.name for system in found.systems]
    rows = tuple(
        (
            words(group.label),
            Cell(f"{group.size:,}", group.size),
            *(number(group.values[system], 2) for system in names),
        )
        for group in groups
    )
    return Table(name, title, (*of, *names), rows)


def ngrams(found: Comparison, name: str) -> Table:
    """Those that a system finds more often than the baseline, and those that it loses."""
    won, lost = found.ngrams[name]

    def row(one: NGram) -> tuple[Cell, ...]:
        return (words(one.words), number(one.ours, 1), number(one.theirs, 1),
                number(one.ours - one.theirs, 1, sign=True))  # fmt: skip

    return Table(
        f"ngrams_{name}",
        f"N-grams that {name} wins and loses against {found.baseline}",
        ("n-gram", name, found.baseline, "difference"),
        tuple(map(row, [*won, *lost])),
        "How often both a translation and its reference have it; the mean over seeds.",
    )


def sentences(found: Comparison, name: str) -> Table:
    """Those with the largest difference either way, with the first seeds' translations."""
    duel = found.duels[name]

    def row(one: Difference) -> tuple[Cell, ...]:
        return (
            Cell(f"{one.number + 1}", one.number + 1),
            number(one.value, 1, sign=True),
            words(found.test.references[0][one.number]),
            words(found.lines(name)[0][one.number]),
            words(found.lines(found.baseline)[0][one.number]),
        )

    return Table(
        f"sentences_{name}",
        f"Sentences with the largest difference between {name} and {found.baseline}",
        ("sentence", "chrF", "reference", name, found.baseline),
        tuple(map(row, [*duel.best, *duel.worst])),
        "By the mean chrF over seeds; shown are the first seeds' translations.",
        long=True,
    )


def leaves(found: Comparison, name: str) -> Table:
    """Of a tree."""
    measure = found.judged[0].measure
    one = next(one for one in found.leaves if one.system == name)
    rows = [
        (
            words(f"leaf {leaf}"),
            number(one.nll[leaf] if one.nll else None, 3),
            number(value, 2),
            words("kept by validation" if leaf == one.kept else ""),
        )
        for leaf, value in enumerate(one.scores)
    ]
    rows.append((words("all together"), Cell(EMPTY), number(one.ensemble, 2), words("")))
    return Table(
        f"leaves_{name}",
        f"The leaves of {name}",
        ("leaf", "nll, validation", measure.title, "choice"),
        tuple(rows),
        f"{one.verdict(measure)} Two leaves translate {100 * one.agreement:.1f} % of the sentences "
        "alike. Translated with beam 5, as tsa-fairseq translate does; a system's own translations "
        "may be of another search.",
    )


def costs(known: Mapping[str, Cost]) -> Table:
    """Of each system's first seed."""
    rows = []
    for name, one in known.items():
        size = None if one.size is None else one.size / 1e6
        rows.append(
            (
                words(name),
                number(one.training_parameters, 0),
                number(one.parameters, 0),
                number(one.ratio, 2),
                Cell(EMPTY) if one.multiply_adds is None
                else Cell(f"{one.multiply_adds:.3g}", one.multiply_adds),
                number(one.seconds, 0),
                number(one.speed, 1),
                number(size, 1),
            )
        )  # fmt: skip
    return Table(
        "costs",
        "Cost, of the first seed",
        ("system", "parameters, training", "parameters, translating", "step, x plain",
         "multiply-adds of the training", "training, s", "sentences a second", "file, MB"),
        tuple(rows),
        "Multiply-adds: matrix products with parameters, forward and backward. A training's file "
        "holds what it takes to go on, too.",
    )  # fmt: skip
