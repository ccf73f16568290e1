"""A tree of layers as SVG: from the left, what all leaves share; at the right, a leaf a line."""

from collections.abc import Sequence
from dataclasses import dataclass

from tsa_fairseq.report.html import Markup, tag
from tsa_fairseq.tree.drawing import draw
from tsa_fairseq.tree.topology import Branch, Topology

_ROW, _BOX, _GAP, _LABEL = 42, 20, 22, 158


@dataclass(frozen=True)
class Leaf:
    """What stands beside a leaf.

    Args:
        figures: its numbers, short.
        best: whether it has the least nll on the validation data.
    """

    figures: str
    best: bool = False


def tree(topology: Topology, leaves: Sequence[Leaf]) -> Markup:
    """The tree, with every leaf's figures.

    Args:
        topology: the tree.
        leaves: one a leaf.
    """
    levels = _levels(topology.root)
    width = (360 - _LABEL - _GAP * (levels - 1)) / levels
    parts: list[Markup] = []
    _place(topology.root, 0, 0, 0, width, parts, leaves)
    height = _ROW * topology.num_leaves
    said = "; ".join(
        f"leaf {n}{', least nll' if leaf.best else ''}: {leaf.figures}"
        for n, leaf in enumerate(leaves)
    )
    drawn = tag(
        "svg", *parts, viewBox=f"-1 0 361 {height}", role="img", class_="tree",
        aria_label=f"The tree {topology}. {said}",
    )  # fmt: skip
    return tag(
        "figure", tag("figcaption", f"The tree {topology}"), drawn,
        tag("details", tag("summary", "As text"), tag("pre", draw(topology))),
    )  # fmt: skip


def _levels(branch: Branch) -> int:
    return 1 + max((_levels(child) for child in branch.children), default=0)


def _place(
    branch: Branch,
    depth: int,
    level: int,
    first: int,
    width: float,
    parts: list[Markup],
    leaves: Sequence[Leaf],
) -> tuple[float, int]:
    """Draw a branch and what is below it; returns the height of its middle, and its leaves."""
    x = level * (width + _GAP)
    last = depth + branch.layers
    if branch.children:
        middles, number = [], 0
        for child in branch.children:
            middle, inside = _place(child, last, level + 1, first + number, width, parts, leaves)
            middles.append(middle)
            number += inside
        middle = (middles[0] + middles[-1]) / 2
        for target in middles:
            parts.append(_edge(x + width, middle, x + width + _GAP, target))
    else:
        middle, number = _ROW * (first + 0.5), 1
        end = 360 - _LABEL
        if x + width < end - 1:
            parts.append(_edge(x + width, middle, end, middle))
        parts.append(_label(first, middle, leaves[first]))
    parts.append(_box(x, middle, width, branch.layers, depth + 1, last))
    return middle, number


def _box(x: float, middle: float, width: float, layers: int, first: int, last: int) -> Markup:
    text = f"layer {first}" if first == last else f"layers {first}–{last}"
    text = "words in" if layers == 0 else text
    return tag(
        "g",
        tag("rect", x=f"{x:.1f}", y=f"{middle - _BOX / 2:.1f}", width=f"{width:.1f}",
            height=f"{_BOX}", rx="4", class_="node"),
        tag("text", text, x=f"{x + width / 2:.1f}", y=f"{middle + 3.5:.1f}", class_="node"),
    )  # fmt: skip


def _edge(x: float, y: float, to_x: float, to_y: float) -> Markup:
    half = (x + to_x) / 2
    curve = f"C{half:.1f} {y:.1f} {half:.1f} {to_y:.1f} {to_x:.1f} {to_y:.1f}"
    return tag("path", d=f"M{x:.1f} {y:.1f}{curve}", class_="edge")


def _label(leaf: int, middle: float, shown: Leaf) -> Markup:
    x = f"{360 - _LABEL + 8}"
    name, kind = (
        (f"leaf {leaf}, least nll", "leaf best") if shown.best else (f"leaf {leaf}", "leaf")
    )
    return tag(
        "g",
        tag("text", name, x=x, y=f"{middle - 2:.1f}", class_=kind),
        tag("text", shown.figures, x=x, y=f"{middle + 11:.1f}", class_="figures"),
    )
