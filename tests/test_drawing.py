from tsa_fairseq.tree.drawing import draw
from tsa_fairseq.tree.topology import Topology


def test_drawing():
    assert draw(Topology.parse("4[2,1[1,1]]", 6)) == (
        "layers 1-4\n"
        "├─ layers 5-6 ── leaf 0\n"
        "└─ layer 5\n"
        "   ├─ layer 6 ── leaf 1\n"
        "   └─ layer 6 ── leaf 2"
    )
    assert draw(Topology.parse("0[1[1,1],1[1,1]]", 2)) == (
        "embedded tokens\n"
        "├─ layer 1\n"
        "│  ├─ layer 2 ── leaf 0\n"
        "│  └─ layer 2 ── leaf 1\n"
        "└─ layer 1\n"
        "   ├─ layer 2 ── leaf 2\n"
        "   └─ layer 2 ── leaf 3"
    )
    assert draw(Topology.parse("3", 3)) == "layers 1-3 ── leaf 0"
