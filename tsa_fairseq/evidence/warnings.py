"""What makes scores look comparable that are not: tokenisation, case, number of references."""

import re
from collections.abc import Mapping, Sequence
from itertools import combinations

from tsa_fairseq.errors import plural

# Of lines that end in a full stop, how many have a blank before it, in tokenised text.
_TOKENISED = 0.5
_FEWEST = 5
# What subword-nmt and sentencepiece leave in a text that is not joined.
_PIECE = re.compile(r"@@(?: |$)|\u2581")


def is_tokenised(lines: Sequence[str]) -> bool | None:
    """Whether full stops stand apart from words; None if too few lines end in one."""
    ends = [line.rstrip() for line in lines if line.rstrip().endswith(".")]
    if len(ends) < _FEWEST:
        return None
    return sum(line.endswith(" .") for line in ends) / len(ends) > _TOKENISED


def is_lower(lines: Sequence[str]) -> bool:
    """Whether a text has no capital letter."""
    return not any(line != line.lower() for line in lines)


def differences(
    systems: Mapping[str, Sequence[str]],
    references: Sequence[Sequence[str]],
    tokenize: str,
    lowercase: bool,
) -> list[str]:
    """One line for each thing that a reader of the scores must know.

    Args:
        systems: lines of each system's first seed.
        references: all of them.
        tokenize: sacreBLEU's tokenizer.
        lowercase: whether case is disregarded.
    """
    found = []
    texts = {**systems, "the reference": references[0]}
    tokenised = {name: is_tokenised(lines) for name, lines in texts.items()}
    apart = [name for name, said in tokenised.items() if said]
    joined = [name for name, said in tokenised.items() if said is False]
    if apart and joined:
        found.append(
            f"{_list(apart)}: tokenised, {_list(joined)}: not; their scores cannot be compared"
        )
    elif apart and tokenize != "none":
        found.append(
            f"the texts are tokenised, and --tokenize {tokenize} splits them again; "
            "scores of tokenised text (--tokenize none) are not those of raw text"
        )
    elif joined and tokenize == "none":
        found.append(
            "the texts are not tokenised, and --tokenize none leaves full stops on their words; "
            "13a is usual"
        )
    lower = [name for name, lines in texts.items() if is_lower(lines)]
    if lower and len(lower) < len(texts) and not lowercase:
        found.append(f"{_list(lower)}: all lower case, the others not; --lowercase disregards it")
    return [*found, *_pieces(systems), *_empty(systems), *_references(references)]


def other_references(
    printed: Mapping[str, Sequence[str] | None], references: Sequence[Sequence[str]]
) -> list[str]:
    """One line for each system whose output of fairseq-generate has references of another text.

    Args:
        printed: by system; None of one that fairseq-generate did not write.
        references: those that it is scored with.
    """
    known = {name: lines for name, lines in printed.items() if lines is not None}
    if not known:
        return []
    found, ours = [], [list(map(_letters, reference)) for reference in references]
    for name, lines in known.items():
        theirs = list(map(_letters, lines))
        same = max(sum(map(str.__eq__, reference, theirs)) for reference in ours)
        if same < len(theirs) / 2:
            found.append(
                f"{name}: fairseq-generate printed other references than it is scored with (of "
                f"{len(theirs):,}, {same:,} have the same letters); is it the same test set?"
            )
    return found


def _letters(line: str) -> str:
    """What neither tokenisation nor subwords nor case change."""
    return "".join(filter(str.isalnum, line.lower()))


def _pieces(systems: Mapping[str, Sequence[str]]) -> list[str]:
    found = []
    for name, lines in systems.items():
        cut = sum(bool(_PIECE.search(line)) for line in lines)
        if cut > len(lines) / 2:
            found.append(
                f"{name}: {cut:,} of {len(lines):,} translations in pieces of words; "
                "fairseq-generate joins them with --remove-bpe or --remove-bpe sentencepiece"
            )
    return found


def alike(systems: Mapping[str, Sequence[Sequence[str]]]) -> list[str]:
    """One line for each system that has the same translations twice, among those of its seeds."""
    found = []
    for name, seeds in systems.items():
        pairs = combinations(enumerate(seeds, 1), 2)
        same = next(((n, m) for (n, one), (m, other) in pairs if one == other), None)
        if same is not None:
            found.append(
                f"{name}: seeds {same[0]} and {same[1]} have the same translations; counted as two "
                "trainings, they make the spread over seeds too small"
            )
    return found


def trained_once(systems: Mapping[str, Sequence[str | None]]) -> list[str]:
    """One line for each system whose seeds are translations of one training.

    Args:
        systems: of each seed the folder of its run; None where there is none.
    """
    found = []
    for name, folders in systems.items():
        known = [folder for folder in folders if folder is not None]
        if len(set(known)) < len(known):
            found.append(
                f"{name}: two seeds lie in the folder of one training, "
                f"'{max(known, key=known.count)}'; the spread over seeds is of several trainings"
            )
    return found


def _empty(systems: Mapping[str, Sequence[str]]) -> list[str]:
    found = []
    for name, lines in systems.items():
        empty = sum(not line.strip() for line in lines)
        if empty:
            found.append(f"{name}: {empty:,} of {len(lines):,} translations empty")
    return found


def _references(references: Sequence[Sequence[str]]) -> list[str]:
    found = []
    for number, reference in enumerate(references, 1):
        empty = sum(not line.strip() for line in reference)
        if empty and len(references) > 1:
            found.append(
                f"reference {number} is empty for {plural(empty, 'sentence')}: fewer references "
                "than the others have"
            )
    unknown = sum(bool(re.search(r"<<unk>>", line)) for line in references[0])
    if unknown:
        found.append(
            f"{plural(unknown, 'reference')} with words that the dictionary lacks (<<unk>>), which "
            "no translation can match; --reference with the text itself gives the real scores"
        )
    return found


def _list(names: Sequence[str]) -> str:
    return " and ".join([", ".join(names[:-1])] * bool(names[:-1]) + list(names[-1:]))
