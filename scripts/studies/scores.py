"""BLEU and chrF of what fairseq-generate printed."""

import importlib.util
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from studies.errors import RunFailed
from studies.place import ROOT

# Packages that have a part in a result, by the names that pip knows.
PACKAGES = ("torch", "fairseq-fixed", "fairseq", "sacrebleu", "subword-nmt")


@cache
def recipe() -> ModuleType:
    """Multi30k's score.py, which reads fairseq-generate's output."""
    path = ROOT / "examples" / "multi30k" / "score.py"
    spec = importlib.util.spec_from_file_location("multi30k_score", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def versions() -> str:
    """Of Python and of the packages that are installed."""
    found = [f"python={platform.python_version()}"]
    for name in PACKAGES:
        try:
            found.append(f"{name}={version(name)}")
        except PackageNotFoundError:
            continue
    return " ".join(found)


def reference_file(data: Path, subset: str) -> Path:
    """The tokenised text that translations are held to."""
    return data / "corpus" / {"valid": "val.de", "test": "test_2016_flickr.de"}[subset]


def hypotheses(generated: Path, reference: Path) -> list[str]:
    """In the order of the corpus.

    Raises:
        RunFailed: sentences are missing.
    """
    count = len(recipe().read_lines(reference))
    try:
        return list(recipe().read_hypotheses(generated, count))
    except recipe().RecipeError as error:
        raise RunFailed(str(error)) from None


def metrics() -> dict[str, BLEU | CHRF]:
    """For text that is tokenised already, on purpose: sacreBLEU would warn."""
    return {"bleu": BLEU(tokenize="none", force=True), "chrf": CHRF()}


def score(lines: list[str], reference: Path) -> tuple[dict[str, float], dict[str, str]]:
    """Each metric's score and signature."""
    references = [recipe().read_lines(reference)]
    scores, signatures = {}, {}
    for name, metric in metrics().items():
        scores[name] = metric.corpus_score(lines, references).score
        signatures[name] = str(metric.get_signature())
    return scores, signatures
