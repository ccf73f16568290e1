"""KD: word-level distillation from a frozen teacher."""

from torch import Tensor

from tsa_fairseq.objectives.base import TargetObjective
from tsa_fairseq.objectives.blocks import TokenBlock
from tsa_fairseq.objectives.divergence import target_nll, tempered
from tsa_fairseq.objectives.settings import Published


class KD(TargetObjective):
    """L = Σ_k [(1 − α) CE_k + α T² KL(p_teacher^T ‖ p_k^T)], here divided by K.

    Source: Sequence-Level Knowledge Distillation (Kim and Rush, EMNLP 2016, arXiv 1606.07947),
    section 3.1, word level; α = 0.5 and T = 1. Leaves do not learn from each other.
    """

    published = Published("kd", alpha=0.5, convex=True)
    least_members = 1
    needs_teacher = True
    logged = ("nll_teacher",)
    shows_stop_gradient = False

    def distillation(self, block: TokenBlock) -> Tensor:
        """KL from the teacher: K x N."""
        temperature = self.settings.temperature
        target = tempered(block.others["teacher"], temperature)
        return self.towards(target, tempered(block.log_probs, temperature))

    def figures(self, block: TokenBlock) -> dict[str, Tensor]:
        """The teacher's −log p of the reference."""
        return {"nll_teacher": target_nll(block.others["teacher"], block.target)}

    def divergence(self) -> str:
        """For the formula."""
        return self.kl_formula("p_teacher")
