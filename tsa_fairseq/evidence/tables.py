"""What a comparison found out, as tables: all of them, and those that decide."""

from tsa_fairseq.errors import plural
from tsa_fairseq.evidence import details
from tsa_fairseq.evidence.comparison import Comparison, Judged
from tsa_fairseq.evidence.costs import is_known
from tsa_fairseq.evidence.formats import EMPTY, Cell, Table, number, probability, words
from tsa_fairseq.evidence.pairs import Gain
from tsa_fairseq.evidence.spread import Spread


def tables(found: Comparison) -> list[Table]:
    """All of them, the most important first."""
    made = [scores(found), *gains(found), *seeds(found)]
    made += [details.shares(found)] * bool(found.others) + [details.lengths(found)]
    made += [details.frequencies(found)] * bool(found.frequencies)
    made += [details.leaves(found, one.system) for one in found.leaves]
    made += [details.costs(found.costs)] * any(map(is_known, found.costs.values()))
    for system in found.others:
        made += [details.ngrams(found, system.name), details.sentences(found, system.name)]
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
        f"Scores on {plural(len(found.test), 'sentence')}",
        tuple(heading),
        tuple(rows),
        _note(found),
    )


def _note(found: Comparison) -> str:
    """How scores are to be read: of what is there."""
    notes = []
    if any(len(system.seeds) > 1 for system in found.systems):
        notes.append("Several seeds: mean ± standard deviation.")
    if found.judged[0].paired is not None:
        notes.append(
            "95 %: half the width of the interval of a bootstrap over sentences, with all seeds' "
            "translations of a sentence together."
        )
    return " ".join(notes)


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
            f"Seeds' translations are taken together, so that the difference is not that of the "
            f"means. 95 %: paired bootstrap over sentences. p: sacreBLEU's paired approximate "
            f"randomisation, {found.settings.trials:,} trials, and its paired bootstrap, "
            f"{found.settings.resamples:,} resamples, whose p is about that of a one-sided test. "
            "Each p is of one comparison alone: of many, some are below 0.05 by chance. Less TER "
            "is better.",
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


def signatures(found: Comparison) -> Table:
    """sacreBLEU's, of the scores and of both tests."""
    rows = []
    for one in found.judged:
        tests = one.paired.signatures if one.paired is not None else ()
        for what, text in zip(("score", "bootstrap", "randomisation"),
                              (one.measure.signature, *tests), strict=False):  # fmt: skip
            rows.append((words(one.measure.title), words(what), words(text)))
    return Table("signatures", "sacreBLEU's signatures", ("metric", "of", "signature"), tuple(rows))
