"""A queue of training runs that a machine works off over days, and what came out.

    python scripts/study.py run examples/multi30k/study/runs.toml --out runs/study --hours 8
    python scripts/study.py status examples/multi30k/study/runs.toml --out runs/study
    python scripts/study.py table examples/multi30k/study/results.csv
    python scripts/study.py plot examples/multi30k/study/results.csv --out examples/multi30k/study

Interrupted in any way, the same call goes on with the same runs, and ends where it would have.
"""

import argparse
import logging
import sys
from pathlib import Path

from studies.errors import StudyError
from studies.listing import read_listing
from studies.place import Place
from studies.plot import draw
from studies.queue import Queue
from studies.runner import Runner, say
from studies.status import status
from studies.table import markdown


def rows_file(args: argparse.Namespace) -> Path:
    """The file of results: beside the list unless it is named."""
    return Path(args.results).resolve() if args.results else Path(args.list).parent / "results.csv"


def queue(args: argparse.Namespace) -> Queue:
    """The runs that were asked for."""
    listing = read_listing(Path(args.list))
    chosen = listing.choose(args.only, "--only")
    retried = listing.choose(args.retry, "--retry") if args.retry else []
    place = Place(Path(args.out).resolve())
    rows = rows_file(args)
    return Queue(listing, chosen, place, rows, args.device, {run.id for run in retried})


def run(args: argparse.Namespace) -> None:
    """Work off the queue."""
    if args.jobs < 1:
        raise StudyError(f"--jobs: got {args.jobs}; expected 1 or more")
    if not args.hours > 0:
        raise StudyError(f"--hours: got {args.hours:g}; expected more than 0")
    if args.device not in ("cpu", "cuda"):
        raise StudyError(f"--device: got '{args.device}'; expected one of cpu, cuda")
    corpus = Path(args.data).resolve() if args.data else None
    if corpus is not None and not corpus.is_dir():
        raise StudyError(f"--data: no such directory: {args.data}")
    say(Runner(queue(args), args.jobs, args.hours, corpus, args.poll).work())


def show(args: argparse.Namespace) -> None:
    """How far each run has come."""
    print(status(queue(args)))


def tables(args: argparse.Namespace) -> None:
    """What came out, as Markdown."""
    print(markdown(_there(args.rows)), end="")


def plots(args: argparse.Namespace) -> None:
    """What came out, as two pictures."""
    for path in draw(_there(args.rows), Path(args.out)):
        print(path)


def _there(rows: str) -> Path:
    if not Path(rows).is_file():
        raise StudyError(f"RESULTS: no such file: {rows}")
    return Path(rows)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = made.add_subparsers(required=True, metavar="COMMAND")
    runs = commands.add_parser("run", help="train, evaluate and add a row for every run")
    state = commands.add_parser("status", help="how far each run has come")
    for one in (runs, state):
        one.add_argument("list", metavar="LIST", help="the TOML file of protocols and runs")
        one.add_argument("--out", required=True, metavar="DIR", help="checkpoints, logs and data")
        one.add_argument("--only", nargs="+", metavar="NAME", help="these runs alone")
        one.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
        one.add_argument("--results", metavar="CSV", help="default: results.csv beside LIST")
    runs.add_argument(
        "--retry", nargs="+", metavar="NAME", help="failed runs that go on where they were"
    )
    runs.add_argument("--jobs", type=int, default=2, help="at a time (default: %(default)s)")
    runs.add_argument("--hours", type=float, default=1e6, help="then stop (default: never)")
    runs.add_argument("--data", metavar="DIR", help="a copy of Multi30k, not to download it")
    runs.add_argument("--poll", type=float, default=2.0, help=argparse.SUPPRESS)
    runs.set_defaults(do=run)
    state.set_defaults(do=show, retry=None)
    table = commands.add_parser("table", help="print the tables of finished runs")
    plot = commands.add_parser("plot", help="draw gain against computing and disagreement")
    plot.add_argument("--out", required=True, metavar="DIR", help="for the two SVG files")
    for one, do in ((table, tables), (plot, plots)):
        one.add_argument("rows", metavar="RESULTS", help="the CSV file of rows")
        one.set_defaults(do=do)
    return made


def main() -> int:
    """Do what was asked; 1 and one line for what cannot be done."""
    args = parser().parse_args()
    for loud in ("matplotlib", "sacrebleu"):  # of which fonts, and what is being resampled
        logging.getLogger(loud).setLevel(logging.WARNING)
    try:
        args.do(args)
    except StudyError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        say("stopped; the same call goes on")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
