"""All trees of several runs of the demo in a Markdown table; compare.sh makes the runs.

python compare.py --run DIR [DIR ...]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import report
import results as demo

from tsa_fairseq.objectives import OBJECTIVES


def comparison(runs: Sequence[Path]) -> list[str]:
    """A Markdown table, one row a method: BLEU of every run, training time beside the plain one.

    Raises:
        DemoError: the runs differ in more than their seed, or one lacks a tree of another.
    """
    settings = [report.read_settings(run) for run in runs]
    for run, other in zip(runs, settings, strict=True):
        different = {n for n, v in other.items() if v != settings[0].get(n)} - {"seed"}
        if different:
            raise demo.DemoError(
                f"--run: '{run}' differs from the first in {', '.join(sorted(different))}"
            )
    trained = [
        [
            name
            for name in (demo.DEFAULT_OBJECTIVE, *OBJECTIVES)
            if (run / f"tree{demo.suffix(name)}" / "trained").exists()
        ]
        for run in runs
    ]
    for name in {name for names in trained for name in names}:
        for run, names in zip(runs, trained, strict=True):
            if name not in names:
                raise demo.DemoError(f"--run: '{run}' has no tree of {name}")
    found = [demo.read_results(run, trained[0]) for run in runs]
    seeds = ", ".join(f"seed {other['seed']}" for other in settings)
    lines = [f"| method | BLEU ({seeds}) | mean | exact | training time |", "|---|---|---|---|---|"]
    rows = []
    for results in zip(*found, strict=True):
        bleu, exact, time = (
            [getattr(r, what) for r in results] for what in ("bleu", "exact", "seconds")
        )
        ratios = [t / run[0].seconds for t, run in zip(time, found, strict=True)]
        name = demo.DEFAULT_OBJECTIVE if results[0].name == "tree" else results[0].name
        cells = [name if name == "plain" else f"`{name}`", ", ".join(f"{b:.1f}" for b in bleu)]
        cells += [f"{sum(bleu) / len(bleu):.1f}", f"{sum(exact) / len(exact):.1%}"]
        rows.append([*cells, ", ".join(f"{ratio:.1f}" for ratio in ratios) + " x plain"])
    lines += [f"| {' | '.join(row)} |" for row in rows]
    lines += ["", f"sacreBLEU {found[0][0].signature}, {len(found[0][0].translations)} sentences; "
              + " ".join(f"{n}={v}" for n, v in settings[0].items() if n != "seed")]  # fmt: skip
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, nargs="+", required=True)
    options = parser.parse_args(arguments)
    try:
        print("\n".join(comparison(options.run)))
        return 0
    except (demo.DemoError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
