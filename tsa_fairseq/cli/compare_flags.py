"""Flags that say what is compared with what, and how: of ``compare`` and ``report``."""

from argparse import ArgumentParser, Namespace

from tsa_fairseq.errors import UsageError, check_choice
from tsa_fairseq.evidence.choices import DEFAULT_METRICS, METRICS, QUESTIONS


def add_compare_flags(parser: ArgumentParser) -> None:
    """All of them."""
    parser.add_argument(
        "--baseline",
        metavar="SYSTEM",
        help="the name of one of them, or another one (default: the first)",
    )
    parser.add_argument(
        "--reference",
        metavar="FILE",
        nargs="+",
        action="extend",
        default=[],
        help="one or several (default: of --data, or what fairseq-generate printed)",
    )
    parser.add_argument("--source", metavar="FILE", help="a line a sentence, as the references")
    parser.add_argument("--data", metavar="DIR", help="what fairseq-preprocess made, for both")
    parser.add_argument("--subset", metavar="NAME", help="of --data (default: test)")
    parser.add_argument(
        "--training-text",
        metavar="FILE",
        help="of the target side, to tell frequent words from rare ones",
    )
    parser.add_argument(
        "--metrics",
        metavar="NAME",
        nargs="+",
        action="extend",
        help=f"of {', '.join(METRICS)}; the first decides (default: bleu chrf ter)",
    )
    parser.add_argument(
        "--tokenize",
        metavar="NAME",
        default="13a",
        help="sacreBLEU's tokenizer for BLEU; none for tokenised text (default: %(default)s)",
    )
    parser.add_argument("--lowercase", action="store_true", help="disregard case")
    parser.add_argument(
        "--trials",
        type=int,
        metavar="N",
        help="of each test over sentences (default: sacreBLEU's, 1,000 resamples of the bootstrap "
        "and 10,000 of the randomisation)",
    )
    parser.add_argument(
        "--question",
        metavar="|".join(QUESTIONS),
        help="would another test set (sentences) or another seed say the same "
        "(default: all that the data can answer)",
    )
    parser.add_argument(
        "--translate",
        action="store_true",
        help="translate --source with the models of runs and exports without translations",
    )
    parser.add_argument(
        "--leaves",
        action="store_true",
        help="of every tree that is a run's folder, translate --source with each leaf",
    )
    parser.add_argument(
        "--subwords",
        metavar="FILE",
        nargs="+",
        action="extend",
        help="of --translate and --leaves, if none lies beside the checkpoint",
    )


def check_compare_flags(args: Namespace) -> None:
    """Complete the flags, and refuse what makes no sense, before anything is read.

    Raises:
        UsageError: one of them.
    """
    check_choice("--question", args.question, QUESTIONS)
    args.metrics = args.metrics or list(DEFAULT_METRICS)
    for metric in args.metrics:
        if metric not in METRICS:
            raise UsageError(f"--metrics: got '{metric}'; expected some of {', '.join(METRICS)}")
    if args.trials is not None and args.trials < 1:
        raise UsageError(f"--trials: got {args.trials}; expected 1 or more")
    if args.subset and not args.data:
        raise UsageError(f"--subset: got '{args.subset}'; expected --data, too")
    for flag, given in (("--translate", args.translate), ("--leaves", args.leaves)):
        if given and not (args.source or args.data):
            raise UsageError(f"{flag}: takes text to translate; expected --source or --data, too")
    if args.subwords and not (args.translate or args.leaves):
        raise UsageError("--subwords: expected --translate or --leaves, too")
