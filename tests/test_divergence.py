import math

import pytest
import reference
import torch

from tsa_fairseq.objectives.divergence import (
    disagreement,
    ensemble_nll,
    peer_divergence,
    smoothed_cross_entropy,
    tempered,
)

DETACH = ["none", "seek", "cover"]


def log_probs(leaves=3, tokens=4, words=7, scale=2.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(leaves, tokens, words, generator=generator, dtype=torch.float64)
    return torch.log_softmax(logits, dim=-1)


def test_cross_entropy_of_a_uniform_prediction():
    uniform = torch.full((2, 3, 4), -math.log(4))
    parts = smoothed_cross_entropy(uniform, torch.tensor([0, 1, 3]))
    torch.testing.assert_close(parts.nll, torch.full((2, 3), math.log(4)))
    torch.testing.assert_close(parts.smooth, torch.full((2, 3), 4 * math.log(4)))
    # the gold word weighs 1 - ε, the rest shares ε: a uniform prediction costs log 4 whatever ε is
    torch.testing.assert_close(parts.combine(0.3, 4), torch.full((2, 3), math.log(4)))


def test_cross_entropy_against_the_reference():
    values, target = log_probs(), torch.tensor([0, 6, 2, 3])
    actual = smoothed_cross_entropy(values, target).combine(0.1, 7)
    for leaf in range(3):
        for token in range(4):
            expected = reference.smoothed_cross_entropy(
                values[leaf, token].tolist(), target[token].item(), 0.1
            )
            assert actual[leaf, token].item() == pytest.approx(expected, rel=1e-12)


def test_divergence_by_hand():
    """p = (1/2, 1/2), q = (1/4, 3/4): KL(p‖q) = log 2 − ½ log 3, KL(q‖p) = ¾ log 3 − log 2."""
    pair = torch.tensor([[[0.5, 0.5]], [[0.25, 0.75]]], dtype=torch.float64).log()
    p_q, q_p = math.log(2) - math.log(3) / 2, 0.75 * math.log(3) - math.log(2)
    for detach, expected in {"none": [p_q, q_p], "seek": [p_q, q_p], "cover": [q_p, p_q]}.items():
        assert peer_divergence(pair, detach).flatten().tolist() == pytest.approx(expected)


@pytest.mark.parametrize("leaves", [2, 3, 4])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_divergence_against_the_reference(leaves, temperature):
    values = log_probs(leaves)
    actual = peer_divergence(tempered(values, temperature))
    for leaf in range(leaves):
        for token in range(4):
            expected = reference.peer_divergence(values[:, token].tolist(), leaf, temperature)
            assert actual[leaf, token].item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("detach", DETACH)
def test_identical_leaves_do_not_diverge(detach):
    same = log_probs(1).expand(4, -1, -1)
    assert peer_divergence(same, detach).abs().max() < 1e-12


@pytest.mark.parametrize("detach", DETACH)
def test_permuted_leaves_permute_the_divergence(detach):
    values, order = log_probs(4), [2, 0, 3, 1]
    torch.testing.assert_close(
        peer_divergence(values[order], detach), peer_divergence(values, detach)[order]
    )


def test_both_directions_have_the_same_sum():
    values = log_probs(4)
    torch.testing.assert_close(
        peer_divergence(values, "seek").sum(dim=0), peer_divergence(values, "cover").sum(dim=0)
    )


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_gradient_of_the_divergence(temperature):
    logits = log_probs(3, 2, 5).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda z: peer_divergence(tempered(torch.log_softmax(z, dim=-1), temperature)), logits
    )


def test_gradient_when_targets_are_detached():
    """cover: p_k − mean_{j≠k} p_j; seek: that of KL(p_k ‖ q) for fixed q, summed by hand."""
    logits = log_probs(3, 2, 5).requires_grad_()
    probs = torch.softmax(logits.detach(), dim=-1)
    values = torch.log_softmax(logits, dim=-1)
    (cover,) = torch.autograd.grad(
        peer_divergence(values, "cover").sum(), logits, retain_graph=True
    )
    torch.testing.assert_close(cover, probs - (probs.sum(dim=0) - probs) / 2)
    (seek,) = torch.autograd.grad(peer_divergence(values, "seek").sum(), logits)
    for leaf in range(3):
        others = [probs[j].log() for j in range(3) if j != leaf]
        gap = probs[leaf].log() - sum(others) / 2
        mean_gap = (probs[leaf] * gap).sum(dim=-1, keepdim=True)
        torch.testing.assert_close(seek[leaf], probs[leaf] * (gap - mean_gap))


def test_divergence_of_very_unlike_leaves_stays_finite():
    sure = torch.full((3, 1, 5), -200.0)
    for leaf in range(3):
        sure[leaf, 0, leaf] = 0.0
    sure.requires_grad_()
    for detach in DETACH:
        value = peer_divergence(torch.log_softmax(sure, dim=-1), detach).sum()
        (gradient,) = torch.autograd.grad(value, sure)
        assert value.item() == pytest.approx(600.0)
        assert gradient.isfinite().all()


def test_tempered():
    values = log_probs()
    assert tempered(values, 1.0) is values
    expected = reference.softmax(values[1, 2].tolist(), 3.0)
    assert tempered(values, 3.0)[1, 2].exp().tolist() == pytest.approx(expected)


def test_ensemble_is_the_mean_of_probabilities():
    values, target = log_probs(), torch.tensor([0, 6, 2, 3])
    probs = values.exp().mean(dim=0)
    expected = [-math.log(probs[n, target[n]]) for n in range(4)]
    assert ensemble_nll(smoothed_cross_entropy(values, target).nll).tolist() == pytest.approx(
        expected
    )


def test_disagreement_counts_pairs():
    tops = [[0, 0, 0], [0, 1, 1], [0, 0, 2], [0, 0, 3]]  # leaf x token
    values = torch.full((4, 3, 5), -9.0)
    for leaf, words in enumerate(tops):
        for token, word in enumerate(words):
            values[leaf, token, word] = -0.1
    assert disagreement(values.argmax(dim=-1)).tolist() == pytest.approx([0.0, 3 / 6, 1.0])
