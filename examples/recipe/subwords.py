"""Learn subwords on both sides of a corpus, and cut text into them.

Called by Multi30k's prepare.sh; the larger recipes use the functions.
"""

import argparse
from importlib import import_module
from pathlib import Path
from types import ModuleType

from recipe.errors import run
from recipe.parallel import map_file

# What a protocol's subwords are made by, and what the file is called.
FILES = {"tokenised": "subword.codes", "raw": "subword.model"}


def tool(protocol: str) -> ModuleType:
    """What makes them; of the two packages that do only one needs to be installed."""
    return import_module({"tokenised": "recipe.bpe", "raw": "recipe.pieces"}[protocol])


def learn(protocol: str, texts: list[Path], count: int, folder: Path, workers: int) -> Path:
    """Learn a protocol's subwords; returns the file, in that folder."""
    file = folder / FILES[protocol]
    tool(protocol).learn(texts, count, file, workers)
    return file


def apply(protocol: str, model: Path, source: Path, destination: Path, workers: int) -> None:
    """Write each line of a text as subwords separated by blanks."""
    map_file(tool(protocol).Cutter(model), source, destination, workers, f"cutting {source.name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--protocol", required=True, choices=sorted(FILES))
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
