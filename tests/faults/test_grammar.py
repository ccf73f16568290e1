"""The grammar of ``--tree``, by texts that nobody thought of."""

from hypothesis import given, settings
from hypothesis import strategies as st

from tsa_fairseq.errors import UsageError
from tsa_fairseq.tree.topology import MAX_LEAVES, MAX_NODES, Topology

# the same examples every time: a failure here must not depend on the day
FEW = settings(derandomize=True, deadline=2000, max_examples=300)

numbers = st.integers(0, 40).map(str) | st.integers(0, 10**30).map(str)
pieces = numbers | st.sampled_from(["[", "]", ",", " ", "[1,1]", "1[1,1]", "\t", "٣", "-1", "2.5"])
likely = st.lists(pieces, max_size=40).map("".join)


def branches(layers):
    """Trees of that many layers, as (layers of the branch, children)."""
    leaf = st.just((layers, ()))
    if layers < 2:
        return leaf
    return leaf | st.integers(1, layers - 1).flatmap(
        lambda own: st.lists(branches(layers - own), min_size=2, max_size=3).map(
            lambda children: (own, tuple(children))
        )
    )


def written(branch, gap=""):
    layers, children = branch
    if not children:
        return f"{layers}{gap}"
    return f"{layers}{gap}[{gap}{','.join(written(child, gap) for child in children)}]{gap}"


def leaves_of(branch):
    """Every leaf's path as the numbers of children taken, depth first."""
    _, children = branch
    if not children:
        return [()]
    return [(n, *way) for n, child in enumerate(children) for way in leaves_of(child)]


def nodes_of(branch):
    layers, children = branch
    return layers + sum(map(nodes_of, children))


@FEW
@given(st.text() | likely, st.integers(-3, 50))
def test_any_text_is_a_tree_or_one_line(text, layers):
    try:
        topology = Topology.parse(text, layers)
    except UsageError as error:
        (line,) = str(error).splitlines()
        assert line.startswith("--tree: '") and len(line) < 800
    else:
        assert topology.depth == layers and all(len(path) == layers for path in topology.paths)
        assert topology.num_leaves <= MAX_LEAVES and topology.num_nodes <= MAX_NODES
        assert Topology.parse(str(topology), layers) == topology


trees = st.integers(1, 6).flatmap(lambda layers: st.tuples(st.just(layers), branches(layers)))


@FEW
@given(trees, st.sampled_from(["", " ", "\t", " \n "]))
def test_a_tree_is_read_as_it_was_written(tree, gap):
    layers, branch = tree
    if len(leaves_of(branch)) > MAX_LEAVES or nodes_of(branch) > MAX_NODES:
        return
    topology = Topology.parse(written(branch, gap), layers)
    assert str(topology) == written(branch)
    assert topology.num_leaves == len(leaves_of(branch))
    assert topology.num_nodes == nodes_of(branch)


@FEW
@given(trees)
def test_leaves_share_what_their_ways_share(tree):
    """Two leaves pass through the same nodes down to the branch where their ways part."""
    layers, branch = tree
    ways = leaves_of(branch)
    if len(ways) > MAX_LEAVES:
        return
    paths = Topology.parse(written(branch), layers).paths
    for one, way in zip(paths, ways, strict=True):
        for other, another in zip(paths, ways, strict=True):
            shared, here = 0, branch
            for mine, theirs in zip(way, another, strict=False):
                shared += here[0]
                if mine != theirs:
                    break
                here = here[1][mine]
            else:
                shared = layers  # the same leaf
            same = [a == b for a, b in zip(one, other, strict=True)]
            assert same == [depth < shared for depth in range(layers)]


@FEW
@given(st.lists(st.integers(1, 3), min_size=1, max_size=6))
def test_numbers_of_nodes(factors):
    widths, nodes = [], 1
    for factor in factors:
        nodes *= factor
        widths.append(nodes)
    if widths[-1] > MAX_LEAVES or len(widths) == 1:
        return
    topology = Topology.parse(",".join(map(str, widths)), len(widths))
    assert list(topology.widths) == widths
    for depth, factor in enumerate(factors):
        for peer, parent in enumerate(topology.parents[depth]):
            assert parent == (peer // factor if depth else 0)
