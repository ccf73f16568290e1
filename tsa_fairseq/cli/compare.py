"""``tsa-fairseq compare``: which system is better, and what could make that chance."""

from argparse import ArgumentParser, Namespace

from tsa_fairseq.cli.compare_flags import add_compare_flags
from tsa_fairseq.cli.progress import progress
from tsa_fairseq.errors import check_choice
from tsa_fairseq.evidence.choices import FORMATS


def add_options(parser: ArgumentParser) -> None:
    """The subcommand's options."""
    parser.add_argument(
        "systems",
        metavar="SYSTEM",
        nargs="+",
        help="a run's folder, an export's, fairseq-generate's output or a text of translations; "
        "NAME=PATH,PATH,... of several seeds",
    )
    add_compare_flags(parser)
    parser.add_argument(
        "--format",
        default=FORMATS[0],
        metavar="|".join(FORMATS),
        help="default: %(default)s",
    )
    parser.set_defaults(run=compare)


def compare(args: Namespace) -> str:
    """The answer in sentences, and all tables.

    Raises:
        UsageError: a flag, a file or a system that cannot be used.
    """
    check_choice("--format", args.format, FORMATS)
    # numpy and sacreBLEU, for which --help need not wait
    from tsa_fairseq.cli.comparing import compared
    from tsa_fairseq.evidence.answer import answers
    from tsa_fairseq.evidence.formats import write
    from tsa_fairseq.evidence.tables import tables

    _, found = compared(args, args.systems, "SYSTEM")
    assert found is not None
    said = [f"warning: {warning}" for warning in found.warnings]
    if args.format == "csv":  # which has no sentences
        for warning in said:
            progress(warning)
    said += [sentence for sentences in answers(found) for sentence in sentences]
    return write(tables(found), said, args.format)
