"""Scores the demo's models and shows them side by side.

python report.py versions           the packages that results depend on, as NAME=VERSION lines
python report.py table --run DIR [--objective NAME]
                                    the plain model and a tree, also written to DIR/report.txt, or
                                    report-NAME.txt; status 1 if the tree's leaf has learned less
                                    than it should
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from results import (
    DEFAULT_OBJECTIVE,
    DemoError,
    Result,
    corpus_bleu,
    read_deployed,
    read_lines,
    read_results,
    suffix,
)

PACKAGES = ("tsa_fairseq", "fairseq", "torch", "ctranslate2", "sentencepiece", "sacrebleu", "babel")
PACKAGES += ("num2words",)
# The demo's promise. A plain model of this size and training is well above it.
LEAST_BLEU = 60.0
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


def table(results: Sequence[Result]) -> list[str]:
    """The models side by side."""

    def header(result: Result) -> str:
        return (
            f"{result.name}, leaf 0" if result.name != "plain" and result.seconds else result.name
        )

    rows = [
        ("", [header(result) for result in results]),
        ("BLEU", [f"{result.bleu:.1f}" for result in results]),
        ("translated exactly", [f"{result.exact:.1%}" for result in results]),
        ("sentences a second", [f"{result.speed:.0f}" for result in results]),
        ("parameters, inference", [f"{result.inference_parameters:,}" for result in results]),
        ("parameters, training", [f"{r.parameters:,}" if r.parameters else "" for r in results]),
        ("training time", [duration(r.seconds) if r.seconds else "" for r in results]),
        ("weights", [result.weights for result in results]),
        ("file", [f"{result.file.stat().st_size / 1e6:.1f} MB" for result in results]),
    ]
    columns = zip(*(cells for _, cells in rows), strict=True)
    widths = [2 + max(map(len, column)) for column in columns]
    return [f"{name:<22}{''.join(map(str.rjust, cells, widths))}".rstrip() for name, cells in rows]


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


def report(run: Path, settings: dict[str, str], objective: str) -> tuple[str, str | None]:
    """The whole report of a finished run, and what is wrong with its result, if anything."""
    sources, references = (read_lines(run / "data" / f"test.{side}") for side in ("en", "de"))
    results = read_results(run, [objective])
    leaf = results[-1]
    deployed = read_deployed(run, objective)
    shuffled = shuffled_bleu(leaf.translations, references)
    unchanged = corpus_bleu(sources, references)[0]
    wanted = required_bleu(settings["quick"] == "yes", unchanged, shuffled)
    complaint = None
    if not leaf.bleu > wanted:
        complaint = f"the tree's leaf reaches {leaf.bleu:.1f} BLEU; expected more than {wanted:.1f}"
    text = "\n".join(
        [
            *table([*results, *deployed]),
            "",
            f"sacreBLEU {leaf.signature}, {len(references)} sentences",
            f"(for comparison: the source unchanged {unchanged:.1f}; the tree's translations"
            f" against other sentences' references {shuffled:.1f})",
            *(f"{one.name}: {shown_path(one.file)}" for one in (*results, *deployed)),
            " ".join(f"{name}={value}" for name, value in settings.items()),
            "",
            examples(results, sources, references),
        ]
    )
    return text, complaint


def read_settings(run: Path) -> dict[str, str]:
    """What the run remembers of its command and of the versions."""
    return dict(line.split("=", 1) for line in read_lines(run / "run.txt"))


def show_report(run: Path, objective: str) -> int:
    """Prints and writes the report; the exit status."""
    text, complaint = report(run, read_settings(run), objective)
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
    options = parser.parse_args(arguments)
    try:
        if options.command == "table":
            return show_report(options.run, options.objective)
        print("\n".join(f"{name}={version}" for name, version in versions().items()))
        return 0
    except (DemoError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
