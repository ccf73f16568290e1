"""Lines against updates, drawn by matplotlib as SVG that takes the page's colours."""

import io
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from textwrap import wrap
from typing import Any, cast

from tsa_fairseq.errors import UsageError
from tsa_fairseq.evidence.formats import Cell, Table, number
from tsa_fairseq.report.html import Markup, details, join, table, tag

# Colours of the style sheet stand for themselves as ones that nobody would choose.
_INK, _MUTED, _GRID = "#000001", "#000002", "#000003"
COLOURS = 8
_SERIES = tuple(f"#0000a{n}" for n in range(COLOURS))
_STYLES = {"solid": None, "dashed": "5 3", "dotted": "1.5 2.5"}
_SIZE = (5.0, 3.2)
# Of a name in a line beside a plot.
_LETTERS = 18
# Of a table that says the same as a plot, as many rows.
_ROWS = 12


@dataclass(frozen=True)
class Line:
    """One series.

    Args:
        label: of the legend.
        x: updates.
        y: values, as many.
        colour: from 0 to 7.
        style: solid, dashed or dotted.
        width: in points.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: int = 0
    style: str = "solid"
    width: float = 1.4


def check_matplotlib() -> None:
    """Refuse to begin without it.

    Raises:
        UsageError: it is not installed.
    """
    try:
        with _elsewhere():
            import matplotlib  # noqa: F401
    except ModuleNotFoundError:
        raise UsageError(
            "report: draws with matplotlib, which is not installed: pip install matplotlib"
        ) from None


@contextmanager
def _elsewhere() -> Iterator[None]:
    """Away from the folder of the call, of whose ``matplotlibrc`` matplotlib would make settings.

    That may be a run of somebody else's, and settings start programs.
    """
    before = os.getcwd()
    os.chdir(os.path.dirname(__file__))
    try:
        yield
    finally:
        os.chdir(before)


def figure(name: str, title: str, unit: str, lines: Sequence[Line]) -> Markup:
    """Lines against updates, with a title, a legend, a text alternative, and the numbers.

    Args:
        name: a word, of this plot alone on the page.
        title: what is shown.
        unit: of the values.
        lines: at least one, each of at least one point.
    """

    def draw(axis: Any) -> None:
        for line in lines:
            axis.plot(
                line.x, line.y, color=_SERIES[line.colour % COLOURS], linewidth=line.width,
                linestyle=line.style, marker="o" if len(line.x) == 1 else None, markersize=3,
            )  # fmt: skip
        axis.set_xlabel("updates")
        axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axis.xaxis.set_major_formatter("{x:,.0f}")

    from matplotlib.ticker import MaxNLocator

    said = _described(lines, unit)
    numbers = details("The numbers", table(_numbers(title, lines), caption=False))
    return _figure(name, title, unit, said, _SIZE, draw, _legend(lines), numbers)


def forest(
    name: str, title: str, unit: str, gains: Mapping[str, tuple[float, float, float]]
) -> Markup:
    """Differences with their intervals, one below the other, beside a line at 0.

    Args:
        name: a word, of this plot alone on the page.
        title: what is shown.
        unit: how it is read.
        gains: value, low and high, by system.
    """
    names = list(gains)

    def draw(axis: Any) -> None:
        axis.axvline(0, color=_MUTED, linewidth=1)
        for place, (value, low, high) in enumerate(gains.values()):
            axis.plot([low, high], [place, place], color=_SERIES[0], linewidth=2)
            axis.plot([value], [place], color=_SERIES[0], marker="o", markersize=6)
        axis.set_yticks(range(len(names)), list(map(_in_two_lines, names)))
        axis.set_ylim(len(names) - 0.5, -0.5)
        axis.margins(x=0.1)
        axis.grid(False, axis="y")
        axis.spines.left.set_visible(False)
        axis.tick_params(axis="y", length=0)

    said = "; ".join(
        f"{n} {v:+.2f}, from {lo:+.2f} to {hi:+.2f}" for n, (v, lo, hi) in gains.items()
    )
    size = (_SIZE[0], 0.6 + 0.42 * len(names))
    return _figure(name, title, unit, f"{said}.", size, draw)


def _in_two_lines(name: str) -> str:
    """A name that leaves room for what it stands beside; whole in tables and the description."""
    first, *rest = wrap(name, _LETTERS) or [""]
    return "\n".join([first, *rest[:1]]) + "…" * (len(rest) > 1)


def _figure(
    name: str,
    title: str,
    unit: str,
    said: str,
    size: tuple[float, float],
    draw: Callable[[Any], None],
    *below: Markup,
) -> Markup:
    svg = tag(
        "svg", Markup(_drawing(name, size, draw)), role="img", aria_label=f"{title}. {said}",
        viewBox=f"0 0 {72 * size[0]:g} {72 * size[1]:g}",
    )  # fmt: skip
    caption = tag("figcaption", title, tag("span", f", {unit}", class_="unit"))
    return tag("figure", caption, svg, *below)


def _drawing(name: str, size: tuple[float, float], draw: Callable[[Any], None]) -> str:
    """What is inside of the svg element."""
    import matplotlib
    from matplotlib.figure import Figure

    settings: dict[str, Any] = {
        "text.parse_math": False,  # names are not formulas
        "svg.fonttype": "none",
        "svg.hashsalt": name,
        "font.size": 11,
        "text.color": _INK,
        "axes.edgecolor": _MUTED,
        "axes.labelcolor": _INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.6,
        "xtick.color": _MUTED,
        "ytick.color": _MUTED,
        "xtick.labelcolor": _INK,
        "ytick.labelcolor": _INK,
        "grid.color": _GRID,
        "grid.linewidth": 0.6,
    }
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # the page looks alike whoever draws it
        matplotlib.rcParams.update(cast(Any, settings))
        drawn = Figure(figsize=size, layout="constrained")
        drawn.patch.set_visible(False)
        axis = drawn.subplots()
        axis.patch.set_visible(False)
        axis.grid(True)
        axis.set_axisbelow(True)
        draw(axis)
        written = io.StringIO()
        drawn.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    return _inline(written.getvalue(), name)


def _inline(svg: str, name: str) -> str:
    """What is inside the svg element, with ids of its own and the page's colours."""
    body = svg[svg.index(">", svg.index("<svg")) + 1 : svg.rindex("</svg>")]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"<!--.*?-->", "", body, flags=re.DOTALL)
    # a rule for everything, which on a page would be for all of it: the style sheet has it
    body = re.sub(r"<style.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = body.replace("url(#", f"url(#{name}-")
    body = re.sub(r'(?:xlink:)?href="#', f'href="#{name}-', body)
    # the page's own type face
    body = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font-size: \1", body)
    names = {_INK: "ink", _MUTED: "muted", _GRID: "grid"}
    names |= {colour: f"line{place}" for place, colour in enumerate(_SERIES)}
    for colour, variable in names.items():
        body = body.replace(colour, f"var(--{variable})")
    return re.sub(r"\n\s*", "\n", body).strip()


def _legend(lines: Sequence[Line]) -> Markup:
    return tag(
        "ul", *(tag("li", swatch(line), line.label) for line in lines), class_="legend",
        aria_hidden="true",
    )  # fmt: skip


def swatch(line: Line) -> Markup:
    """A bit of the line, beside its name."""
    return tag(
        "svg",
        tag("line", x1="0", x2="24", y1="5", y2="5", stroke=f"var(--line{line.colour % COLOURS})",
            stroke_width=f"{1.6 * line.width:g}", stroke_dasharray=_STYLES[line.style]),
        viewBox="0 0 24 10", width="24", height="10", aria_hidden="true",
    )  # fmt: skip


def _described(lines: Sequence[Line], unit: str) -> str:
    said = [
        f"{line.label} from {line.y[0]:.4g} at update {line.x[0]:,.0f} to {line.y[-1]:.4g} at "
        f"{line.x[-1]:,.0f}"
        for line in lines
    ]
    return f"Lines against updates, in {unit}: {'; '.join(said)}."


def _numbers(title: str, lines: Sequence[Line]) -> Table:
    # those of the line with the fewest, validation's, are most likely to be of all
    fewest: Sequence[float] = min((line.x for line in lines if line.x), key=len)
    updates = sorted(fewest)
    step = max(1, -(-len(updates) // _ROWS))
    chosen = [*updates[:-1:step], updates[-1]]
    known = [dict(zip(line.x, line.y, strict=True)) for line in lines]
    rows = tuple(
        (Cell(f"{x:,.0f}", x), *(number(values.get(x), 3) for values in known)) for x in chosen
    )
    return Table("numbers", title, ("updates", *(line.label for line in lines)), rows)


def figures(*parts: Markup) -> Markup:
    """Plots beside each other where there is room."""
    return tag("div", join(parts), class_="figures")
