"""The shape of a tree of decoder layers: paths, cost and drawing. Imports no torch.

A node is one decoder layer. Nodes of one depth are peers, numbered left to right from 0; a leaf is
a path from the first layer to a node of the last depth, numbered left to right from 0. Peer 0 of
every depth therefore lies on the path of leaf 0.
"""

from dataclasses import dataclass
from functools import cached_property

from tsa_fairseq.errors import UsageError
from tsa_fairseq.tree.grammar import Branch, balanced_branch, parse_branch


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
            UsageError: the text does not follow the grammar, or a path is not ``layers`` long.
        """
        text = " ".join(text.split())  # a message is one line, whatever the text has
        root = parse_branch(text)
        lengths = sorted({sum(path) for path in root.paths()}, reverse=True)
        if lengths != [layers]:
            has = f"paths of {_join(lengths)}" if len(lengths) > 1 else f"a path of {lengths[0]}"
            unit = "layer" if lengths == [1] else "layers"
            raise UsageError(
                f"--tree: '{text}' has {has} {unit}; "
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
        """The default tree: the last two layers branch in two each, which gives four leaves."""
        widths = ([1] * layers + [2, 4])[-layers:] if layers > 1 else [4]
        return cls.of(balanced_branch(widths))

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

    def draw(self) -> str:
        """The tree as text, one line a branch, each leaf with its number."""
        lines: list[str] = []
        _draw(self.root, 0, "", "", lines, [0])
        return "\n".join(lines)


@dataclass(frozen=True)
class Dimensions:
    """The sizes that decide what a step costs, as in fairseq's flags."""

    encoder_layers: int
    encoder_embed_dim: int
    encoder_ffn_embed_dim: int
    decoder_embed_dim: int
    decoder_ffn_embed_dim: int
    vocabulary: int


def multiply_adds(topology: Topology, dims: Dimensions) -> int:
    """Multiply-adds of one forward pass per target token, with as many source as target tokens.

    Counts matrix products with parameters: projections of the attentions, feed-forward layers and
    the output projection of every leaf. Left out are the products of queries with keys and values,
    which depend on the sentence's length, normalisation and softmax. The backward pass costs twice
    as much for every model, so that ratios hold for training as well.
    """
    d_enc, d_dec = dims.encoder_embed_dim, dims.decoder_embed_dim
    encoder_layer = 4 * d_enc**2 + 2 * d_enc * dims.encoder_ffn_embed_dim
    self_attention = 4 * d_dec**2
    cross_attention = 2 * d_dec**2 + 2 * d_enc * d_dec
    decoder_layer = self_attention + cross_attention + 2 * d_dec * dims.decoder_ffn_embed_dim
    return (
        dims.encoder_layers * encoder_layer
        + topology.num_nodes * decoder_layer
        + topology.num_leaves * d_dec * dims.vocabulary
    )


def _number(branch: Branch, depth: int, parent: int, parents: list[list[int]]) -> None:
    """Number the nodes of every depth left to right, and note each one's parent."""
    for below in range(depth, depth + branch.layers):
        parents[below].append(parent)
        parent = len(parents[below]) - 1
    for child in branch.children:
        _number(child, depth + branch.layers, parent, parents)


def _draw(
    branch: Branch, depth: int, lead: str, hang: str, lines: list[str], leaves: list[int]
) -> None:
    """Append the lines of ``branch``; ``leaves[0]`` counts the leaves drawn so far."""
    first, last = depth + 1, depth + branch.layers
    if branch.layers == 0:
        label = "embedded tokens"
    else:
        label = f"layer {first}" if first == last else f"layers {first}-{last}"
    if not branch.children:
        label += f" ── leaf {leaves[0]}"
        leaves[0] += 1
    lines.append(lead + label)
    for number, child in enumerate(branch.children, start=1):
        # by position: the children of a balanced tree are equal, even the same object
        is_last = number == len(branch.children)
        _draw(
            child,
            last,
            hang + ("└─ " if is_last else "├─ "),
            hang + ("   " if is_last else "│  "),
            lines,
            leaves,
        )


def _join(numbers: list[int]) -> str:
    """``6, 5 and 4`` for [6, 5, 4]."""
    head, last = numbers[:-1], str(numbers[-1])
    return f"{', '.join(str(number) for number in head)} and {last}" if head else last
