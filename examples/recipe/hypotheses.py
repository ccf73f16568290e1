"""Translations out of what fairseq-generate printed."""

import re
from pathlib import Path

from recipe.errors import RecipeError

# Its line for a hypothesis: the sentence's place in the corpus, its score, its text.
_HYPOTHESIS = re.compile(r"^H-(\d+)\t[^\t]*\t(.*)$")


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 text file; only a newline ends a line."""
    return path.read_bytes().decode("utf-8").removesuffix("\n").split("\n")


def read_hypotheses(generated: Path, count: int) -> list[str]:
    """The `count` hypotheses of a log, in the order of the corpus.

    fairseq translates batches of similar length, and prints in that order.

    Raises:
        RecipeError: some are missing.
    """
    found: dict[int, str] = {}
    for line in read_lines(generated):
        if match := _HYPOTHESIS.match(line):
            found[int(match[1])] = match[2]
    if sorted(found) != list(range(count)):
        raise RecipeError(
            f"{generated.name}: fairseq-generate gave {len(found)} hypotheses "
            f"for {count} references"
        )
    return [found[index] for index in range(count)]
