"""Every leaf learns from the mean of all leaves' probabilities."""

import math

import torch
from torch import Tensor

from tsa_fairseq.objectives.base import TargetObjective
from tsa_fairseq.objectives.blocks import TokenBlock
from tsa_fairseq.objectives.divergence import tempered
from tsa_fairseq.objectives.settings import Published


class Ensemble(TargetObjective):
    """L = Σ_k [CE_k + α T² KL(sg[t] ‖ p_k^T)], t = (1/K) Σ_j p_j^T, here divided by K.

    No paper's method: the plainest target that K predictions have in common. Its gradient with
    respect to a leaf is (K−1)/K of that of DML.
    """

    published = Published("ensemble")

    def distillation(self, block: TokenBlock) -> Tensor:
        """KL from the mean of the probabilities: K x N."""
        log_probs = tempered(block.log_probs, self.settings.temperature)
        target = torch.logsumexp(log_probs, dim=0) - math.log(log_probs.size(0))
        return self.towards(self.as_target(target), log_probs)

    def divergence(self) -> str:
        """For the formula."""
        return self.written("t")

    def remark(self) -> str:
        """For the formula."""
        return ", t = mean_j p_j"
