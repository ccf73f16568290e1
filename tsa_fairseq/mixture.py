"""``--tree-inference ensemble|gate``: all leaves translate together; what they share runs once."""

from collections.abc import Iterable
from functools import reduce
from typing import Literal

import torch
from torch import Tensor

from tsa_fairseq.precision import widened

Mixture = Literal["ensemble", "gate"]
MIXTURES: tuple[Mixture, ...] = ("ensemble", "gate")


def mix(how: Mixture, logits: Iterable[Tensor], scores: Tensor | None) -> Tensor:
    """Log probabilities of all leaves together, float32 or wider.

    ``ensemble``: log (1/K) Σ_k p_k, as fairseq ensembles models. ``gate``: log softmax of
    Σ_k g_k z_k, g the softmax of the scores, which is ONE's ensemble. If ``logits`` makes a leaf's
    predictions when they are asked for, no more than two leaves' exist at a time.

    Shapes: logits: K of B x T x V; scores: B x T x K; result: B x T x V.
    """
    if how == "gate":
        assert scores is not None
        gate = widened(scores).softmax(dim=-1)
        weighted = (widened(z) * gate[..., k, None] for k, z in enumerate(logits))
        return reduce(torch.add, weighted).log_softmax(dim=-1)
    by_leaf = (widened(z).log_softmax(dim=-1) for z in logits)
    return reduce(torch.logaddexp, by_leaf).log_softmax(dim=-1)
