"""Two translations side by side, with the words marked in which they differ."""

from collections.abc import Sequence
from difflib import SequenceMatcher

from tsa_fairseq.report.html import Markup, join, tag


def marked(line: str, other: str) -> Markup:
    """A line, with the words marked that the other does not have in their place."""
    words, others = line.split(), other.split()
    kept = [False] * len(words)
    same = SequenceMatcher(None, words, others, autojunk=False).get_matching_blocks()
    for start, _, size in same:
        kept[start : start + size] = [True] * size
    return join(_runs(words, kept), " ")


def _runs(words: Sequence[str], kept: Sequence[bool]) -> list[str]:
    """Words in a row that are alike in this belong to one mark."""
    parts: list[str] = []
    start = 0
    for end in range(1, len(words) + 1):
        if end == len(words) or kept[end] != kept[start]:
            text = " ".join(words[start:end])
            parts.append(text if kept[start] else tag("mark", text))
            start = end
    return parts
