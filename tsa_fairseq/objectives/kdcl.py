"""KDCL: one target for all leaves, made of the best of them."""

import torch
from torch import Tensor

from tsa_fairseq.objectives.base import TargetObjective
from tsa_fairseq.objectives.blocks import TokenBlock
from tsa_fairseq.objectives.divergence import at_temperature, target_nll, tempered
from tsa_fairseq.objectives.settings import Published


class KDCLNaive(TargetObjective):
    """L = Σ_k [CE_k + λ T² KL(sg[p_t^T] ‖ p_k^T)], here divided by K; t has the lowest −log p_t(y).

    Source: Online Knowledge Distillation via Collaborative Learning (Guo et al., CVPR 2020), λ = 1,
    T = 2. The best member is looked for at every token.
    """

    published = Published("kdcl-naive", temperature=2.0)

    def distillation(self, block: TokenBlock) -> Tensor:
        """KL from the member that is best at this token: K x N; 0 for that one."""
        best = target_nll(block.log_probs, block.target).argmin(dim=0)  # N
        log_probs = tempered(block.log_probs, self.settings.temperature)
        target = log_probs[best, torch.arange(best.size(0), device=best.device)]  # N x V
        return self.towards(self.as_target(target), log_probs)

    def divergence(self) -> str:
        """For the formula."""
        return self.kl_formula("p_t")

    def remark(self) -> str:
        """For the formula."""
        return ", t = argmin_j -log p_j(y)"


class KDCLMinLogit(TargetObjective):
    """L = Σ_k [CE_k + λ T² KL(sg[t] ‖ p_k^T)], t = softmax(min_j (z_j − z_j^y) / T), divided by K.

    Source: as :class:`KDCLNaive`. At T = 1 its −log t(y) is never above any member's.
    """

    published = Published("kdcl-minlogit", temperature=2.0)

    def distillation(self, block: TokenBlock) -> Tensor:
        """KL from the softmax of the smallest logits, counted from the reference's: K x N."""
        nll = target_nll(block.log_probs, block.target)
        from_gold = block.log_probs + nll.unsqueeze(-1)
        target = at_temperature(from_gold.amin(dim=0), self.settings.temperature)
        log_probs = tempered(block.log_probs, self.settings.temperature)
        return self.towards(self.as_target(target), log_probs)

    def divergence(self) -> str:
        """For the formula."""
        return self.kl_formula("t")

    def remark(self) -> str:
        """For the formula."""
        return ", t = softmax(min_j (z_j - z_j^y) / T)"
