"""How peers start: what they have of leaf 0, and what that does to a step."""

import pytest
import torch
from helpers import VARIANTS, exactly

from tsa_fairseq.errors import UsageError

TREE = "1[1[1,1],2]"
ATTENTION = ("encoder_attn.", "encoder_attn_layer_norm.")


def stands_for(name):
    """The parameter of leaf 0 beside which a peer's stands."""
    part, number, rest = name.removeprefix("decoder.").split(".", 2)
    if part == "leaf_norms":
        return f"decoder.layer_norm.{rest}"
    return f"decoder.layers.{number}.{rest.split('.', 1)[1]}"


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("start", ["fresh", "attention", "copy"])
def test_what_peers_have_of_leaf_0(start, variant, build):
    drawn = build(tree=TREE, tree_peers="fresh", **VARIANTS[variant]).state_dict()
    state = build(tree=TREE, tree_peers=start, **VARIANTS[variant]).state_dict()
    assert list(state) == list(drawn)
    taken = 0
    for name, tensor in state.items():
        if ".peers." not in name and ".leaf_norms." not in name:
            assert torch.equal(tensor, drawn[name]), "leaf 0 is the seed's"
            continue
        first = drawn[stands_for(name)]
        if start == "copy" or (start == "attention" and any(part in name for part in ATTENTION)):
            assert torch.equal(tensor, first), name
            assert tensor.data_ptr() != first.data_ptr()
            taken += not torch.equal(drawn[name], first)
        else:
            assert torch.equal(tensor, drawn[name]), name
    assert (taken > 0) == (start != "fresh")


@pytest.mark.parametrize(
    ("flags", "start"),
    [({}, "attention"), (dict(no_cross_attention=True, cross_self_attention=True), "fresh")],
)
def test_how_peers_start_when_nothing_is_said(flags, start, build):
    said = build(tree=TREE, tree_peers=start, **flags).state_dict()
    state = build(tree=TREE, **flags).state_dict()
    assert all(torch.equal(state[name], said[name]) for name in said)


def test_copies_predict_the_same_until_dropout_tells_them_apart(build, batch):
    model = build(tree=TREE, tree_peers="copy", dropout=0.3)
    first, *others = model.eval()(**batch["net_input"], leaves="all").features
    for other in others:
        torch.testing.assert_close(other, first)
    first, *others = model.train()(**batch["net_input"], leaves="all").features
    assert all((other - first).abs().mean() > 0.05 for other in others)


def test_peers_are_parameters_of_their_own(build, batch, criterion):
    """After a step, what was equal differs: nothing is shared."""
    model = build(tree=TREE, tree_peers="attention", dropout=0.1)
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    criterion()(model, batch)[0].backward()
    sgd.step()
    first, peer = (model.decoder.node(2, n).encoder_attn.v_proj.weight for n in (0, 1))
    assert not torch.equal(first, peer)


@pytest.mark.parametrize(
    ("init", "peers", "expected"),
    [(None, "attention", "attention"), ("copy", "attention", "copy"), (None, None, "attention")],
)
def test_with_a_checkpoint_its_own_flag_says_how_peers_start(
    init, peers, expected, build, tmp_path
):
    path = str(tmp_path / "stock.pt")
    stock = build("transformer", seed=5).state_dict()
    torch.save({"model": stock}, path)
    flags = dict(tree_init_from=path, tree_init_peers=init, tree_peers=peers)
    state = build(tree=TREE, **flags).state_dict()
    drawn = build(tree=TREE, tree_peers="fresh").state_dict()
    for part, taken in [("encoder_attn.v_proj", expected != "fresh"), ("fc1", expected == "copy")]:
        peer = f"decoder.peers.2.1.{part}.weight"
        source = stock[f"decoder.layers.2.{part}.weight"] if taken else drawn[peer]
        assert torch.equal(state[peer], source)


@pytest.mark.parametrize("flag", ["tree_peers", "tree_init_peers"])
def test_refused(flag, build):
    name = "--" + flag.replace("_", "-")
    message = f"{name}: got 'clone'; expected one of fresh, attention, copy"
    with pytest.raises(UsageError, match=exactly(message)):
        build(tree=TREE, **{flag: "clone"})
    message = (
        f"{name}: got 'attention' with --no-cross-attention, by which layers have none to the "
        "encoder; expected fresh or copy"
    )
    with pytest.raises(UsageError, match=exactly(message)):
        build(tree=TREE, no_cross_attention=True, cross_self_attention=True, **{flag: "attention"})
