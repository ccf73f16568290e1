"""Translations beside each other, the sentences with the largest difference first."""

from collections.abc import Sequence

from tsa_fairseq.evidence.comparison import Comparison
from tsa_fairseq.evidence.sentences import Difference
from tsa_fairseq.report.html import Markup, details, join, tag
from tsa_fairseq.report.marks import marked

# Open at once; the others are folded away.
_FIRST = 4


def examples(found: Comparison, name: str) -> Markup:
    """Of a system against the baseline, either way."""
    duel = found.duels[name]
    better = _either_way(found, name, f"{name} is better", duel.best)
    worse = _either_way(found, name, f"{found.baseline} is better", duel.worst)
    return join([*better, *worse])


def _either_way(
    found: Comparison, name: str, title: str, chosen: Sequence[Difference]
) -> list[Markup]:
    if not chosen:
        return [tag("h3", title), tag("p", "Of no sentence.")]
    shown = [_example(found, name, one) for one in chosen]
    rest = shown[_FIRST:]
    folded = [details(f"{len(rest)} more", *rest)] if rest else []
    return [tag("h3", title), *shown[:_FIRST], *folded]


def _example(found: Comparison, name: str, one: Difference) -> Markup:
    ours = found.lines(name)[0][one.number]
    theirs = found.lines(found.baseline)[0][one.number]
    source = found.test.sources
    lines = [("source", Markup(join([source[one.number]])))] if source is not None else []
    lines += [("reference", join([reference[one.number]])) for reference in found.test.references]
    lines += [(name, marked(ours, theirs)), (found.baseline, marked(theirs, ours))]
    rows = [part for label, text in lines for part in (tag("dt", label), tag("dd", text))]
    title = f"Sentence {one.number + 1}, chrF {one.ours:.0f} against {one.theirs:.0f}"
    return tag("article", tag("h4", title), tag("dl", *rows))
