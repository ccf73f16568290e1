"""What TSA, DML, R-Drop and the control have in common: leaves beside leaves."""

from collections.abc import Callable, Mapping
from importlib.util import find_spec

from torch import Tensor

from tsa_fairseq.objectives.base import Objective
from tsa_fairseq.objectives.blocks import LogitBlock, LossSums, TokenBlock
from tsa_fairseq.objectives.closed_form import mutual_cross_entropy_
from tsa_fairseq.objectives.divergence import Detach, is_narrow, mutual_divergence, tempered


class PairwiseObjective(Objective):
    """Cross entropy, and the mean divergence of every member from the others; gradients by hand."""

    copies = 5

    @property
    def detach(self) -> Detach:
        """Which side of a divergence between members has no gradient."""
        return self.settings.direction if self.settings.detach_targets else "none"

    @property
    def kd_is_pairwise_kl(self) -> bool:
        """True at T = 1: over all ordered pairs it does not matter which side comes first."""
        return self.settings.temperature == 1.0

    def distillation(self, block: TokenBlock) -> Tensor:
        """mean_{j≠k} KL(p_k^T ‖ p_j^T), or with targets to cover KL(p_j^T ‖ p_k^T): K x N."""
        return mutual_divergence(tempered(block.log_probs, self.settings.temperature), self.detach)

    def block_sums_(self, block: LogitBlock) -> tuple[LossSums, Mapping[str, Tensor]]:
        """The same sums, and the gradient of the loss in closed form."""
        members = block.logits.size(1)
        sums = _closed_form(block, self.settings.temperature)(
            block,
            self.cross_entropy_weight(members, block.ramp),
            self.kd_weight(members, block.ramp),
            self.settings.temperature,
            self.detach,
        )
        for name in block.wants_others:  # nothing is made of them
            block.others[name].zero_()
        return sums, {}

    def divergence(self) -> str:
        """For the formula."""
        kl = {"none": "KL(p_k ‖ p_j)", "seek": "KL(p_k ‖ sg[p_j])", "cover": "KL(sg[p_j] ‖ p_k)"}
        return f"mean_{{j≠k}} {kl[self.detach]}"


def _closed_form(block: LogitBlock, temperature: float) -> Callable[..., LossSums]:
    """A kernel where there is one for these logits, else torch's operations."""
    if block.logits.is_cuda and is_narrow(temperature) and find_spec("triton") is not None:
        from tsa_fairseq.objectives import kernel

        if kernel.serves(block):
            return kernel.mutual_cross_entropy_
    return mutual_cross_entropy_
