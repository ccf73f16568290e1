"""Distillation at extreme temperatures, in float32, against the float64 loops; fused and dense."""

import pytest
import torch
from helpers import fused_loss
from test_every_objective import EPSILON, Inputs, dense, expected, leaves_of, settled

from tsa_fairseq.objectives import OBJECTIVES
from tsa_fairseq.objectives.divergence import NARROW
from tsa_fairseq.objectives.settings import TEMPERATURES

NAMES = [name for name in OBJECTIVES if name != "none"]
AT = [TEMPERATURES[0], 0.03, 30.0, 1000.0, TEMPERATURES[1]]
# of the smallest probabilities: float64 has no number below e^-745
LOUDNESS = 0.2


def quiet(dtype):
    inputs = Inputs((0, 1, 2), dtype=dtype)
    with torch.no_grad():
        for tensor in (*inputs.tensors.values(), *inputs.teacher):
            tensor.mul_(LOUDNESS**0.5)
    return inputs


def distillation(name, temperature):
    """Nothing but the distillation: of a convex combination all, elsewhere without the rest."""
    convex = OBJECTIVES[name].published.convex
    rest = {} if convex else {"ce_weight": 0.0}
    return settled(name, alpha=1.0, temperature=temperature, rampup_updates=0, **rest), convex


@pytest.mark.parametrize("temperature", AT)
@pytest.mark.parametrize("name", NAMES)
def test_value_against_the_reference(name, temperature):
    inputs = quiet(torch.float32)
    inputs.leaf_of = leaves_of(name, 3)
    objective, convex = distillation(name, temperature)
    cases = inputs.cases()

    def total(case, weight):
        if name == "tsa":
            return expected(name, [case.logits], [case.gold], weight, temperature, EPSILON)
        return expected(name, case, weight, temperature, EPSILON) / len(set(inputs.leaf_of))

    if not objective.settings.detach_targets and name != "tsa":
        cases = [case.attached() for case in cases]
    wanted = sum(total(case, 1.0) - (0.0 if convex else total(case, 0.0)) for case in cases)
    assert wanted > 1e-3
    fused, _ = fused_loss(objective, 1.0, EPSILON, 2)(*inputs.arguments())
    plain, _ = dense(objective, 1.0, *inputs.arguments())
    assert fused.dtype == plain.dtype == torch.float32
    assert fused.item() == pytest.approx(wanted, rel=1e-4)
    assert plain.item() == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("temperature", AT)
@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_float64(name, temperature):
    """By autograd from float64 inputs, which test_every_objective.py compares with quotients."""
    found = []
    for dtype, way in ((torch.float64, dense), (torch.float32, dense), (torch.float32, None)):
        inputs = quiet(torch.float64)
        inputs.leaf_of = leaves_of(name, 3)
        # the same numbers in both types
        inputs.tensors = {
            n: t.detach().float().to(dtype).requires_grad_() for n, t in inputs.tensors.items()
        }
        inputs.teacher = type(inputs.teacher)(*(t.float().to(dtype) for t in inputs.teacher))
        objective, _ = distillation(name, temperature)
        compute = way or (lambda o, ramp, *rest: fused_loss(o, ramp, EPSILON, 2)(*rest))
        loss, _ = compute(objective, 1.0, *inputs.arguments())
        gradients = inputs.gradients(loss)
        found.append({n: g.double() for n, g in gradients.items() if g is not None})
    for part, gradient in found[0].items():
        largest = gradient.abs().max().item()
        for other in found[1:]:
            torch.testing.assert_close(
                other[part], gradient, rtol=1e-3, atol=max(3e-4 * largest, 1e-12), msg=part
            )


def test_ordinary_temperatures_are_computed_as_ever():
    """In float32: what was trained with them is trained again to the last bit."""
    assert NARROW[0] <= 1.0 and NARROW[1] >= 4.0
    assert all(NARROW[0] <= o.published.temperature <= NARROW[1] for o in OBJECTIVES.values())
