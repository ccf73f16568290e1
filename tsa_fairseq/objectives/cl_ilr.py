"""CL-ILR: collaborative learning with rescaled gradients in what is shared."""

from torch import Tensor

from tsa_fairseq.objectives.base import TargetObjective
from tsa_fairseq.objectives.blocks import TokenBlock
from tsa_fairseq.objectives.divergence import at_temperature, tempered
from tsa_fairseq.objectives.settings import Published


class CLILR(TargetObjective):
    """L = Σ_k [CE_k + α w(t) T² KL(q_k ‖ p_k^T)], q_k = softmax(mean_{j≠k} z_j / T), divided by K.

    Source: Collaborative Learning for Deep Neural Networks (Song and Chai, NeurIPS 2018, arXiv
    1805.11761), with T = 3 and the ramp as in OKDDip's comparison of methods; targets are not
    detached there. Intermediate-level rescaling is ``--kd-trunk-gradient mean``, this objective's
    default.
    """

    published = Published("cl-ilr", temperature=3.0, detach_targets=False, ramp_share=80 / 300)
    trunk_gradient = "mean"
    copies = 11

    def distillation(self, block: TokenBlock) -> Tensor:
        """KL from the softmax of the other members' mean logits: K x N."""
        temperature, log_probs = self.settings.temperature, block.log_probs
        others = (log_probs.sum(dim=0) - log_probs) / (log_probs.size(0) - 1)
        target = at_temperature(others, temperature)
        return self.towards(self.as_target(target), tempered(log_probs, temperature))

    def divergence(self) -> str:
        """For the formula."""
        return self.kl_formula("q_k")

    def remark(self) -> str:
        """For the formula."""
        return ", q_k = softmax(mean_{j≠k} z_j / T)"
