"""What tokens cost, summed over them: from log probabilities and an objective's terms."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from tsa_fairseq.objectives.blocks import LossSums, Term, TokenBlock
from tsa_fairseq.objectives.divergence import (
    SmoothedCrossEntropy,
    disagreement,
    ensemble_nll,
    peer_divergence,
    smoothed_cross_entropy,
)


def loss_sums(
    block: TokenBlock,
    terms: list[Term],
    figures: Mapping[str, Tensor],
    kd_is_pairwise_kl: bool,
    total: Callable[[Tensor], Tensor],
) -> LossSums:
    """The parts of an objective's loss, with a graph, and figures for the log, without.

    Args:
        block: the members' predictions.
        terms: what the objective makes of them.
        figures: what it wants to be logged, N values each.
        kd_is_pairwise_kl: see :class:`tsa_fairseq.objectives.Objective`.
        total: sums over the tokens, which are the last dimension.
    """
    parts = smoothed_cross_entropy(block.log_probs, block.target)
    with torch.no_grad():
        compared = _compared(block, parts, terms, kd_is_pairwise_kl)
        compared = {name: total(values) for name, values in {**compared, **figures}.items()}
    return LossSums(
        block.log_probs.size(-1),
        total(parts.nll),
        total(parts.smooth),
        tuple(term.summed(total) for term in terms),
        compared,
    )


def _compared(
    block: TokenBlock, parts: SmoothedCrossEntropy, terms: list[Term], kd_is_pairwise_kl: bool
) -> dict[str, Tensor]:
    """What the log says about the members together: N values each, none for a single one."""
    kd = torch.zeros_like(parts.nll[0])
    for term in terms:
        if term.name == "kd":
            kd = term.values.mean(dim=0) if term.values.dim() > 1 else term.values
    if block.log_probs.size(0) == 1:
        return {"kd_loss": kd} if terms else {}
    pairwise_kl = kd if kd_is_pairwise_kl else peer_divergence(block.log_probs).mean(dim=0)
    return {
        "nll_ensemble": ensemble_nll(parts.nll),
        "kd_loss": kd,
        "pairwise_kl": pairwise_kl,
        "disagreement": disagreement(block.log_probs.argmax(dim=-1)),
    }
