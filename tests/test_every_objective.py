"""Every objective through the fused loss and the dense one, against the plain loops."""

import pytest
import reference
import torch

from tsa_fairseq.dense import dense_loss
from tsa_fairseq.fused import FusedLoss
from tsa_fairseq.objectives import OBJECTIVES, KDSettings, build_objective
from tsa_fairseq.outputs import Prediction, TreeOutput

TOKENS, WIDTH, WORDS, EPSILON = 3, 4, 6, 0.1
# the published weight, temperature and whether there is a ramp
PUBLISHED = {
    "tsa": (0.5, 1, False),
    "dml": (1.0, 1, False),
    "ensemble": (1.0, 1, False),
    "okddip": (1.0, 3, True),
    "one": (1.0, 3, True),
    "cl-ilr": (1.0, 3, True),
    "kdcl-naive": (1.0, 2, False),
    "kdcl-minlogit": (1.0, 2, False),
    "kd": (0.5, 1, False),
    "sokd": (1.0, 4, False),
    "rdrop": (5.0, 1, False),
    "none": (0.0, 1, False),
}
OTHERS = [name for name in OBJECTIVES if name != "tsa"]  # test_fused.py is about tsa
MEANS = {  # what of a method's leaves and heads a gradient reaches
    "okddip": {"features", "matrix", "peer_attention"},
    "one": {"features", "matrix", "gate"},
    "sokd": {"features", "matrix", "bridge features", "bridge matrix"},
}


def expected(name, *args, **kwargs):
    return getattr(reference, name.replace("-", "_"))(*args, **kwargs)


def settled(name, **settings):
    return build_objective(name, KDSettings(**{"max_update": 100, **settings}))


class Inputs:
    """Random tensors for K leaves, in float64 unless said otherwise; tokens are N."""

    def __init__(
        self, leaves, tokens=TOKENS, width=WIDTH, words=WORDS, dtype=torch.float64, seed=0
    ):
        draw = torch.Generator().manual_seed(seed)

        def random(*shape):
            return torch.randn(shape, generator=draw, dtype=torch.float64).to(dtype)

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
        """Features, matrix, target, heads and others, as the fused loss takes them."""
        t = self.tensors
        heads = {name: t[name] for name in ("gate", "peer_attention")}
        bridge = Prediction(t["bridge features"], t["bridge matrix"])
        others = {"teacher": self.teacher, "bridge": bridge}
        return t["features"], t["matrix"], self.target, heads, others

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
                logits[n].tolist(), self.target[n].item(), gate=t["gate"][n].tolist(),
                attention=t["peer_attention"][n].tolist(), teacher=teacher[n].tolist(),
                bridge=bridge[n].tolist(),
            )
            for n in range(len(self.target))
        ]  # fmt: skip


def dense(objective, ramp, features, matrix, target, heads, others):
    """The dense path on the same tokens as one sentence, with a pad in the middle of it."""
    place = 1

    def padded(tensor):
        hole = torch.full_like(tensor[:1], float("nan")) if tensor.is_floating_point() else None
        hole = torch.ones_like(tensor[:1]) if hole is None else hole
        return torch.cat([tensor[:place], hole, tensor[place:]]).unsqueeze(0)

    real = padded(torch.full_like(target, 2)).ne(1)
    output = TreeOutput(
        tuple(range(len(features))),
        tuple(padded(f) for f in features),
        matrix,
        None,
        {name: padded(head) for name, head in heads.items()},
        {name: Prediction(padded(f), m) for name, (f, m) in others.items()},
    )
    return dense_loss(output, padded(target), real, objective, ramp, EPSILON)


def compare_with_reference(name, leaves, settings, ramp, arguments=None):
    """Value and every gradient, fused, against difference quotients of the loops."""
    inputs = Inputs(leaves)
    objective = settled(name, **settings)
    loss, _ = FusedLoss(objective, ramp, EPSILON, 2)(*inputs.arguments())
    weight = objective.settings.alpha * ramp
    T = objective.settings.temperature
    cases = inputs.cases()

    def total(case):
        return expected(name, case, weight, T, EPSILON, **(arguments or {})) / leaves

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
    assert reached == MEANS.get(name, {"features", "matrix"})


@pytest.mark.parametrize("ramp", [1.0, 0.4])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("leaves", [2, 3, 4])
@pytest.mark.parametrize("name", OTHERS)
def test_against_the_reference(name, leaves, temperature, ramp):
    if OBJECTIVES[name].least_leaves > leaves:
        return
    compare_with_reference(name, leaves, dict(temperature=temperature), ramp)


@pytest.mark.parametrize("mask_self", [False, True])
@pytest.mark.parametrize("aggregation", ["logits", "probabilities"])
def test_variants_of_okddip(aggregation, mask_self):
    settings = dict(aggregation=aggregation, mask_self=mask_self)
    arguments = dict(mix_probabilities=aggregation == "probabilities", mask_self=mask_self)
    compare_with_reference("okddip", 4, settings, 0.7, arguments)


@pytest.mark.parametrize("name", OTHERS)
def test_published_settings(name):
    alpha, temperature, ramps = PUBLISHED[name]
    objective = settled(name, max_update=3000)
    assert objective.settings.alpha == alpha
    assert objective.settings.temperature == temperature
    # 80 of 300 epochs
    assert objective.settings.rampup_updates == (800 if ramps else 0)
