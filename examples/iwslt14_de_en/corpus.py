"""IWSLT'14 German to English, from its archive to binarised data.

Called by prepare.sh. The tokenised protocol is that of the literature, as fairseq's preparation
defines it; the raw one keeps text as it was written.
"""

import html
import shutil
from collections.abc import Callable
from pathlib import Path

from recipe.counts import Count, lines_and_words, table, tell, types
from recipe.download import Archive
from recipe.errors import run, say
from recipe.job import PARTS, Job, binarise, cut, finish, job_of, learn_subwords, parser
from recipe.markup import one_space, segments, talk_text
from recipe.moses import Treatment
from recipe.pairs import Corpus, Limits, check_parallel, clean, split_every
from recipe.parallel import count_lines, map_file
from recipe.plan import Work, describe
from recipe.text import convert, lines_of, write_lines

SOURCE, TARGET = LANGUAGES = ("de", "en")
# No checksum of it is published. The size is what a log of fairseq's script of February 2021 has
# for this address, and one in its issue 1493 for the original at wit3.fbk.eu, which is dead.
ARCHIVE = Archive(
    "de-en.tgz", "https://dl.fbaipublicfiles.com/fairseq/data/iwslt14/de-en.tgz", 19_982_877
)
TRAIN = "de-en/train.tags.de-en.{language}"
TESTS = [
    f"de-en/IWSLT14.{name}.de-en.{{language}}.xml"
    for name in ("TED.dev2010", "TEDX.dev2012", "TED.tst2010", "TED.tst2011", "TED.tst2012")
]
LIMITS = Limits(1, 175, 1.5)
VALID_EVERY = 23
# Text is packed to a quarter, and lies there in five forms at most.
GROWTH = 20
# From that log of February 2021: lines of the archive's training text, and, of the tokenised
# protocol, pairs, types of separate dictionaries, tokens of the training text.
LINES = 174_443
PAIRS = {"train": 160_239, "valid": 7_283, "test": 6_750}
TYPES = {"de": 8_848, "en": 6_632}
TOKENS = {"de": 4_035_591, "en": 3_949_114}
TOKENISED_SUBWORDS = 10_000


def take_text(job: Job) -> None:
    """The step that takes text out of archive and markup."""
    paths = job.obtain([ARCHIVE])

    def make(folder: Path) -> None:
        (archive,) = paths
        files = folder / "files"
        files.mkdir()
        names = [name.format(language=side) for name in (TRAIN, *TESTS) for side in LANGUAGES]
        places = {name: files / Path(name).name for name in names}
        job.unpack(archive, places)
        job.record([ARCHIVE], paths)
        for side in LANGUAGES:
            lines = talk_text(lines_of(places[TRAIN.format(language=side)]))
            write_lines(folder / f"train.{side}", lines)
            sets = (places[name.format(language=side)] for name in TESTS)
            write_lines(
                folder / f"test.{side}", (s for path in sets for s in segments(lines_of(path)))
            )
        for part in ("train", "test"):
            sides = Corpus(folder, part, LANGUAGES).paths
            check_parallel(part, LANGUAGES, *map(count_lines, sides))
        shutil.rmtree(files)

    job.steps.run("text", f"unpacking {ARCHIVE.name}", make)


def plain(line: str) -> str:
    """Text without entities, and with single blanks."""
    return one_space(html.unescape(line))


def take_references(job: Job) -> None:
    """The step that keeps the test set as it was written, which detokenised scores compare with."""

    def make(folder: Path) -> None:
        for path in job.corpus("text", "test").paths:
            convert(path, folder / path.name, plain)

    job.steps.run("reference", "keeping the test set's plain text", make)


def tokenise(job: Job) -> None:
    """The step that does what Moses does; cases stay until the corpus is clean."""

    def make(folder: Path) -> None:
        for side in LANGUAGES:
            name = f"train.{side}"
            treatment = Treatment(side)
            map_file(treatment, job.steps.path("text") / name, folder / name, job.workers, name)

    job.steps.run("tokenised", "tokenising", make)


def clean_and_split(job: Job) -> None:
    """The step that makes train, valid and test."""
    lower: Callable[[str], str] = str.lower if job.protocol == "tokenised" else str

    def make(folder: Path) -> None:
        train = job.corpus("tokenised" if job.protocol == "tokenised" else "plain", "train")
        whole = Corpus(folder, "whole", LANGUAGES)
        clean(train, whole, LIMITS, lower)
        train, valid = (Corpus(folder, part, LANGUAGES) for part in ("train", "valid"))
        split_every(whole, train, valid, VALID_EVERY)
        for path in whole.paths:
            path.unlink()
        for path in job.corpus("text", "test").paths:
            if job.protocol == "tokenised":
                treatment = Treatment(path.suffix[1:], straighten=True, lower=True)
                map_file(treatment, path, folder / path.name, job.workers, path.name)
            else:
                convert(path, folder / path.name, plain)

    job.steps.run("corpus", "cleaning, and every 23rd pair for validation", make)


def keep_plain(job: Job) -> None:
    """The step of the raw protocol that takes Moses' place."""

    def make(folder: Path) -> None:
        for path in job.corpus("text", "train").paths:
            convert(path, folder / path.name, plain)

    job.steps.run("plain", "taking the text as it is written", make)


def text_counts(job: Job) -> list[Count]:
    """Pairs of the archive."""
    train = count_lines(job.corpus("text", "train").paths[0])
    test = PAIRS["test"] if job.protocol == "tokenised" else None
    return [
        Count("train, pairs before cleaning", train, LINES),
        Count("test, pairs", count_lines(job.corpus("text", "test").paths[0]), test),
    ]


def pair_counts(job: Job) -> list[Count]:
    """Pairs of the clean parts; the published figures are of the tokenised protocol."""
    return [
        Count(
            f"{part}, pairs",
            count_lines(job.corpus("corpus", part).paths[0]),
            PAIRS[part] if job.protocol == "tokenised" else None,
        )
        for part in PARTS
    ]


def _as_published(job: Job) -> bool:
    return job.protocol == "tokenised" and job.subwords == TOKENISED_SUBWORDS


def token_counts(job: Job) -> list[Count]:
    """Subwords of the training text."""
    found = []
    for path, side in zip(job.corpus("subword", "train").paths, LANGUAGES, strict=True):
        published = TOKENS[side] if _as_published(job) else None
        found.append(Count(f"train, tokens {side}", lines_and_words(path)[1], published))
    return found


def type_counts(job: Job) -> list[Count]:
    """Of the dictionaries; the published ones are separate."""
    return [
        Count(
            f"dictionary, types {side}",
            types(job.steps.path("data-bin") / f"dict.{side}.txt"),
            TYPES[side] if _as_published(job) and not job.joined else None,
        )
        for side in LANGUAGES
    ]


def works(protocol: str) -> list[Work]:
    """The steps, with times on one core for the archive's 170,000 or so pairs."""
    first = [
        Work("text", "unpack, drop markup", 5, False),
        Work("reference", "keep the test set's plain text", 1, False),
    ]
    if protocol == "tokenised":
        first.append(Work("tokenised", "Moses' tokeniser, by sacremoses", 55, True))
    else:
        first.append(Work("plain", "entities and blanks", 2, False))
    learning = 90 if protocol == "tokenised" else 60
    return [
        *first,
        Work("corpus", "clean (1 to 175 words, ratio 1.5), split off every 23rd pair", 10, False),
        Work("learned", "learn joint subwords", learning, False),
        Work("subword", "cut into subwords", 36, True),
        Work("data-bin", "fairseq-preprocess", 70, True),
    ]


def main() -> None:
    args = parser(__doc__).parse_args()
    job = job_of(args, LANGUAGES, GROWTH)
    if args.dry_run:
        print(describe(job, [ARCHIVE], works(job.protocol)))
        return
    take_text(job)
    tell(text_counts(job))
    take_references(job)
    if job.protocol == "tokenised":
        tokenise(job)
    else:
        keep_plain(job)
    clean_and_split(job)
    found = tell(pair_counts(job))
    cut(job, learn_subwords(job), "subword")
    found += tell(token_counts(job))
    binarise(job)
    found += tell(type_counts(job))
    say("all counts")
    print(table(found))
    finish(job)


if __name__ == "__main__":
    run(main)
