"""Joint subwords of sentencepiece: one unigram model learned on both sides of a corpus."""

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import sentencepiece

from recipe.errors import RecipeError
from recipe.parallel import count_lines

# Lines that the model is learned from: sentencepiece holds them in memory, some kB each. Of more
# lines every second line is taken, or every third, and so on: the same ones on every machine.
MOST_LINES = 2_000_000


def learn(texts: list[Path], count: int, model: Path, workers: int = 1) -> None:
    """Train one model on all texts: `count` pieces, or as many as the texts have.

    On one core, whatever `workers` says: so that every machine gets the same pieces.

    Raises:
        RecipeError: sentencepiece cannot, such as for fewer pieces than characters.
    """
    step = -(-sum(map(count_lines, texts)) // MOST_LINES) or 1
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=_every(step, texts),
            model_prefix=str(model.with_suffix("")),
            vocab_size=count,
            hard_vocab_limit=False,
            character_coverage=1.0,
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        reason = str(error).rpartition("] ")[2]
        raise RecipeError(f"--subwords: got {count}; sentencepiece says: {reason}") from None


def _every(step: int, texts: list[Path]) -> Iterator[str]:
    for text in texts:
        with text.open(encoding="utf-8", newline="\n") as lines:
            for line in islice(lines, 0, None, step):
                yield line.rstrip("\n")


class Cutter:
    """Makes, in any process, the function that cuts lines into pieces."""

    def __init__(self, model: Path) -> None:
        self._model = model

    def __call__(self) -> Callable[[list[str]], list[str]]:
        """The function, with the model loaded."""
        processor = sentencepiece.SentencePieceProcessor(model_file=str(self._model))

        def cut(lines: list[str]) -> list[str]:
            return [" ".join(processor.encode(line, out_type=str)) for line in lines]

        return cut
