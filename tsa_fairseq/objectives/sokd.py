"""SOKD: a bridge between a frozen teacher and the leaves learns from both, and teaches."""

from torch import Tensor

from tsa_fairseq.objectives.base import TargetObjective
from tsa_fairseq.objectives.blocks import Term, TokenBlock
from tsa_fairseq.objectives.divergence import smoothed_cross_entropy, target_nll, tempered
from tsa_fairseq.objectives.settings import Published


class SOKD(TargetObjective):
    """L = L_bridge + (1/K) Σ_k L_k, with teacher, bridge A and student leaves k.

    L_bridge = CE(A) + α T² [KL(p_teacher ‖ p_A) + (1/K) Σ_k KL(sg[p_k] ‖ p_A)]
    L_k      = CE_k + α T² KL(sg[p_A] ‖ p_k)

    Source: Semi-Online Knowledge Distillation (Liu, Liu, Huang, arXiv 2111.11747); T = 4, all
    weights 1, no ramp. The student there is one network, here every leaf is one and the bridge
    learns from their mean divergence. The bridge (``Bridge`` among the plugin's heads) starts from
    the teacher's top layers, and the teacher is in evaluation mode: neither is so in their code.
    """

    published = Published("sokd", temperature=4.0)
    least_members = 1
    needs_teacher = True
    logged = ("nll_teacher", "nll_bridge")
    head = "bridge"
    copies = 9

    def distillation(self, block: TokenBlock) -> Tensor:
        """The members' KL from the bridge: K x N."""
        temperature = self.settings.temperature
        target = self.as_target(tempered(block.others["bridge"], temperature))
        return self.towards(target, tempered(block.log_probs, temperature))

    def further_terms(self, block: TokenBlock, ramp: float) -> list[Term]:
        """The bridge's own: cross entropy, and KL from the teacher and from the members.

        They are weighted by K because :meth:`weigh` divides by it.
        """
        members, vocabulary = block.log_probs.size(0), block.log_probs.size(-1)
        temperature = self.settings.temperature
        bridge, teacher = block.others["bridge"], block.others["teacher"]
        ce = smoothed_cross_entropy(bridge, block.target)
        at_t = tempered(bridge, temperature)
        of_leaves = self.as_target(tempered(block.log_probs, temperature))
        from_teacher = self.towards(tempered(teacher, temperature), at_t)
        from_leaves = self.towards(of_leaves, at_t).mean(dim=0)
        ce_weight = members * self.cross_entropy_weight(members, ramp)
        kd_weight = members * self.kd_weight(members, ramp)
        return [
            Term("bridge_ce", ce_weight, ce.combine(block.label_smoothing, vocabulary)),
            Term("bridge_from_teacher", kd_weight, self.squared(from_teacher, block)),
            Term("bridge_from_leaves", kd_weight, self.squared(from_leaves, block)),
        ]

    def figures(self, block: TokenBlock) -> dict[str, Tensor]:
        """−log p of the reference, by teacher and bridge."""
        return {
            f"nll_{name}": target_nll(block.others[name], block.target)
            for name in ("teacher", "bridge")
        }

    def divergence(self) -> str:
        """For the formula."""
        return self.kl_formula("p_A")

    def remark(self) -> str:
        """For the formula."""
        teacher = self.directed_kl("p_teacher", "p_A")
        T = f"{self.settings.temperature:g}"
        leaves = self.kl_formula("p_k", "p_A")
        return f" + {self.weight_of_ce()}CE_A + a {T}² [{teacher} + mean_k {leaves}], A the bridge"
