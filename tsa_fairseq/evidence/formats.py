"""Tables as text for a terminal, Markdown, CSV and JSON."""

import csv
import io
import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

EMPTY = "–"


@dataclass(frozen=True)
class Cell:
    """What is shown, and what it stands for: a number, a text, or several of them by name."""

    text: str
    value: Any = None


@dataclass(frozen=True)
class Table:
    """Rows of equally many cells; the first cell of a row says what it is of.

    Args:
        name: a word, for CSV and JSON.
        title: a sentence.
        heading: of the columns.
        rows: below it.
        note: what a reader must know to read it.
        long: whether its cells are sentences, which a terminal shows below each other.
    """

    name: str
    title: str
    heading: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    long: bool = False


def number(value: float | None, digits: int, sign: bool = False) -> Cell:
    """A number with so many digits behind the point; None is shown as a dash."""
    if value is None:
        return Cell(EMPTY)
    return Cell(f"{value:{'+' if sign else ''},.{digits}f}", value)


def share(value: float) -> Cell:
    """A share from 0 to 1, shown in per cent."""
    return Cell(f"{100 * value:.1f} %", value)


def probability(value: float) -> str:
    """p = 0.034, or p < 0.001."""
    return f"p = {value:.3f}" if value >= 0.001 else "p < 0.001"


def words(text: str) -> Cell:
    """A text for itself."""
    return Cell(text, text)


def write(tables: Sequence[Table], said: Sequence[str], form: str) -> str:
    """All tables.

    Args:
        tables: in their order.
        said: the answer in sentences, and warnings, which are not for CSV.
        form: one of :data:`tsa_fairseq.evidence.choices.FORMATS`.
    """
    if form == "json":
        content = {"said": list(said), **{table.name: _records(table) for table in tables}}
        return json.dumps(content, indent=2, ensure_ascii=False)
    if form == "csv":
        return _csv(tables)
    if form == "markdown":
        return "\n\n".join([*said, *map(_titled_markdown, tables)])
    return "\n\n".join(["\n".join(said)] * bool(said) + [text(table) for table in tables])


def markdown(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; pipes in cells are escaped."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines
    )


def text(table: Table) -> str:
    """For a terminal: columns of equal width, the first and texts to the left, numbers right."""
    title = [table.title, "─" * _width(table.title)]
    note = [table.note] if table.note else []
    return "\n".join([*title, *(_blocks(table) if table.long else _columns(table)), *note])


def _blocks(table: Table) -> list[str]:
    """A row below the other, and of each the first two cells in one line, the others below."""
    width = max(map(_width, table.heading[2:]))
    lines = []
    for first, second, *cells in table.rows:
        lines.append(f"{table.heading[0]} {first.text}, {table.heading[1]} {second.text}")
        for name, cell in zip(table.heading[2:], cells, strict=True):
            lines.append(f"  {_padded(name, width, to_left=True)}  {cell.text}")
    return lines


def _columns(table: Table) -> list[str]:
    lines = [table.heading, *(tuple(cell.text for cell in row) for row in table.rows)]
    widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
    left = [place == 0 or all(isinstance(row[place].value, str) for row in table.rows)
            for place in range(len(table.heading))]  # fmt: skip
    return [
        "  ".join(
            _padded(cell, width, to_left)
            for cell, width, to_left in zip(line, widths, left, strict=True)
        ).rstrip()
        for line in lines
    ]


def _titled_markdown(table: Table) -> str:
    rows = [[cell.text for cell in row] for row in table.rows]
    parts = [f"**{table.title}**", markdown(table.heading, rows)]
    return "\n\n".join([*parts, *([table.note] if table.note else [])])


def _records(table: Table) -> list[dict[str, Any]]:
    return [
        {name or "what": cell.value for name, cell in zip(table.heading, row, strict=True)}
        for row in table.rows
    ]


def _csv(tables: Sequence[Table]) -> str:
    """One line a value, of all tables: table, row, column, value."""
    lines = io.StringIO(newline="")
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(("table", "row", "column", "value"))
    for table in tables:
        first = _keys(table)
        for row in table.rows:
            key = " / ".join(str(cell.value) for cell in row[:first])
            for name, cell in zip(table.heading[first:], row[first:], strict=True):
                values = cell.value if isinstance(cell.value, dict) else {"": cell.value}
                for part, value in values.items():
                    if value is not None:
                        column = f"{name}: {part}" if part else name
                        writer.writerow((table.name, key, column, value))
    return lines.getvalue().removesuffix("\n")


def _keys(table: Table) -> int:
    """How many of the first cells say what a row is of: a system, or a system and a metric."""
    if table.long:
        return 1
    texts = [
        all(isinstance(cell.value, str) for cell in column)
        for column in zip(*table.rows, strict=True)
    ]
    return max(1, [*texts[:-1], False].index(False))


def _width(cell: str) -> int:
    """Columns on a terminal: letters of East Asia take two, accents that combine none."""
    return sum(
        0 if unicodedata.combining(sign) else 2 if unicodedata.east_asian_width(sign) in "WF" else 1
        for sign in cell
    )


def _padded(cell: str, width: int, to_left: bool) -> str:
    blanks = " " * (width - _width(cell))
    return cell + blanks if to_left else blanks + cell
