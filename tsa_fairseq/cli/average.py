"""``tsa-fairseq average``: the mean of several checkpoints of one training."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from tsa_fairseq.cli.progress import progress
from tsa_fairseq.deploy.averaging import average, best, newest
from tsa_fairseq.deploy.precision import DTYPES, cast, read_dtype
from tsa_fairseq.errors import UsageError, plural
from tsa_fairseq.files.averages import is_average, mark_average
from tsa_fairseq.files.folders import check_file
from tsa_fairseq.files.leftovers import clear
from tsa_fairseq.files.whole import save, write_file


def add_options(parser: ArgumentParser) -> None:
    """The subcommand's options."""
    parser.add_argument("out", metavar="OUT", help="a new file")
    parser.add_argument(
        "inputs", metavar="INPUT", nargs="+", help="checkpoints, or the folder they are in"
    )
    parser.add_argument("--last", type=int, metavar="N", help="of a folder, the last N")
    parser.add_argument(
        "--best", type=int, metavar="N", help="of a folder, the N with the best validation score"
    )
    parser.add_argument(
        "--dtype", metavar="|".join(DTYPES), help="of the parameters (default: float32)"
    )
    parser.add_argument("--force", action="store_true", help="replace OUT")
    parser.set_defaults(run=average_checkpoints)


def average_checkpoints(args: Namespace) -> str:
    """Write the mean of several checkpoints.

    Raises:
        UsageError: files that do not fit each other, too few of them, or an OUT that exists.
    """

    dtype = read_dtype(args.dtype)
    paths, choose = args.inputs, {"--last": args.last, "--best": args.best}

    def check() -> None:
        check_file(args.out, args.force, paths, "average", is_average)

    clear(Path(args.out))
    check()
    given = [flag for flag, number in choose.items() if number is not None]
    if len(paths) == 1 and Path(paths[0]).is_dir():
        if len(given) != 1:
            raise UsageError(f"INPUT: '{paths[0]}' is a folder; expected --last N or --best N")
        number = choose[given[0]]
        paths = (newest if given == ["--last"] else best)(paths[0], number, progress)
        check()
    elif given:
        raise UsageError(f"{given[0]}: takes one folder of checkpoints; expected no file names")
    state = average(paths, progress)
    state = mark_average({**state, "model": cast(state["model"], dtype)}, len(paths))
    write_file(args.out, lambda path: save(state, path), check)
    names = ", ".join(Path(path).name for path in paths)
    return f"{args.out}: the mean of {plural(len(paths), 'checkpoint')}, {names}"
