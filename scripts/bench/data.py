"""A parallel corpus of random words with Multi30k's sentence lengths."""

import contextlib
import io
import random
import sys
from pathlib import Path

from fairseq_cli.preprocess import cli_main as preprocess

SPECIAL_TOKENS = 4
# Words of an English sentence of Multi30k's training text (lc.norm.tok), and of how much longer the
# German one is: mean and standard deviation.
LENGTH = 13.0, 4.0
LONGER = -0.6, 2.2


def write_corpus(folder: Path, vocabulary: int, sentences: int = 6000, seed: int = 1) -> Path:
    """Write and binarise a corpus with a joined dictionary of exactly ``vocabulary`` types.

    Args:
        folder: where; it must exist.
        vocabulary: a multiple of 8, to which fairseq pads a dictionary.
        sentences: of the training text; the test text has 1,000.
        seed: of words and lengths.

    Returns:
        The directory for fairseq-train.
    """
    draw = random.Random(seed)
    words = [f"w{number}" for number in range(vocabulary - SPECIAL_TOKENS)]
    dictionary = folder / "dict.txt"
    dictionary.write_text("".join(f"{word} 1\n" for word in words), encoding="utf-8")
    for split, count in {"train": sentences, "test": 1000}.items():
        source = [draw.gauss(*LENGTH) for _ in range(count)]
        target = [length + draw.gauss(*LONGER) for length in source]
        for side, lengths in (("source", source), ("target", target)):
            lengths = [max(3, round(length)) for length in lengths]
            lines = (" ".join(draw.choices(words, k=length)) + "\n" for length in lengths)
            (folder / f"{split}.{side}").write_text("".join(lines), encoding="utf-8")
    out = folder / "data-bin"
    argv = ["-s", "source", "-t", "target", "--joined-dictionary", "--srcdict", str(dictionary)]
    argv += ["--trainpref", str(folder / "train"), "--validpref", str(folder / "test")]
    argv += ["--testpref", str(folder / "test"), "--destdir", str(out)]
    _quietly(argv)
    return out


def _quietly(argv: list[str]) -> None:
    before, sys.argv = sys.argv, ["fairseq-preprocess", *argv]
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            preprocess()
    finally:
        sys.argv = before
