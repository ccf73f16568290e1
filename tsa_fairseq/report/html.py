"""Pieces of HTML: everything that is text is escaped here, once."""

import re
from collections.abc import Iterable
from html import escape
from typing import NamedTuple

from tsa_fairseq.evidence.formats import Table


class Markup(str):
    """HTML that is put into other HTML as it is."""


def tag(name: str, *content: str, **attributes: str | None) -> Markup:
    """An element; a final ``_`` of an attribute's name is dropped, other ``_`` become ``-``.

    Attributes that are None are left out.
    """
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{said}>{join(content)}</{name}>")


def join(content: Iterable[str], between: str = "") -> Markup:
    """Texts, escaped, and HTML, as it is, in a row."""
    return Markup(between.join(c if isinstance(c, Markup) else escape(c) for c in content))


def typeset(text: str) -> str:
    """Numbers as they are printed: a real minus, and intervals that stay in one line."""
    text = re.sub(r"(?<![\w.])-(?=\d)", "\N{MINUS SIGN}", text)
    return re.sub(r"\[[^\]]*\]|p [<=] [\d.]+|± ", lambda m: m[0].replace(" ", "\xa0"), text)


def table(found: Table, caption: bool = True) -> Markup:
    """A table that scrolls by itself where it is wider than the page, by touch or arrow keys."""
    texts = [all(isinstance(row[n].value, str) for row in found.rows)
             for n in range(len(found.heading))]  # fmt: skip
    head = [
        tag("th", name, scope="col", class_="text" if is_text else None)
        for name, is_text in zip(found.heading, texts, strict=True)
    ]
    rows = []
    for row in found.rows:
        first, *others = row
        cells = [tag("th", first.text, scope="row")]
        for cell, is_text in zip(others, texts[1:], strict=True):
            text = cell.text if is_text else typeset(cell.text)
            cells.append(tag("td", text, class_="text" if is_text else None))
        rows.append(tag("tr", *cells))
    shown = tag(
        "table",
        *([tag("caption", found.title)] if caption else []),
        tag("thead", tag("tr", *head)),
        tag("tbody", *rows),
    )
    note = [tag("p", found.note, class_="note")] if found.note else []
    region = tag("div", shown, class_="wide", role="region", tabindex="0", aria_label=found.title)
    return join([region, *note])


class Section(NamedTuple):
    """A part of the page.

    Args:
        name: a word, of this part alone, by which links lead to it.
        title: its heading.
        html: all of it.
    """

    name: str
    title: str
    html: Markup


def section(name: str, title: str, *content: str) -> Section:
    """A part of the page, with a heading that it is called by."""
    heading = tag("h2", title, id=f"{name}-title")
    shown = tag("section", heading, *content, id=name, aria_labelledby=f"{name}-title")
    return Section(name, title, shown)


def details(summary: str, *content: str) -> Markup:
    """What is folded away until somebody wants it."""
    return tag("details", tag("summary", summary), *content)
