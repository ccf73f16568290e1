"""Learn a sentencepiece model on both sides of a corpus, and cut text into its pieces.

Called by prepare.sh.
"""

import argparse
import sys
from pathlib import Path

import sentencepiece


def learn(texts: list[Path], size: int, model: Path) -> None:
    """Train one unigram model on all texts: `size` pieces, or as many as the texts have."""
    try:
        sentencepiece.SentencePieceTrainer.train(
            input=[str(text) for text in texts],
            model_prefix=str(model.with_suffix("")),
            vocab_size=size,
            hard_vocab_limit=False,
            character_coverage=1.0,
            num_threads=1,  # the same pieces on every machine
            minloglevel=2,
        )
    except RuntimeError as error:  # such as fewer pieces than characters
        reason = str(error).rpartition("] ")[2]
        sys.exit(f"error: --subwords: got {size}; sentencepiece says: {reason}")


def apply(model: Path, source: Path, destination: Path) -> None:
    """Write each line of `source` as pieces separated by spaces."""
    processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
    with (
        source.open(encoding="utf-8", newline="\n") as lines,
        destination.open("w", encoding="utf-8") as out,
    ):
        for line in lines:
            out.write(" ".join(processor.encode(line.rstrip("\n"), out_type=str)) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    learning = commands.add_parser("learn")
    learning.add_argument("size", type=int)
    learning.add_argument("model", type=Path, help="ends in .model")
    learning.add_argument("texts", type=Path, nargs="+")
    applying = commands.add_parser("apply")
    applying.add_argument("model", type=Path)
    applying.add_argument("source", type=Path)
    applying.add_argument("destination", type=Path)
    args = parser.parse_args()
    if args.command == "learn":
        learn(args.texts, args.size, args.model)
    else:
        apply(args.model, args.source, args.destination)


if __name__ == "__main__":
    main()
