"""What tokens cost by an objective's own terms: from log probabilities, with autograd."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tsa_fairseq.divergence import (
    SmoothedCrossEntropy,
    disagreement,
    ensemble_nll,
    peer_divergence,
    smoothed_cross_entropy,
)
from tsa_fairseq.outputs import LogitBlock, LossSums, Term, TokenBlock

if TYPE_CHECKING:
    from tsa_fairseq.objectives.base import Objective


def sum_up(
    objective: Objective, block: TokenBlock, ramp: float, total: Callable[[Tensor], Tensor]
) -> LossSums:
    """The parts of an objective's loss, with a graph, and figures for the log, without.

    Args:
        objective: how leaves learn.
        block: the leaves' predictions.
        ramp: how far the distillation's weight has risen, from 0 to 1.
        total: sums over the tokens, which are the last dimension.
    """
    parts = smoothed_cross_entropy(block.log_probs, block.target)
    terms = objective.terms(block, ramp)
    with torch.no_grad():
        compared = _compared(objective, block, parts, terms)
        compared = {name: total(values) for name, values in compared.items()}
    return LossSums(
        block.log_probs.size(-1),
        total(parts.nll),
        total(parts.smooth),
        tuple(term.summed(total) for term in terms),
        compared,
    )


def _compared(
    objective: Objective, block: TokenBlock, parts: SmoothedCrossEntropy, terms: list[Term]
) -> dict[str, Tensor]:
    """What the log says about the leaves together: N values each, none for a single leaf."""
    if block.log_probs.size(0) == 1:
        return {}
    kd = torch.zeros_like(parts.nll[0])
    for term in terms:
        if term.name == "kd":
            kd = term.values.mean(dim=0) if term.values.dim() > 1 else term.values
    if objective.kd_is_pairwise_kl:
        pairwise_kl = kd
    else:
        pairwise_kl = peer_divergence(block.log_probs).mean(dim=0)
    return {
        "nll_ensemble": ensemble_nll(parts.nll),
        "kd_loss": kd,
        "pairwise_kl": pairwise_kl,
        "disagreement": disagreement(block.log_probs.argmax(dim=-1)),
    }


def sums_by_autograd(
    objective: Objective, block: LogitBlock
) -> tuple[LossSums, Mapping[str, Tensor]]:
    """A block's sums, and the gradients of its logits, in their place, and of its heads.

    Serves every objective; the graph lives as long as this call, and is as large as the block.
    """
    logits = block.logits.detach()
    heads = {name: head.detach() for name, head in block.heads.items()}
    inputs = [logits, *heads.values()]
    with torch.set_grad_enabled(block.wants_gradient):
        for tensor in inputs:
            tensor.requires_grad_(block.wants_gradient)
        log_probs = torch.log_softmax(logits, dim=-1).transpose(0, 1)  # K x M x V
        tokens = TokenBlock(log_probs, block.target, heads)
        sums = sum_up(objective, tokens, block.ramp, lambda values: values.sum(dim=-1))
        loss = block.scale * objective.weigh(sums, block.ramp, block.label_smoothing)
    gradients: dict[str, Tensor] = {}
    if block.wants_gradient:
        of_logits, *of_heads = torch.autograd.grad(loss, inputs)
        gradients = dict(zip(heads, of_heads, strict=True))
        block.logits.copy_(of_logits)
    return sums.detach(), gradients
