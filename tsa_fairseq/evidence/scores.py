"""sacreBLEU's metrics, from counts of sentences that are taken once and added up often."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sacrebleu.metrics.base import Metric
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.metrics.ter import TER

from tsa_fairseq.errors import UsageError
from tsa_fairseq.evidence.comet import comet

# One row a sentence; what the columns are is the metric's own business.
Counts = NDArray[Any]


class _Counted:
    """Mixed into a metric of sacreBLEU: sentences are given as their counts.

    A subclass of :class:`sacrebleu.metrics.base.Metric` has to stand beside it.
    """

    def counts(self, lines: Sequence[str]) -> Counts:
        """Of every sentence, against the references that the metric was made with."""
        found: Any = super()._extract_corpus_statistics(lines, None)  # type: ignore[misc]
        return np.array(found)

    def _extract_corpus_statistics(self, hypotheses: Any, references: Any) -> Any:
        return hypotheses


class CountedBLEU(_Counted, BLEU):
    """BLEU of counts."""


class CountedCHRF(_Counted, CHRF):
    """chrF of counts."""


class CountedTER(_Counted, TER):
    """TER of counts."""


@dataclass(frozen=True)
class Score:
    """Of a corpus.

    Args:
        value: in points: BLEU, chrF and TER from 0 to 100 (TER beyond).
        brevity_penalty: of BLEU; None for others.
        length_ratio: likewise, words of the translations over those of the references.
    """

    value: float
    brevity_penalty: float | None = None
    length_ratio: float | None = None


@dataclass(frozen=True)
class Measure:
    """A metric that is ready to score.

    Args:
        name: one of :data:`tsa_fairseq.evidence.choices.METRICS`.
        title: as sacreBLEU calls it.
        metric: which takes counts.
    """

    name: str
    title: str
    metric: Any

    @property
    def sign(self) -> int:
        """1 if more is better; -1 of TER, which counts edits."""
        return -1 if self.name == "ter" else 1

    def counts(self, lines: Sequence[str]) -> Counts:
        """sentences x columns, of translations without blanks at their ends, as sacreBLEU's own
        command reads them.
        """
        return self.metric.counts([line.rstrip() for line in lines])

    def score(self, counts: Counts) -> Score:
        """Of all sentences together."""
        found: Any = self.metric._aggregate_and_compute(counts.tolist())
        return Score(float(found.score), getattr(found, "bp", None), getattr(found, "ratio", None))

    def of_sums(self, sums: NDArray[Any]) -> NDArray[Any]:
        """The score of each row of sums over sentences."""
        compute = self.metric._compute_score_from_stats
        return np.array([compute(row).score for row in sums.tolist()])

    @property
    def signature(self) -> str:
        """What sacreBLEU says for others to repeat it."""
        return str(self.metric.get_signature())


def measures(
    names: Sequence[str],
    references: Sequence[Sequence[str]],
    tokenize: str,
    lowercase: bool,
    sources: Sequence[str] | None = None,
) -> list[Measure]:
    """Metrics with these references.

    Args:
        names: of :data:`tsa_fairseq.evidence.choices.METRICS`.
        references: one or several, of the same length.
        tokenize: sacreBLEU's tokenizer for BLEU: ``13a`` for raw text, ``none`` for tokenised.
        lowercase: compare without regard to case.
        sources: that COMET reads.

    Raises:
        UsageError: an unknown tokenizer, or a metric whose package is not installed.
    """
    if tokenize not in BLEU.TOKENIZERS:
        known = ", ".join(BLEU.TOKENIZERS)
        raise UsageError(f"--tokenize: got '{tokenize}'; expected one of {known}")
    texts = [[line.rstrip() for line in reference] for reference in references]
    return [_measure(name, texts, tokenize, lowercase, sources) for name in dict.fromkeys(names)]


def _measure(
    name: str,
    references: list[list[str]],
    tokenize: str,
    lowercase: bool,
    sources: Sequence[str] | None,
) -> Measure:
    metric: Metric
    if name == "bleu":
        # warnings about tokenised text are given for all systems together, in the comparison
        made = CountedBLEU(lowercase, force=True, tokenize=tokenize, references=references)
        return Measure(name, "BLEU", made)
    if name == "chrf":
        metric = CountedCHRF(lowercase=lowercase, references=references)
        return Measure(name, "chrF2", metric)
    if name == "ter":
        return Measure(name, "TER", CountedTER(references=references))
    return Measure(name, "COMET", comet(references, sources))


def pooled(seeds: Sequence[Counts]) -> Counts:
    """Sentence by sentence, the sums over seeds: what chance draws is a sentence, with all its
    translations.
    """
    return np.sum(seeds, axis=0)
