"""Learn subwords on both sides of a corpus, and cut text into them.

Called by Multi30k's prepare.sh; the larger recipes use the functions.
"""

import argparse
from pathlib import Path

from recipe import bpe, pieces
from recipe.errors import run
from recipe.parallel import map_file

# What a protocol's subwords are made by, and what the file is called.
TOOLS = {"tokenised": (bpe, "subword.codes"), "raw": (pieces, "subword.model")}


def learn(protocol: str, texts: list[Path], count: int, folder: Path, workers: int) -> Path:
    """Learn a protocol's subwords; returns the file, in that folder."""
    tool, name = TOOLS[protocol]
    file = folder / name
    if protocol == "tokenised":
        tool.learn(texts, count, file, workers)
    else:
        tool.learn(texts, count, file)
    return file


def apply(protocol: str, model: Path, source: Path, destination: Path, workers: int) -> None:
    """Write each line of a text as subwords separated by blanks."""
    tool, _ = TOOLS[protocol]
    map_file(tool.Cutter(model), source, destination, workers, f"cutting {source.name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--protocol", required=True, choices=sorted(TOOLS))
    parser.add_argument("--subwords", required=True, type=int)
    parser.add_argument("--languages", required=True, nargs=2)
    parser.add_argument("--text", required=True, type=Path, help="a folder of PART.LANGUAGE")
    parser.add_argument("--into", required=True, type=Path, help="a folder: model and subword/")
    parser.add_argument("parts", nargs="+", help="the first is what is learned on")
    args = parser.parse_args()
    texts = [args.text / f"{args.parts[0]}.{language}" for language in args.languages]
    model = learn(args.protocol, texts, args.subwords, args.into, 1)
    for part in args.parts:
        for language in args.languages:
            name = f"{part}.{language}"
            apply(args.protocol, model, args.text / name, args.into / "subword" / name, 1)


if __name__ == "__main__":
    run(main)
