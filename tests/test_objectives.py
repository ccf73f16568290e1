import math
from dataclasses import replace

import pytest
import reference
import torch
from helpers import exactly

from tsa_fairseq.errors import UsageError
from tsa_fairseq.objectives import OBJECTIVES, KDSettings, build_objective
from tsa_fairseq.objectives.blocks import TokenBlock


def block(leaves=3, tokens=4, words=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(leaves, tokens, words, generator=generator, dtype=torch.float64)
    target = torch.randint(words, (tokens,), generator=generator)
    return TokenBlock(
        log_probs=torch.log_softmax(logits, dim=-1), leaf_of=tuple(range(leaves)), target=target
    )


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("leaves", [2, 3, 4])
@pytest.mark.parametrize("ramp", [1.0, 0.4])
def test_tsa_term(leaves, temperature, ramp):
    tokens = block(leaves)
    tsa = build_objective("tsa", KDSettings(alpha=0.3, temperature=temperature))
    (term,) = tsa.terms(tokens, ramp)
    assert (term.name, term.weight) == ("kd", pytest.approx(0.3 * ramp))
    assert tsa.cross_entropy_weight(leaves, ramp) == pytest.approx(1 - 0.3 * ramp)
    for leaf in range(leaves):
        for n in range(4):
            expected = temperature**2 * reference.peer_divergence(
                tokens.log_probs[:, n].tolist(), leaf, temperature
            )
            assert term.values[leaf, n].item() == pytest.approx(expected, rel=1e-10)


def test_one_leaf_has_nothing_to_distil():
    tsa = build_objective("tsa", KDSettings(alpha=0.7))
    assert tsa.terms(block(leaves=1), 1.0) == []
    assert tsa.cross_entropy_weight(1, 1.0) == 1.0
    assert tsa.kd_weight(1, 1.0) == 0.0


@pytest.mark.parametrize("direction", ["seek", "cover"])
def test_detached_targets_reach_the_term(direction):
    tokens = block()
    logits = tokens.log_probs.clone().requires_grad_()
    settings = KDSettings(detach_targets=True, direction=direction)
    values = torch.log_softmax(logits, dim=-1)
    (term,) = build_objective("tsa", settings).terms(replace(tokens, log_probs=values), 1.0)
    (of_leaf_0,) = torch.autograd.grad(term.values[0].sum(), logits)
    assert of_leaf_0[0].abs().sum() > 0
    assert of_leaf_0[1:].abs().sum() == 0


def test_ramp():
    settings = build_objective("tsa", KDSettings(rampup_updates=100)).settings
    assert settings.ramp(0) == pytest.approx(math.exp(-5))
    assert settings.ramp(50) == pytest.approx(math.exp(-1.25))
    assert settings.ramp(100) == settings.ramp(1000) == settings.ramp(None) == 1.0
    assert build_objective("tsa", KDSettings()).settings.ramp(0) == 1.0


@pytest.mark.parametrize(
    ("settings", "formula"),
    [
        ({}, "(1/K) Σ_k [(1-a) CE_k + a 1² mean_{j≠k} KL(p_k ‖ p_j) at T = 1], a = 0.5"),
        (
            dict(alpha=0.3, temperature=2, detach_targets=True),
            "(1/K) Σ_k [(1-a) CE_k + a 2² mean_{j≠k} KL(p_k ‖ sg[p_j]) at T = 2], a = 0.3",
        ),
        (
            dict(detach_targets=True, direction="cover", rampup_updates=9),
            "(1/K) Σ_k [(1-a) CE_k + a 1² mean_{j≠k} KL(sg[p_j] ‖ p_k) at T = 1], "
            "a = 0.5·w(t), w(t) over 9 updates",
        ),
    ],
)
def test_formula(settings, formula):
    assert build_objective("tsa", KDSettings(**settings)).formula() == formula


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(alpha=-0.1), "--kd-alpha: got -0.1; expected a number of 0 or more"),
        (dict(alpha=math.nan), "--kd-alpha: got nan; expected a number of 0 or more"),
        (dict(ce_weight=math.inf), "--kd-ce-weight: got inf; expected a number of 0 or more"),
        (dict(temperature=0.0), "--kd-temperature: got 0; expected a number from 0.01 to 10000"),
        (dict(temperature=-2.0), "--kd-temperature: got -2; expected a number from 0.01 to 10000"),
        (
            dict(temperature=math.inf),
            "--kd-temperature: got inf; expected a number from 0.01 to 10000",
        ),
        (dict(direction="up"), "--kd-direction: got 'up'; expected one of seek, cover"),
        (dict(rampup_updates=-1), "--kd-rampup-updates: got -1; expected 0 or more"),
    ],
)
def test_settings_out_of_range(settings, message):
    with pytest.raises(UsageError, match=exactly(message)):
        KDSettings(**settings)


def test_unknown_objective():
    names = ", ".join(OBJECTIVES)
    message = exactly(f"--kd-objective: got 'nope'; expected one of {names}")
    with pytest.raises(UsageError, match=message):
        build_objective("nope", KDSettings())
