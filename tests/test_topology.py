import time

import pytest
from helpers import exactly

from tsa_fairseq.errors import UsageError
from tsa_fairseq.tree.drawing import draw
from tsa_fairseq.tree.topology import Topology

ALLOWED = (
    "; allowed are N[child,child,...] such as 4[1[1,1],1[1,1]], "
    "or the number of nodes at each layer such as 1,1,1,1,2,4"
)


@pytest.mark.parametrize(
    ("text", "layers", "widths", "paths"),
    [
        ("6", 6, (1, 1, 1, 1, 1, 1), [(0, 0, 0, 0, 0, 0)]),
        (
            "2[1[1,1],1[1,1]]",
            4,
            (1, 1, 2, 4),
            [(0, 0, 0, 0), (0, 0, 0, 1), (0, 0, 1, 2), (0, 0, 1, 3)],
        ),
        ("4[2,1[1,1]]", 6, (1, 1, 1, 1, 2, 3), [(0,) * 6, (0, 0, 0, 0, 1, 1), (0, 0, 0, 0, 1, 2)]),
        ("1[1[1,1],2]", 3, (1, 2, 3), [(0, 0, 0), (0, 0, 1), (0, 1, 2)]),
        ("0[2,2]", 2, (2, 2), [(0, 0), (1, 1)]),
        (" 1 [ 1 , 1 ] ", 2, (1, 2), [(0, 0), (0, 1)]),
    ],
)
def test_paths(text, layers, widths, paths):
    topology = Topology.parse(text, layers)
    assert topology.widths == widths
    assert list(topology.paths) == paths
    assert topology.num_leaves == len(paths)
    assert topology.num_nodes == sum(widths)
    assert topology.depth == layers


@pytest.mark.parametrize(
    ("widths", "text"),
    [
        ("1,1,1,1,2,4", "4[1[1,1],1[1,1]]"),
        ("1, 3", "1[1,1,1]"),
        ("2,2,4", "0[2[1,1],2[1,1]]"),
        ("1,1,1", "3"),
        ("1,2,2,2", "1[3,3]"),
    ],
)
def test_number_of_nodes_stands_for_the_balanced_tree(widths, text):
    layers = widths.count(",") + 1
    short, long = Topology.parse(widths, layers), Topology.parse(text, layers)
    assert short == long
    assert str(short) == text


@pytest.mark.parametrize(
    ("layers", "text"),
    [(1, "0[1,1,1,1]"), (2, "0[1[1,1],1[1,1]]"), (3, "1[1[1,1],1[1,1]]"), (6, "4[1[1,1],1[1,1]]")],
)
def test_default_tree_has_four_leaves(layers, text):
    assert str(Topology.balanced(layers)) == text


def test_parents_and_children():
    topology = Topology.parse("1[1[1,1],2]", 3)
    assert topology.parents == ((0,), (0, 0), (0, 0, 1))
    assert topology.children_of(-1, 0) == [0]
    assert topology.children_of(0, 0) == [0, 1]
    assert topology.children_of(1, 0) == [0, 1]
    assert topology.children_of(1, 1) == [2]
    assert topology.children_of(2, 0) == []
    assert Topology.parse("0[1,1,1]", 1).children_of(-1, 0) == [0, 1, 2]


@pytest.mark.parametrize(
    ("tree", "split"), [("3", 3), ("2[1,1]", 2), ("1[1[1,1],2]", 1), ("0[3,3]", 0)]
)
def test_split(tree, split):
    assert Topology.parse(tree, 3).split == split


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("4[2,1]", "has paths of 6 and 5 layers; every path must have --decoder-layers = 6"),
        ("3[1,2,3]", "has paths of 6, 5 and 4 layers; every path must have --decoder-layers = 6"),
        ("4", "has a path of 4 layers; every path must have --decoder-layers = 6"),
        ("1,2", "has a path of 2 layers; every path must have --decoder-layers = 6"),
        (
            "1,1,1,1,3,4",
            "goes from 3 to 4 nodes; each number must be a multiple of the one before it",
        ),
        (
            "1,1,1,1,2,0",
            "goes from 2 to 0 nodes; each number must be a multiple of the one before it",
        ),
        ("", "ends too early" + ALLOWED),
        ("4[1,1", "ends too early" + ALLOWED),
        ("4[1,1]]", "has unexpected ']' at character 7" + ALLOWED),
        ("x", "has unexpected 'x' at character 1" + ALLOWED),
        ("4[,2]", "has ',' where a number of layers is expected at character 3" + ALLOWED),
        ("4[2 2]", "has '2' where ',' or ']' is expected at character 5" + ALLOWED),
        (
            "4[2]",
            "has a single child (write its layers into the branch above) at character 2" + ALLOWED,
        ),
        ("4[0[1,1],2]", "has a branch of 0 layers at character 3" + ALLOWED),
        ("0", "has a branch of 0 layers at character 1" + ALLOWED),
        ("1,,2", "has unexpected ',' at character 2" + ALLOWED),
    ],
)
def test_bad_tree(text, problem):
    with pytest.raises(UsageError, match=exactly(f"--tree: '{text}' {problem}")):
        Topology.parse(text, 6)


LARGE = " is too large; a tree may have up to 128 leaves and 2,048 nodes"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("9" * 5000, f"'{'9' * 80}...' (5,000 characters)"),
        ("1[" * 3000, f"'{'1[' * 40}...' (6,000 characters)"),
        ("1[1," * 128 + "1" + "]" * 128, f"'{'1[1,' * 20}...' (641 characters)"),
        ("1,1,1,1000000000", "'1,1,1,1000000000'"),
        (
            ",".join(str(2**n) for n in range(41)),
            f"'{','.join(str(2**n) for n in range(41))[:80]}...' (309 characters)",
        ),
        ("1000000000", "'1000000000'"),
        ("2049", "'2049'"),
        ("1[1024,1024]", "'1[1024,1024]'"),
        ("1,129", "'1,129'"),
        ("1[" + ",".join("1" * 129) + "]", f"'1[{'1,' * 39}...' (260 characters)"),
    ],
)
def test_a_tree_that_is_too_large(text, shown):
    """Said at once: nothing of it is enumerated."""
    start = time.monotonic()
    with pytest.raises(UsageError, match=exactly(f"--tree: {shown}{LARGE}")):
        Topology.parse(text, 6)
    assert time.monotonic() - start < 1


@pytest.mark.parametrize(
    ("text", "layers"),
    [
        ("2048", 2048),
        ("1,128", 2),
        ("0" * 5000 + "6", 6),  # noughts in front are no number's size
        ("1[1[1,1],2]", 3),
        ("1[" + ",".join("1" * 128) + "]", 2),
    ],
)
def test_the_largest_trees(text, layers):
    topology = Topology.parse(text, layers)
    assert Topology.parse(str(topology), layers) == topology


def test_the_deepest_tree_is_written_out_and_drawn():
    """57 levels of nesting; more would take more nodes than there may be."""
    text = "1"
    for below in range(1, 58):
        text = f"1[{below},{text}]"
    topology = Topology.parse(text, 58)
    assert topology.num_leaves == 58 and str(topology) == text
    assert draw(topology).count("leaf") == 58


@pytest.mark.parametrize("value", [6, None, 2.5, ["1"], {"1": 2}])
def test_a_tree_that_is_no_text(value):
    message = f"--tree: got {value!r}; {ALLOWED[2:]}"
    with pytest.raises(UsageError, match=exactly(message)):
        Topology.parse(value, 6)


@pytest.mark.parametrize("layers", [0, -1, 1025, 10**9])
def test_layers_of_the_default_tree(layers):
    message = f"--decoder-layers: got {layers}; expected 1 to 1,024"
    with pytest.raises(UsageError, match=exactly(message)):
        Topology.balanced(layers)


def test_a_message_is_one_line():
    message = "--tree: '3 1' has unexpected '1' at character 3" + ALLOWED
    with pytest.raises(UsageError, match=exactly(message)):
        Topology.parse("3\n1", 6)
    message = "--tree: '1' has a path of 1 layer; every path must have --decoder-layers = 6"
    with pytest.raises(UsageError, match=exactly(message)):
        Topology.parse("1", 6)
