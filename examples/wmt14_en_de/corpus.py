"""WMT'14 or WMT'17 English to German, from their archives to binarised data.

Called by prepare.sh. The tokenised protocol is that of the literature, as fairseq's preparation
defines it, but for the validation set; the raw one keeps text as it was written.
"""

from pathlib import Path

from recipe.archives import unpack
from recipe.counts import Count, lines_and_words, table, types
from recipe.download import Archive
from recipe.errors import RecipeError, run, say
from recipe.job import PARTS, Job, binarise, cut, finish, job_of, learn_subwords, parser
from recipe.markup import one_space, segments
from recipe.moses import Treatment
from recipe.pairs import Corpus, Limits, clean, split_every
from recipe.parallel import count_lines, map_file
from recipe.plan import Work, describe
from recipe.text import convert, lines_of, same_file, write_lines
from sacrebleu.dataset import DATASETS

SOURCE, TARGET = LANGUAGES = ("en", "de")
EUROPARL = Archive(
    "training-parallel-europarl-v7.tgz",
    "https://www.statmt.org/wmt13/training-parallel-europarl-v7.tgz",
    657_632_379,
    {"sha256": "0224c7c710c8a063dfd893b0cc0830202d61f4c75c17eb8e31836103d27d96e7"},
)
COMMON_CRAWL = Archive(
    "training-parallel-commoncrawl.tgz",
    "https://www.statmt.org/wmt13/training-parallel-commoncrawl.tgz",
    918_311_367,
    {"sha256": "c7a74e2ea01ac6c920123108627e35278d4ccb5701e15428ffa34de86fa3a9e5"},
)
NEWS = {
    "wmt14": Archive(
        "training-parallel-nc-v9.tgz",
        "https://www.statmt.org/wmt14/training-parallel-nc-v9.tgz",
        80_418_416,
        {"sha256": "cb8953f292298e6877ae433c98912b927cb0766b303f4540512ddd286c748485"},
    ),
    "wmt17": Archive(
        "training-parallel-nc-v12.tgz",
        "https://data.statmt.org/wmt17/translation-task/training-parallel-nc-v12.tgz",
        None,
        {"sha256": "2b45f30ef1d550d302fd17dd3a5cbe19134ccc4c2cf50c2dae534aee600101a2"},
    ),
}
DEV = Archive(
    "dev.tgz",
    "https://data.statmt.org/wmt17/translation-task/dev.tgz",
    None,
    {"sha256": "9d5ff04a28496b7796904ea65e50e3837bab14dbdca88b1e063105f17513dca9"},
)
# Address and checksum are sacreBLEU's own.
TEST_SET = DATASETS["wmt14/full"]
TEST = Archive("test-full.tgz", TEST_SET.data[0], None, {"md5": (TEST_SET.md5 or [])[0]})
TEST_MEMBERS = dict(zip(LANGUAGES, TEST_SET.langpairs["en-de"], strict=True))
NEWS_MEMBER = {
    "wmt14": "training/news-commentary-v9.de-en",
    "wmt17": "training/news-commentary-v12.de-en",
}
LIMITS = Limits(1, 250, 1.5)
VALID_EVERY = 100
# As IWSLT's, but other languages make up more than two thirds of the archives.
GROWTH = 6
# Of WMT'17's data without every hundredth pair, before cleaning and after it, with 40,000 merges.
PUBLISHED = (4_544_200, 3_960_793)
TEST_PAIRS, DEV_PAIRS = 3_003, 3_000
CORPORA_PAIRS = {"wmt14": 4_500_000, "wmt17": 4_600_000}  # rounded, for estimates of time


def archives_of(corpus: str, valid: str) -> list[Archive]:
    """What is downloaded."""
    dev = [DEV] if valid == "newstest2013" else []
    return [EUROPARL, COMMON_CRAWL, NEWS[corpus], *dev, TEST]


def take_text(job: Job, paths: list[Path], corpus: str, valid: str) -> None:
    """The step that takes text out of archives, training corpora one after another."""
    members = ["training/europarl-v7.de-en", "commoncrawl.de-en", NEWS_MEMBER[corpus]]

    def make(folder: Path) -> None:
        for archive, member in zip(paths, members, strict=False):
            unpack_pairs(archive, {side: f"{member}.{side}" for side in LANGUAGES}, folder, "train")
        if valid == "newstest2013":
            names = {side: f"dev/newstest2013.{side}" for side in LANGUAGES}
            unpack_pairs(paths[-2], names, folder, "valid")
        places = {name: folder / f"{side}.sgm" for side, name in TEST_MEMBERS.items()}
        unpack(paths[-1], places)
        for side, name in TEST_MEMBERS.items():
            write_lines(folder / f"test.{side}", map(one_space, segments(lines_of(places[name]))))
            places[name].unlink()
        test = Corpus(folder, "test", LANGUAGES)
        check_parallel(test, TEST.name, *map(count_lines, test.paths))

    job.steps.run("text", "unpacking", make)


def unpack_pairs(archive: Path, names: dict[str, str], folder: Path, part: str) -> None:
    """Add a corpus of an archive to a part; its sides must be parallel by themselves."""
    places = {name: folder / f"member.{side}" for side, name in names.items()}
    unpack(archive, places)
    counted = []
    for side, name in names.items():
        with (folder / f"{part}.{side}").open("a", encoding="utf-8", newline="\n") as out:
            count = 0
            for line in lines_of(places[name]):
                # carriage returns and the like would be ends of lines to fairseq
                out.write(f"{one_space(line)}\n")
                count += 1
        counted.append(count)
        places[name].unlink()
    check_parallel(Corpus(folder, part, LANGUAGES), archive.name, *counted)


def check_parallel(corpus: Corpus, origin: str, source: int, target: int) -> None:
    """Refuse sides that cannot belong together, before hours of work."""
    if source != target or not source:
        raise RecipeError(
            f"{origin}: {source:,} lines of {corpus.languages[0]} and {target:,} of "
            f"{corpus.languages[1]}; the two sides must be parallel"
        )
    say(f"{origin}: {source:,} pairs")


def take_references(job: Job) -> None:
    """The step that keeps the test set as sacreBLEU has it."""

    def make(folder: Path) -> None:
        for path in job.corpus("text", "test").paths:
            convert(path, folder / path.name, str)

    job.steps.run("reference", "keeping the test set's plain text", make)


def treat(job: Job, name: str) -> None:
    """The step that does to every part what its protocol does."""

    def make(folder: Path) -> None:
        for path in sorted(job.steps.path("text").iterdir()):
            training = path.stem == "train"
            if job.protocol == "raw":
                same_file(path, folder / path.name)
                continue
            treatment = Treatment(
                path.suffix[1:], split_dashes=True, normalise=training, straighten=not training
            )
            map_file(treatment, path, folder / path.name, job.workers, path.name)

    what = "tokenising" if job.protocol == "tokenised" else "taking the text as it is written"
    job.steps.run(name, what, make)


def split(job: Job) -> None:
    """The step that puts every hundredth training pair aside, as fairseq's preparation does."""

    def make(folder: Path) -> None:
        train, valid = (Corpus(folder, part, LANGUAGES) for part in ("train", "valid"))
        split_every(job.corpus("whole", "train"), train, valid, VALID_EVERY)
        for path in job.corpus("whole", "test").paths:
            same_file(path, folder / path.name)

    job.steps.run("corpus", "every hundredth pair for validation", make)


def clean_subwords(job: Job, valid: str) -> None:
    """The step that leaves out pairs by their numbers of subwords; never of official sets."""

    def make(folder: Path) -> None:
        for part in PARTS:
            cut_part, kept = job.corpus("cut", part), Corpus(folder, part, LANGUAGES)
            if part == "train" or (part == "valid" and valid == "hundredth"):
                before, after = clean(cut_part, kept, LIMITS)
                say(f"{part}: {after:,} of {before:,} pairs have 1 to 250 subwords and ratio 1.5")
            else:
                for path in cut_part.paths:
                    same_file(path, folder / path.name)

    job.steps.run("subword", "cleaning", make)


def counts(job: Job, corpus: str, valid: str) -> list[Count]:
    """What came out, beside what was published of it."""
    comparable = (corpus, valid, job.protocol) == ("wmt17", "hundredth", "tokenised")
    before, after = PUBLISHED if comparable else (None, None)
    train = job.corpus("subword", "train").paths
    found = [
        Count(
            "train, pairs before cleaning",
            count_lines(job.corpus("corpus", "train").paths[0]),
            before,
        ),
        Count("train, pairs", count_lines(train[0]), after if job.subwords == 40_000 else None),
    ]
    dev = DEV_PAIRS if valid == "newstest2013" else None
    for part, published in (("valid", dev), ("test", TEST_PAIRS)):
        found.append(
            Count(f"{part}, pairs", count_lines(job.corpus("subword", part).paths[0]), published)
        )
    for path, side in zip(train, LANGUAGES, strict=True):
        found.append(Count(f"train, tokens {side}", lines_and_words(path)[1]))
    found.append(
        Count("dictionary, types", types(job.steps.path("data-bin") / f"dict.{TARGET}.txt"))
    )
    return found


def works(corpus: str, valid: str, protocol: str) -> list[Work]:
    """The steps, with times on one core; see the README for what they were measured on."""

    def million(seconds: float) -> float:
        return seconds * CORPORA_PAIRS[corpus] / 1e6

    name = "corpus" if valid == "newstest2013" else "whole"
    if protocol == "tokenised":
        treated = Work(name, "normalise, tokenise by sacremoses", million(310), True)
    else:
        treated = Work(name, "text as it is", 1, False)
    splitting = [] if name == "corpus" else [
        Work("corpus", "every hundredth pair for validation", million(5), False)
    ]  # fmt: skip
    return [
        Work("text", "unpack", million(15), False),
        Work("reference", "keep the test set's plain text", 1, False),
        treated,
        *splitting,
        Work("learned", "learn joint subwords", million(60) + 622, False),
        Work("cut", "cut into subwords", million(210), True),
        Work("subword", "clean (1 to 250 subwords, ratio 1.5)", million(10), False),
        Work("data-bin", "fairseq-preprocess", million(450), True),
    ]


def main() -> None:
    made = parser(__doc__)
    made.add_argument("--corpus", required=True, choices=sorted(NEWS))
    made.add_argument("--valid", required=True, choices=["newstest2013", "hundredth"])
    args = made.parse_args()
    job = job_of(args, LANGUAGES, GROWTH)
    archives = archives_of(args.corpus, args.valid)
    if args.dry_run:
        print(describe(job, archives, works(args.corpus, args.valid, job.protocol)))
        return
    take_text(job, job.obtain(archives), args.corpus, args.valid)
    take_references(job)
    if args.valid == "newstest2013":
        treat(job, "corpus")
    else:
        treat(job, "whole")
        split(job)
    cut(job, learn_subwords(job), "cut")
    clean_subwords(job, args.valid)
    binarise(job)
    print(table(counts(job, args.corpus, args.valid)))
    finish(job)


if __name__ == "__main__":
    run(main)
