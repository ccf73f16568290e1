"""Translates lines of text with a CTranslate2 model that `tsa-fairseq export` made.

python translate_ct2.py --model DIR [--threads N] < SOURCE > TRANSLATIONS

Needs ctranslate2 and sentencepiece alone: no fairseq, no torch, no plugin.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence

import ctranslate2
import sentencepiece

# Sentences of a batch; every thread works on one of its own.
BATCH = 32
BEAM = 5
# The longest translation of n pieces, as of the demo's other models: 1.5 (n + 1) + 10.
LONGEST = (1.5, 10)


def batches(sentences: Sequence[list[str]]) -> Iterator[list[int]]:
    """The numbers of sentences of about one length, a batch at a time."""
    order = sorted(range(len(sentences)), key=lambda number: len(sentences[number]))
    for start in range(0, len(order), BATCH):
        yield order[start : start + BATCH]


def translate(
    model: ctranslate2.Translator, sentences: Sequence[list[str]]
) -> tuple[list[list[str]], float]:
    """The pieces of every sentence's translation, and how many seconds they took."""
    begun = time.perf_counter()
    running = [
        (
            numbers,
            model.translate_batch(
                [sentences[number] for number in numbers],
                beam_size=BEAM,
                max_decoding_length=int(
                    LONGEST[0] * (len(sentences[numbers[-1]]) + 1) + LONGEST[1]
                ),
                asynchronous=True,
            ),
        )
        for numbers in batches(sentences)
    ]
    found: list[list[str]] = [[] for _ in sentences]
    for numbers, results in running:
        for number, one in zip(numbers, results, strict=True):
            found[number] = one.result().hypotheses[0]
    return found, time.perf_counter() - begun


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True, help="the folder")
    parser.add_argument("--threads", type=int, default=1, help="batches at a time")
    options = parser.parse_args()
    pieces = sentencepiece.SentencePieceProcessor(
        model_file=f"{options.model}/sentencepiece.bpe.model"
    )
    model = ctranslate2.Translator(options.model, inter_threads=options.threads, intra_threads=1)
    lines = [line.rstrip("\n") for line in sys.stdin]
    found, seconds = translate(model, pieces.encode(lines, out_type=str))
    sys.stdout.writelines(f"{text}\n" for text in pieces.decode(found))
    rate = len(lines) / seconds
    print(f"Translated {len(lines):,} sentences ({rate:.2f} sentences/s)", file=sys.stderr)


if __name__ == "__main__":
    main()
