"""The test set: sources, references, and whether the systems translated it and not another one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsa_fairseq.errors import UsageError, plural
from tsa_fairseq.evidence.generated import Generated
from tsa_fairseq.evidence.lines import read_lines
from tsa_fairseq.evidence.systems import Seed, System


@dataclass(frozen=True)
class TestSet:
    """What was to be translated, and how it should have been.

    Args:
        references: one or several, each of a line a sentence.
        sources: of the same length; None if they are not known.
        names: where each reference is from.
    """

    __test__ = False  # pytest takes it for one of its own otherwise

    references: list[list[str]]
    sources: list[str] | None
    names: list[str]

    def __len__(self) -> int:
        return len(self.references[0])


def find_test_set(
    references: Sequence[str],
    source: str | None,
    data: tuple[str, str] | None,
    systems: Sequence[System],
    flag: str,
) -> TestSet:
    """Of the files that were given; or of binarised data; or of what fairseq-generate printed.

    Args:
        references: files.
        source: a file.
        data: a folder of fairseq-preprocess, and the subset.
        systems: what is scored.
        flag: what the systems are called on the command line.

    Raises:
        UsageError: there are none, or they do not fit each other or the systems.
    """
    printed = _printed(systems, flag)
    texts = [read_lines(file, "--reference") for file in references]
    names, sources = list(references), None
    if data is not None:
        found_sources, found = read_data(*data)
        sources = found_sources
        if not texts:
            texts, names = [found], [f"{data[1]} of {data[0]}"]
    elif printed is not None:
        sources = printed.sources
        if not texts and printed.references is not None:
            texts, names = [printed.references], ["fairseq-generate's output"]
    if not texts:
        raise UsageError(
            "--reference: not given, and no system is fairseq-generate's output, which has the "
            "references; expected --reference FILE or --data DIR"
        )
    if source is not None:
        sources = read_lines(source, "--source")
    _check_lengths(texts, names, sources, source)
    test = TestSet(texts, sources, names)
    for system in systems:
        for seed in system.seeds:
            _check_seed(seed, test, flag)
    return test


def read_data(folder: str, subset: str) -> tuple[list[str], list[str]]:
    """Sources and references of what fairseq-preprocess made, without subwords.

    Raises:
        UsageError: there is no such data.
    """
    found = sorted(Path(folder).glob(f"{subset}.*-*.*.idx"))
    pairs = sorted({path.name.split(".")[1] for path in found})
    if len(pairs) != 1:
        has = f"data of {', '.join(pairs)}" if pairs else f"no {subset} data"
        raise UsageError(
            f"--data: '{folder}' has {has}; expected a folder of fairseq-preprocess with "
            f"{subset} of one pair of languages"
        )
    from fairseq.data import data_utils

    from tsa_fairseq.files.binarised import kind_of_data
    from tsa_fairseq.files.dictionaries import read_dictionary
    from tsa_fairseq.files.subwords import kind_of

    sides = []
    for language in pairs[0].split("-"):
        words: Any = read_dictionary(str(Path(folder) / f"dict.{language}.txt"), "--data")
        prefix = str(Path(folder) / f"{subset}.{pairs[0]}.{language}")
        rows: Any = data_utils.load_indexed_dataset(prefix, words, kind_of_data([prefix]))
        if rows is None:
            raise UsageError(f"--data: '{folder}' has no {subset} data of '{language}'")
        kind = kind_of(words.symbols)
        sides.append([words.string(row, kind, escape_unk=True) for row in rows])
    return sides[0], sides[1]


def _printed(systems: Sequence[System], flag: str) -> Generated | None:
    """What fairseq-generate printed beside translations: the same of all systems."""
    known = [
        (seed.file, seed.generated, seed.generated.references)
        for system in systems
        for seed in system.seeds
        if seed.generated is not None and seed.generated.references is not None
    ]
    if not known:
        return None
    first_file, first, ours = known[0]
    for file, _, theirs in known[1:]:
        if theirs == ours:
            continue
        if len(theirs) != len(ours):
            differ = f"{len(theirs):,} against {len(ours):,}"
        else:
            pairs = enumerate(zip(ours, theirs, strict=True), 1)
            line = next(number for number, (one, other) in pairs if one != other)
            differ = f"the first at sentence {line}"
        raise UsageError(
            f"{flag}: '{file}' was translated beside other references than '{first_file}' "
            f"({differ}); expected one test set"
        )
    return first


def _check_lengths(
    texts: list[list[str]], names: list[str], sources: list[str] | None, source: str | None
) -> None:
    size = len(texts[0])
    for text, name in zip(texts, names, strict=True):
        if len(text) != size:
            raise UsageError(
                f"--reference: '{name}' has {plural(len(text), 'line')}, "
                f"'{names[0]}' {size:,}; expected as many"
            )
    if sources is not None and len(sources) != size:
        named = f"--source: '{source}'" if source else "--data: its source"
        raise UsageError(
            f"{named} has {plural(len(sources), 'line')}, the reference '{names[0]}' {size:,}; "
            "expected as many"
        )


def _check_seed(seed: Seed, test: TestSet, flag: str) -> None:
    if not seed.hypotheses:
        return
    if len(seed.hypotheses) != len(test):
        raise UsageError(
            f"{flag}: '{seed.file or seed.path}' has "
            f"{plural(len(seed.hypotheses), 'translation')}; expected {len(test):,}, one for each "
            f"line of the reference '{test.names[0]}'"
        )
    for reference, name in zip(test.references, test.names, strict=True):
        if seed.hypotheses == reference:
            raise UsageError(
                f"{flag}: '{seed.file or seed.path}' has the very lines of the reference '{name}'; "
                "expected translations"
            )
