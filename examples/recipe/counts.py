"""What a preparation made, beside what was published of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent


@dataclass(frozen=True)
class Count:
    """A figure of a preparation.

    Args:
        what: was counted.
        ours: how many.
        published: elsewhere; None if nobody did.
    """

    what: str
    ours: int
    published: int | None = None

    @property
    def difference(self) -> str:
        """In words."""
        if self.published is None:
            return "-"
        return "the same" if self.ours == self.published else f"{self.ours - self.published:+,}"


def table(counts: Sequence[Count]) -> str:
    """Rows for people."""
    rows = [("", "here", "published", "difference")]
    for count in counts:
        published = "-" if count.published is None else f"{count.published:,}"
        rows.append((count.what, f"{count.ours:,}", published, count.difference))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        "  ".join(
            [row[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        ).rstrip()
        for row in rows
    )


def tell(counts: Sequence[Count]) -> list[Count]:
    """Print what a step made, as soon as it is known; the same counts, to be kept."""
    print(indent(table(counts), "    "), flush=True)
    return list(counts)


def lines_and_words(path: Path) -> tuple[int, int]:
    """Lines of a text, and its words with an end of sentence for each line, as fairseq counts."""
    lines = words = 0
    with path.open(encoding="utf-8", newline="\n") as file:
        for line in file:
            lines += 1
            words += len(line.split()) + 1
    return lines, words


def types(dictionary: Path) -> int:
    """Types of a dictionary of fairseq, with the four symbols that its file leaves out."""
    return dictionary.read_bytes().count(b"\n") + 4
