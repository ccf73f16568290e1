"""Every objective through the fused loss and the dense one, against the plain loops."""

import math

import pytest
import reference
import torch
from helpers import Alive, exactly, fused_loss

import tsa_fairseq.loss.fused
from tsa_fairseq.errors import UsageError
from tsa_fairseq.loss.dense import dense_loss
from tsa_fairseq.objectives import OBJECTIVES, KDSettings, build_objective
from tsa_fairseq.objectives.base import TargetObjective
from tsa_fairseq.objectives.blocks import TokenBlock
from tsa_fairseq.tree.outputs import Prediction, TreeOutput

TOKENS, WIDTH, WORDS, EPSILON = 3, 4, 6, 0.1
# the published weight, temperature, whether there is a ramp, and which side has no gradient
PUBLISHED = {
    "tsa": (0.5, 1, False, None),
    "dml": (1.0, 1, False, "cover"),
    "ensemble": (1.0, 1, False, "cover"),
    "okddip": (1.0, 3, True, "cover"),
    "one": (1.0, 3, True, "cover"),
    "cl-ilr": (1.0, 3, True, None),
    "kdcl-naive": (1.0, 2, False, "cover"),
    "kdcl-minlogit": (1.0, 2, False, "cover"),
    "kd": (0.5, 1, False, "cover"),
    "sokd": (1.0, 4, False, "cover"),
    "rdrop": (5.0, 1, False, None),
    "simcut": (3.0, 1, False, None),
    "none": (0.0, 1, False, "cover"),
}
OTHERS = [name for name in OBJECTIVES if name != "tsa"]  # test_fused.py is about tsa
SIZES = [(n, k) for n in OTHERS for k in (2, 3, 4) if k >= OBJECTIVES[n].least_leaves]
# the leaves of members beside those of leaves_of: a tree in two and three views, and in one
VIEWS = [(0, 1, 0, 1), (0, 1, 2, 0, 1, 2), (0, 1, 0, 1, 0, 1), (0, 1)]
REACHED = {  # what of a method's leaves and heads a gradient reaches
    "okddip": {"features", "matrix", "peer_attention"},
    "one": {"features", "matrix", "gate"},
    "sokd": {"features", "matrix", "bridge features", "bridge matrix"},
}


def expected(name, *args, **kwargs):
    return getattr(reference, name.replace("-", "_"))(*args, **kwargs)


def leaves_of(name, members):
    """As many leaves as members; what compares the views of a leaf has one leaf in all of them."""
    return (0,) * members if OBJECTIVES[name].compares_views else tuple(range(members))


def settled(name, **settings):
    return build_objective(name, KDSettings(**{"max_update": 100, **settings}))


class Inputs:
    """Random tensors for K members, in float64 unless said otherwise; tokens are N."""

    def __init__(
        self, leaf_of, tokens=TOKENS, width=WIDTH, words=WORDS, dtype=torch.float64, seed=0
    ):
        draw = torch.Generator().manual_seed(seed)

        def random(*shape):
            return torch.randn(shape, generator=draw, dtype=torch.float64).to(dtype)

        self.leaf_of, leaves = leaf_of, len(leaf_of)
        peers = leaves - 1
        self.target = torch.randint(words, (tokens,), generator=draw)
        self.tensors = {
            "features": random(leaves, tokens, width),
            "matrix": random(words, width),
            "gate": random(tokens, leaves),
            "peer_attention": random(tokens, peers, peers),
            "bridge features": random(tokens, width + 1),
            "bridge matrix": random(words, width + 1),
        }
        for tensor in self.tensors.values():
            tensor.requires_grad_()
        self.teacher = Prediction(random(tokens, width + 2), random(words, width + 2))

    def arguments(self):
        """Features, matrix, target, heads, others and leaves, as the fused loss takes them."""
        t = self.tensors
        heads = {name: t[name] for name in ("gate", "peer_attention")}
        bridge = Prediction(t["bridge features"], t["bridge matrix"])
        others = {"teacher": self.teacher, "bridge": bridge}
        return t["features"], t["matrix"], self.target, heads, others, self.leaf_of

    def gradients(self, loss):
        found = torch.autograd.grad(loss, list(self.tensors.values()), allow_unused=True)
        return dict(zip(self.tensors, found, strict=True))

    def cases(self):
        """What the reference reads, one case a token."""
        t = {name: tensor.detach() for name, tensor in self.tensors.items()}
        logits = (t["features"] @ t["matrix"].t()).transpose(0, 1)  # N x K x V
        bridge = t["bridge features"] @ t["bridge matrix"].t()
        teacher = self.teacher.features @ self.teacher.matrix.t()
        return [
            reference.Case(
                logits[n].tolist(), self.target[n].item(), self.leaf_of,
                gate=t["gate"][n].tolist(),
                attention=t["peer_attention"][n].tolist(), teacher=teacher[n].tolist(),
                bridge=bridge[n].tolist(),
            )
            for n in range(len(self.target))
        ]  # fmt: skip


def dense(objective, ramp, features, matrix, target, heads, others, leaf_of):
    """The dense path on the same tokens as one sentence, with a pad in the middle of it."""
    place = 1

    def padded(tensor):
        return torch.cat([tensor[:place], tensor[:1] * 0 + 1, tensor[place:]]).unsqueeze(0)

    real = padded(torch.full_like(target, 2)).ne(1)
    output = TreeOutput(
        leaf_of,
        tuple(padded(f) for f in features),
        matrix,
        None,
        {name: padded(head) for name, head in heads.items()},
        {name: Prediction(padded(f), m) for name, (f, m) in others.items()},
    )
    return dense_loss(output, padded(target), real, objective, ramp, EPSILON)


def compare_with_reference(name, leaf_of, settings, ramp, arguments=None):
    """Value and every gradient, fused, against difference quotients of the loops."""
    inputs = Inputs(leaf_of)
    objective = settled(name, **settings)
    loss, _ = fused_loss(objective, ramp, EPSILON, 2)(*inputs.arguments())
    weight = objective.settings.alpha * ramp
    T = objective.settings.temperature
    cases = inputs.cases()
    if not objective.settings.detach_targets:
        cases = [case.attached() for case in cases]

    def total(case):
        return expected(name, case, weight, T, EPSILON, **(arguments or {})) / len(set(leaf_of))

    assert loss.item() == pytest.approx(sum(map(total, cases)), rel=1e-10)

    def slopes(what):
        return torch.tensor(
            [reference.slopes(lambda c=case: total(c), getattr(case, what)) for case in cases],
            dtype=torch.float64,
        )

    t, found = inputs.tensors, inputs.gradients(loss)
    of_logits, of_bridge = slopes("logits"), slopes("bridge")  # N x K x V, N x V
    wanted = {
        "features": (of_logits @ t["matrix"]).transpose(0, 1),
        "matrix": torch.einsum("nkv,knd->vd", of_logits, t["features"]),
        "gate": slopes("gate"),
        "peer_attention": slopes("attention"),
        "bridge features": of_bridge @ t["bridge matrix"],
        "bridge matrix": of_bridge.t() @ t["bridge features"],
    }
    for part, value in wanted.items():
        actual = torch.zeros_like(value) if found[part] is None else found[part]
        torch.testing.assert_close(actual, value, rtol=1e-6, atol=1e-8, msg=f"{name}: {part}")
    reached = {part for part, value in wanted.items() if value.abs().max() > 1e-7}
    assert reached == REACHED.get(name, {"features", "matrix"})


TARGETS = [name for name, o in OBJECTIVES.items() if issubclass(o, TargetObjective)]


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("direction", ["seek", "cover"])
@pytest.mark.parametrize("name", TARGETS)
def test_directions_and_detached_targets(name, direction, detach):
    settings = dict(direction=direction, detach_targets=detach, temperature=2.0)
    compare_with_reference(name, leaves_of(name, 3), settings, 0.7, dict(seek=direction == "seek"))


@pytest.mark.parametrize("ramp", [1.0, 0.4])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize(
    ("name", "leaf_of"),
    [*((n, leaves_of(n, k)) for n, k in SIZES), *(("simcut", leaf_of) for leaf_of in VIEWS)],
)
def test_against_the_reference(name, leaf_of, temperature, ramp):
    compare_with_reference(name, leaf_of, dict(temperature=temperature), ramp)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize(
    ("name", "leaf_of"), [*((n, leaves_of(n, 3)) for n in OTHERS), ("simcut", (0, 1, 0, 1))]
)
def test_gradcheck(name, leaf_of, temperature):
    """Of features, matrices and heads, numerically; nothing is detached."""
    objective = settled(name, temperature=temperature, detach_targets=False)
    fused = fused_loss(objective, 0.7, EPSILON, 2)
    inputs = Inputs(leaf_of)
    names = REACHED.get(name, {"features", "matrix"})

    def loss(*tensors):
        inputs.tensors.update(zip(sorted(names), tensors, strict=True))
        return fused(*inputs.arguments())[0]

    assert torch.autograd.gradcheck(loss, tuple(inputs.tensors[n] for n in sorted(names)))


@pytest.mark.parametrize("mask_self", [False, True])
@pytest.mark.parametrize("aggregation", ["logits", "probabilities"])
def test_variants_of_okddip(aggregation, mask_self):
    settings = dict(aggregation=aggregation, mask_self=mask_self)
    arguments = dict(mix_probabilities=aggregation == "probabilities", mask_self=mask_self)
    compare_with_reference("okddip", (0, 1, 2, 3), settings, 0.7, arguments)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_published_settings(name):
    alpha, temperature, ramps, detached = PUBLISHED[name]
    objective = settled(name, max_update=3000)
    settings = objective.settings
    assert (settings.alpha, settings.temperature) == (alpha, temperature)
    assert settings.detach_targets is (detached is not None)
    assert detached in (None, settings.direction)
    assert objective.trunk_gradient == ("mean" if name == "cl-ilr" else "sum")
    # 80 of 300 epochs
    assert objective.settings.rampup_updates == (800 if ramps else 0)


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("direction", ["seek", "cover"])
@pytest.mark.parametrize(
    ("name", "leaf_of"), [*((n, leaves_of(n, 4)) for n in OBJECTIVES), ("simcut", (0, 1, 0, 1))]
)
def test_fused_is_dense(name, leaf_of, direction, detach):
    """Every sum and gradient, whatever the flags; 47 tokens in blocks of 10."""
    objective = settled(name, direction=direction, detach_targets=detach, temperature=2.0)
    found = []
    for fused in (True, False):
        inputs = Inputs(leaf_of, tokens=47, width=5, words=30)
        if fused:
            loss, sums = fused_loss(objective, 0.4, EPSILON, 10)(*inputs.arguments())
        else:
            loss, sums = dense(objective, 0.4, *inputs.arguments())
        figures = {"loss": loss, "nll": sums.nll, "smooth": sums.smooth, **sums.compared}
        figures.update({f"term {term.name}": term.values.flatten() for term in sums.terms})
        found.append({**figures, **inputs.gradients(loss)})
    assert found[0].keys() == found[1].keys()
    for part, value in found[1].items():
        value, actual = (torch.zeros(()) if v is None else v for v in (value, found[0][part]))
        torch.testing.assert_close(
            actual, value.to(actual) + torch.zeros_like(actual), rtol=1e-7, atol=1e-10, msg=part
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", OTHERS)
def test_error_of_half_precision(name, dtype):
    """Against the same rounded inputs in float64: no larger than the dense path's, plus 4 ulp."""
    objective = settled(name)
    sizes = dict(leaf_of=leaves_of(name, 3), tokens=47, width=31, words=123)

    def found(run, wide):
        inputs = Inputs(**sizes, dtype=dtype)
        if wide:
            inputs.tensors = {
                n: t.detach().double().requires_grad_() for n, t in inputs.tensors.items()
            }
            inputs.teacher = Prediction(*(t.double() for t in inputs.teacher))
        # as large as fairseq's loss scale makes it in half precision
        scale = 64 if dtype == torch.float16 else 1
        loss = run(inputs.arguments())
        gradients = inputs.gradients(loss * scale)
        return loss.double(), {n: g.double() / scale for n, g in gradients.items() if g is not None}

    def fused(arguments):
        return fused_loss(objective, 1.0, EPSILON, 10)(*arguments)[0]

    def densely(arguments):
        return dense(objective, 1.0, *arguments)[0]

    truth, of_truth = found(densely, wide=True)
    naive, of_naive = found(densely, wide=False)
    loss, of_loss = found(fused, wide=False)
    ulp = torch.finfo(dtype).eps
    assert (loss - truth).abs() <= (naive - truth).abs() + 4 * ulp * truth.abs()
    for part, value in of_truth.items():
        budget = (of_naive[part] - value).abs().max() + 4 * ulp * value.abs().max()
        assert (of_loss[part] - value).abs().max() <= budget, part


@pytest.mark.parametrize("name", OTHERS)
def test_permuted_leaves_give_permuted_gradients(name):
    """The first stays where it is: to OKDDip it is the leader, to SimCut the clean view."""
    order = [0, 3, 1, 2]
    peers = [leaf - 1 for leaf in order[1:]]
    objective = settled(name)
    one, two = Inputs(leaves_of(name, 4)), Inputs(leaves_of(name, 4))
    with torch.no_grad():
        two.tensors["features"].copy_(one.tensors["features"][order])
        two.tensors["gate"].copy_(one.tensors["gate"][:, order])
        two.tensors["peer_attention"].copy_(one.tensors["peer_attention"][:, peers][:, :, peers])
    losses = [fused_loss(objective, 1.0, EPSILON)(*i.arguments())[0] for i in (one, two)]
    assert losses[1].item() == pytest.approx(losses[0].item(), rel=1e-12)
    of_one, of_two = one.gradients(losses[0]), two.gradients(losses[1])
    torch.testing.assert_close(of_two["features"], of_one["features"][order])
    torch.testing.assert_close(of_two["matrix"], of_one["matrix"])


@pytest.mark.parametrize("name", [n for n, o in OBJECTIVES.items() if not o.needs_teacher])
def test_identical_leaves_have_nothing_to_learn_from_each_other(name):
    inputs = Inputs(leaves_of(name, 4))
    with torch.no_grad():
        inputs.tensors["features"].copy_(inputs.tensors["features"][:1].expand(4, -1, -1).clone())
    _, sums = fused_loss(settled(name), 1.0, EPSILON)(*inputs.arguments())
    assert sums.compared["kd_loss"].item() == pytest.approx(0.0, abs=1e-12)


def test_a_leaf_that_is_the_teacher_has_nothing_to_learn_from_it():
    inputs = Inputs((0, 1))
    inputs.teacher = Prediction(
        inputs.tensors["features"][0].detach(), inputs.tensors["matrix"].detach()
    )
    _, sums = fused_loss(settled("kd"), 1.0, EPSILON)(*inputs.arguments())
    assert sums.terms[0].values[0].item() == pytest.approx(0.0, abs=1e-12)
    assert sums.terms[0].values[1].item() > 0.1


def block_of(inputs):
    features, matrix, target, heads, others, leaf_of = inputs.arguments()
    others = {n: torch.log_softmax(f @ m.t(), dim=-1) for n, (f, m) in others.items()}
    return TokenBlock(
        log_probs=torch.log_softmax(features @ matrix.t(), dim=-1),
        leaf_of=leaf_of,
        target=target,
        heads=heads,
        others=others,
        label_smoothing=EPSILON,
    )


def test_kdcl_minlogit_is_never_worse_than_a_leaf():
    """At T = 1: the target's cross entropy, which is made up of the smallest logits."""
    inputs = Inputs((0, 1, 2), tokens=50, words=20)
    block = block_of(inputs)
    nll = -block.log_probs.gather(-1, block.target.expand(3, -1).unsqueeze(-1)).squeeze(-1)
    from_gold = block.log_probs + nll.unsqueeze(-1)
    target = from_gold.amin(dim=0).log_softmax(dim=-1)
    of_target = -target.gather(-1, block.target.unsqueeze(-1)).squeeze(-1)
    assert (of_target <= nll + 1e-12).all() and (of_target < nll - 0.1).any()
    objective = settled("kdcl-minlogit", temperature=1.0)
    by_hand = (target.exp() * (target - block.log_probs)).sum(dim=-1)
    torch.testing.assert_close(objective.distillation(block), by_hand)


def test_two_leaves_of_okddip_in_two_views():
    """Leaf 0 is the leader in both views; its peers are the other leaf's views."""
    inputs = Inputs((0, 1, 0, 1))
    with torch.no_grad():  # two peers attend to each other
        inputs.tensors["peer_attention"] = inputs.tensors["peer_attention"][:, :2, :2].clone()
    block = block_of(inputs)
    values = settled("okddip", temperature=1.0).distillation(block)
    mean = block.log_probs[[1, 3]].mean(dim=0).log_softmax(dim=-1)
    for leader in (0, 2):
        by_hand = (mean.exp() * (mean - block.log_probs[leader])).sum(dim=-1)
        torch.testing.assert_close(values[leader], by_hand)


def test_simcut_by_hand():
    """Of two words leaf 0 prefers one in the view that is cut, and neither leaf one elsewhere."""
    even, cut = [0.0, 0.0], [math.log(0.9), math.log(0.1)]
    inputs = Inputs((0, 1, 0, 1), tokens=1, width=2, words=2)
    with torch.no_grad():
        rows = torch.tensor([even, even, cut, even], dtype=torch.float64)
        inputs.tensors["features"].copy_(rows.unsqueeze(1))
        inputs.tensors["matrix"].copy_(torch.eye(2))
    loss, sums = fused_loss(settled("simcut"), 1.0, 0.0)(*inputs.arguments())
    divergence = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)
    assert sums.terms[0].values.tolist() == pytest.approx([divergence, 0.0])
    assert sums.compared["kd_loss"].item() == pytest.approx(divergence / 2)
    assert loss.item() == pytest.approx((2 * math.log(2) + 3 * divergence) / 2)


def test_simcut_in_one_view_has_nothing_to_compare():
    inputs = Inputs((0, 1, 2))
    _, sums = fused_loss(settled("simcut"), 1.0, EPSILON)(*inputs.arguments())
    assert sums.terms == () and sums.compared["kd_loss"].item() == 0.0
    assert sums.compared["pairwise_kl"] > 0.1


def test_figures():
    block = block_of(Inputs((0, 1, 2)))
    index = block.target.unsqueeze(-1)

    def nll(log_probs):
        return -log_probs.gather(-1, index).squeeze(-1)

    gate = block.heads["gate"].softmax(dim=-1)
    mixed = sum(gate[:, k, None] * block.log_probs[k] for k in range(3)).log_softmax(dim=-1)
    apart = (block.log_probs[1].exp() - block.log_probs[2].exp()).pow(2).sum(dim=-1).sqrt()
    teacher, bridge = block.others["teacher"], block.others["bridge"]
    expected = {
        "one": {"nll_gated": nll(mixed)},
        "okddip": {"diversity": apart},
        "kd": {"nll_teacher": nll(teacher)},
        "sokd": {"nll_teacher": nll(teacher), "nll_bridge": nll(bridge)},
    }
    for name in OBJECTIVES:
        found = settled(name).figures(block)
        assert found.keys() == expected.get(name, {}).keys()
        for figure, values in found.items():
            torch.testing.assert_close(values, expected[name][figure])


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("name", [n for n, o in OBJECTIVES.items() if not o.needs_teacher])
def test_one_prediction_alone_learns_from_the_reference(name, fused):
    inputs = Inputs((0,))
    _, matrix, target, *_ = inputs.arguments()
    if fused:
        loss, sums = fused_loss(settled(name), 1.0, EPSILON)(*inputs.arguments())
    else:
        loss, sums = dense(settled(name), 1.0, *inputs.arguments())
    logits = (inputs.tensors["features"] @ matrix.t())[0].tolist()
    pairs = zip(logits, target.tolist(), strict=True)
    by_hand = sum(reference.smoothed_cross_entropy(z, y, EPSILON) for z, y in pairs)
    assert loss.item() == pytest.approx(by_hand)
    assert (sums.terms, sums.compared) == ((), {})


@pytest.mark.parametrize("name", OTHERS)
def test_weights(name):
    """Each can be given; alpha 0 and a cross entropy's weight of 2 is twice the plain mean."""
    inputs = Inputs(leaves_of(name, 3))
    loss, sums = fused_loss(settled(name, alpha=0.0, ce_weight=2.0), 1.0, 0.0)(*inputs.arguments())
    more = [t.values.sum() * t.weight for t in sums.terms if t.name.endswith("_ce")]
    leaves = len(set(inputs.leaf_of))  # of SimCut's members the first alone
    by_hand = (2 * sums.nll[:leaves].sum() + sum(more)).item() / leaves
    assert loss.item() == pytest.approx(by_hand)
    assert all(t.weight == (2.0 if name == "one" else 6.0) for t in sums.terms if "_ce" in t.name)


FORMULAS = {
    "dml": "(1/K) Σ_k [CE_k + a 1² mean_{j≠k} KL(sg[p_j] ‖ p_k) at T = 1], a = 1",
    "ensemble": "(1/K) Σ_k [CE_k + a 1² KL(sg[t] ‖ p_k) at T = 1], t = mean_j p_j, a = 1",
    "okddip": "(1/K) Σ_k [CE_k + a 3² KL(t_k ‖ p_k) at T = 3], "
    "t_k = softmax(Σ_{b} α_kb sg[z_b] / T), t_0 = softmax(mean_b sg[z_b] / T), peers b ≥ 1, "
    "a = 1·w(t), w(t) over 27 updates",
    "one": "(1/K) Σ_k [CE_k + a 3² KL(sg[p_e] ‖ p_k) at T = 3] + (1/K) CE_e, "
    "z_e = Σ_k g_k z_k, a = 1·w(t), w(t) over 27 updates",
    "cl-ilr": "(1/K) Σ_k [CE_k + a 3² KL(q_k ‖ p_k) at T = 3], q_k = softmax(mean_{j≠k} z_j / T), "
    "a = 1·w(t), w(t) over 27 updates",
    "kdcl-naive": "(1/K) Σ_k [CE_k + a 2² KL(sg[p_t] ‖ p_k) at T = 2], "
    "t = argmin_j -log p_j(y), a = 1",
    "kdcl-minlogit": "(1/K) Σ_k [CE_k + a 2² KL(sg[t] ‖ p_k) at T = 2], "
    "t = softmax(min_j (z_j - z_j^y) / T), a = 1",
    "kd": "(1/K) Σ_k [(1-a) CE_k + a 1² KL(p_teacher ‖ p_k) at T = 1], a = 0.5",
    "sokd": "(1/K) Σ_k [CE_k + a 4² KL(sg[p_A] ‖ p_k) at T = 4] + CE_A + a 4² [KL(p_teacher ‖ p_A) "
    "+ mean_k KL(sg[p_k] ‖ p_A)], A the bridge, a = 1",
    "rdrop": "(1/K) Σ_k [CE_k + a 1² ½ mean_{j≠k} KL(p_k ‖ p_j) at T = 1], a = 5",
    "simcut": "(1/K) Σ_k [CE_k + a 1² mean_v KL(p_k ‖ p_kv) at T = 1], "
    "leaf k in the first view, p_kv in another, a = 3",
    "none": "(1/K) Σ_k CE_k",
}


@pytest.mark.parametrize("name", OTHERS)
def test_formula(name):
    assert settled(name).formula() == FORMULAS[name]


@pytest.mark.parametrize(
    ("name", "settings", "formula"),
    [
        (
            "okddip",
            dict(aggregation="probabilities", mask_self=True, detach_targets=False,
                 rampup_updates=0),
            "(1/K) Σ_k [CE_k + a 3² KL(t_k ‖ p_k) at T = 3], t_k = Σ_{b≠k} α_kb softmax(z_b / T), "
            "t_0 = mean_b softmax(z_b / T), peers b ≥ 1, a = 1",
        ),
        (
            "sokd",
            dict(direction="seek", ce_weight=0.5, alpha=2.0),
            "(1/K) Σ_k [0.5 CE_k + a 4² KL(p_k ‖ sg[p_A]) at T = 4] + 0.5 CE_A + a 4² "
            "[KL(p_A ‖ p_teacher) + mean_k KL(p_A ‖ sg[p_k])], A the bridge, a = 2",
        ),
        ("none", dict(ce_weight=2.0), "(1/K) Σ_k 2 CE_k"),
        (
            "ensemble",
            dict(direction="seek", detach_targets=False),
            "(1/K) Σ_k [CE_k + a 1² KL(p_k ‖ t) at T = 1], t = mean_j p_j, a = 1",
        ),
        (
            "simcut",
            dict(direction="seek", detach_targets=True, ce_weight=0.5, rampup_updates=9),
            "(1/K) Σ_k [0.5 CE_k + a 1² mean_v KL(p_kv ‖ sg[p_k]) at T = 1], "
            "leaf k in the first view, p_kv in another, a = 3·w(t), w(t) over 9 updates",
        ),
    ],
)  # fmt: skip
def test_formula_of_other_settings(name, settings, formula):
    assert settled(name, **settings).formula() == formula


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        (
            "okddip",
            dict(max_update=0),
            "--kd-rampup-updates: not given; the weight of --kd-objective okddip rises over 27% of "
            "a training whose length --max-update tells: expected one of the two flags",
        ),
        ("kd", dict(alpha=1.5), "--kd-alpha: got 1.5; expected a number from 0 to 1"),
        (
            "tsa",
            dict(aggregation="logits"),
            "--kd-aggregation: got 'logits' with --kd-objective tsa; "
            "expected --kd-objective okddip",
        ),
        (
            "one",
            dict(mask_self=True),
            "--kd-mask-self: got 'True' with --kd-objective one; expected --kd-objective okddip",
        ),
        (
            "none",
            dict(alpha=0.7),
            "--kd-alpha: got 0.7 with --kd-objective none, which distils nothing and is the "
            "default for a tree of one leaf; expected another objective, or no --kd-alpha",
        ),
        (
            "okddip",
            dict(aggregation="x"),
            "--kd-aggregation: got 'x'; expected one of logits, probabilities",
        ),
    ],
)
def test_refused(name, settings, message):
    with pytest.raises(UsageError, match=exactly(message)):
        settled(name, **settings)


def test_a_weight_above_1_takes_a_weight_of_the_cross_entropy():
    assert settled("kd", alpha=1.5, ce_weight=1.0).cross_entropy_weight(2, 1.0) == 1.0
    assert settled("kd", alpha=0.25).cross_entropy_weight(2, 0.4) == pytest.approx(0.9)
    assert settled("one", rampup_updates=0, max_update=0).settings.ramp(0) == 1.0


@pytest.mark.parametrize("name", OBJECTIVES)
def test_work_on_a_slice_holds_so_many_copies_of_it(name, monkeypatch):
    """With slices as large as a block; and eight times the tokens hold no more."""
    objective, tokens, words = settled(name, temperature=2.0), 10, 3000
    leaf_of = leaves_of(name, 3)
    leaves = len(leaf_of)
    monkeypatch.setattr(tsa_fairseq.loss.fused, "SLICE_LOGITS", leaves * tokens * words)
    block = leaves * tokens * words * 8
    most = []
    for more in (4, 32):
        inputs = Inputs(leaf_of, tokens=more * tokens, words=words)
        arguments = inputs.arguments()
        with Alive() as alive:
            fused_loss(objective, 1.0, EPSILON, tokens)(*arguments)
        most.append(alive.most)
    # what does not grow: the matrices' gradients, and blocks of teacher and bridge
    fixed = 2 * words * (2 * WIDTH + 1) * 8 + 2 * block / leaves
    assert most[0] <= (1 + objective.copies) * block + fixed
    assert most[1] - most[0] < block / 4  # features and heads of 280 tokens more


@pytest.mark.parametrize("tokens", [0, 1, 100])
def test_a_slice_of_a_gpu_is_the_block(tokens):
    logits = torch.empty(tokens, 2, 5, device="meta")
    assert list(tsa_fairseq.loss.fused._slices(logits)) == [slice(0, tokens)]


def test_slices_of_less_than_a_token(monkeypatch):
    """Where K · V is more than a slice may hold, a slice is a token."""
    monkeypatch.setattr(tsa_fairseq.loss.fused, "SLICE_LOGITS", 3 * WORDS - 1)
    compare_with_reference("ensemble", (0, 1, 2), {}, 1.0)


def test_probabilities_of_okddip_far_apart():
    """A logit gap that no float64 holds as a probability: in log space it is none."""
    inputs = Inputs((0, 1, 2, 3))
    with torch.no_grad():
        inputs.tensors["features"] *= 300
    objective = settled("okddip", aggregation="probabilities", temperature=1.0)
    loss, _ = fused_loss(objective, 1.0, EPSILON)(*inputs.arguments())
    assert loss.isfinite()
    assert all(g is None or g.isfinite().all() for g in inputs.gradients(loss).values())
