"""COMET as one of sacreBLEU's metrics, for who has it installed."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sacrebleu.metrics.base import Metric, Signature
from sacrebleu.metrics.base import Score as SacrebleuScore

from tsa_fairseq.errors import UsageError

MODEL = "Unbabel/wmt22-comet-da"


class _CometSignature(Signature):
    def __init__(self, args: dict[str, Any]) -> None:
        super().__init__(args)
        self.info["model"] = MODEL
        self._abbr["model"] = "m"


class CountedCOMET(Metric):
    """The mean of a neural model's judgements, in hundredths; a sentence's counts are its judgement
    and 1.
    """

    _SIGNATURE_TYPE = _CometSignature

    def __init__(self, model: Any, references: Sequence[str], sources: Sequence[str]) -> None:
        super().__init__()
        self.num_refs = 1
        self._model, self._references, self._sources = model, references, sources

    def counts(self, lines: Sequence[str]) -> NDArray[Any]:
        """sentences x 2."""
        rows = [
            {"src": source, "mt": line, "ref": reference}
            for source, line, reference in zip(self._sources, lines, self._references, strict=True)
        ]
        judged = self._model.predict(rows, batch_size=16, gpus=0, progress_bar=False).scores
        return np.array([[100 * float(score), 1.0] for score in judged])

    def _extract_corpus_statistics(self, hypotheses: Any, references: Any) -> Any:
        return hypotheses

    def _aggregate_and_compute(self, stats: Any) -> SacrebleuScore:
        return self._compute_score_from_stats(np.array(stats).sum(0))

    def _compute_score_from_stats(self, stats: Any) -> SacrebleuScore:
        return SacrebleuScore("COMET", float(stats[0] / stats[1]))

    def _preprocess_segment(self, sent: str) -> str:
        return sent

    def _extract_reference_info(self, refs: Sequence[str]) -> dict[str, Any]:
        return {}

    def _compute_segment_statistics(self, hypothesis: str, ref_kwargs: dict[str, Any]) -> list[Any]:
        raise NotImplementedError("COMET judges many sentences at a time")


def comet(references: Sequence[Sequence[str]], sources: Sequence[str] | None) -> CountedCOMET:
    """COMET with the model that is usual for translations with a reference.

    Raises:
        UsageError: it is not installed, there are several references, or no sources.
    """
    if sources is None:
        raise UsageError("--metrics: 'comet' reads the sources, too; expected --source")
    if len(references) != 1:
        raise UsageError(f"--metrics: 'comet' takes one reference; got {len(references)}")
    try:
        from comet import download_model, load_from_checkpoint
    except ModuleNotFoundError:
        raise UsageError(
            "--metrics: 'comet' takes unbabel-comet, which is not installed: "
            "pip install unbabel-comet"
        ) from None
    return CountedCOMET(load_from_checkpoint(download_model(MODEL)), references[0], sources)
