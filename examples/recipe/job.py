"""What one run of a prepare.sh is asked for, and the steps that all recipes end with."""

import argparse
import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from recipe import subwords
from recipe.archives import unpack
from recipe.counts import lines_and_words, types
from recipe.download import WAY_OUT, Archive, obtain, read_sums, record
from recipe.errors import RecipeError, check_space, say
from recipe.pairs import Corpus, Pair
from recipe.parallel import cores
from recipe.progress import duration
from recipe.steps import Steps

PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class Job:
    """The flags of a prepare.sh.

    Args:
        protocol: tokenised or raw.
        languages: source and target.
        growth: bytes that the work takes at its largest, beside the archives, for each of theirs.
        subwords: merges or pieces.
        joined: whether both sides have one dictionary.
        work: where steps are done.
        archives: where downloads are kept.
        copy: archives at hand, or None.
        workers: processes.
        sums: of the copy, by name, instead of the recipe's; or None.
        anew: whether what is in the folder of work will be thrown away.
    """

    protocol: str
    languages: Pair
    growth: int
    subwords: int
    joined: bool
    work: Path
    archives: Path
    copy: Path | None
    workers: int
    sums: dict[str, str] | None = None
    anew: bool = False

    @property
    def steps(self) -> Steps:
        """The steps in the folder of work."""
        return Steps(self.work)

    def corpus(self, folder: str, part: str) -> Corpus:
        """A part of a finished step."""
        return Corpus(self.steps.path(folder), part, self.languages)

    def obtain(self, archives: Sequence[Archive]) -> list[Path]:
        """All archives, checked, and room for what becomes of them; none once text was taken out.

        Who made room on a full disk may have thrown them away.
        """
        self._check_room([self.size(archive) for archive in archives])  # before hours of downloads
        if self.unpacked:
            return []
        paths = [obtain(archive, self.archives, self.copy) for archive in self.held(archives)]
        self._check_room([path.stat().st_size for path in paths])
        return paths

    @property
    def unpacked(self) -> bool:
        """Whether the step that needs archives is done."""
        return not self.anew and self.steps.path("text").is_dir()

    def size(self, archive: Archive) -> int:
        """Bytes of an archive: of the one that is here, else as published; 0 if nobody did."""
        path = (self.copy or self.archives) / archive.name
        return path.stat().st_size if path.is_file() else archive.size or 0

    def _check_room(self, sizes: Sequence[int]) -> None:
        if not self.steps.path("data-bin").exists():
            there = sum(file.stat().st_size for file in self.work.rglob("*") if file.is_file())
            check_space("--out", self.work, self.growth * sum(sizes) - there)

    def held(self, archives: Sequence[Archive]) -> list[Archive]:
        """The archives with the checksums that they are held to here."""
        if self.sums is None:
            return list(archives)
        return [
            Archive(one.name, one.address, None, _known(one.name, self.sums)) for one in archives
        ]

    def unpack(self, archive: Path, wanted: Mapping[str, Path]) -> None:
        """As :func:`recipe.archives.unpack`; of a download, with what can be done about it."""
        try:
            unpack(archive, wanted)
        except RecipeError as error:
            way_out = "" if self.copy is not None else WAY_OUT
            raise RecipeError(f"{error}{way_out}") from None

    def record(self, archives: Sequence[Archive], paths: Sequence[Path]) -> None:
        """Of archives that were unpacked whole and have no published checksum, the one found."""
        for archive, path in zip(self.held(archives), paths, strict=True):
            record(archive, path, self.archives)


def _known(name: str, sums: dict[str, str]) -> dict[str, str]:
    return {"sha256": sums[name]} if name in sums else {}


def parser(description: str | None) -> argparse.ArgumentParser:
    """Of a recipe's program; prepare.sh has checked the values."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--protocol", required=True, choices=sorted(subwords.FILES))
    made.add_argument("--subwords", required=True, type=int)
    made.add_argument("--work", required=True, type=Path)
    made.add_argument("--archives", required=True, type=Path)
    made.add_argument("--from", dest="copy", type=Path)
    made.add_argument("--sums", type=Path)
    made.add_argument("--workers", type=int, default=cores())
    made.add_argument("--joined", action="store_true")
    made.add_argument("--dry-run", action="store_true")
    made.add_argument("--anew", action="store_true")
    return made


def job_of(args: argparse.Namespace, languages: Pair, growth: int) -> Job:
    """What the arguments ask for."""
    sums = None if args.sums is None else read_sums(args.sums)
    return Job(
        args.protocol, languages, growth, args.subwords, args.joined, args.work, args.archives,
        args.copy, args.workers, sums, args.anew,
    )  # fmt: skip


def learn_subwords(job: Job) -> Path:
    """The step that learns them on the training text of both sides; the file."""

    def make(folder: Path) -> None:
        texts = list(job.corpus("corpus", "train").paths)
        subwords.learn(job.protocol, texts, job.subwords, folder, job.workers)

    step = job.steps.run(
        "learned",
        f"learning {job.subwords:,} joint subwords (one core, once words are counted)",
        make,
    )
    return step / subwords.FILES[job.protocol]


def cut(job: Job, model: Path, name: str) -> None:
    """The step that cuts all parts into subwords."""

    def make(folder: Path) -> None:
        for part in PARTS:
            for path in job.corpus("corpus", part).paths:
                subwords.apply(job.protocol, model, path, folder / path.name, job.workers)

    job.steps.run(name, "cutting the text into subwords", make)


def binarise(job: Job) -> None:
    """The step that makes what fairseq reads."""
    source, target = job.languages
    texts = job.steps.path("subword")

    def make(folder: Path) -> None:
        command = ["fairseq-preprocess", "--source-lang", source, "--target-lang", target]
        for part in PARTS:
            command += [f"--{part}pref", str(texts / part)]
        command += ["--destdir", str(folder), "--workers", str(job.workers)]
        _quietly(command + ["--joined-dictionary"] * job.joined, folder)

    job.steps.run("data-bin", "binarising with fairseq-preprocess", make)


def _stage(folder: Path) -> str:
    """What fairseq-preprocess is at: of words that it counts nothing is written."""
    made = 0
    for file in folder.glob("*.bin"):
        with contextlib.suppress(FileNotFoundError):  # a process's, merged and removed meanwhile
            made += file.stat().st_size
    return f"writing, {made / 1e6:,.1f} MB" if made else "counting words"


def _quietly(command: list[str], folder: Path) -> None:
    """Run it; its output is in the folder's log, and shown if it fails."""
    log = folder / "output.log"
    with log.open("w") as out, subprocess.Popen(command, stdout=out, stderr=out) as running:
        began = said = time.monotonic()
        try:
            while running.poll() is None:
                time.sleep(0.2)
                if time.monotonic() - said >= 10:
                    said = time.monotonic()
                    print(f"    {_stage(folder)} after {duration(said - began)}", flush=True)
        except BaseException:
            running.kill()
            raise
    if running.returncode:
        text = log.read_text(errors="replace")
        if "No space left on device" in text:
            raise OSError(28, os.strerror(28))
        print(text, flush=True)
        raise RecipeError(f"{command[0]} failed; its output stands above")


def finish(job: Job) -> None:
    """Put down what the record of a preparation says; what is of no use prepare.sh removes."""
    shutil.copyfile(
        job.steps.path("learned") / subwords.FILES[job.protocol],
        job.work / subwords.FILES[job.protocol],
    )
    target = job.languages[1]
    tokens = lines_and_words(job.corpus("subword", "train").paths[1])[1]
    facts = {
        "types": types(job.steps.path("data-bin") / f"dict.{target}.txt"),
        "tokens": tokens,  # of the target, which is what a batch is measured in
    }
    lines = "".join(f"{key}={value}\n" for key, value in facts.items())
    (job.work / "facts.txt").write_text(lines, encoding="utf-8")
    say("all steps are done")
