"""What the demo's models made of the test set."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sacrebleu.metrics.bleu import BLEU

DEFAULT_OBJECTIVE = "dealt"
# What fairseq-generate and translate_ct2.py say at their end.
SPEED = re.compile(r"\(([\d.]+) sentences/s")


class DemoError(Exception):
    """Something the user can mend; shown as one line."""


@dataclass(frozen=True)
class Result:
    """One model and what it made of the test set."""

    name: str
    bleu: float
    signature: str
    exact: float  # share of the test set that equals its reference, from 0 to 1
    inference_parameters: int  # of the model that translates
    speed: float  # sentences a second
    file: Path  # the model, or a folder of some; of a training also what it takes to go on
    said: Path  # its translations as they came
    translations: list[str]
    # Of a training alone:
    parameters: int | None = None  # in its checkpoint
    seconds: float | None = None  # over all interruptions
    memory: int | None = None  # of its process at most, in bytes


def read_lines(path: Path) -> list[str]:
    """The lines of a text file, without their ends."""
    # Not splitlines(): a translation may contain what Unicode regards as the end of a line.
    return path.read_text(encoding="utf-8").split("\n")[:-1]


def read_translations(path: Path, number: int) -> list[str]:
    """The detokenised hypotheses in fairseq-generate's output, in the order of the test set."""
    found: dict[int, str] = {}
    for line in read_lines(path):
        if line.startswith("D-"):
            name, _, text = line.split("\t", 2)
            found[int(name[2:])] = text
    if sorted(found) != list(range(number)):
        raise DemoError(f"{path}: has translations of {len(found)} sentences; expected {number}")
    return [found[index] for index in range(number)]


def corpus_bleu(translations: Sequence[str], references: Sequence[str]) -> tuple[float, str]:
    """sacreBLEU of detokenised text, and its signature."""
    metric = BLEU()
    score = metric.corpus_score(translations, [references]).score
    return score, str(metric.get_signature())


def exact_share(translations: Sequence[str], references: Sequence[str]) -> float:
    """The share of translations that equal their references."""
    return sum(map(str.__eq__, translations, references)) / len(references)


def suffix(objective: str) -> str:
    """What the names of a tree's files end in; nothing for the demo's own objective."""
    return "" if objective == DEFAULT_OBJECTIVE else f"-{objective}"


def read_speed(path: Path) -> float:
    """Sentences a second, from the log of a translation."""
    found = SPEED.findall(path.read_text(encoding="utf-8"))
    if not found:
        raise DemoError(f"{path}: does not tell how fast the translation was")
    return float(found[-1])


def scored(translations: list[str], references: Sequence[str], **known: Any) -> Result:
    """What translations are worth; the rest of the result is known."""
    bleu, signature = corpus_bleu(translations, references)
    exact = exact_share(translations, references)
    return Result(bleu=bleu, signature=signature, exact=exact, translations=translations, **known)


def read_results(run: Path, objectives: Sequence[str]) -> list[Result]:
    """The plain model's result and those of trees, of which the leaf that translates is meant.

    That leaf has the plain model's parameter names.
    """
    from tsa_fairseq.files.checkpoint import count_parameters, read_checkpoint

    references = read_lines(run / "data" / "test.de")
    plain = read_checkpoint(str(run / "plain" / "checkpoint_best.pt"), "--run")["model"]
    results = []
    names = {objective: f"tree{suffix(objective)}" for objective in objectives}
    for name, place in {"plain": "plain", **names}.items():
        folder = run / place
        translations = read_translations(folder / "generate.txt", len(references))
        best = folder / "checkpoint_best.pt"
        state = read_checkpoint(str(best), "--run")["model"]
        last = read_checkpoint(str(folder / "checkpoint_last.pt"), "--run")
        results.append(
            scored(
                translations,
                references,
                name="tree" if name == DEFAULT_OBJECTIVE else name,
                parameters=count_parameters(state),
                inference_parameters=count_parameters(state, set(plain)),
                seconds=last["extra_state"]["previous_training_time"],
                memory=int((folder / "memory").read_text()),
                speed=read_speed(folder / "generate.log"),
                file=best,
                said=folder / "generate.txt",
            )
        )
    return results


def read_deployed(run: Path, objective: str) -> list[Result]:
    """The results of the tree's best leaf, exported: by fairseq alone, and by CTranslate2."""
    from tsa_fairseq.files.checkpoint import count_parameters, read_checkpoint

    references = read_lines(run / "data" / "test.de")
    folder = run / f"deployed{suffix(objective)}"
    leaf = json.loads((folder / "fairseq" / "export.json").read_text(encoding="utf-8"))["leaf"]
    model = read_checkpoint(str(folder / "fairseq" / "model.pt"), "--run")["model"]
    parameters = count_parameters(model)
    by_fairseq = read_translations(folder / "fairseq.txt", len(references))
    by_ctranslate2 = read_lines(folder / "ctranslate2.txt")
    if len(by_ctranslate2) != len(references):
        raise DemoError(
            f"{folder / 'ctranslate2.txt'}: has translations of {len(by_ctranslate2)} sentences; "
            f"expected {len(references)}"
        )
    return [
        scored(
            translations,
            references,
            name=name,
            inference_parameters=parameters,
            speed=read_speed(folder / f"{by}.log"),
            file=folder / by / file,
            said=folder / f"{by}.txt",
        )
        for name, translations, by, file in (
            (f"leaf {leaf} exported", by_fairseq, "fairseq", "model.pt"),
            (f"leaf {leaf} CTranslate2 int8", by_ctranslate2, "ctranslate2", "model.bin"),
        )
    ]


def read_together(run: Path, tree: Result) -> list[Result]:
    """All leaves together, by the tree and by fairseq's ensemble; nothing for a single leaf."""
    folder = run / tree.file.parent.name.replace("tree", "leaves", 1)
    if not folder.exists():
        return []
    references = read_lines(run / "data" / "test.de")
    models = sorted(folder.glob("models/leaf*/model.pt"))
    return [
        scored(
            read_translations(folder / f"{by}.txt", len(references)),
            references,
            name=name,
            inference_parameters=parameters,
            speed=read_speed(folder / f"{by}.log"),
            file=file,
            said=folder / f"{by}.txt",
        )
        for name, by, parameters, file in (
            ("tree, all leaves", "tree", tree.parameters, tree.file),
            (
                f"fairseq's ensemble of {len(models)}",
                "fairseq",
                len(models) * tree.inference_parameters,
                folder / "models",
            ),
        )
    ]
