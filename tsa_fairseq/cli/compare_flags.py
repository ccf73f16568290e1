"""Flags that say what is compared with what, and how: of ``compare`` and ``report``."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from functools import partial

from tsa_fairseq.cli.progress import progress
from tsa_fairseq.errors import UsageError, check_choice

QUESTIONS = ("sentences", "seeds")
METRICS = ("bleu", "chrf", "ter", "comet")


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
        default=METRICS[:3],
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
        help="of --translate and --leaves, if none lies beside the checkpoint",
    )


def compared(args: Namespace, texts: Sequence[str], flag: str, needed: bool = True):  # type: ignore[no-untyped-def]
    """The systems, and their comparison if all have translations (else None).

    Args:
        args: with these flags.
        texts: systems, as the command line has them.
        flag: what they are called there.
        needed: whether it is an error if one has no translations.

    Raises:
        UsageError: a flag, a file or a system that cannot be used.
    """
    _check_flags(args)
    # numpy and sacreBLEU, for which --help need not wait
    from tsa_fairseq.evidence import comparison
    from tsa_fairseq.evidence.lines import read_lines
    from tsa_fairseq.evidence.systems import read_systems
    from tsa_fairseq.evidence.test_set import find_test_set, read_data
    from tsa_fairseq.evidence.translating import translate

    data = (args.data, args.subset or "test") if args.data else None
    options = {"subwords": args.subwords}
    make = None
    if args.translate:
        sources = read_lines(args.source, "--source") if args.source else read_data(*data)[0]
        make = partial(translate, sources=sources, say=progress, options=options)
    systems = read_systems(texts, flag, make, needed)
    baseline = systems[0].name if args.baseline is None else args.baseline
    if baseline not in [system.name for system in systems]:
        systems = [*read_systems([baseline], "--baseline", make, needed), *systems]
        baseline = systems[0].name
        if baseline in [system.name for system in systems[1:]]:
            raise UsageError(
                f"--baseline: '{args.baseline}' is called '{baseline}', as a system is; expected "
                "names: NAME=PATH"
            )
    if not all(seed.hypotheses for system in systems for seed in system.seeds):
        return systems, None
    if len(systems) < 2 and not needed:
        return systems, None
    test = find_test_set(args.reference, args.source, data, systems, flag)
    trials = {} if args.trials is None else {"resamples": args.trials, "trials": args.trials}
    settings = comparison.Settings(
        tuple(args.metrics), args.tokenize, args.lowercase, question=args.question, **trials
    )
    training = read_lines(args.training_text, "--training-text") if args.training_text else None
    found = comparison.compare(systems, baseline, test, settings, training)
    if args.leaves:
        found.leaves.extend(_leaves(found, options))
    return systems, found


def _leaves(found, options):  # type: ignore[no-untyped-def]
    from tsa_fairseq.evidence.leaves import is_grown, leaves
    from tsa_fairseq.evidence.translating import translate

    trees = [system for system in found.systems if is_grown(system)]
    if not trees:
        raise UsageError(
            "--leaves: no system is a tree of several leaves; expected the folder of a tree's "
            "training, with its log and a checkpoint"
        )
    for system in trees:
        run = system.seeds[0].run

        def with_leaf(way: str, run=run) -> list[str]:  # type: ignore[no-untyped-def]
            return translate(run, found.test.sources, progress, options, way)

        yield leaves(system, found.judged[0].measure, with_leaf)


def _check_flags(args: Namespace) -> None:
    check_choice("--question", args.question, QUESTIONS)
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
