"""``tsa-fairseq report``: one page that shows what was compared, and why that is the answer."""

import shlex
import sys
from argparse import ArgumentParser, Namespace
from functools import partial
from pathlib import Path

from tsa_fairseq.cli.compare_flags import add_compare_flags
from tsa_fairseq.cli.progress import progress
from tsa_fairseq.errors import UsageError
from tsa_fairseq.files.folders import check_file
from tsa_fairseq.files.names import CARD
from tsa_fairseq.files.signed import is_signed, signed
from tsa_fairseq.files.whole import write_file


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

    outs = [args.out] + ([str(Path(args.card) / CARD)] if args.card is not None else [])

    def check(out: str) -> None:
        kind, flag = ("page", "OUT.html") if out == args.out else ("card", "--card")
        check_file(out, args.force, [], kind, is_signed, flag)

    for out in outs:
        check(out)
    from tsa_fairseq.cli.comparing import compared
    from tsa_fairseq.report.card import card, find_export
    from tsa_fairseq.report.page import page
    from tsa_fairseq.report.plots import check_matplotlib

    check_matplotlib()
    if args.card is not None:
        find_export(args.card)
    systems, found = compared(args, args.runs, "RUN", needed=False)
    for warning in found.warnings if found is not None else ():
        progress(f"warning: {warning}")
    texts = [signed(page(systems, found, shlex.join(["tsa-fairseq", *sys.argv[1:]])))]
    if args.card is not None:
        texts.append(signed(card(args.card, systems, found)))
    for out, text in zip(outs, texts, strict=True):
        write_file(out, partial(_write, text), partial(check, out))
    return "\n".join(
        f"{out}: {len(text.encode()):,} bytes" for out, text in zip(outs, texts, strict=True)
    )


def _write(text: str, path: str) -> None:
    Path(path).write_text(text, encoding="utf-8")
