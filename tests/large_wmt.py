"""A large invented corpus in WMT's archives, to measure what prepare.sh takes.

    python tests/large_wmt.py FOLDER PAIRS

Words by Zipf's law, lengths as in news, punctuation, numbers, hyphens and quotation marks. It has
more types of words than real text of that size, which makes learning subwords slower.
"""

import argparse
import random
from pathlib import Path

import numpy as np
import recipe_fixtures as fixtures

LETTERS = {"en": "abcdefghiklmnoprstuvwy", "de": "abcdefghiklmnoprstuvwzäöüß"}
TYPES = {"en": 300_000, "de": 500_000}
QUOTES = {"en": "“{}”", "de": "„{}“"}
SHARES = {
    "training-parallel-europarl-v7.tgz": ("training/europarl-v7.de-en", 0.42),
    "training-parallel-commoncrawl.tgz": ("commoncrawl.de-en", 0.52),
    "training-parallel-nc-v9.tgz": ("training/news-commentary-v9.de-en", 0.06),
}


def vocabulary(side):
    """Words of one to four syllables, short ones first, as frequent words are."""
    chosen = random.Random(side)
    syllables = [
        "".join(chosen.choices(LETTERS[side], k=chosen.choice((2, 2, 3)))) for _ in range(900)
    ]
    words = set()
    while len(words) < TYPES[side]:
        words.add("".join(chosen.choices(syllables, k=chosen.choice((1, 2, 2, 3, 3, 4)))))
    shuffled = sorted(words)
    chosen.shuffle(shuffled)
    return np.array(sorted(shuffled, key=lambda word: len(word) > 4), dtype=object)


def decorate(words, kinds, side):
    """Punctuation and the like on some words of a line."""
    for place in np.nonzero(kinds < 12)[0]:
        kind = kinds[place]
        if kind < 7:
            words[place] += ","
        elif kind < 9:
            words[place] += f"-{words[place - 1]}"
        else:
            words[place] += " 1,234" if kind == 9 else f" ({words[place]})"
    if len(words) > 3 and kinds[0] < 10:
        words[1] = QUOTES[side].format(words[1])
    words[0] = words[0].capitalize()


def lines(count, seed, side, words):
    """A text; the lengths of its lines are those of the other side."""
    lengths = np.random.default_rng(seed).lognormal(3.1, 0.6, count).astype(int).clip(1, 150)
    drawn = np.random.default_rng([seed, side == "de"])
    total = int(lengths.sum())
    ranks = drawn.zipf(1.12, total) - 1
    ranks = np.where(ranks < len(words), ranks, drawn.integers(0, len(words), total))
    kinds = drawn.integers(0, 100, total)
    place = 0
    for length in lengths:
        chosen = slice(place, place + length)
        line = list(words[ranks[chosen]])
        decorate(line, kinds[chosen], side)
        place += length
        yield " ".join(line) + ".\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("pairs", type=int)
    args = parser.parse_args()
    folder, pairs = args.folder, args.pairs
    folder.mkdir(parents=True, exist_ok=True)
    words = {side: vocabulary(side) for side in TYPES}
    for name, members in fixtures.wmt_members(tests=3000).items():
        if name in SHARES:
            member, share = SHARES[name]
            seed = sorted(SHARES).index(name)
            members = [
                (f"{member}.{side}", "".join(lines(int(share * pairs), seed, side, words[side])))
                for side in TYPES
            ]
        fixtures.archive(folder / name, members)
    fixtures.write_sums(folder)


if __name__ == "__main__":
    main()
