"""What a training step costs beside the plain model's, from what ``tsa-fairseq tree`` counts.

Times mean nothing on a machine that does other work; multiply-adds do not change.
"""

import re
from dataclasses import dataclass

from studies.command import value
from studies.errors import RunFailed
from studies.listing import Run

# Objectives that compute every sentence twice unless told otherwise.
TWO_VIEWS = ("rdrop", "simcut")
RATIO = re.compile(r"^training multiply-adds +([0-9.]+) x", re.MULTILINE)


@dataclass(frozen=True)
class Branch:
    """So many layers in a row, and what branches off the last one."""

    layers: int
    children: tuple["Branch", ...] = ()

    @property
    def leaves(self) -> int:
        """How many there are above it."""
        return sum(child.leaves for child in self.children) or 1

    def __str__(self) -> str:
        above = f"[{','.join(map(str, self.children))}]" if self.children else ""
        return f"{self.layers}{above}"


def commands(run: Run, types: int) -> list[list[str]]:
    """tsa-fairseq tree, for each of the trees that a step computes: their costs add up.

    Every view is a tree; with dealt views it is the leaves that read it and what is below them.
    None for a stock model, whose cost is 1.
    """
    arch = value(run, "--arch") or ""
    if not arch.startswith("tsa_"):
        return []
    options = ["--arch", arch, "--vocabulary", str(types)]
    if layers := value(run, "--decoder-layers"):
        options += ["--decoder-layers", layers]
    spec = value(run, "--tree")
    by_default = 2 if value(run, "--kd-objective") in TWO_VIEWS else 1
    views = int(value(run, "--kd-views") or by_default)
    specs = [spec] * views
    if spec and value(run, "--kd-views-leaves") == "deal":
        specs = [dealt(spec, view, views) for view in range(views)]
    return [["tsa-fairseq", "tree", *([one] if one else []), *options] for one in specs]


def ratio(outputs: list[str]) -> float:
    """The multiply-adds of a step over the plain model's, from what those commands printed.

    Raises:
        RunFailed: one of them does not say.
    """
    if not outputs:
        return 1.0
    found = [RATIO.search(output) for output in outputs]
    if not all(found):
        raise RunFailed("tsa-fairseq tree does not say what training costs")
    return round(sum(float(match[1]) for match in found if match), 2)


def dealt(spec: str, view: int, views: int) -> str:
    """The part of a tree that view v needs if leaf k reads view k mod V alone."""
    tree = parse(spec)
    wanted = {leaf for leaf in range(tree.leaves) if leaf % views == view}
    part = _part(tree, wanted, 0)
    if part is None:
        raise RunFailed(f"--kd-views: view {view} has no leaf of --tree {spec}")
    return str(part)


def parse(spec: str) -> Branch:
    """A tree from either way of writing it, which fairseq-train has checked."""
    widths = spec.split(",")
    if "[" not in spec and len(widths) > 1:
        return _balanced([1, *map(int, widths)])
    branch, rest = _branch(spec)
    if rest:
        raise RunFailed(f"--tree: got '{spec}'; '{rest}' is left over")
    return branch


def _balanced(widths: list[int]) -> Branch:
    """From the number of nodes at each layer; the first one counts as if it were below them."""
    layers = 0
    while len(widths) > 1 and widths[1] == widths[0]:
        layers, widths = layers + 1, widths[1:]
    if len(widths) == 1:
        return Branch(layers)
    child = _balanced([widths[1], *widths[1:]])
    return Branch(layers, (child,) * (widths[1] // widths[0]))


def _branch(text: str) -> tuple[Branch, str]:
    match = re.match(r"\d+", text)
    if match is None:
        raise RunFailed(f"--tree: a number is missing before '{text}'")
    rest, children = text[match.end() :], []
    if rest.startswith("["):
        while rest[:1] in ("[", ","):
            child, rest = _branch(rest[1:])
            children.append(child)
        rest = rest.removeprefix("]")
    return Branch(int(match[0]), tuple(children)), rest


def _part(branch: Branch, wanted: set[int], first: int) -> Branch | None:
    """What is left with the wanted leaves alone; ``first`` is the number of its first leaf."""
    if not branch.children:
        return branch if first in wanted else None
    kept = []
    for child in branch.children:
        part = _part(child, wanted, first)
        first += child.leaves
        if part is not None:
            kept.append(part)
    if not kept:
        return None
    if len(kept) == 1:  # no branch any more: the same row of layers goes on
        return Branch(branch.layers + kept[0].layers, kept[0].children)
    return Branch(branch.layers, tuple(kept))
