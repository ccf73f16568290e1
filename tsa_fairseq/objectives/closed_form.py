"""Cross entropy and peer divergence with their gradients by hand, for logits that are scratch.

Automatic differentiation would keep half a dozen tensors of the logits' size and read each several
times. Here the gradient replaces the logits, and every pass over them is written down.

Shapes throughout: logits N x K x V, a token's members side by side; per member and token N x K x 1.
"""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from tsa_fairseq.objectives.blocks import LogitBlock, LossSums, Term
from tsa_fairseq.objectives.divergence import (
    Detach,
    disagreement,
    ensemble_nll,
    smoothing_weights,
    wide_enough,
)


class Softmax(NamedTuple):
    """softmax(z), log Σ_v exp z_v, and the most probable word."""

    probs: Tensor  # N x K x V
    log_sum: Tensor  # N x K x 1
    top: Tensor  # N x K x 1


def softmax(logits: Tensor) -> Softmax:
    """With one exponential a value: log Σ exp z = z_top − log p_top, where p_top ≥ 1/V."""
    probs = torch.softmax(logits, dim=-1)
    top = argmax(logits)
    log_sum = logits.gather(-1, top) - probs.gather(-1, top).log()
    return Softmax(probs, log_sum, top)


def argmax(values: Tensor, width: int = 128) -> Tensor:
    """The index of the largest value in the last dimension, which is kept.

    On a CPU torch finds a maximum several times faster than its place. The maxima of pieces of
    ``width`` values tell which piece to look at.
    """
    whole = values.size(-1) // width * width
    if values.is_cuda or whole == 0:
        return values.argmax(dim=-1, keepdim=True)
    pieces = values[..., :whole].unflatten(-1, (-1, width))  # ... x pieces x width
    piece = pieces.amax(dim=-1).argmax(dim=-1, keepdim=True)  # ... x 1
    inside = pieces.gather(-2, piece.unsqueeze(-1).expand(*piece.shape, width)).squeeze(-2)
    top = piece * width + inside.argmax(dim=-1, keepdim=True)
    if whole == values.size(-1):
        return top
    rest = whole + values[..., whole:].argmax(dim=-1, keepdim=True)
    return torch.where(values.gather(-1, rest) > values.gather(-1, top), rest, top)


class MutualDivergence(NamedTuple):
    """Mean divergence of every member from the others, and what its gradient is made of."""

    value: Tensor  # N x K x 1
    gap: Tensor  # N x K x V: z_k − mean_j z_j
    mean_gap: Tensor  # N x K x 1: Σ_v p_k · gap_k


def mutual_divergence_(logits: Tensor, found: Softmax, detach: Detach) -> MutualDivergence:
    """(1/(K−1)) Σ_{j≠k} KL(p_k ‖ p_j), or of KL(p_j ‖ p_k) for ``cover``.

    K log p_k − Σ_j log p_j is K · gap_k but for a number for each member and token, so that no
    logarithm is taken over the vocabulary.

    Args:
        logits: at the temperature of the comparison. They become the gap.
        found: their softmax.
        detach: see :func:`tsa_fairseq.objectives.divergence.mutual_divergence`.
    """
    members = logits.size(1)
    gap = logits.sub_(logits.mean(dim=1, keepdim=True))
    mean_gap = torch.linalg.vecdot(found.probs, gap).unsqueeze(-1)
    number = members * found.log_sum - found.log_sum.sum(dim=1, keepdim=True)
    if detach == "cover":
        of_targets = torch.linalg.vecdot(found.probs.sum(dim=1, keepdim=True), gap).unsqueeze(-1)
        value = mean_gap.sum(dim=1, keepdim=True) - of_targets + number
    else:
        value = members * mean_gap - number
    return MutualDivergence(value / (members - 1), gap, mean_gap)


def mutual_cross_entropy_(
    block: LogitBlock, ce_weight: float, kd_weight: float, temperature: float, detach: Detach
) -> LossSums:
    """Label-smoothed cross entropy and peer divergence, and the gradient of their weighted mean.

    loss = (1/K) Σ_k [ce_weight · CE_k + kd_weight · T² · D_k], D as in :func:`mutual_divergence_`

    With p = softmax(z), q = softmax(z / T), and ε, ε_i those of the cross entropy, the gradient of
    the sum of the brackets with respect to z_k is

        ce_weight · [(1 − ε − ε_i + V ε_i) p_k − ε_i − (1 − ε − ε_i) onehot(target)]
        + kd_weight · T / (K−1) · {K q_k (gap_k − Σ_v q_k gap_k)  +  K q_k − Σ_j q_j}

    In the braces, what stands before the last + is the gradient of KL(p_k ‖ sg[p_j]), ``seek``,
    what follows it that of KL(sg[p_j] ‖ p_k), ``cover``; without a stop-gradient both count.

    Args:
        block: its logits are overwritten.
        ce_weight: of the cross entropy.
        kd_weight, temperature, detach: of the divergence; a single member has none.
    """
    logits, (members, vocabulary) = block.logits, block.logits.shape[1:]
    gold = block.target.view(-1, 1, 1).expand(-1, members, 1)
    at_1 = softmax(logits)
    nll = at_1.log_sum - logits.gather(-1, gold)
    smooth = vocabulary * at_1.log_sum - logits.sum(dim=-1, keepdim=True)
    sums = LossSums(vocabulary, block.leaf_of, nll.sum(dim=(0, 2)), smooth.sum(dim=(0, 2)))

    at_t, divergence, scratch = at_1, None, logits
    if members > 1:
        pairwise_kl = None
        if temperature != 1.0:
            pairwise_kl = mutual_divergence_(logits.clone(), at_1, "seek").value
            scratch = wide_enough(logits, temperature).div_(temperature)
            at_t = softmax(scratch)
        divergence = mutual_divergence_(scratch, at_t, detach)
        kd = (temperature**2 * divergence.value).to(logits.dtype)
        compared = {
            "nll_ensemble": ensemble_nll(nll.squeeze(-1).t()),
            "kd_loss": kd / members,
            "pairwise_kl": (kd if pairwise_kl is None else pairwise_kl) / members,
            "disagreement": disagreement(at_1.top.squeeze(-1).t()),
        }
        sums = replace(
            sums,
            terms=(Term("kd", kd_weight, kd.sum(dim=(0, 2))),),
            compared={name: values.sum() for name, values in compared.items()},
        )

    if block.wants_gradient:
        on_gold, on_all = smoothing_weights(block.label_smoothing, vocabulary)
        ce_unit = block.gradient_scale * ce_weight / members
        of_p = ce_unit * (on_gold + vocabulary * on_all)
        offset = logits.new_full((1, 1, 1), -ce_unit * on_all)
        if divergence is None:
            torch.add(offset, at_1.probs, alpha=of_p, out=logits)
        else:
            kd_unit = block.gradient_scale * kd_weight * temperature / (members - 1) / members
            if temperature == 1.0:  # p and q are one
                _gradient_(divergence, at_1.probs, detach, kd_unit, offset, of_p)
            else:
                _gradient_(divergence, at_t.probs, detach, kd_unit, offset.to(scratch.dtype), 0.0)
                logits.copy_(scratch).add_(at_1.probs, alpha=of_p)
        logits.scatter_add_(-1, gold, logits.new_full((), -ce_unit * on_gold).expand(gold.shape))
        if block.gradient is not logits:
            block.gradient.copy_(logits)
    return sums


def _gradient_(
    divergence: MutualDivergence,
    probs: Tensor,
    detach: Detach,
    unit: float,
    offset: Tensor,
    of_probs: float,
) -> None:
    """offset + of_probs · q + unit · {braces of :func:`mutual_cross_entropy_`}, over the gap."""
    gap, members = divergence.gap, probs.size(1)
    row = torch.full_like(divergence.mean_gap, of_probs)
    if detach != "seek":
        row += unit * members
        offset = offset - unit * probs.sum(dim=1, keepdim=True)
    if detach == "cover":
        torch.addcmul(offset, probs, row, out=gap)
    else:
        row -= unit * members * divergence.mean_gap
        torch.add(row, gap, alpha=unit * members, out=gap)
        torch.addcmul(offset, probs, gap, out=gap)
