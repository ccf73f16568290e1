"""Plain text out of the markup of IWSLT's and WMT's files, a line at a time."""

import re
from collections.abc import Iterable, Iterator

# Lines about a talk that are no text of it, and tags around lines that are.
_ABOUT = ("<url>", "<talkid>", "<keywords>")
_TAGS = re.compile("</?(?:title|description)>")
_SEGMENT = re.compile(r"<seg[^>]*>(.*)</seg>")


def talk_text(lines: Iterable[str]) -> Iterator[str]:
    """The text of ``train.tags.*``: without lines of url, talkid and keywords, titles and
    descriptions without their tags.

    As in fairseq's preparation, any other line stays as it is, white space included.
    """
    for line in lines:
        if not any(tag in line for tag in _ABOUT):
            yield _TAGS.sub("", line)


def segments(lines: Iterable[str]) -> Iterator[str]:
    """The segments of an XML or SGM set, one on each line of the file, as written there."""
    for line in lines:
        if match := _SEGMENT.search(line):
            yield match.group(1)


def one_space(text: str) -> str:
    """White space as sacreBLEU leaves it in references: single blanks, none at either end."""
    return re.sub(r"\s+", " ", text.strip())


def straight_apostrophe(text: str) -> str:
    """’ as ', which fairseq's preparation does to test sets alone."""
    return text.replace("’", "'")
