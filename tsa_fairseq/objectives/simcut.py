"""SimCut: a model agrees with itself when it does not see every word."""

import torch
from torch import Tensor

from tsa_fairseq.objectives.base import TargetObjective
from tsa_fairseq.objectives.blocks import LossSums, Term, TokenBlock, first_members
from tsa_fairseq.objectives.divergence import tempered
from tsa_fairseq.objectives.settings import Published


class SimCut(TargetObjective):
    """L = Σ_k [CE_k + α w(t) T² mean_{v≥1} KL(p_k,0^T ‖ p_k,v^T)], here divided by the K leaves.

    p_k,v is the prediction of leaf k in view v. View 0 sees all tokens, and has the cross
    entropies; in the others tokens are cut (``--kd-view-cut``). On a tree every leaf is compared
    with itself, and never with another one. In one view, as in validation, there is nothing to
    compare.

    Source: Bi-SimCut: A Simple Strategy for Boosting Neural Machine Translation (Gao, He, Wu, Wang,
    NAACL 2022, arXiv 2206.02368), with α = 3, T = 1 and P = 0.05 as for IWSLT; nothing is detached.
    Views beyond the second, trees, other temperatures and the ramp w are this package's. Which
    tokens may be cut differs from the first author's code, see ``--kd-view-cut``.
    """

    published = Published("simcut", alpha=3.0, detach_targets=False)
    views = 2
    view_cut = 0.05
    compares_views = True
    copies = 8

    def terms(self, block: TokenBlock, ramp: float) -> list[Term]:
        """The distillation; nothing where no leaf reads a second view."""
        leaf_of = block.leaf_of
        return super().terms(block, ramp) if len(set(leaf_of)) < len(leaf_of) else []

    def distillation(self, block: TokenBlock) -> Tensor:
        """Each leaf's mean divergence from its clean self: leaves x N."""
        log_probs = tempered(block.log_probs, self.settings.temperature)
        apart: dict[int, list[Tensor]] = {}
        for member, leaf in enumerate(block.leaf_of):
            clean = block.leaf_of.index(leaf)
            if member != clean:
                value = self.towards(self.as_target(log_probs[clean]), log_probs[member])
                apart.setdefault(leaf, []).append(value)
        return torch.stack([torch.stack(values).mean(dim=0) for values in apart.values()])

    def weigh(self, sums: LossSums, ramp: float, label_smoothing: float) -> Tensor:
        """Cross entropies of the clean view alone, and all divided by the number of leaves."""
        clean = sums.of_members(first_members(sums.leaf_of))
        return super().weigh(clean, ramp, label_smoothing)

    def divergence(self) -> str:
        """For the formula."""
        return f"mean_v {self.kl_formula('p_k', 'p_kv')}"

    def remark(self) -> str:
        """For the formula."""
        return ", leaf k in the first view, p_kv in another"
