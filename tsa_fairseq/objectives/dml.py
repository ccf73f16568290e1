"""DML: deep mutual learning."""

from tsa_fairseq.objectives.pairwise import PairwiseObjective
from tsa_fairseq.objectives.settings import Published


class DML(PairwiseObjective):
    """L = Σ_k [CE_k + (1 / (K−1)) Σ_{j≠k} KL(sg[p_j] ‖ p_k)], here divided by K.

    Source: Deep Mutual Learning (Zhang, Xiang, Hospedales, Lu, CVPR 2018, arXiv 1706.00384), whose
    peers are separate networks: the tree that splits before the first layer of the decoder comes
    closest. The authors update one peer after the other; here all learn at once.
    """

    published = Published("dml")
