"""The grammar of ``--tree``: text to branches and back. Imports no torch."""

import re
from dataclasses import dataclass

from tsa_fairseq.errors import UsageError

_ALLOWED = (
    "allowed are N[child,child,...] such as 4[1[1,1],1[1,1]], "
    "or the number of nodes at each layer such as 1,1,1,1,2,4"
)
_TOKEN = re.compile(r"[0-9]+|[\[\],]")


@dataclass(frozen=True)
class Branch:
    """``layers`` decoder layers in a row, then ``children`` side by side: one ``N[...]``."""

    layers: int
    children: tuple["Branch", ...] = ()

    def __str__(self) -> str:
        if not self.children:
            return str(self.layers)
        return f"{self.layers}[{','.join(str(child) for child in self.children)}]"

    def paths(self) -> list[tuple[int, ...]]:
        """For every path down to a leaf, the layers of each branch on it, left to right."""
        if not self.children:
            return [(self.layers,)]
        return [(self.layers, *path) for child in self.children for path in child.paths()]


def parse_branch(text: str) -> Branch:
    """Read ``N[child,child,...]``, or the number of nodes at each layer of a balanced tree.

    Raises:
        UsageError: the text does not follow the grammar.
    """
    if re.fullmatch(r"\s*[0-9]+\s*(,\s*[0-9]+\s*)+", text):
        return balanced_branch([int(width) for width in text.split(",")])
    return _Parser(text).parse()


def balanced_branch(widths: list[int]) -> Branch:
    """The balanced tree with ``widths[d]`` nodes at depth d.

    Raises:
        UsageError: a number is 0 or not a multiple of the one before it.
    """
    for above, width in zip([1, *widths], widths, strict=False):
        if width == 0 or width % above:
            raise UsageError(
                f"--tree: '{','.join(map(str, widths))}' goes from {above} to {width} nodes; "
                "each number must be a multiple of the one before it"
            )
    return _grow([width // above for above, width in zip([1, *widths], widths, strict=False)])


def _grow(factors: list[int]) -> Branch:
    """The balanced tree in which depth d has ``factors[d]`` nodes for each one above."""
    run = 0
    while run < len(factors) and factors[run] == 1:
        run += 1
    if run == len(factors):
        return Branch(run)
    child = _grow([1, *factors[run + 1 :]])
    return Branch(run, (child,) * factors[run])


class _Parser:
    """Recursive descent over ``N[child,child,...]``."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[tuple[str, int]] = []
        position = 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None and not text[position].isspace():
                self.fail(f"unexpected {text[position]!r}", position)
            if match is not None:
                self.tokens.append((match.group(), position))
            position = match.end() if match else position + 1
        self.next = 0

    def fail(self, problem: str, position: int) -> None:
        raise UsageError(
            f"--tree: '{self.text}' has {problem} at character {position + 1}; {_ALLOWED}"
        )

    def take(self) -> tuple[str, int]:
        if self.next == len(self.tokens):
            raise UsageError(f"--tree: '{self.text}' ends too early; {_ALLOWED}")
        self.next += 1
        return self.tokens[self.next - 1]

    def parse(self) -> Branch:
        root = self.branch(is_root=True)
        if self.next < len(self.tokens):
            token, position = self.tokens[self.next]
            self.fail(f"unexpected {token!r}", position)
        return root

    def branch(self, is_root: bool = False) -> Branch:
        token, position = self.take()
        if not token.isdigit():
            self.fail(f"{token!r} where a number of layers is expected", position)
        layers = int(token)
        if not (self.next < len(self.tokens) and self.tokens[self.next][0] == "["):
            if layers == 0:
                self.fail("a branch of 0 layers", position)
            return Branch(layers)
        if layers == 0 and not is_root:
            # only the root may branch before its first layer: deeper down, the children of an
            # empty branch are simply children of the branch above
            self.fail("a branch of 0 layers", position)
        _, opening = self.take()
        children = [self.branch()]
        while True:
            token, position = self.take()
            if token == "]":
                break
            if token != ",":
                self.fail(f"{token!r} where ',' or ']' is expected", position)
            children.append(self.branch())
        if len(children) == 1:
            self.fail("a single child (write its layers into the branch above)", opening)
        return Branch(layers, tuple(children))
