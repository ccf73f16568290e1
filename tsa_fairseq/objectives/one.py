"""ONE: a gate mixes the leaves into an ensemble, which teaches them."""

import torch
from torch import Tensor

from tsa_fairseq.objectives.base import TargetObjective
from tsa_fairseq.objectives.blocks import Term, TokenBlock
from tsa_fairseq.objectives.divergence import (
    at_temperature,
    smoothed_cross_entropy,
    target_nll,
    tempered,
)
from tsa_fairseq.objectives.settings import Published


class ONE(TargetObjective):
    """L = Σ_k CE_k + CE_e + w(t) T² Σ_k KL(sg[p_e^T] ‖ p_k^T), z_e = Σ_k g_k z_k, divided by K.

    Source: Knowledge Distillation by On-the-Fly Native Ensemble (Lan, Zhu, Gong, NeurIPS 2018,
    arXiv 1806.04606); T = 3. g is the gate's softmax over the leaves, token by token
    (``Gate`` among the plugin's heads). The gate learns from CE_e only, the leaves from all terms.
    """

    published = Published("one", temperature=3.0, ramp_share=80 / 300)
    least_leaves = 2
    head = "gate"
    logged = ("nll_gated",)

    def distillation(self, block: TokenBlock) -> Tensor:
        """KL from the gated ensemble: K x N."""
        temperature = self.settings.temperature
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.settings.detach_targets):
            target = at_temperature(self._mixed(block), temperature)
        return self.towards(target, tempered(block.log_probs, temperature))

    def further_terms(self, block: TokenBlock, ramp: float) -> list[Term]:
        """The ensemble's cross entropy, weighted as a member's."""
        parts = smoothed_cross_entropy(self._mixed(block).log_softmax(dim=-1), block.target)
        values = parts.combine(block.label_smoothing, block.log_probs.size(-1))
        weight = self.cross_entropy_weight(block.log_probs.size(0), ramp)
        return [Term("ensemble_ce", weight, values)]

    def figures(self, block: TokenBlock) -> dict[str, Tensor]:
        """−log p_e of the reference."""
        log_probs = self._mixed(block).log_softmax(dim=-1)
        return {"nll_gated": target_nll(log_probs, block.target)}

    def _mixed(self, block: TokenBlock) -> Tensor:
        """z_e but for a constant: N x V."""
        gate = block.heads["gate"].to(block.log_probs.dtype).softmax(dim=-1)  # N x K
        return torch.einsum("nk,knv->nv", gate, block.log_probs)

    def divergence(self) -> str:
        """For the formula."""
        return self.kl_formula("p_e")

    def remark(self) -> str:
        """For the formula."""
        return f" + (1/K) {self.weight_of_ce()}CE_e, z_e = Σ_k g_k z_k"
