"""``--tree-inference ensemble|gate``: all leaves translate together; what they share runs once."""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Literal

import torch
from torch import Tensor

from tsa_fairseq.tree.outputs import widened

Mixture = Literal["ensemble", "gate"]
MIXTURES: tuple[Mixture, ...] = ("ensemble", "gate")
# Of one leaf's predictions in a block; smaller blocks lose more by reading the output matrix again.
BLOCK_BYTES = 2**25


def mix(
    features: Sequence[Tensor],
    project: Callable[[Tensor], Tensor],
    words: int,
    scores: Tensor | None,
) -> Tensor:
    """Log probabilities of all leaves together, float32 or wider.

    An ensemble is log (1/K) Σ_k p_k, as fairseq ensembles models. With a gate's scores it is ONE's:
    the log softmax of Σ_k g_k z_k, g the softmax of the scores. Beside the result, predictions
    exist for a block of positions at a time.

    Args:
        features: of the K leaves, B x T x D each.
        project: the output layer, ... x D to ... x V.
        words: V.
        scores: the gate's, B x T x K; None for the plain ensemble.
    """
    rows = [feature.flatten(0, 1) for feature in features]  # B · T x D
    gate = None if scores is None else widened(scores).softmax(dim=-1).flatten(0, 1)
    size = max(1, BLOCK_BYTES // (4 * words))
    mixed = torch.empty(
        (len(rows[0]), words), dtype=widened(rows[0][:0]).dtype, device=rows[0].device
    )
    for start in range(0, len(rows[0]), size):
        block = slice(start, start + size)
        logits = [widened(project(row[block])) for row in rows]
        mixed[block] = _mean(logits) if gate is None else _gated(logits, gate[block])
    return mixed.view(*features[0].shape[:2], words)


def _mean(logits: Sequence[Tensor]) -> Tensor:
    # Twice as fast as in log space, and as exact unless a probability is too small for its type.
    mean = reduce(torch.add, (z.softmax(dim=-1) for z in logits)) / len(logits)
    if mean.min() >= torch.finfo(mean.dtype).tiny:
        return mean.log()
    return reduce(torch.logaddexp, (z.log_softmax(dim=-1) for z in logits)).log_softmax(dim=-1)


def _gated(logits: Sequence[Tensor], gate: Tensor) -> Tensor:
    weighted = (z * gate[..., k, None] for k, z in enumerate(logits))
    return reduce(torch.add, weighted).log_softmax(dim=-1)
