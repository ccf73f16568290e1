"""Writes a seeded English-German corpus of numbers, dates, money, units and places.

    python make_data.py --out DIR [--train 20000] [--valid 500] [--test 1000] [--seed 1]

makes DIR with {train,valid,test}.{en,de}, one phrase a line. No two lines of one language are the
same in the whole corpus, so neither side of the test set occurs in training.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from sentences import draw_pair
from words import LANGUAGES, Pair

# Draws in a row that bring nothing new before the generator counts as exhausted.
PATIENCE = 10_000


class DemoError(Exception):
    """Something the user can mend; shown as one line."""


def draw_corpus(
    number: int, seed: int, draw: Callable[[random.Random], Pair] = draw_pair
) -> list[Pair]:
    """`number` pairs in random order, all their English and all their German sides different."""
    rng = random.Random(seed)
    pairs: list[Pair] = []
    seen: tuple[set[str], set[str]] = (set(), set())
    failures = 0
    while len(pairs) < number:
        pair = draw(rng)
        if pair.en in seen[0] or pair.de in seen[1]:
            failures += 1
            if failures > PATIENCE:
                raise DemoError(
                    f"only {len(pairs)} different pairs can be made; {number} were asked for"
                )
            continue
        failures = 0
        pairs.append(pair)
        seen[0].add(pair.en)
        seen[1].add(pair.de)
    # The few phrases of the small kinds all come early: mix them into every part.
    rng.shuffle(pairs)
    return pairs


def split_corpus(pairs: Sequence[Pair], sizes: dict[str, int]) -> dict[str, Sequence[Pair]]:
    """Consecutive parts of the corpus with the given names and sizes."""
    parts, start = {}, 0
    for name, size in sizes.items():
        parts[name] = pairs[start : start + size]
        start += size
    return parts


def write_corpus(parts: dict[str, Sequence[Pair]], out: Path) -> None:
    """DIR/{part}.{language} for every part; DIR appears complete or not at all."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DemoError(f"--out: '{out}' exists and is not an empty folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f"{out.name}.partial-", dir=out.parent))
    try:
        for part, pairs in parts.items():
            for side, language in enumerate(LANGUAGES):
                text = "".join(f"{pair[side]}\n" for pair in pairs)
                (partial / f"{part}.{language}").write_text(text, encoding="utf-8")
        os.chmod(partial, 0o755)
        os.replace(partial, out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


class Parser(argparse.ArgumentParser):
    """argparse whose errors are one line."""

    def error(self, message: str) -> None:  # type: ignore[override]
        raise DemoError(message.removeprefix("argument "))


def positive(text: str) -> int:
    """A whole number above zero."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"got '{text}'; expected a whole number above 0")
    return int(text)


def seed_number(text: str) -> int:
    """A whole number, zero included."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"got '{text}'; expected a whole number")
    return int(text)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = Parser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder to make")
    parser.add_argument("--train", type=positive, default=20_000, help="pairs for training")
    parser.add_argument("--valid", type=positive, default=500, help="pairs for validation")
    parser.add_argument("--test", type=positive, default=1000, help="pairs for testing")
    parser.add_argument("--seed", type=seed_number, default=1, help="of the random draws")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    try:
        options = parse(arguments)
        sizes = {"test": options.test, "valid": options.valid, "train": options.train}
        pairs = draw_corpus(sum(sizes.values()), options.seed)
        write_corpus(split_corpus(pairs, sizes), options.out)
    except (DemoError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"wrote {len(pairs)} pairs to {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
