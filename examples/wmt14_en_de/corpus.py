"""WMT'14 or WMT'17 English to German, from their archives to binarised data.

Called by prepare.sh. The tokenised protocol is that of the literature, as fairseq's preparation
defines it, but for the validation set; the raw one keeps text as it was written.
"""

from pathlib import Path

from recipe.counts import Count, lines_and_words, table, tell, types
from recipe.download import Archive
from recipe.errors import run, say
from recipe.job import PARTS, Job, binarise, cut, finish, job_of, learn_subwords, parser
from recipe.markup import one_space, segments
from recipe.moses import Treatment
from recipe.pairs import Corpus, Limits, check_parallel, clean, split_every
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
TEST = Archive("test-full.tgz", (TEST_SET.data or [])[0], None, {"md5": (TEST_SET.md5 or [])[0]})
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


def take_text(job: Job, corpus: str, valid: str) -> None:
    """The step that takes text out of archives, training corpora one after another."""
    archives = archives_of(corpus, valid)
    paths = job.obtain(archives)
    members = ["training/europarl-v7.de-en", "commoncrawl.de-en", NEWS_MEMBER[corpus]]

    def make(folder: Path) -> None:
        for archive, member in zip(paths, members, strict=False):
            names = {side: f"{member}.{side}" for side in LANGUAGES}
            unpack_pairs(job, archive, names, folder / "train")
        if valid == "newstest2013":
            names = {side: f"dev/newstest2013.{side}" for side in LANGUAGES}
            unpack_pairs(job, paths[-2], names, folder / "valid")
        places = {name: folder / f"{side}.sgm" for side, name in TEST_MEMBERS.items()}
        job.unpack(paths[-1], places)
        for side, name in TEST_MEMBERS.items():
            write_lines(folder / f"test.{side}", map(one_space, segments(lines_of(places[name]))))
            places[name].unlink()
        sides = Corpus(folder, "test", LANGUAGES).paths
        check_parallel(TEST.name, LANGUAGES, *map(count_lines, sides))
        job.record(archives, paths)

    job.steps.run("text", "unpacking", make)


def unpack_pairs(job: Job, archive: Path, names: dict[str, str], part: Path) -> None:
    """Add a corpus of an archive to a part; its sides must be parallel by themselves."""
    places = {name: part.with_name(f"member.{side}") for side, name in names.items()}
    job.unpack(archive, places)
    counted = []
    for side, name in names.items():
        with part.with_name(f"{part.name}.{side}").open("a", encoding="utf-8", newline="\n") as out:
            count = 0
            for line in lines_of(places[name]):
                # carriage returns and the like would be ends of lines to fairseq
                out.write(f"{one_space(line)}\n")
                count += 1
        counted.append(count)
        places[name].unlink()
    check_parallel(archive.name, LANGUAGES, *counted)


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


def pair_counts(job: Job, corpus: str, valid: str) -> list[Count]:
    """Pairs before cleaning; the published figure is of what fairseq's preparation makes."""
    return [
        Count(
            "train, pairs before cleaning",
            count_lines(job.corpus("corpus", "train").paths[0]),
            PUBLISHED[0] if _as_published(job, corpus, valid) else None,
        ),
        Count(
            "valid, pairs before cleaning" if valid == "hundredth" else "valid, pairs",
            count_lines(job.corpus("corpus", "valid").paths[0]),
            DEV_PAIRS if valid == "newstest2013" else None,
        ),
        Count("test, pairs", count_lines(job.corpus("corpus", "test").paths[0]), TEST_PAIRS),
    ]


def _as_published(job: Job, corpus: str, valid: str) -> bool:
    return (corpus, valid, job.protocol) == ("wmt17", "hundredth", "tokenised")


def clean_counts(job: Job, corpus: str, valid: str) -> list[Count]:
    """Pairs and subwords that training has."""
    train = job.corpus("subword", "train").paths
    same = _as_published(job, corpus, valid) and job.subwords == 40_000
    found = [Count("train, pairs", count_lines(train[0]), PUBLISHED[1] if same else None)]
    for path, side in zip(train, LANGUAGES, strict=True):
        found.append(Count(f"train, tokens {side}", lines_and_words(path)[1]))
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
    if args.dry_run:
        archives = archives_of(args.corpus, args.valid)
        print(describe(job, archives, works(args.corpus, args.valid, job.protocol)))
        return
    take_text(job, args.corpus, args.valid)
    take_references(job)
    if args.valid == "newstest2013":
        treat(job, "corpus")
    else:
        treat(job, "whole")
        split(job)
    found = tell(pair_counts(job, args.corpus, args.valid))
    cut(job, learn_subwords(job), "cut")
    clean_subwords(job, args.valid)
    found += tell(clean_counts(job, args.corpus, args.valid))
    binarise(job)
    dictionary = job.steps.path("data-bin") / f"dict.{TARGET}.txt"
    found += tell([Count("dictionary, types", types(dictionary))])
    say("all counts")
    print(table(found))
    finish(job)


if __name__ == "__main__":
    run(main)
