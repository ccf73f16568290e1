"""Everything that ``tsa-fairseq compare`` finds out, in one record."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from tsa_fairseq.errors import UsageError
from tsa_fairseq.evidence import breakdown, pairs, sentences
from tsa_fairseq.evidence.choices import DEFAULT_METRICS
from tsa_fairseq.evidence.costs import Cost, cost
from tsa_fairseq.evidence.leaves import Leaves
from tsa_fairseq.evidence.scores import Counts, Measure, Score, measures
from tsa_fairseq.evidence.spread import SeedTest, seed_test
from tsa_fairseq.evidence.systems import Seed, System
from tsa_fairseq.evidence.test_set import TestSet
from tsa_fairseq.evidence.warnings import alike, differences, other_references, trained_once


@dataclass(frozen=True)
class Settings:
    """How systems are compared.

    Args:
        metrics: names; the first one decides.
        tokenize: sacreBLEU's tokenizer for BLEU.
        lowercase: disregard case.
        resamples: of the bootstrap over sentences.
        trials: of the randomisation over sentences.
        question: the one of :data:`tsa_fairseq.evidence.choices.QUESTIONS` to answer; None for all
            that the data can.
    """

    metrics: tuple[str, ...] = DEFAULT_METRICS
    tokenize: str = "13a"
    lowercase: bool = False
    resamples: int = pairs.RESAMPLES
    trials: int = pairs.TRIALS
    question: str | None = None


@dataclass(frozen=True)
class Judged:
    """All systems by one metric.

    Args:
        measure: the metric.
        seeds: every system's seeds, by its name.
        paired: over sentences; None if that was not asked.
        tests: over seeds, by system; without those that have too few.
    """

    measure: Measure
    seeds: Mapping[str, tuple[Score, ...]]
    paired: pairs.Paired | None
    tests: Mapping[str, SeedTest]

    def values(self, name: str) -> list[float]:
        """A system's scores, by seed."""
        return [score.value for score in self.seeds[name]]


@dataclass(frozen=True)
class Comparison:
    """Of several systems with a baseline, on one test set."""

    systems: tuple[System, ...]
    baseline: str
    test: TestSet
    settings: Settings
    judged: tuple[Judged, ...]
    duels: Mapping[str, sentences.Duel]
    ngrams: Mapping[str, tuple[list[sentences.NGram], list[sentences.NGram]]]
    lengths: Sequence[breakdown.Group]
    frequencies: Sequence[breakdown.Group]
    costs: Mapping[str, Cost]
    warnings: Sequence[str]
    leaves: list[Leaves] = field(default_factory=list)

    @property
    def others(self) -> list[System]:
        """All but the baseline."""
        return [system for system in self.systems if system.name != self.baseline]

    def system(self, name: str) -> System:
        """By its name."""
        return next(system for system in self.systems if system.name == name)

    def lines(self, name: str) -> list[list[str]]:
        """A system's translations, by seed."""
        return _lines(self.system(name))


def compare(
    systems: Sequence[System],
    baseline: str,
    test: TestSet,
    settings: Settings,
    training: Sequence[str] | None = None,
) -> Comparison:
    """Score all systems, and compare each one with the baseline.

    Args:
        systems: with translations of the test set; of one alone, there are scores.
        baseline: the name of one of them.
        test: the test set.
        settings: how.
        training: lines of the target side of the training text, for the frequencies of words.

    Raises:
        UsageError: a metric that cannot be had, or too few seeds for the question.
    """
    _check(systems, baseline, settings)
    found = measures(
        settings.metrics, test.references, settings.tokenize, settings.lowercase, test.sources
    )
    counts = {
        measure.name: {
            system.name: [measure.counts(lines) for lines in _lines(system)] for system in systems
        }
        for measure in found
    }
    judged = tuple(_judge(measure, counts[measure.name], baseline, settings) for measure in found)
    tokenizer = breakdown.Words(settings.tokenize, settings.lowercase)
    texts = {system.name: _lines(system) for system in systems}
    lengths = test.sources if test.sources is not None else test.references[0]
    others = [name for name in texts if name != baseline]
    single = _single(found, counts, test, settings, texts)
    return Comparison(
        systems=tuple(systems),
        baseline=baseline,
        test=test,
        settings=settings,
        judged=judged,
        duels={
            name: sentences.duel(single[name], single[baseline], texts[name], texts[baseline])
            for name in others
        },
        ngrams={
            name: sentences.ngrams(texts[name], texts[baseline], test.references[0], tokenizer.text)
            for name in others
        },
        lengths=breakdown.by_length(found[0], counts[found[0].name], lengths),
        frequencies=[]
        if training is None
        else breakdown.by_frequency(texts, test.references[0], training, tokenizer),
        costs={system.name: cost(system.seeds[0]) for system in systems},
        warnings=[
            *alike(texts),
            *other_references(
                {one.name: _printed(one.seeds[0]) for one in systems}, test.references
            ),
            *trained_once({one.name: [_folder(seed) for seed in one.seeds] for one in systems}),
            *differences(
                {name: lines[0] for name, lines in texts.items()},
                test.references,
                settings.tokenize,
                settings.lowercase,
            ),
        ],
    )


def _check(systems: Sequence[System], baseline: str, settings: Settings) -> None:
    if min(settings.resamples, settings.trials) < 1:
        number = min(settings.resamples, settings.trials)
        raise UsageError(f"--trials: got {number}; expected 1 or more")
    if settings.question == "seeds":
        for system in systems:
            if len(system.seeds) < 2:
                raise UsageError(
                    f"--question: got 'seeds', and '{system.name}' has one seed; expected 2 or "
                    "more of every system: NAME=PATH,PATH"
                )


def _judge(
    measure: Measure, counts: dict[str, list[Counts]], baseline: str, settings: Settings
) -> Judged:
    seeds = {name: tuple(measure.score(one) for one in all_) for name, all_ in counts.items()}
    by_sentences = None
    if settings.question != "seeds":
        by_sentences = pairs.paired(measure, counts, baseline, settings.resamples, settings.trials)
    tests = {}
    if settings.question != "sentences":
        values = {name: [score.value for score in scores] for name, scores in seeds.items()}
        for name in seeds:
            test = seed_test(values[name], values[baseline]) if name != baseline else None
            if test is not None:
                tests[name] = test
    return Judged(measure, seeds, by_sentences, tests)


def _single(
    found: Sequence[Measure],
    counts: dict[str, dict[str, list[Counts]]],
    test: TestSet,
    settings: Settings,
    texts: Mapping[str, Sequence[Sequence[str]]],
) -> dict[str, NDArray[Any]]:
    """Scores of single sentences by chrF, which says more of them than BLEU does."""
    chrf = next((measure for measure in found if measure.name == "chrf"), None)
    if chrf is None:
        (chrf,) = measures(["chrf"], test.references, settings.tokenize, settings.lowercase)
        known = {name: [chrf.counts(one) for one in lines] for name, lines in texts.items()}
    else:
        known = counts["chrf"]
    return {name: sentences.of_sentences(chrf, seeds) for name, seeds in known.items()}


def _folder(seed: Seed) -> str | None:
    return seed.run.path if seed.run is not None else None


def _printed(seed: Seed) -> list[str] | None:
    return seed.generated.references if seed.generated is not None else None


def _lines(system: System) -> list[list[str]]:
    return [seed.hypotheses for seed in system.seeds]
