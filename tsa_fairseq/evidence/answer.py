"""What a comparison says, in sentences that claim no more than it can."""

from tsa_fairseq.errors import plural
from tsa_fairseq.evidence.comparison import Comparison
from tsa_fairseq.evidence.formats import probability
from tsa_fairseq.evidence.pairs import Gain
from tsa_fairseq.evidence.spread import Spread
from tsa_fairseq.evidence.tables import gained, interval, written

# What p has to be below for a difference to be called one.
LEVEL = 0.05


def answers(found: Comparison) -> list[list[str]]:
    """For every system but the baseline, a sentence on each question that the data can answer."""
    if not found.others:
        return [[_alone(found)]]
    said = [
        [sentence(found, system.name) for sentence in (_over_sentences, _otherwise, _over_seeds)]
        for system in found.others
    ]
    return [[sentence for sentence in sentences if sentence] for sentences in said]


def _alone(found: Comparison) -> str:
    one = found.judged[0]
    spread = Spread.of(one.values(found.baseline))
    of = f"{plural(len(found.test), 'sentence')}, {plural(len(one.seeds[found.baseline]), 'seed')}"
    text = f"{found.baseline}: {written(spread, 2).text} {one.measure.title}, {of}"
    if one.paired is None:
        return f"{text}."
    sampled = one.paired.sampled[found.baseline]
    low, high = max(sampled.mean - sampled.reach, 0.0), sampled.mean + sampled.reach
    return f"{text}; on test sets like this one {low:.2f} to {high:.2f} in 95 of 100."


def _over_sentences(found: Comparison, name: str) -> str:
    one = found.judged[0]
    if one.paired is None:
        return ""
    gain, title = one.paired.gains[name], one.measure.title
    if found.duels[name].identical == 1:
        return f"{name} and {found.baseline} translate every sentence alike."
    if not _told_apart(gain):
        verdict = f"{name} and {found.baseline} cannot be told apart"
    else:
        better = one.measure.sign * gain.value > 0
        verdict = f"{name} translates {'better' if better else 'worse'} than {found.baseline}"
    return (
        f"{verdict} on test sets like this one: {gained(gain)} ({title}, "
        f"{plural(len(found.test), 'sentence')}{_reason(found, gain)})."
    )


def _told_apart(gain: Gain) -> bool:
    return max(gain.p, gain.p_least) < LEVEL and not gain.low <= 0 <= gain.high


def _reason(found: Comparison, gain: Gain) -> str:
    """Why p could not have been below the level, or is, and does not count."""
    if gain.p_least >= LEVEL:
        return (
            f"; {gain.differing} of them count otherwise, with which p is {gain.p_least:g} at least"
        )
    trials = found.settings.trials
    if 1 / (trials + 1) >= LEVEL:
        return f"; with --trials {trials} p is {1 / (trials + 1):.3f} at least"
    if (gain.p < LEVEL) == (gain.low <= 0 <= gain.high):
        return "; interval and p do not agree"
    return ""


def _otherwise(found: Comparison, name: str) -> str:
    """The metrics that do not say what the first one says."""
    gains = [
        (one.measure, one.paired.gains[name]) for one in found.judged if one.paired is not None
    ]
    said = [
        measure.sign * (1 if gain.value > 0 else -1) if _told_apart(gain) else 0
        for measure, gain in gains
    ]
    differ = [
        f"{measure.title} {gained(gain)}"
        for (measure, gain), other in zip(gains, said, strict=True)
        if other != said[0]
    ]
    return f"Not so by other metrics: {'; '.join(differ)}." if differ else ""


def _over_seeds(found: Comparison, name: str) -> str:
    if found.settings.question == "sentences":
        return ""
    one = found.judged[0]
    ours, theirs = len(found.system(name).seeds), len(found.system(found.baseline).seeds)
    test = one.tests.get(name)
    if test is None:
        return (
            f"Whether other seeds would say the same of {name}, these data cannot tell: they have "
            f"{plural(ours, 'seed')} of it and {theirs} of {found.baseline}, and 2 of each is the "
            "least."
        )
    few = ""
    if test.p >= LEVEL:
        verdict = "the difference of the means may be chance"
    else:
        better = one.measure.sign * test.difference > 0
        verdict = f"the mean is {'better' if better else 'worse'}"
        if test.p_permutation >= LEVEL:  # which assumes no normal distribution
            few = f"; permutation {probability(test.p_permutation)}, with so few seeds"
            few += f" {test.p_least:.3f} at least"
    return (
        f"Over seeds of {name} ({ours} against {theirs}), {verdict}: {test.difference:+.2f} "
        f"{interval(test.low, test.high)} {one.measure.title}, Welch's {probability(test.p)}{few}."
    )
