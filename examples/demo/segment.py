"""Learns a joint sentencepiece model on a corpus of make_data.py and cuts the corpus into pieces.

    python segment.py --data DIR --vocabulary N --out DIR

makes spm.model and {train,valid,test}.{en,de} in the existing folder --out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import sentencepiece
from words import LANGUAGES


def learn(data: Path, vocabulary: int, out: Path) -> sentencepiece.SentencePieceProcessor:
    """A byte-pair model of both languages' training text, written to `out`/spm.model.

    Frequent runs of digits become pieces like any others: lines get a quarter shorter than with a
    piece a digit, and numbers, the hardest part of this corpus, are learned much earlier.
    """
    sentencepiece.SentencePieceTrainer.train(
        input=",".join(str(data / f"train.{language}") for language in LANGUAGES),
        model_prefix=str(out / "spm"),
        model_type="bpe",
        vocab_size=vocabulary,
        character_coverage=1.0,
        num_threads=1,
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_file=str(out / "spm.model"))


def cut(model: sentencepiece.SentencePieceProcessor, source: Path, target: Path) -> None:
    """Every line of `source` as pieces separated by spaces."""
    lines = source.read_text(encoding="utf-8").splitlines()
    text = "".join(" ".join(pieces) + "\n" for pieces in model.encode(lines, out_type=str))
    target.write_text(text, encoding="utf-8")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--vocabulary", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    model = learn(options.data, options.vocabulary, options.out)
    for part in ("train", "valid", "test"):
        for language in LANGUAGES:
            name = f"{part}.{language}"
            cut(model, options.data / name, options.out / name)


if __name__ == "__main__":
    main()
