"""``tsa-fairseq report``: one page that shows what was compared, and why the answer is what it is."""

import shlex
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from tsa_fairseq.cli.compare_flags import add_compare_flags, compared
from tsa_fairseq.cli.progress import progress
from tsa_fairseq.errors import UsageError
from tsa_fairseq.files.folders import check_file, write_file


def add_options(parser: ArgumentParser) -> None:
    """The subcommand's options."""
    parser.add_argument(
        "runs",
        metavar="RUN",
        nargs="+",
        help="as SYSTEM of compare; or a log of fairseq-train, or a folder of TensorBoard's events",
    )
    parser.add_argument("out", metavar="OUT.html", help="a new file")
    add_compare_flags(parser)
    parser.add_argument(
        "--card",
        metavar="EXPORT",
        help="also write a model card, MODEL_CARD.md, into the folder of an export",
    )
    parser.add_argument("--force", action="store_true", help="replace OUT.html and the card")
    parser.set_defaults(run=report)


def report(args: Namespace) -> str:
    """Write the page, and the card.

    Raises:
        UsageError: a flag, a file or a run that cannot be used, or an OUT.html that exists.
    """
    if Path(args.out).suffix not in (".html", ".htm"):
        raise UsageError(f"OUT.html: got '{args.out}'; expected a name that ends in .html")

    def check() -> None:
        check_file(args.out, args.force, [])

    check()
    from tsa_fairseq.report.page import page
    from tsa_fairseq.report.plots import check_matplotlib

    check_matplotlib()
    systems, found = compared(args, args.runs, "RUN", needed=False)
    for warning in found.warnings if found is not None else []:
        progress(f"warning: {warning}")
    command = shlex.join(["tsa-fairseq", *sys.argv[1:]])
    text = page(systems, found, command)
    write_file(args.out, lambda path: _write(path, text), check)
    return f"{args.out}: {len(text.encode()):,} bytes"


def _write(path: str, text: str) -> None:
    Path(path).write_text(text, encoding="utf-8")
