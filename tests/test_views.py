"""Views: in one batch what several forward passes would compute, and R-Drop as fairseq has it."""

import copy

import pytest
import torch
from fairseq.criterions import CRITERION_REGISTRY
from helpers import TREE, exactly

from tsa_fairseq.errors import UsageError
from tsa_fairseq.objectives import KDSettings, build_objective
from tsa_fairseq.plugin.kd_flags import check_group
from tsa_fairseq.tree.topology import Topology
from tsa_fairseq.tree.views import ViewPlan, Views


def gradients(model):
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def test_members():
    assert Views().members([0, 1]) == [(0, 0), (0, 1)]
    assert Views(2).members([0, 1]) == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert Views(2, dealt=True).members([0, 1, 2]) == [(0, 0), (1, 1), (0, 2)]


def test_nodes_compute_the_views_that_their_leaves_read():
    """Leaves 0 and 1 share a node of depth 1, leaf 2 has one of its own; 0 and 2 read view 0."""
    plan = ViewPlan(Topology.parse(TREE, 3), Views(2, dealt=True))
    assert [plan.views_of(0, 0), plan.views_of(1, 0), plan.views_of(1, 1)] == [(0, 1), (0, 1), (0,)]
    assert [plan.views_of(2, leaf) for leaf in range(3)] == [(0,), (1,), (0,)]
    assert plan.readers(0, 0) == [2, 1]  # view 0 has two readers, view 1 one
    assert plan.readers(1, 0) == [1, 1]
    assert plan.shares(2, 0) == [1 / 2] and plan.shares(2, 1) == [1.0]
    assert plan.shares(1, 0) == [1 / 2, 1.0]


def test_without_dealing_every_node_computes_every_view():
    for views in (Views(), Views(3)):
        plan = ViewPlan(Topology.parse(TREE, 3), views)
        everything = tuple(range(views.count))
        assert {plan.views_of(depth, peer) for depth, peer in [(0, 0), (1, 1), (2, 2)]} == {
            everything
        }
        assert plan.readers(0, 0) == [2] * views.count
        assert plan.shares(2, 1) == [1 / 4] * views.count


@pytest.mark.parametrize("tree", ["3", TREE, "0[3,3]"])
def test_views_without_dropout_are_equal(tree, build, batch):
    model = build(tree=tree).double()
    once = model(**batch["net_input"], leaves="all").features
    thrice = model(**batch["net_input"], leaves="all", views=Views(3))
    leaves = tuple(range(len(once)))
    assert thrice.leaf_of == leaves * 3
    for features, leaf in zip(thrice.features, thrice.leaf_of, strict=True):
        torch.testing.assert_close(features, once[leaf], rtol=1e-6, atol=1e-7)


def test_views_have_their_own_dropout(build, batch):
    model = build(tree="2[1,1]", dropout=0.3)
    one, other = model(**batch["net_input"], leaves=[0], views=Views(2)).features
    real = batch["target"].ne(1)
    assert (one - other)[real].abs().mean() > 0.1


@pytest.mark.parametrize("dealt", [False, True])
@pytest.mark.parametrize("tree", ["3", "2[1,1]", TREE])
def test_a_member_has_the_rows_of_its_view(tree, dealt, build, batch):
    """Under dropout, of what its leaf's last layer returned; sentences are 3."""
    model = build(tree=tree, dropout=0.3)
    last, views = model.decoder.topology.depth - 1, Views(2, dealt)
    returned = {}
    for leaf in range(model.decoder.topology.num_leaves):
        model.decoder.node(last, leaf).register_forward_hook(
            lambda _, __, out, leaf=leaf: returned.update({leaf: out[0].transpose(0, 1)})
        )
    output = model(**batch["net_input"], leaves="all", views=views)
    members = views.members(range(len(returned)))
    assert len(output.features) == len(members)
    for (view, leaf), features in zip(members, output.features, strict=True):
        computed = returned[leaf].split(3)
        other_rows_too = len(computed) == 2
        assert torch.equal(features, computed[view if other_rows_too else 0])
        if other_rows_too:
            assert not torch.equal(features, computed[1 - view])


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("tree", [TREE, "0[3,3,3]", "2[1,1,1]"])
def test_dealt_leaves_are_those_of_their_view(tree, count, build, batch, monkeypatch):
    """With sources that differ by view, which stand for what dropout does."""
    model = build(tree=tree, noise=0.02).double()
    net = batch["net_input"]
    sources = [(net["src_tokens"] + view).clamp(max=39) for view in range(count)]
    repeat = Views.repeat
    monkeypatch.setattr(
        Views,
        "repeat",
        lambda self, t: torch.cat(sources) if t is net["src_tokens"] else repeat(self, t),
    )
    output = model(**net, leaves="all", views=Views(count, dealt=True))
    monkeypatch.undo()
    assert output.leaf_of == (0, 1, 2)
    for leaf, features in enumerate(output.features):
        of_view = {**net, "src_tokens": sources[leaf % count]}
        expected = model(**of_view, leaves=[leaf]).features[0]
        torch.testing.assert_close(features, expected, rtol=1e-6, atol=1e-7)


def test_dealt_layers_compute_the_rows_of_their_views_only(build, batch):
    model = build(tree=TREE)
    rows = {}

    def note(node):
        def hook(_, inputs):
            rows[node] = inputs[0].size(1)

        return hook

    for node in [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1), (2, 2)]:
        model.decoder.node(*node).register_forward_pre_hook(note(node))
    model(**batch["net_input"], leaves="all", views=Views(2, dealt=True))
    assert rows == {(0, 0): 6, (1, 0): 6, (1, 1): 3, (2, 0): 3, (2, 1): 3, (2, 2): 3}


@pytest.mark.parametrize("variant", [{}, dict(decoder_normalize_before=True)])
def test_dealt_views_and_mean_gradients(variant, build, batch):
    """A row of the trunk gets the mean over its readers: two leaves of view 0, one of view 1."""
    model = build(tree="2[1,1,1]", **variant).double()
    net, weights = batch["net_input"], []

    def gradient(shares, **how):
        features = model(**net, leaves="all", **how).features
        weights.extend(torch.randn_like(f) for f in features if len(weights) < 3)
        model.zero_grad()
        sum(
            (f * w).sum() * share for f, w, share in zip(features, weights, shares, strict=True)
        ).backward()
        return gradients(model)

    mean = gradient([1, 1, 1], trunk_gradient="mean", views=Views(2, dealt=True))
    by_hand, plain = gradient([1 / 2, 1, 1 / 2]), gradient([1, 1, 1])
    for name in ("encoder.layers.0.fc1.weight", "decoder.layers.0.fc1.weight"):
        torch.testing.assert_close(mean[name], by_hand[name], rtol=1e-5, atol=1e-7)
    for name in ("decoder.layers.2.fc1.weight", "decoder.peers.2.2.fc1.weight"):
        torch.testing.assert_close(mean[name], plain[name], rtol=1e-5, atol=1e-7)


@pytest.mark.skipif(
    "label_smoothed_cross_entropy_with_rdrop" not in CRITERION_REGISTRY,
    reason="this fairseq has no R-Drop",
)
@pytest.mark.parametrize("kd_loss", ["fused", "dense"])
def test_rdrop_is_fairseqs(kd_loss, build, task, batch, criterion):
    """Same dropout, same loss and gradients, but for the division by two predictions."""
    stock = CRITERION_REGISTRY["label_smoothed_cross_entropy_with_rdrop"](
        task, sentence_avg=False, label_smoothing=0.1, rdrop_alpha=5.0
    )
    losses, found = [], []
    rdrop = criterion(kd_objective="rdrop", kd_loss=kd_loss)
    for arch, loss_of in [("transformer", stock), ("tsa_transformer", rdrop)]:
        model = build(arch, dropout=0.3, **({} if arch == "transformer" else {"tree": "3"})).train()
        torch.manual_seed(5)
        loss = loss_of(model, copy.deepcopy(batch))[0]
        loss.backward()
        losses.append(loss.item())
        found.append(gradients(model))
    assert losses[1] == pytest.approx(losses[0] / 2, rel=1e-5)
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient / 2, rtol=1e-3, atol=1e-5)


def test_validation_computes_one_view(build, batch, criterion):
    rdrop = criterion(kd_objective="rdrop")
    model = build(tree="3", dropout=0.3)
    before = copy.deepcopy(batch)
    rows = []
    model.encoder.register_forward_pre_hook(lambda _, inputs: rows.append(inputs[0].size(0)))
    assert "pairwise_kl" in rdrop(model.train(), batch)[2]
    loss, _, logs = rdrop(model.eval(), batch)
    assert rows == [6, 3]
    assert "pairwise_kl" not in logs and loss.isfinite()
    for name, value in before["net_input"].items():
        assert torch.equal(batch["net_input"][name], value)


@pytest.mark.parametrize("flags", [dict(kd_views=2), dict(kd_views=3, kd_views_leaves="deal")])
@pytest.mark.parametrize("trunk_gradient", ["sum", "mean"])
def test_equal_views_have_the_loss_of_one(trunk_gradient, flags, build, batch, criterion):
    """Without dropout; the log counts the leaves, not the members."""
    model = build(tree=TREE).double()
    found = []
    for views in ({}, flags):
        model.zero_grad()
        one = criterion(kd_alpha=0.0, kd_trunk_gradient=trunk_gradient, **views)
        loss, _, logs = one(model, batch)
        loss.backward()
        found.append((loss.item(), logs, gradients(model)))
    assert found[1][0] == pytest.approx(found[0][0], rel=1e-6)
    for name in ("nll_loss", "nll_leaf0", "nll_leaf1", "nll_leaf2", "nll_ensemble"):
        assert found[1][1][name].item() == pytest.approx(found[0][1][name].item(), rel=1e-6)
    if trunk_gradient == "sum":
        for name, gradient in found[0][2].items():
            torch.testing.assert_close(found[1][2][name], gradient, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (dict(kd_views=0), "--kd-views: got 0; expected 1 or more"),
        (
            dict(kd_views_leaves="deal"),
            "--kd-views-leaves: got 'deal' with --kd-views 1; expected 2 or more views",
        ),
        (dict(kd_views_leaves="x"), "--kd-views-leaves: got 'x'; expected one of all, deal"),
    ],
)
def test_refused(flags, message, criterion):
    with pytest.raises(UsageError, match=exactly(message)):
        criterion(**flags)


@pytest.mark.parametrize(
    ("name", "views", "tree", "leaves", "message"),
    [
        (
            "tsa", Views(), "3", 1,
            "--kd-objective: got 'tsa', which needs 2 leaves or --kd-views 2; the tree '3' has "
            "1 leaf: expected one of kd, sokd, none, or a tree that branches",
        ),
        (
            "one", Views(2), "3", 1,
            "--kd-objective: got 'one', which needs 2 leaves or more; the tree '3' has 1 leaf",
        ),
        (
            "okddip", Views(2), "2[1,1]", 2,
            "--kd-objective: got 'okddip', which needs 3 leaves or more; the tree '2[1,1]' has "
            "2 leaves",
        ),
        (
            "tsa", Views(4, dealt=True), "1,3", 3,
            "--kd-views: got 4 with --kd-views-leaves deal; the tree '1,3' has 3 leaves: "
            "expected at most 3",
        ),
        ("tsa", Views(2), "3", 1, None),
        ("none", Views(), "3", 1, None),
        ("okddip", Views(), "1,3", 3, None),
    ],
)  # fmt: skip
def test_trees_too_small(name, views, tree, leaves, message):
    objective = build_objective(name, KDSettings(rampup_updates=0))
    if message is None:
        check_group(objective, views, tree, leaves)
        return
    with pytest.raises(UsageError, match=exactly(message)):
        check_group(objective, views, tree, leaves)
