"""--kd-view-cut: which embeddings are zero, and that nothing else changes; SimCut in the model."""

import copy
import logging

import pytest
import reference
import torch
from helpers import TREE, VARIANTS
from torch import nn

from tsa_fairseq.tree.cut import cut_embeddings
from tsa_fairseq.tree.views import Views

PAD = 1
HALF = Views(2, cut=0.5)


def gradients(model):
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def run(criterion, model, batch, seed=3):
    """Loss, logs and gradients of one batch."""
    model.zero_grad()
    torch.manual_seed(seed)
    loss, _, logs = criterion(model, batch)
    loss.backward()
    return loss.item(), logs, gradients(model)


@pytest.fixture
def draws(monkeypatch):
    """What is drawn for tokens, B x T, one after the other."""
    found, rand = [], torch.rand

    def watched(*size, **how):
        values = rand(*size, **how)
        if values.dim() == 2:
            found.append(values)
        return values

    monkeypatch.setattr(torch, "rand", watched)
    return found


def test_rows_by_hand(monkeypatch):
    """Three views of two sentences; pads and the first view stay as they are."""
    below, above = 0.49, 0.51
    drawn = torch.tensor([[below] * 3] * 2 + [[below, above, below], [above, below, below]] * 2)
    monkeypatch.setattr(torch, "rand", lambda size, device: drawn if size == (6, 3) else None)
    embedding = nn.Embedding(9, 2, padding_idx=PAD)
    with torch.no_grad():
        embedding.weight[PAD] = 7.0  # as shared output embeddings make of it
    tokens = torch.tensor([[4, 5, PAD], [PAD, 6, 4]]).repeat(3, 1)
    with cut_embeddings(Views(3, cut=0.5), embedding):
        embedded = embedding(tokens)
    row = embedding.weight.detach()
    zero, pad = torch.zeros(2), torch.full((2,), 7.0)
    first = [[row[4], row[5], pad], [pad, row[6], row[4]]]
    later = [[zero, row[5], pad], [pad, zero, zero]]
    expected = torch.stack([torch.stack(sentence) for sentence in first + later + later])
    assert torch.equal(embedded, expected)
    embedded.sum().backward()
    seen = {4: 2, 5: 3, 6: 1}  # once for every time that it was not cut
    assert all((embedding.weight.grad[word] == count).all() for word, count in seen.items())


@pytest.mark.parametrize("cut", [0.05, 0.4])
def test_share_of_tokens(cut):
    """10,000 tokens of a later view; the first and last position too."""
    torch.manual_seed(1)
    embedding = nn.Embedding(9, 2, padding_idx=PAD)
    tokens = torch.randint(2, 9, (1000, 20))
    with cut_embeddings(Views(2, cut=cut), embedding):
        gone = embedding(tokens).eq(0).all(dim=-1)
    assert not gone[:500].any()
    deviation = (cut * (1 - cut) / 10_000) ** 0.5
    assert gone[500:].float().mean().item() == pytest.approx(cut, abs=4 * deviation)
    for place in (0, -1):
        share = gone[500:, place].float().mean().item()
        assert share == pytest.approx(cut, abs=4 * deviation * 20**0.5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_before_scale_and_positions(variant, build, batch, draws):
    """The first layers read what fairseq makes of embeddings that were cut beforehand."""
    model = build(tree="2[1,1]", noise=0.1, **VARIANTS[variant])
    net, read = batch["net_input"], []
    for layer in (model.encoder.layers[0], model.decoder.node(0, 0)):
        layer.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0].transpose(0, 1)))
    model(**net, leaves="all", views=HALF)
    assert len(draws) == 2
    sides = [(model.encoder, net["src_tokens"]), (model.decoder, net["prev_output_tokens"])]
    for (side, tokens), drawn, state in zip(sides, draws, read, strict=True):
        twice = torch.cat([tokens] * 2)
        kept = drawn.ge(0.5)
        kept[:3] = True
        real = twice.ne(PAD)
        assert (~kept & real).any() and (kept[3:] & real[3:]).any()
        words = torch.where(kept.unsqueeze(-1), side.embed_tokens.weight[twice], 0.0)
        expected = side.embed_scale * words + side.embed_positions(twice)
        assert torch.equal(state[real], expected[real])


@pytest.mark.parametrize("shared", [False, True])
def test_sides_are_cut_independently(shared, build, batch, draws):
    """Also where they share the module that embeds: one draw for each call."""
    model = build(tree="3", share_all_embeddings=shared)
    assert (model.encoder.embed_tokens is model.decoder.embed_tokens) is shared
    model(**batch["net_input"], leaves="all", views=HALF)
    source, target = draws
    assert source.shape == target.shape == (6, 7) and not torch.equal(source, target)


@pytest.mark.parametrize("dealt", [False, True])
def test_the_first_view_sees_all(dealt, build, batch):
    """Without dropout its predictions are those without the flag; those of the other differ."""
    model = build(tree=TREE)
    real = batch["target"].ne(PAD)
    torch.manual_seed(3)
    cut = model(**batch["net_input"], leaves="all", views=Views(2, dealt, cut=0.5))
    whole = model(**batch["net_input"], leaves="all", views=Views(2, dealt))
    members = Views(2, dealt).members(range(3))
    for member, one, other in zip(members, cut.features, whole.features, strict=True):
        if member.view == 0:
            assert torch.equal(one, other)
        else:
            assert (one - other)[real].abs().max() > 0.1


def test_words_that_are_all_cut_cannot_matter(build, batch):
    """Under P next to 1 a view knows lengths alone."""
    model, net = build(tree="3"), copy.deepcopy(batch["net_input"])
    views = Views(2, cut=1 - 1e-7)
    one = model(**net, leaves="all", views=views).features
    for name in ("src_tokens", "prev_output_tokens"):
        net[name][net[name] > 3] = 9
    other = model(**net, leaves="all", views=views).features
    real = batch["target"].ne(PAD)
    assert not torch.equal(one[0][real], other[0][real])
    assert torch.equal(one[1][real], other[1][real])


def test_nothing_is_cut_in_evaluation(build, batch):
    """Nor is anything drawn."""
    model = build(tree="2[1,1]", dropout=0.3).eval()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    one = model(**batch["net_input"], leaves="all", views=HALF).features
    assert torch.equal(torch.get_rng_state(), before)
    other = model(**batch["net_input"], leaves="all", views=Views(2)).features
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_nothing_is_cut_where_leaves_are_not_asked_for(build, batch):
    """As fairseq calls the model; no hook stays behind, not even after an error."""
    model = build(tree="3")
    expected = model(**batch["net_input"])[0]
    embeddings = [model.encoder.embed_tokens, model.decoder.embed_tokens]
    model(**batch["net_input"], leaves="all", views=HALF)
    assert torch.equal(model(**batch["net_input"])[0], expected)
    with pytest.raises(IndexError):
        model(**{**batch["net_input"], "prev_output_tokens": torch.tensor([[99]] * 3)},
              leaves="all", views=HALF)  # fmt: skip
    assert not any(embedding._forward_hooks for embedding in embeddings)


@pytest.mark.parametrize("objective", ["tsa", "simcut"])
def test_probability_0_is_no_cut(objective, build, batch, criterion, draws):
    """Bit for bit, with dropout, and nothing is drawn; a small one differs."""
    model = build(tree=TREE, dropout=0.3)
    flags = dict(kd_objective=objective, kd_views=2)
    plain = criterion(**flags)
    if objective == "simcut":
        plain.views = Views(2)
    expected = run(plain, model, batch)
    actual = run(criterion(**flags, kd_view_cut=0.0), model, batch)
    assert draws == []
    other = run(criterion(**flags, kd_view_cut=0.2), model, batch)
    assert actual[0] == expected[0] != other[0]
    assert actual[2].keys() == expected[2].keys()
    assert all(torch.equal(actual[2][name], g) for name, g in expected[2].items())


def test_validation_sees_all_tokens(build, batch, criterion):
    """In one view, whatever training does; the batch is not changed in either."""
    simcut, plain = criterion(kd_objective="simcut"), criterion(kd_objective="none")
    model, before = build(tree="3", dropout=0.3), copy.deepcopy(batch)
    assert "kd_loss" in simcut(model.train(), batch)[2]
    state = torch.get_rng_state()
    loss, _, logs = simcut(model.eval(), batch)
    assert torch.equal(torch.get_rng_state(), state)
    expected, _, of_plain = plain(model, batch)
    assert loss.item() == expected.item() and logs.keys() == of_plain.keys()
    assert torch.equal(batch["target"], before["target"])
    for name, value in before["net_input"].items():
        assert torch.equal(batch["net_input"][name], value)


def test_validation_of_simcut_on_a_tree(build, batch, criterion):
    """The mean of the leaves' cross entropies; the log says that nothing is distilled."""
    model = build(tree=TREE, noise=0.1).eval()
    loss, _, logs = criterion(kd_objective="simcut")(model, batch)
    expected, _, of_plain = criterion(kd_objective="none")(model, batch)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert (logs["kd_loss"].item(), logs["kd_weight"]) == (0.0, 0.0)
    for name in ("nll_leaf0", "nll_leaf2", "nll_ensemble", "pairwise_kl"):
        assert logs[name].item() == pytest.approx(of_plain[name].item(), rel=1e-5)


@pytest.mark.parametrize(
    "flags",
    [
        dict(kd_objective="simcut"),
        dict(kd_objective="simcut", kd_views=3, kd_detach_targets="yes", kd_temperature=2.0),
        dict(kd_objective="tsa", kd_views=2, kd_view_cut=0.3),
        dict(kd_objective="rdrop", kd_view_cut=0.3),
    ],
)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("tree", ["3", "1,2,4"])
def test_every_parameter_gets_a_gradient(tree, variant, flags, build, batch, criterion):
    model = build(tree=tree, dropout=0.1, **VARIANTS[variant])
    found = run(criterion(**flags), model, batch)[2]
    for name, _ in model.named_parameters():
        if not name.endswith("k_proj.bias"):  # a softmax does not change with it
            assert found[name].abs().sum() > 0, name


def by_member(model, batch, views, seed=3):
    """N x K x V nested lists of logits, and the N gold words."""
    torch.manual_seed(seed)
    features = model(**batch["net_input"], leaves="all", views=views).features
    logits = torch.stack([model.output_layer(f) for f in features], dim=2)  # B x T x K x V
    real = batch["target"].ne(PAD)
    return logits[real].tolist(), batch["target"][real].tolist()


@pytest.mark.parametrize("kd_loss", ["fused", "dense"])
@pytest.mark.parametrize("tree", ["3", "2[1,1]"])
def test_simcut_against_the_reference(tree, kd_loss, build, batch, criterion):
    """With dropout; figures are those of the clean view, of each leaf."""
    model = build(tree=tree, dropout=0.2, noise=0.1).double()
    simcut = criterion(kd_objective="simcut", kd_loss=kd_loss, kd_view_cut=0.3)
    loss, logs, _ = run(simcut, model, batch)
    logits, gold = by_member(model, batch, Views(2, cut=0.3))
    count = len(logits[0]) // 2
    cases = [
        reference.Case(token, word, list(range(count)) * 2)
        for token, word in zip(logits, gold, strict=True)
    ]
    expected = sum(reference.simcut(case.attached(), 3.0, 1.0, 0.1) for case in cases) / count
    assert loss == pytest.approx(expected, rel=1e-10)

    def nll(member):
        return sum(reference.smoothed_cross_entropy(c.logits[member], c.gold, 0.0) for c in cases)

    assert logs["nll_loss"].item() == pytest.approx(nll(0))
    if count > 1:
        found = [logs[f"nll_leaf{leaf}"].item() for leaf in range(count)]
        assert found == pytest.approx([nll(leaf) for leaf in range(count)])


def test_simcut_without_a_difference_is_the_plain_loss(build, batch, criterion):
    """Nothing cut and no dropout: both views agree, and every gradient is that of one."""
    model = build(tree=TREE).double()
    simcut = run(criterion(kd_objective="simcut", kd_view_cut=0.0), model, batch)
    plain = run(criterion(kd_objective="none"), model, batch)
    assert simcut[0] == pytest.approx(plain[0], rel=1e-9)
    for name, gradient in plain[2].items():
        torch.testing.assert_close(simcut[2][name], gradient, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("views", "shown"), [(dict(kd_views=2), [0, 1]), (dict(kd_views=2, kd_view_cut=0.3), [0])]
)
def test_figures_of_a_leaf_are_of_views_that_see_all(views, shown, build, batch, criterion):
    """With nothing cut of all views, else of the first."""
    model = build(tree="2[1,1]", dropout=0.2).double()
    _, logs, _ = run(criterion(**views), model, batch)
    logits, gold = by_member(model, batch, Views(2, cut=views.get("kd_view_cut", 0.0)))
    for leaf in range(2):
        nll = [
            sum(
                reference.smoothed_cross_entropy(token[2 * view + leaf], word, 0.0)
                for token, word in zip(logits, gold, strict=True)
            )
            for view in shown
        ]
        assert logs[f"nll_leaf{leaf}"].item() == pytest.approx(reference.mean(nll))


def test_mean_trunk_gradients(build, batch, criterion):
    """Two leaves in cut views: the encoder gets half of the sum, the leaves what they got."""
    model = build(tree="2[1,1]").double()
    for flags in (dict(kd_objective="simcut"), dict(kd_views=2, kd_view_cut=0.3)):
        summed = run(criterion(**flags), model, batch)[2]
        mean = run(criterion(**flags, kd_trunk_gradient="mean"), model, batch)[2]
        for name in ("encoder.layers.0.fc1.weight", "encoder.embed_tokens.weight"):
            torch.testing.assert_close(mean[name] * 2, summed[name], rtol=1e-5, atol=1e-8)
        leaf = "decoder.layers.2.fc1.weight"
        torch.testing.assert_close(mean[leaf], summed[leaf])


@pytest.mark.parametrize("objective", ["rdrop", "simcut", "tsa"])
def test_default_tree(objective, build):
    """Methods that compare views need no branches, and have none by default."""
    leaves = build(kd_objective=objective).decoder.topology.num_leaves
    assert leaves == (4 if objective == "tsa" else 1)


def test_log_line(criterion, caplog):
    with caplog.at_level(logging.INFO):
        criterion(kd_objective="simcut")
        criterion(kd_objective="rdrop")
    simcut, rdrop = (record.getMessage() for record in caplog.records)
    assert simcut == (
        "objective simcut: (1/K) Σ_k [CE_k + a 1² mean_v KL(p_k ‖ p_kv) at T = 1], leaf k in the "
        "first view, p_kv in another, a = 3; 2 views, each read by every leaf, "
        "tokens cut with probability 0.05 in all but the first"
    )
    assert rdrop.endswith("; 2 views, each read by every leaf")
