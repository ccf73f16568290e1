"""TSA: every leaf learns from the references and from all other leaves."""

from tsa_fairseq.objectives.pairwise import PairwiseObjective
from tsa_fairseq.objectives.settings import Published


class TSA(PairwiseObjective):
    """L = Σ_k [(1 − α) CE_k + α T² (1 / (K−1)) Σ_{j≠k} KL(p_k^T ‖ p_j^T)], here divided by K.

    Source: Tree-structured Auxiliary online knowledge distillation (Lin, Li, Ding, Zheng, IJCNN
    2022, arXiv 2208.10068). The paper's formula says nothing about stop-gradients or a ramp; both
    are options here, off by default; α = 0.5 and T = 1 are ours. The ramp, where used, multiplies
    α. A single leaf has no peer to learn from: its loss is CE alone.
    """

    published = Published("tsa", alpha=0.5, detach_targets=False, direction="seek", convex=True)
