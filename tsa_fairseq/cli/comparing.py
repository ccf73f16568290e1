"""What ``compare`` and ``report`` have in common: the systems read, scored and compared."""

from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from tsa_fairseq.cli.compare_flags import check_compare_flags
from tsa_fairseq.cli.progress import progress
from tsa_fairseq.errors import UsageError

try:
    from tsa_fairseq.evidence.comparison import Comparison, Settings, compare
    from tsa_fairseq.evidence.leaves import Leaves, is_grown, leaves
    from tsa_fairseq.evidence.lines import read_lines
    from tsa_fairseq.evidence.systems import System, read_systems
    from tsa_fairseq.evidence.test_set import find_test_set, read_data
    from tsa_fairseq.evidence.translating import translate
except ModuleNotFoundError as error:
    missing = (error.name or "").split(".")[0]
    if missing not in ("numpy", "sacrebleu", "scipy"):
        raise
    raise UsageError(
        f"scores are computed with {missing}, which is not installed: "
        "pip install 'tsa_fairseq[report]'"
    ) from None


def compared(
    args: Namespace, texts: Sequence[str], flag: str, needed: bool = True
) -> tuple[list[System], Comparison | None]:
    """The systems, and their comparison if all have translations.

    Args:
        args: with the flags of :mod:`tsa_fairseq.cli.compare_flags`.
        texts: systems, as the command line has them.
        flag: what they are called there.
        needed: whether it is an error if they cannot be compared.

    Raises:
        UsageError: a flag, a file or a system that cannot be used.
    """
    check_compare_flags(args)
    data = (args.data, args.subset or "test") if args.data else None
    options = {"subwords": args.subwords}
    make = None
    if args.translate:
        sources = _sources(args.source, data)
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
    if needed and len(systems) < 2:
        raise UsageError("SYSTEM: got 1 with the baseline; expected 2 or more to compare")
    if not all(seed.hypotheses for system in systems for seed in system.seeds):
        return systems, None
    test = find_test_set(args.reference, args.source, data, systems, flag)
    training = read_lines(args.training_text, "--training-text") if args.training_text else None
    found = compare(systems, baseline, test, _settings(args), training)
    if args.leaves:
        found.leaves.extend(_leaves(found, options))
    return systems, found


def _sources(file: str | None, data: tuple[str, str] | None) -> list[str]:
    if file is not None:
        return read_lines(file, "--source")
    assert data is not None  # which was asked for with the flag that needs sources
    return read_data(*data)[0]


def _settings(args: Namespace) -> Settings:
    given = {"metrics": tuple(args.metrics), "tokenize": args.tokenize}
    given |= {"lowercase": args.lowercase, "question": args.question}
    if args.trials is not None:
        given |= {"resamples": args.trials, "trials": args.trials}
    return Settings(**given)


def _leaves(found: Comparison, options: Mapping[str, Any]) -> Iterator[Leaves]:
    trees = [system for system in found.systems if is_grown(system)]
    if not trees:
        raise UsageError(
            "--leaves: no system is a tree of several leaves; expected the folder of a tree's "
            "training, with its log and a checkpoint"
        )
    sources = found.test.sources
    assert sources is not None  # --leaves takes --source or --data
    for system in trees:
        run = system.seeds[0].run
        assert run is not None
        of_run = partial(translate, run, sources, progress, options)
        with_leaf: Callable[[str], list[str]] = of_run
        yield leaves(system, found.judged[0].measure, with_leaf)
