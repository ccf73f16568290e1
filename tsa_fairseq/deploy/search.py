"""How translations are looked for, and what is found: what the command, the translators and their
backends hand to each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tsa_fairseq.errors import UsageError, warn

BEAM = 5
# Sentences of a batch; CTranslate2 puts all into one if it is not told.
BATCH = 32
MAX_LENGTH = 200  # of a translation, as in fairseq

Words = list[str]


class Hypothesis(NamedTuple):
    """A translation, and the mean log probability of its words and its end, in nats.

    More exactly the log probability divided by ``length ** lenpen``, as in fairseq. CTranslate2
    counts no end where the limit of length cut a translation off.
    """

    text: str
    score: float


class Scored(NamedTuple):
    """The words of a given translation, its end included, and the log probability of each."""

    words: Words
    log_probs: list[float]


class Found(NamedTuple):
    """A hypothesis in words, as a backend finds it."""

    words: Words
    score: float


@dataclass(frozen=True)
class Search:
    """How to look for translations.

    Args:
        beam: hypotheses at a time.
        nbest: how many of them are wanted.
        batch: sentences at a time.
        scores: whether the hypotheses' scores are wanted.
        options: of the backend, by fairseq's names.
    """

    beam: int = BEAM
    nbest: int = 1
    batch: int = BATCH
    scores: bool = False
    options: dict[str, Any] = field(default_factory=dict)


def check_search_numbers(beam: int, nbest: int, batch: int, flag: str = "") -> None:
    """Refuse no hypotheses, more than there are, or no sentences at a time.

    Raises:
        UsageError: one of these.
    """
    check_positive(f"{flag}beam", beam)
    if not 1 <= nbest <= beam:
        raise UsageError(f"{flag}nbest: got {nbest}; expected 1 to {beam}, the beam")
    check_positive(f"{flag}batch", batch)


def check_positive(name: str, number: int) -> None:
    """Refuse less than one.

    Raises:
        UsageError: it is.
    """
    if number < 1:
        raise UsageError(f"{name}: got {number}; expected 1 or more")


def check_lengths(lengths: Sequence[int], most: int, name: str = "sentences") -> None:
    """Refuse what the model has no positions for.

    Raises:
        UsageError: a sentence is longer.
    """
    for number, length in enumerate(lengths):
        if length > most:
            raise UsageError(
                f"{name}: number {number} has {length} words or pieces, its end included; "
                f"expected at most {most}"
            )


def cut(sources: list[Words], most: int, first: int) -> list[Words]:
    """Sources that the model has positions for, with a warning for each that is cut off.

    Args:
        sources: words, without an end.
        most: how many there may be, with it.
        first: the number of the first one, for the message.
    """
    for number, words in enumerate(sources, first):
        if len(words) + 1 > most:
            warn(f"line {number} has {len(words) + 1} words or pieces, and is cut off after {most}")
    return [words[: most - 1] for words in sources]
