"""R-Drop: the peers are one model under different dropout."""

from tsa_fairseq.objectives.pairwise import PairwiseObjective
from tsa_fairseq.objectives.settings import Published


class RDrop(PairwiseObjective):
    """L = CE_1 + CE_2 + α ½ [KL(p_1 ‖ p_2) + KL(p_2 ‖ p_1)], here divided by the 2 predictions.

    Source: R-Drop: Regularized Dropout for Neural Networks (Liang, Wu et al., NeurIPS 2021, arXiv
    2106.14448), with α = 5 as for translation. No side is detached. The two predictions are those
    of a plain Transformer, a tree of one leaf, in 2 views. For more views and leaves, which the
    paper does not have, the bracket is the sum over all of them of the mean KL from the others.
    """

    published = Published("rdrop", alpha=5.0, detach_targets=False, direction="seek")
    views = 2

    def kd_weight(self, members: int, ramp: float) -> float:
        """½ α · w(t)."""
        return 0.5 * super().kd_weight(members, ramp)

    def divergence(self) -> str:
        """For the formula."""
        return f"½ {super().divergence()}"
