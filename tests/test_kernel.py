"""The GPU's kernel, run by Triton's interpreter where there is no GPU, against a float64 loop."""

import itertools
import math

import pytest
import torch

from tsa_fairseq.objectives.blocks import LogitBlock

pytest.importorskip("triton", reason="needs triton")
kernel = pytest.importorskip("tsa_fairseq.objectives.kernel")

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
EPSILON = 0.1


def make(tokens, members, words, spread=2.0, seed=0):
    draw = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(tokens, members, words, generator=draw)
    return logits, torch.randint(words, (tokens,), generator=draw)


def reference(logits, target, ce_weight, kd_weight, temperature, detach):
    """Loss and figures by autograd in float64, a token, a pair and a word at a time."""
    z = logits.double().requires_grad_()
    tokens, members, words = z.shape
    smoothing = EPSILON / (words - 1)
    loss, nll, smooth = 0.0, torch.zeros(members).double(), torch.zeros(members).double()
    kd, figures = torch.zeros(members).double(), dict.fromkeys(("pairwise_kl", "disagreement"), 0.0)
    figures["nll_ensemble"] = 0.0
    for n in range(tokens):
        log_p = [z[n, k].log_softmax(0) for k in range(members)]
        log_q = [(z[n, k] / temperature).log_softmax(0) for k in range(members)]
        for k in range(members):
            nll[k] -= log_p[k][target[n]].detach()
            smooth[k] -= log_p[k].sum().detach()
            gold = (1 - EPSILON - smoothing) * log_p[k][target[n]]
            loss = loss - ce_weight / members * (gold + smoothing * log_p[k].sum())
            for j in range(members):
                if j == k:
                    continue
                one, other = log_q[k], log_q[j]
                if detach == "seek":
                    other = other.detach()
                if detach == "cover":
                    one, other = other.detach(), one
                value = temperature**2 * (one.exp() * (one - other)).sum() / (members - 1)
                kd[k] += value.detach()
                loss = loss + kd_weight / members * value
                plain = (log_p[k].exp() * (log_p[k] - log_p[j])).sum()
                figures["pairwise_kl"] += plain.item() / (members - 1) / members
                differ = log_p[k].argmax() != log_p[j].argmax()
                figures["disagreement"] += differ.item() / (members * (members - 1))
        chances = torch.stack([p[target[n]] for p in log_p]).logsumexp(0).item()
        figures["nll_ensemble"] += math.log(members) - chances
    figures["kd_loss"] = kd.sum().item() / members
    (gradient,) = torch.autograd.grad(loss, z)
    return nll, smooth, kd, figures, gradient


def run(logits, target, ce_weight, kd_weight, temperature, detach, scale=1.0, dtype=torch.float32):
    logits = logits.to(DEVICE, copy=True)
    gradient = logits if dtype == torch.float32 else torch.empty_like(logits, dtype=dtype)
    block = LogitBlock(
        logits=logits,
        gradient=gradient,
        leaf_of=tuple(range(logits.size(1))),
        target=target.to(DEVICE),
        label_smoothing=EPSILON,
        ramp=1.0,
        gradient_scale=scale,
        wants_gradient=True,
    )
    assert kernel.serves(block)
    return kernel.mutual_cross_entropy_(block, ce_weight, kd_weight, temperature, detach), gradient


def close(actual, expected, rtol=2e-5, atol=2e-6):
    expected = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(actual.double().cpu(), expected, rtol=rtol, atol=atol)


# one tile and several, with a rest and without; members that fill a power of two and that do not
@pytest.mark.parametrize(("members", "words"), [(2, 100), (3, 2500), (4, 2048), (5, 1024)])
@pytest.mark.parametrize("detach", ["none", "seek", "cover"])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_against_a_loop(members, words, detach, temperature):
    logits, target = make(3, members, words)
    target[0], target[1] = 0, words - 1
    expected = reference(logits, target, 0.7, 1.3, temperature, detach)
    sums, gradient = run(logits, target, 0.7, 1.3, temperature, detach)
    nll, smooth, kd, figures, right = expected
    close(sums.nll, nll)
    close(sums.smooth, smooth)
    (term,) = sums.terms
    assert (term.name, term.weight) == ("kd", 1.3)
    close(term.values, kd, rtol=1e-4)
    assert set(sums.compared) == set(figures)
    for name, value in figures.items():
        close(sums.compared[name], value, rtol=1e-4)
    close(gradient, right, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("words", [5, 5000])
def test_a_single_member(words):
    logits, target = make(4, 1, words)
    nll, smooth, _, _, right = reference(logits, target, 1.0, 0.0, 1.0, "none")
    sums, gradient = run(logits, target, 1.0, 0.0, 1.0, "none")
    close(sums.nll, nll)
    close(sums.smooth, smooth)
    close(gradient, right, rtol=1e-4, atol=1e-7)
    assert (sums.terms, sums.compared) == ((), {})


@pytest.mark.parametrize(("dtype", "units"), [(torch.float16, 2**-11), (torch.bfloat16, 2**-7)])
def test_a_gradient_in_half_precision(dtype, units):
    """Times the scale, and rounded once; Triton's interpreter cuts bfloat16 off instead."""
    logits, target = make(3, 2, 3000)
    right = reference(logits, target, 1.0, 2.5, 1.0, "none")[-1]
    before = logits.clone()
    _, gradient = run(logits, target, 1.0, 2.5, 1.0, "none", scale=2.0**8, dtype=dtype)
    assert gradient.dtype == dtype and torch.equal(logits, before)
    close(gradient.double() / 2**8, right, rtol=1.1 * units, atol=2.0**-33)


def test_far_from_zero():
    """Sure predictions, logits that no exponential takes, maxima that rise tile by tile."""
    logits = torch.arange(5000.0).expand(2, 2, -1).clone()
    logits[1] = -logits[1] - 1e4
    logits[:, 1, 17] += 3.0
    target = torch.tensor([4999, 0])
    nll, _, kd, _, right = reference(logits, target, 1.0, 1.0, 1.0, "none")
    sums, gradient = run(logits, target, 1.0, 1.0, 1.0, "none")
    close(sums.nll, nll, atol=2e-3)
    close(sums.terms[0].values, kd, rtol=1e-2, atol=5e-2)
    close(gradient, right, rtol=1e-2, atol=1e-3)


def test_the_first_of_equals_is_the_most_probable():
    logits = torch.zeros(4, 2, 6000)
    for token, (one, other) in enumerate([(0, 0), (0, 5999), (4095, 4096), (2048, 2048)]):
        logits[token, 0, one] = logits[token, 1, other] = 1.0
        logits[token, 0, 5999] = 1.0
    sums, _ = run(logits, torch.zeros(4, dtype=torch.long), 1.0, 0.0, 1.0, "none")
    assert sums.compared["disagreement"].item() == 2.0


def test_no_tokens():
    sums, _ = run(torch.zeros(0, 2, 7), torch.zeros(0, dtype=torch.long), 1.0, 1.0, 1.0, "none")
    assert sums.nll.tolist() == [0.0, 0.0] and sums.compared["kd_loss"].item() == 0.0


def test_validation_leaves_logits_alone():
    logits, target = make(2, 3, 300)
    block = LogitBlock(
        logits=logits.to(DEVICE, copy=True),
        gradient=torch.empty(0, device=DEVICE),
        leaf_of=(0, 1, 2),
        target=target.to(DEVICE),
        ramp=1.0,
        wants_gradient=False,
    )
    before = block.logits.clone()
    sums = kernel.mutual_cross_entropy_(block, 1.0, 1.0, 1.0, "none")
    assert torch.equal(block.logits, before)
    close(sums.nll, reference(logits, target, 1.0, 1.0, 1.0, "none")[0])


def test_what_it_serves():
    def block(dtype, members):
        logits = torch.zeros(1, members, 4, dtype=dtype)
        target = torch.zeros(1, dtype=torch.long)
        return LogitBlock(
            logits=logits, gradient=logits, leaf_of=(0,) * members, target=target, ramp=1.0,
            wants_gradient=True,
        )  # fmt: skip

    served = itertools.product((torch.float32, torch.float64), (1, 32, 33))
    assert [kernel.serves(block(*case)) for case in served] == [True, True, False] + [False] * 3
