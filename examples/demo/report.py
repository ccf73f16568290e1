"""Scores the demo's models and shows them side by side.

python report.py versions           the packages that results depend on, as NAME=VERSION lines
python report.py table --run DIR [--objective NAME] [--made-for N]
                                    the plain model and a tree, also written to DIR/report.txt, or
                                    report-NAME.txt; status 1 if the tree's leaf has learned less
                                    than it should after the N updates that the demo was made for
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from results import (
    DEFAULT_OBJECTIVE,
    DemoError,
    Result,
    corpus_bleu,
    read_deployed,
    read_lines,
    read_results,
    read_together,
    suffix,
)

PACKAGES = ("tsa_fairseq", "fairseq", "torch", "ctranslate2", "sentencepiece", "sacrebleu", "babel")
PACKAGES += ("num2words",)
# The demo's promise. A plain model of this size and training is well above it.
LEAST_BLEU = 50.0
# With --quick there is no promise but that the leaf learned to translate: it has to score this many
# times what one gets without translating, be it the source unchanged (it shares numbers and names
# with the reference) or translations that do not belong to the source (of an untrained model, of
# one that only learned what German looks like, or out of order). Both are measured, not assumed.
LEAST_RATIO = 2.0


def versions() -> dict[str, str]:
    """The installed versions of what results depend on."""
    found = {}
    for package in PACKAGES:
        # fairseq's main branch is distributed under another name, with the same module.
        for name in (package, f"{package}-fixed"):
            try:
                found[package] = importlib.metadata.version(name)
                break
            except importlib.metadata.PackageNotFoundError:
                continue
        else:
            raise DemoError(f"{package} is not installed")
    return found


def shown_path(path: Path) -> str:
    """The path from the current folder if it lies below it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def duration(seconds: float) -> str:
    """83.4 -> 1 min 23 s."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def size(path: Path) -> int:
    """Bytes of a model's file, or of all in a folder."""
    files = path.glob("*/model.pt") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


def table(results: Sequence[Result], spread: Mapping[str, float]) -> list[str]:
    """The models one below the other.

    Args:
        results: what they translated.
        spread: half the width of BLEU's interval, by their names.
    """
    rows = [
        ("", "BLEU", "95 %", "exact", "sentences/s", "parameters", "training", "memory", "file")
    ]
    for one in results:
        training = duration(one.seconds) if one.seconds else ""
        memory = f"{one.memory / 2**20:.0f} MiB" if one.memory else ""
        rows.append(
            (
                one.name,
                f"{one.bleu:.1f}",
                f"± {spread[one.name]:.1f}",
                f"{one.exact:.1%}",
                f"{one.speed:.0f}",
                f"{one.inference_parameters:,}",
                training,
                memory,
                f"{size(one.file) / 1e6:.1f} MB",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    widths[1:] = [2 + width for width in widths[1:]]
    return [
        f"{name:<{widths[0]}}{''.join(map(str.rjust, cells, widths[1:]))}".rstrip()
        for name, *cells in rows
    ]


def compared(run: Path, results: Sequence[Result]) -> tuple[dict[str, float], list[str]]:
    """What `tsa-fairseq compare` makes of them beside the first: half the width of each one's
    interval of BLEU, and what it says of the second.

    Raises:
        DemoError: it failed; the message is its own.
    """
    # In the run's folder, whose own name may have a comma, which parts several paths.
    systems = [f"{one.name}={one.said.relative_to(run)}" for one in results]
    command = ["tsa-fairseq", "compare", *systems, "--source", "data/test.en"]
    command += ["--reference", "data/test.de", "--metrics", "bleu", "--format", "json"]
    done = subprocess.run(command, cwd=run, capture_output=True, text=True)
    if done.returncode != 0:
        last = done.stderr.strip().rpartition("\n")[2]
        raise DemoError(last.removeprefix("tsa-fairseq: error: "))
    found = json.loads(done.stdout)
    spread = {one["system"]: float(one["BLEU 95 %"]["±"]) for one in found["scores"]}
    return spread, found["said"][:2]


def pick_examples(results: Sequence[Result], number: int = 3) -> list[int]:
    """The first sentences, then the first others on which the models differ."""
    size = len(results[0].translations)
    first = list(range(min(number, size)))
    differing = [
        index
        for index in range(len(first), size)
        if len({result.translations[index] for result in results}) > 1
    ]
    return first + differing[:number]


def examples(results: Sequence[Result], sources: Sequence[str], references: Sequence[str]) -> str:
    """A few sentences with their translations, in blocks."""
    blocks = []
    for index in pick_examples(results):
        lines = [("source", sources[index]), ("reference", references[index])]
        lines += [(result.name, result.translations[index]) for result in results]
        width = max(10, *(len(name) for name, _ in lines))
        blocks.append("\n".join(f"{name:<{width}} {text}" for name, text in lines))
    return "\n\n".join(blocks)


def shuffled_bleu(translations: Sequence[str], references: Sequence[str]) -> float:
    """BLEU against the reference of the sentence before: what fits without regard to the source."""
    return corpus_bleu(translations, [references[-1], *references[:-1]])[0]


def required_bleu(quick: bool, unchanged: float, shuffled: float) -> float:
    """What the tree's leaf has to score; see LEAST_BLEU and LEAST_RATIO."""
    return LEAST_RATIO * max(unchanged, shuffled) if quick else LEAST_BLEU


def report(
    run: Path, settings: dict[str, str], objective: str, made_for: int
) -> tuple[str, str | None]:
    """The whole report of a finished run, and what is wrong with its result, if anything."""
    sources, references = (read_lines(run / "data" / f"test.{side}") for side in ("en", "de"))
    plain, leaf = read_results(run, [objective])
    leaf = dataclasses.replace(leaf, name=f"{leaf.name}, leaf 0")
    together = read_together(run, leaf)
    results = [plain, leaf, *together, *read_deployed(run, objective)]
    shuffled = shuffled_bleu(leaf.translations, references)
    unchanged = corpus_bleu(sources, references)[0]
    wanted = required_bleu(settings["quick"] == "yes", unchanged, shuffled)
    spread, said = compared(run, results)
    if together:
        same = sum(map(str.__eq__, *(one.translations for one in together)))
        said.append(f"{together[0].name}, and {together[1].name}: {same} translations are equal.")
    complaint = None
    if not leaf.bleu > wanted and int(settings["updates"]) >= made_for:
        complaint = f"the tree's leaf reaches {leaf.bleu:.1f} BLEU; expected more than {wanted:.1f}"
    text = "\n".join(
        [
            *table(results, spread),
            "",
            *said,
            "",
            f"sacreBLEU {leaf.signature}, {len(references)} sentences",
            f"(for comparison: the source unchanged {unchanged:.1f}; the tree's translations"
            f" against other sentences' references {shuffled:.1f})",
            *(f"{one.name}: {shown_path(one.file)}" for one in results),
            " ".join(f"{name}={value}" for name, value in settings.items()),
            "",
            examples([plain, leaf], sources, references),
        ]
    )
    return text, complaint


def read_settings(run: Path) -> dict[str, str]:
    """What the run remembers of its command and of the versions."""
    return dict(line.split("=", 1) for line in read_lines(run / "run.txt"))


def show_report(run: Path, objective: str, made_for: int) -> int:
    """Prints and writes the report; the exit status."""
    text, complaint = report(run, read_settings(run), objective, made_for)
    target = run / f"report{suffix(objective)}.txt"
    partial = target.with_suffix(".partial")
    partial.write_text(text + "\n", encoding="utf-8")
    os.replace(partial, target)
    print(text)
    if complaint is not None:
        raise DemoError(complaint)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("versions")
    table_parser = commands.add_parser("table")
    table_parser.add_argument("--run", type=Path, required=True)
    table_parser.add_argument("--objective", default=DEFAULT_OBJECTIVE)
    table_parser.add_argument("--made-for", type=int, default=0)
    options = parser.parse_args(arguments)
    try:
        if options.command == "table":
            return show_report(options.run, options.objective, options.made_for)
        print("\n".join(f"{name}={version}" for name, version in versions().items()))
        return 0
    except (DemoError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
