"""The command ``tsa-fairseq``: which subcommands it has, and how one of them is run.

Every training begins with ``$(tsa-fairseq path)``, so that a subcommand is imported only when it is
asked for, and torch and fairseq only for one that needs them.
"""

import argparse
import logging
import os
import signal
import sys
import threading
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import NamedTuple

import tsa_fairseq
from tsa_fairseq.cli.progress import nobody_reads
from tsa_fairseq.errors import UsageError, visible


class _Ended(BaseException):
    """SIGTERM came: what is half-written is taken away, as at Ctrl-C."""


class Subcommand(NamedTuple):
    """A module of this folder, by its name: its line in ``--help``; whether it needs fairseq.

    ``add_options(parser)`` of that module sets the default ``run``: a function of the arguments
    that returns what to print, or None if it has printed itself.
    """

    help: str
    needs_fairseq: bool = True


SUBCOMMANDS = {
    "path": Subcommand("print the directory for fairseq's --user-dir", needs_fairseq=False),
    "tree": Subcommand("draw a tree, with its parameters and training cost", needs_fairseq=False),
    "average": Subcommand("write the mean of several checkpoints"),
    "export": Subcommand("write a leaf for fairseq without the plugin, or for CTranslate2"),
    # an export to CTranslate2 takes neither torch nor fairseq: it sees to them itself
    "translate": Subcommand("translate standard input", needs_fairseq=False),
    # text files and logs take neither
    "compare": Subcommand("say which system is better, and how sure that is", needs_fairseq=False),
    "report": Subcommand("write a page about finished trainings", needs_fairseq=False),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand; 0 on success, 1 with one line on standard error for bad input.

    130 and 143 if it was ended by Ctrl-C or SIGTERM, with one line, too.
    """
    argv = sys.argv[1:] if argv is None else argv
    try:
        with _ended_in_order():
            args = build_parser(argv).parse_args(argv)
            run: Callable[[Namespace], str | None] = args.run
            with _quiet():
                said = run(args)
    except KeyboardInterrupt:
        print("tsa-fairseq: interrupted", file=sys.stderr)
        return 130
    except _Ended:
        print("tsa-fairseq: ended by SIGTERM", file=sys.stderr)
        return 143
    except UsageError as error:
        print(f"tsa-fairseq: {error.code}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        if error.name != "fairseq":
            raise
        print(f"tsa-fairseq: error: {error}", file=sys.stderr)
        return 1
    if said is not None:
        try:
            print(visible(said), flush=True)
        except BrokenPipeError:
            nobody_reads()
    return 0


def build_parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """A parser that knows all subcommands, and the options of the one that ``argv`` asks for."""
    parser = argparse.ArgumentParser(prog="tsa-fairseq", description=tsa_fairseq.__doc__)
    parser.add_argument("--version", action="version", version=tsa_fairseq.__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    # no option that stands before the subcommand takes a value
    asked = next((word for word in argv if not word.startswith("-")), None)
    for name, subcommand in SUBCOMMANDS.items():
        subparser = commands.add_parser(name, help=subcommand.help)
        if name == asked:
            if subcommand.needs_fairseq:
                tsa_fairseq.register()
            import_module(f"tsa_fairseq.cli.{name}").add_options(subparser)
    return parser


# Who says things while models are loaded and run, or pages drawn.
_LOUD = ("fairseq", "matplotlib", "sacrebleu", tsa_fairseq.__name__)


def _end(*_: object) -> None:
    raise _Ended


def _forked() -> None:
    """sacreBLEU ends its workers by the signal, at which they must neither say anything nor, if it
    comes while they begin to wait for work, go on waiting.
    """
    if signal.getsignal(signal.SIGTERM) is _end:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


os.register_at_fork(after_in_child=_forked)


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """SIGTERM raises an exception, unless the process does something of its own with it."""
    of_ours = (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    )
    if not of_ours:
        yield
        return

    signal.signal(signal.SIGTERM, _end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what fairseq and torch say while models are loaded and run, but for warnings."""
    loggers = [logging.getLogger(name) for name in _LOUD]
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


if __name__ == "__main__":
    sys.exit(main())
