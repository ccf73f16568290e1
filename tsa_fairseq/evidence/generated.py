"""What fairseq-generate prints: sources, references and translations, with their numbers."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tsa_fairseq.errors import UsageError

# S: source, T: reference, H: score and translation, D: the same without its tokenizer.
_LINE = re.compile(r"([STHD])-([0-9]{1,9})\t(?:(-?[\d.einf+-]+|nan)\t)?(.*)")
_SPEED = re.compile(r"Translated [\d,]+ sentences .*?\(([\d.]+) sentences/s")
# Of a file's beginning, enough to see whether it is one: fairseq says much before it translates.
HEAD = 400


@dataclass(frozen=True)
class Generated:
    """Translations in the order of the corpus.

    Args:
        hypotheses: the best of each sentence, without subwords and tokenizer.
        sources: of the same length, or None if they were not printed.
        references: likewise; without subwords.
        speed: sentences a second; None if the output does not tell.
    """

    hypotheses: list[str]
    sources: list[str] | None
    references: list[str] | None
    speed: float | None


def is_generated(lines: Sequence[str]) -> bool:
    """Whether lines are the beginning of fairseq-generate's output."""
    return any(line.startswith("H-") and _LINE.fullmatch(line) for line in lines[:HEAD])


def parse(lines: Sequence[str], path: str, flag: str) -> Generated:
    """Put fairseq-generate's output in the order of the corpus.

    Args:
        lines: of the file.
        path: its name, for the message.
        flag: what named it.

    Raises:
        UsageError: sentences are missing.
    """
    found: dict[str, dict[int, str]] = {kind: {} for kind in "STHD"}
    for line in lines:
        if match := _LINE.fullmatch(line):
            kind, number, score, text = match.groups()
            if kind in "ST" and score is not None:  # a text whose first column looks like a number
                text = f"{score}\t{text}"
            # of several translations of a sentence the best one comes first
            found[kind].setdefault(int(number), text)
    best = found["D"] or found["H"]
    missing = next((n for n in range(max(best) + 1) if n not in best), None)
    if missing is not None:
        raise UsageError(
            f"{flag}: '{path}' has {len(best):,} translations, up to number {max(best)}, but none "
            f"of number {missing}; expected every sentence (fairseq-generate with "
            "--required-batch-size-multiple 1 leaves none out)"
        )
    return Generated(
        [best[n] for n in range(len(best))],
        _whole(found["S"], len(best)),
        _whole(found["T"], len(best)),
        _speed(lines, path),
    )


def _whole(texts: dict[int, str], number: int) -> list[str] | None:
    return [texts[n] for n in range(number)] if texts.keys() >= set(range(number)) else None


def _speed(lines: Sequence[str], path: str) -> float | None:
    """From the output, or where standard error went to a log of its own beside it."""
    beside = Path(path).with_suffix(".log")
    texts = [*lines[-20:]]
    if beside.is_file() and beside != Path(path):
        texts += beside.read_text(encoding="utf-8", errors="replace").split("\n")[-20:]
    found = [match[1] for line in texts if (match := _SPEED.search(line))]
    return float(found[-1]) if found else None
