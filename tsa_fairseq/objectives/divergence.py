"""Cross entropy and divergences per token, in nats, from log probabilities.

Everything stays in log space: a probability too small for its type would otherwise turn its
logarithm into minus infinity.
"""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Detach = Literal["none", "seek", "cover"]

# Other temperatures are computed in float64. T² KL stays of the size of 1 however large T is, but
# is T² times a difference of numbers of the size of log V, which float32 has to some 1e-6: at
# T = 10 it is off by 1e-4 nats, at T = 1,000 by 1. At small T, z / T has few digits behind the
# point.
NARROW = (0.1, 10.0)


class SmoothedCrossEntropy(NamedTuple):
    """The two sums that fairseq's label-smoothed cross entropy is made of, per token."""

    nll: Tensor
    smooth: Tensor

    def combine(self, label_smoothing: float, vocabulary: int) -> Tensor:
        """(1 − ε − ε_i) · nll + ε_i · smooth, with ε_i = ε / (V − 1), as fairseq defines it."""
        on_gold, on_all = smoothing_weights(label_smoothing, vocabulary)
        return on_gold * self.nll + on_all * self.smooth


def smoothing_weights(label_smoothing: float, vocabulary: int) -> tuple[float, float]:
    """1 − ε − ε_i and ε_i = ε / (V − 1)."""
    eps_i = label_smoothing / (vocabulary - 1)
    return 1.0 - label_smoothing - eps_i, eps_i


def target_nll(log_probs: Tensor, target: Tensor) -> Tensor:
    """−log p(target).

    Shapes:
        log_probs: ... x N x V; target: N; result: ... x N.
    """
    index = target.expand(log_probs.shape[:-1]).unsqueeze(-1)
    return -log_probs.gather(dim=-1, index=index).squeeze(-1)


def smoothed_cross_entropy(log_probs: Tensor, target: Tensor) -> SmoothedCrossEntropy:
    """−log p(target) and −Σ_v log p(v).

    Shapes:
        log_probs: ... x N x V; target: N; both results: ... x N.
    """
    return SmoothedCrossEntropy(target_nll(log_probs, target), -log_probs.sum(dim=-1))


def is_narrow(temperature: float) -> bool:
    """Whether T² KL of float32 logits divided by T has its digits."""
    return NARROW[0] <= temperature <= NARROW[1]


def wide_enough(logits: Tensor, temperature: float) -> Tensor:
    """The logits in a type in which T² KL of them divided by T has its digits."""
    return logits if is_narrow(temperature) else logits.double()


def at_temperature(logits: Tensor, temperature: float) -> Tensor:
    """log softmax(z / T); float64 at extreme temperatures."""
    return torch.log_softmax(wide_enough(logits, temperature) / temperature, dim=-1)


def tempered(log_probs: Tensor, temperature: float) -> Tensor:
    """log softmax(z / T), from log softmax(z)."""
    return log_probs if temperature == 1.0 else at_temperature(log_probs, temperature)


def mutual_divergence(log_probs: Tensor, detach: Detach = "none") -> Tensor:
    """For every member, its mean divergence from the others; O(K) passes over the vocabulary.

    (1 / (K−1)) Σ_{j≠k} KL(p_k ‖ p_j) = (1 / (K−1)) Σ_v p_k (K log p_k − S),  S = Σ_j log p_j

    Args:
        log_probs: K x N x V, with K ≥ 2.
        detach: ``none``, gradients flow into both sides; ``seek``, KL(p_k ‖ sg[p_j]), which looks
            for the modes of p_j; ``cover``, KL(sg[p_j] ‖ p_k), which covers them, as in the usual
            distillation from a teacher.

    Returns:
        K x N, nats.
    """
    others = log_probs.size(0) - 1
    fixed = log_probs.detach()
    if detach == "cover":
        probs = fixed.exp()
        entropy = (probs * fixed).sum(dim=-1)  # K x N
        target_sum = probs.sum(dim=0) - probs  # K x N x V, over the other members
        cross = (target_sum * log_probs).sum(dim=-1)
        return (entropy.sum(dim=0) - entropy - cross) / others
    towards = log_probs if detach == "none" else fixed
    gap = others * log_probs - (towards.sum(dim=0) - towards)
    return (log_probs.exp() * gap).sum(dim=-1) / others


def ensemble_nll(nll: Tensor) -> Tensor:
    """−log of the members' mean probability of the target, from each one's −log p(target).

    Shapes:
        nll: K x N; result: N.
    """
    return math.log(nll.size(0)) - torch.logsumexp(-nll, dim=0)


def disagreement(top: Tensor) -> Tensor:
    """Share of the pairs of members whose most probable words differ, per token.

    Shapes:
        top: the words, K x N, with K ≥ 2; result: N, from 0 to 1, float32.
    """
    members = top.size(0)
    differ = (top.unsqueeze(0) != top.unsqueeze(1)).sum(dim=(0, 1))  # every pair twice
    return differ.float() / (members * (members - 1))
