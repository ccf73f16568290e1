"""What a comparison found out, as tables."""

from collections.abc import Mapping

from tsa_fairseq.evidence.comparison import Comparison, Judged
from tsa_fairseq.evidence.costs import Cost
from tsa_fairseq.evidence.formats import EMPTY, Cell, Table, number, probability, share, words
from tsa_fairseq.evidence.pairs import Gain
from tsa_fairseq.evidence.sentences import Difference, NGram
from tsa_fairseq.evidence.spread import Spread


def tables(found: Comparison) -> list[Table]:
    """All of them, the most important first."""
    made = [scores(found), *gains(found), *seeds(found), shares(found), lengths(found)]
    made += [frequencies(found)] if found.frequencies else []
    made += [leaf for one in found.leaves for leaf in [leaves(found, one.system)]]
    made += [costs(found.costs)]
    for system in found.others:
        made += [ngrams(found, system.name), sentences(found, system.name)]
    return [*made, signatures(found)]


def scores(found: Comparison) -> Table:
    """Every system by every metric, with what a resampled test set would give."""
    heading, rows = ["system", "seeds"], []
    for one in found.judged:
        heading += [one.measure.title] + [f"{one.measure.title} 95 %"] * (one.paired is not None)
        heading += ["brevity penalty", "length ratio"] * (one.measure.name == "bleu")
    for system in found.systems:
        row = [words(system.name), Cell(str(len(system.seeds)), len(system.seeds))]
        for one in found.judged:
            row += _score(one, system.name)
        rows.append(tuple(row))
    return Table(
        "scores",
        f"Scores on {len(found.test):,} sentences",
        tuple(heading),
        tuple(rows),
        "Several seeds: mean ± standard deviation. 95 %: of a bootstrap over sentences, with all "
        "seeds' translations of a sentence together; half its width.",
    )


def _score(one: Judged, name: str) -> list[Cell]:
    spread = Spread.of(one.values(name))
    assert spread is not None
    cells = [written(spread, 2)]
    if one.paired is not None:
        sampled = one.paired.sampled[name]
        cells.append(Cell(f"± {sampled.reach:.2f}", {"mean": sampled.mean, "±": sampled.reach}))
    if one.measure.name == "bleu":
        for part in ("brevity_penalty", "length_ratio"):
            mean = Spread.of([getattr(score, part) for score in one.seeds[name]])
            cells.append(number(mean.mean if mean else None, 3))
    return cells


def written(spread: Spread | None, digits: int) -> Cell:
    """A mean, with its standard deviation if there are several seeds."""
    if spread is None:
        return Cell(EMPTY)
    text = f"{spread.mean:,.{digits}f}"
    if spread.deviation is None:
        return Cell(text, {"mean": spread.mean, "seeds": 1})
    return Cell(
        f"{text} ± {spread.deviation:,.{digits}f}",
        {"mean": spread.mean, "standard deviation": spread.deviation, "seeds": spread.seeds},
    )


def gains(found: Comparison) -> list[Table]:
    """Over the baseline, resampling sentences."""
    rows = []
    for system in found.others:
        for one in found.judged:
            if one.paired is not None:
                rows.append(_gain_row(system.name, one.measure.title,
                                      one.paired.gains[system.name]))  # fmt: skip
    if not rows:
        return []
    return [
        Table(
            "over_sentences",
            f"Would another test set say the same? Against {found.baseline}",
            ("system", "metric", "difference", "95 %", "p, randomisation", "p, bootstrap"),
            tuple(rows),
            f"95 %: paired bootstrap over sentences. p: sacreBLEU's paired approximate "
            f"randomisation, {found.settings.trials:,} trials, and its paired bootstrap, "
            f"{found.settings.resamples:,} resamples. Less TER is better.",
        )
    ]


def _gain_row(name: str, title: str, gain: Gain) -> tuple[Cell, ...]:
    return (
        words(name),
        words(title),
        number(gain.value, 2, sign=True),
        Cell(interval(gain.low, gain.high), {"low": gain.low, "high": gain.high}),
        number(gain.p, 4),
        number(gain.p_bootstrap, 4),
    )


def interval(low: float, high: float) -> str:
    """[-0.10, +0.30]."""
    return f"[{low:+.2f}, {high:+.2f}]"


def gained(gain: Gain) -> str:
    """+0.20 [-0.10, +0.30], p = 0.123."""
    return f"{gain.value:+.2f} {interval(gain.low, gain.high)}, {probability(gain.p)}"


def seeds(found: Comparison) -> list[Table]:
    """Over the baseline, from seed to seed."""
    rows = []
    for system in found.others:
        for one in found.judged:
            test = one.tests.get(system.name)
            if test is not None:
                ours, theirs = len(system.seeds), len(found.system(found.baseline).seeds)
                rows.append(
                    (
                        words(system.name),
                        words(one.measure.title),
                        Cell(f"{ours} and {theirs}", {"ours": ours, "theirs": theirs}),
                        number(test.difference, 2, sign=True),
                        Cell(interval(test.low, test.high), {"low": test.low, "high": test.high}),
                        number(test.p, 4),
                        number(test.p_permutation, 4),
                        number(test.p_least, 4),
                    )
                )
    if not rows:
        return []
    return [
        Table(
            "over_seeds",
            f"Would another seed say the same? Against {found.baseline}",
            ("system", "metric", "seeds", "difference of means", "95 %", "p, Welch",
             "p, permutation", "least p possible"),
            tuple(rows),
            "95 % and p: Welch's t over seeds. The permutation test assumes nothing; with so few "
            "seeds its p cannot be less than the last column.",
        )
    ]  # fmt: skip


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
    title = found.judged[0].measure.title
    return _groups(found, "by_length", f"{title} by words of the {side}", "words", "sentences",
                   found.lengths)  # fmt: skip


def frequencies(found: Comparison) -> Table:
    """By how often a word stands in the training text."""
    return _groups(found, "by_frequency", "F1 of words by their number in the training text",
                   "times", "words", found.frequencies)  # fmt: skip


def _groups(found, name, title, label, size, groups) -> Table:  # type: ignore[no-untyped-def]
    names = [system.name for system in found.systems]
    rows = tuple(
        (
            words(group.label),
            Cell(f"{group.size:,}", group.size),
            *(number(group.values[system], 2) for system in names),
        )
        for group in groups
    )
    return Table(name, title, (label, size, *names), rows)


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


def signatures(found: Comparison) -> Table:
    """sacreBLEU's, of the scores and of both tests."""
    rows = []
    for one in found.judged:
        tests = one.paired.signatures if one.paired is not None else ()
        for what, text in zip(("score", "bootstrap", "randomisation"),
                              (one.measure.signature, *tests), strict=False):  # fmt: skip
            rows.append((words(one.measure.title), words(what), words(text)))
    return Table("signatures", "sacreBLEU's signatures", ("metric", "of", "signature"), tuple(rows))
