"""Sentence pairs in two files: read together, cleaned, split, counted, streaming."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from recipe.errors import RecipeError, say
from recipe.progress import Progress

Pair = tuple[str, str]


@dataclass(frozen=True)
class Corpus:
    """A parallel text: `folder/part.source` and `folder/part.target`, a sentence on each line."""

    folder: Path
    part: str
    languages: Pair

    @property
    def paths(self) -> tuple[Path, Path]:
        """Source and target."""
        source, target = (self.folder / f"{self.part}.{language}" for language in self.languages)
        return source, target


def read(corpus: Corpus) -> Iterator[Pair]:
    """The pairs, without their newlines.

    Raises:
        RecipeError: one side has more lines.
    """
    with ExitStack() as stack:
        files = [
            stack.enter_context(path.open(encoding="utf-8", newline="\n")) for path in corpus.paths
        ]
        number = 0
        try:
            for source, target in zip(*files, strict=True):
                number += 1
                yield source.rstrip("\n"), target.rstrip("\n")
        except ValueError:
            raise RecipeError(
                f"{corpus.folder / corpus.part}: the two sides are not parallel: "
                f"one ends after {number:,} lines, the other goes on"
            ) from None


def check_parallel(origin: str, languages: Pair, source: int, target: int) -> None:
    """Refuse sides that cannot belong together, before hours of work; say how many pairs there are.

    Args:
        origin: of the text, for messages.
        languages: of its sides.
        source: lines of the first.
        target: lines of the second.

    Raises:
        RecipeError: their numbers differ, or there are none.
    """
    if source != target or not source:
        raise RecipeError(
            f"{origin}: {source:,} lines of {languages[0]} and {target:,} of {languages[1]}; "
            "the two sides must be parallel"
        )
    say(f"{origin}: {source:,} pairs")


@dataclass(frozen=True)
class Limits:
    """Which pairs stay, by their numbers of words, as Moses' clean-corpus-n says it.

    Args:
        least: words of either side.
        most: words of either side.
        ratio: of the longer side to the shorter one.
    """

    least: int
    most: int
    ratio: float

    def keep(self, source: str, target: str) -> bool:
        """Whether the pair stays."""
        one, other = len(source.split()), len(target.split())
        return (
            self.least <= min(one, other)
            and max(one, other) <= self.most
            and max(one, other) <= self.ratio * min(one, other)
        )


def write(corpora: list[Corpus], pairs: Iterator[tuple[int, Pair]]) -> None:
    """Write each pair to the corpus of its number."""
    with ExitStack() as stack:
        files: list[list[TextIO]] = [
            [
                stack.enter_context(path.open("w", encoding="utf-8", newline="\n"))
                for path in corpus.paths
            ]
            for corpus in corpora
        ]
        for place, pair in pairs:
            for file, line in zip(files[place], pair, strict=True):
                file.write(f"{line}\n")


def clean(
    source: Corpus, destination: Corpus, limits: Limits, edit: Callable[[str], str] = str
) -> tuple[int, int]:
    """Leave out pairs outside the limits, and edit those that stay; how many there were and are."""
    progress = Progress(f"cleaning {source.part}", unit="pairs")
    kept = 0

    def chosen() -> Iterator[tuple[int, Pair]]:
        nonlocal kept
        for one, other in read(source):
            progress.add(1)
            if limits.keep(one, other):
                kept += 1
                yield 0, (edit(one), edit(other))

    write([destination], chosen())
    return progress.done, kept


def split_every(source: Corpus, rest: Corpus, every: Corpus, step: int) -> None:
    """Put pair `step`, 2 `step`, ... into one corpus, and what is left into another."""
    write(
        [rest, every],
        ((int(number % step == 0), pair) for number, pair in enumerate(read(source), start=1)),
    )
