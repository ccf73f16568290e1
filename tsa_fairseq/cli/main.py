"""The command ``tsa-fairseq``."""

import argparse
import logging
import sys
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import tsa_fairseq
from tsa_fairseq.cli.export import add_export, progress
from tsa_fairseq.cli.tree import add_tree
from tsa_fairseq.deploy.averaging import average, best, newest
from tsa_fairseq.errors import UsageError
from tsa_fairseq.files.folders import check_file, save, write_file


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; 0 on success, 1 with one line on standard error for bad input."""
    args = _parser().parse_args(argv)
    run: Callable[[Namespace], str] = args.run
    try:
        with _quiet():
            said = run(args)
    except UsageError as error:
        print(f"tsa-fairseq: {error.code}", file=sys.stderr)
        return 1
    print(said)
    return 0


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what fairseq and torch say while models are loaded and run, but for warnings."""
    loggers = [logging.getLogger(name) for name in ("fairseq", tsa_fairseq.__name__)]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        # torch's, of how fairseq calls it
        warnings.filterwarnings("ignore", category=UserWarning, module="torch")
        try:
            for logger in loggers:
                logger.setLevel(logging.WARNING)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def plugin_path(_: Namespace) -> str:
    """The directory to give to fairseq's ``--user-dir``."""
    return str(Path(tsa_fairseq.__file__).resolve().parent)


def average_checkpoints(args: Namespace) -> str:
    """Write the mean of several checkpoints.

    Raises:
        UsageError: files that do not fit each other, too few of them, or an OUT that exists.
    """

    paths, choose = args.inputs, {"--last": args.last, "--best": args.best}

    def check() -> None:
        check_file(args.out, args.force, paths)

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
    write_file(args.out, lambda path: save(state, path), check)
    names = ", ".join(Path(path).name for path in paths)
    return f"{args.out}: the mean of {_checkpoints(len(paths))}, {names}"


def _checkpoints(number: int) -> str:
    return "1 checkpoint" if number == 1 else f"{number} checkpoints"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tsa-fairseq", description=tsa_fairseq.__doc__)
    parser.add_argument("--version", action="version", version=tsa_fairseq.__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    path = commands.add_parser("path", help="print the directory for fairseq's --user-dir")
    path.set_defaults(run=plugin_path)

    add_tree(commands)
    mean = commands.add_parser("average", help="write the mean of several checkpoints")
    mean.add_argument("out", metavar="OUT", help="a new file")
    mean.add_argument(
        "inputs", metavar="INPUT", nargs="+", help="checkpoints, or the folder they are in"
    )
    mean.add_argument("--last", type=int, metavar="N", help="of a folder, the last N")
    mean.add_argument(
        "--best", type=int, metavar="N", help="of a folder, the N with the best validation score"
    )
    mean.add_argument("--force", action="store_true", help="replace OUT")
    mean.set_defaults(run=average_checkpoints)

    add_export(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
