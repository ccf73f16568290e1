"""The whole page: one HTML file that opens offline, and needs no script."""

from collections.abc import Sequence
from pathlib import Path

from tsa_fairseq.evidence.comparison import Comparison
from tsa_fairseq.evidence.systems import System
from tsa_fairseq.report import sections
from tsa_fairseq.report.html import Markup, Section, tag

_STYLE = Path(__file__).with_name("page.css")
# No request can go anywhere, whatever text a log has.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page(systems: Sequence[System], found: Comparison | None, command: str) -> str:
    """The HTML.

    Args:
        systems: with or without translations.
        found: their comparison; None if there is none.
        command: that makes the page.
    """
    parts = [sections.answer(systems, found), sections.compared(systems)]
    parts += [sections.scores(found)] if found is not None else []
    optional = [sections.trees(systems, found), sections.learning(systems)]
    if found is not None:
        optional += [sections.where(found)]
        optional += [sections.sentences(found)] * bool(found.others)
    optional += [sections.cost_of(systems, found)]
    parts += [part for part in optional if part is not None]
    parts += [sections.origin(systems, found, command)]
    title = _title(systems, found)
    body = tag(
        "body",
        tag("a", "To the answer", href="#answer", class_="skip"),
        tag("header", tag("h1", title), _contents(parts)),
        tag("main", *(part.html for part in parts)),
    )
    head = tag(
        "head",
        Markup('<meta charset="utf-8">'),
        Markup('<meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'),
        Markup('<meta name="color-scheme" content="light dark">'),
        Markup('<link rel="icon" href="data:,">'),
        tag("title", title),
        tag("style", Markup(_STYLE.read_text(encoding="utf-8"))),
    )
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def _title(systems: Sequence[System], found: Comparison | None) -> str:
    if found is None or not found.others:
        return ", ".join(system.name for system in systems)
    return f"{', '.join(system.name for system in found.others)} against {found.baseline}"


def _contents(parts: Sequence[Section]) -> Markup:
    links = [tag("li", tag("a", part.title, href=f"#{part.name}")) for part in parts]
    return tag("nav", tag("ul", *links), aria_label="Contents")
