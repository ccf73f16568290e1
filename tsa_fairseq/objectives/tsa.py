"""TSA: every leaf learns from the references and from all other leaves."""

from collections.abc import Mapping

from torch import Tensor

from tsa_fairseq.closed_form import peer_cross_entropy_
from tsa_fairseq.divergence import Detach, peer_divergence, tempered
from tsa_fairseq.objectives.base import Objective
from tsa_fairseq.outputs import LogitBlock, LossSums, Term, TokenBlock


class TSA(Objective):
    """L = Σ_k [(1 − α) CE_k + α T² (1 / (K−1)) Σ_{j≠k} KL(p_k^T ‖ p_j^T)], here divided by K.

    Source: Tree-structured Auxiliary online knowledge distillation (Lin, Li, Ding, Zheng, IJCNN
    2022, arXiv 2208.10068). The paper's formula says nothing about stop-gradients or a ramp; both
    are options here, off by default. The ramp, where used, multiplies α. A single leaf has no peer
    to learn from: its loss is CE alone.
    """

    @property
    def kd_is_pairwise_kl(self) -> bool:
        """True at T = 1: over all ordered pairs it does not matter which side comes first."""
        return self.settings.temperature == 1.0

    def kd_weight(self, leaves: int, ramp: float) -> float:
        """α · w(t)."""
        return self.settings.alpha * ramp if leaves > 1 else 0.0

    def cross_entropy_weight(self, leaves: int, ramp: float) -> float:
        """1 − α · w(t)."""
        return 1.0 - self.kd_weight(leaves, ramp)

    def terms(self, block: TokenBlock, ramp: float) -> list[Term]:
        """The mean divergence of every leaf from its peers, times T²."""
        leaves = block.log_probs.size(0)
        if leaves == 1:
            return []
        temperature = self.settings.temperature
        divergence = peer_divergence(tempered(block.log_probs, temperature), self._detach)
        return [Term("kd", self.kd_weight(leaves, ramp), temperature**2 * divergence)]

    def block_sums_(self, block: LogitBlock) -> tuple[LossSums, Mapping[str, Tensor]]:
        """The same sums, and the gradient of the loss in closed form."""
        leaves = block.logits.size(1)
        sums = peer_cross_entropy_(
            block,
            self.cross_entropy_weight(leaves, block.ramp),
            self.kd_weight(leaves, block.ramp),
            self.settings.temperature,
            self._detach,
        )
        return sums, {}

    @property
    def _detach(self) -> Detach:
        return self.settings.direction if self.settings.detach_targets else "none"

    def formula(self) -> str:
        """The loss as a formula with this run's numbers."""
        settings = self.settings
        alpha = f"{settings.alpha:g}"
        if settings.rampup_updates:
            alpha += f"·w(t), w(t) over {settings.rampup_updates} updates"
        T = f"{settings.temperature:g}"
        kl = "KL(p_k ‖ p_j)"
        if settings.detach_targets:
            kl = "KL(p_k ‖ sg[p_j])" if settings.direction == "seek" else "KL(sg[p_j] ‖ p_k)"
        return f"(1/K) Σ_k [(1-a) CE_k + a {T}² mean_{{j≠k}} {kl} at T = {T}], a = {alpha}"
