"""The shape of a tree of decoder layers: the text of ``--tree``, its branches, nodes and paths.

A branch is some layers in a row with other branches below them, as the text has it. A node is one
decoder layer. Nodes of one depth are peers, numbered left to right from 0; a leaf is a path from
the first layer to a node of the last depth, numbered left to right from 0. Peer 0 of every depth
therefore lies on the path of leaf 0. Imports no torch.
"""

import re
from dataclasses import dataclass
from functools import cached_property

from tsa_fairseq.errors import UsageError

_ALLOWED = (
    "allowed are N[child,child,...] such as 4[1[1,1],1[1,1]], "
    "or the number of nodes at each layer such as 1,1,1,1,2,4"
)
_TOKEN = re.compile(r"[0-9]+|[\[\],]")

# Of any tree, so that a text of a few characters asks for no more than a machine can hold, and
# nesting, which is at most one level a leaf, for no deeper recursion than Python allows. A layer of
# a tree is one of fairseq's: 2,048 of them are more than anybody has trained.
MAX_LEAVES = 128
MAX_NODES = 2048
_BOUNDS = f"a tree may have up to {MAX_LEAVES} leaves and {MAX_NODES:,} nodes"
# Characters of a text that a message repeats.
_SHOWN = 80


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


Node = tuple[int, int]  # depth and peer


@dataclass(frozen=True)
class Topology:
    """A tree in which every path has the same number of layers.

    Args:
        root: the branch every path starts with.
        parents: for each depth and peer, the peer one depth above; 0 at the first depth, whose
            nodes all read the embedded tokens.
    """

    root: Branch
    parents: tuple[tuple[int, ...], ...]

    @classmethod
    def parse(cls, text: str, layers: int) -> "Topology":
        """Read ``text`` in the grammar of ``--tree``.

        Args:
            text: ``N[child,child,...]``, or for a balanced tree the number of nodes at each layer.
            layers: the length every path must have (``--decoder-layers``).

        Raises:
            UsageError: the text does not follow the grammar, asks for more leaves or nodes than a
                tree may have, or a path is not ``layers`` long.
        """
        if not isinstance(text, str):  # from a file, or from --model-overrides
            raise UsageError(f"--tree: got {text!r:.80}; {_ALLOWED}")
        text = " ".join(text.split())  # a message is one line, whatever the text has
        root = _branch_of(text)
        lengths = sorted({sum(path) for path in root.paths()}, reverse=True)
        if lengths != [layers]:
            has = f"paths of {_join(lengths)}" if len(lengths) > 1 else f"a path of {lengths[0]}"
            unit = "layer" if lengths == [1] else "layers"
            raise UsageError(
                f"--tree: {_quoted(text)} has {has} {unit}; "
                f"every path must have --decoder-layers = {layers}"
            )
        return cls.of(root)

    @classmethod
    def of(cls, root: Branch) -> "Topology":
        """Number the nodes of a tree whose paths are equally long."""
        layers = sum(root.paths()[0])
        parents: list[list[int]] = [[] for _ in range(layers)]
        _number(root, 0, 0, parents)
        return cls(root, tuple(tuple(depth) for depth in parents))

    @classmethod
    def balanced(cls, layers: int) -> "Topology":
        """The default tree: the last two layers branch in two each, which gives four leaves.

        Raises:
            UsageError: more layers than a tree may have nodes.
        """
        check_layers("--decoder-layers", layers)
        widths = ([1] * layers + [2, 4])[-layers:] if layers > 1 else [4]
        return cls.of(_balanced_branch(widths))

    @property
    def depth(self) -> int:
        """Layers on every path."""
        return len(self.parents)

    @property
    def widths(self) -> tuple[int, ...]:
        """Number of peers at each depth."""
        return tuple(len(depth) for depth in self.parents)

    @property
    def num_leaves(self) -> int:
        """Number of paths with a prediction of their own."""
        return len(self.parents[-1])

    @property
    def num_nodes(self) -> int:
        """Number of decoder layers while training."""
        return sum(self.widths)

    @cached_property
    def paths(self) -> tuple[tuple[int, ...], ...]:
        """For every leaf, the peer it passes through at each depth."""
        return tuple(self._path(leaf) for leaf in range(self.num_leaves))

    def nodes(self, leaf: int) -> list[Node]:
        """The nodes on a leaf's path."""
        return list(enumerate(self.paths[leaf]))

    def parent_of(self, node: Node) -> Node:
        """The node that a node reads; of depth -1, which is the embedded tokens, at the first."""
        depth, peer = node
        return depth - 1, self.parents[depth][peer]

    def _path(self, leaf: int) -> tuple[int, ...]:
        path = [leaf]
        for depth in range(self.depth - 1, 0, -1):
            path.append(self.parents[depth][path[-1]])
        return tuple(reversed(path))

    def check_leaf(self, leaf: int, asked: str | None = None) -> None:
        """Refuse a leaf the tree does not have; ``asked`` is how the message says who wanted it.

        Raises:
            UsageError: ``leaf`` is out of range.
        """
        if not 0 <= leaf < self.num_leaves:
            asked = asked or f"leaf {leaf}:"
            raise UsageError(f"{asked} the tree '{self}' has leaves 0 to {self.num_leaves - 1}")

    @cached_property
    def split(self) -> int:
        """The depth of the first layers with peers, which is how many layers all leaves share."""
        return next((d for d, width in enumerate(self.widths) if width > 1), self.depth)

    def children_of(self, depth: int, peer: int) -> list[int]:
        """The peers that read ``peer`` at ``depth`` (-1: the embedded tokens)."""
        if depth + 1 == self.depth:
            return []
        return [child for child, parent in enumerate(self.parents[depth + 1]) if parent == peer]

    def __str__(self) -> str:
        return str(self.root)


def check_layers(flag: str, layers: int) -> None:
    """Refuse a number of layers in a row that no tree has.

    Raises:
        UsageError: it is below 1, or more than half of the nodes that a tree may have, which leaves
            as many for its branches.
    """
    if not 1 <= layers <= MAX_NODES // 2:
        raise UsageError(f"{flag}: got {layers}; expected 1 to {MAX_NODES // 2:,}")


def _quoted(text: str) -> str:
    """A text as a message repeats it: of a long one the beginning."""
    if len(text) <= _SHOWN:
        return f"'{text}'"
    return f"'{text[:_SHOWN]}...' ({len(text):,} characters)"


def _number(branch: Branch, depth: int, parent: int, parents: list[list[int]]) -> None:
    """Number the nodes of every depth left to right, and note each one's parent."""
    for below in range(depth, depth + branch.layers):
        parents[below].append(parent)
        parent = len(parents[below]) - 1
    for child in branch.children:
        _number(child, depth + branch.layers, parent, parents)


def _branch_of(text: str) -> Branch:
    """Read ``N[child,child,...]``, or the number of nodes at each layer of a balanced tree.

    Raises:
        UsageError: the text does not follow the grammar, or asks for too much.
    """
    if re.fullmatch(r"\s*[0-9]+\s*(,\s*[0-9]+\s*)+", text):
        widths = [_number_of(digits.strip()) for digits in text.split(",")]
        if sum(widths) > MAX_NODES or max(widths) > MAX_LEAVES:
            raise _too_large(text)
        return _balanced_branch(widths)
    return _Parser(text).parse()


def _number_of(digits: str) -> int:
    """The number that digits stand for; of one beyond all bounds, some number beyond them.

    Python refuses to read thousands of digits.
    """
    digits = digits.lstrip("0")
    return int(digits or "0") if len(digits) <= len(str(MAX_NODES)) else MAX_NODES + 1


def _too_large(text: str) -> UsageError:
    return UsageError(f"--tree: {_quoted(text)} is too large; {_BOUNDS}")


def _balanced_branch(widths: list[int]) -> Branch:
    """The balanced tree with ``widths[d]`` nodes at depth d.

    Raises:
        UsageError: a number is 0 or not a multiple of the one before it.
    """
    for above, width in zip([1, *widths], widths, strict=False):
        if width == 0 or width % above:
            text = _quoted(",".join(map(str, widths)))
            raise UsageError(
                f"--tree: {text} goes from {above} to {width} nodes; "
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
    """Recursive descent over ``N[child,child,...]``, which ends where the tree grows too large.

    A branch that is open has a child and a leaf below it at least, so that nesting is never deeper
    than a tree may have leaves.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self.leaves, self.nodes, self.open = 0, 0, 0
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
            f"--tree: {_quoted(self.text)} has {problem} at character {position + 1}; {_ALLOWED}"
        )

    def take(self) -> tuple[str, int]:
        if self.next == len(self.tokens):
            raise UsageError(f"--tree: {_quoted(self.text)} ends too early; {_ALLOWED}")
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
        layers = _number_of(token)
        self.nodes += layers
        is_leaf = not (self.next < len(self.tokens) and self.tokens[self.next][0] == "[")
        self.leaves += is_leaf
        if self.nodes > MAX_NODES or max(self.leaves, self.open + 1) > MAX_LEAVES:
            raise _too_large(self.text)
        if is_leaf:
            if layers == 0:
                self.fail("a branch of 0 layers", position)
            return Branch(layers)
        if layers == 0 and not is_root:
            # only the root may branch before its first layer: deeper down, the children of an
            # empty branch are simply children of the branch above
            self.fail("a branch of 0 layers", position)
        _, opening = self.take()
        self.open += 1
        children = [self.branch()]
        while True:
            token, position = self.take()
            if token == "]":
                break
            if token != ",":
                self.fail(f"{token!r} where ',' or ']' is expected", position)
            children.append(self.branch())
        self.open -= 1
        if len(children) == 1:
            self.fail("a single child (write its layers into the branch above)", opening)
        return Branch(layers, tuple(children))


def _join(numbers: list[int]) -> str:
    """``6, 5 and 4`` for [6, 5, 4]."""
    head, last = numbers[:-1], str(numbers[-1])
    return f"{', '.join(str(number) for number in head)} and {last}" if head else last
