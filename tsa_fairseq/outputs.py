"""What passes between model, objective and criterion."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class TreeOutput:
    """What the tree computed for one batch.

    Args:
        leaves: the leaves computed, in this order.
        features: for each of them the decoder's output before the output projection, B x T x D.
        output_matrix: what projects features to the vocabulary, V x D. A view: as an output of the
            model it is seen by ``DistributedDataParallel``, which would otherwise take an output
            projection that is used outside of ``forward`` for unused.
        num_updates: updates done so far in this training; None outside of training.
    """

    leaves: tuple[int, ...]
    features: tuple[Tensor, ...]
    output_matrix: Tensor
    num_updates: int | None


@dataclass(frozen=True)
class TokenBlock:
    """What an objective sees: the leaves' predictions for N real (non-pad) target tokens.

    Args:
        log_probs: log softmax of the leaves' logits at temperature 1, K x N x V, float32 or wider.
            A softmax does not change when a constant is added to its logits, so that tempered
            distributions and mixtures of logits can be had from these too.
        target: the reference token of each position, N.
    """

    log_probs: Tensor
    target: Tensor


@dataclass(frozen=True)
class Term:
    """One term of a loss beside the leaves' cross entropy.

    Args:
        name: as it appears in logs.
        weight: what the values are multiplied by.
        values: nats per leaf and token, K x N, or per token, N.
    """

    name: str
    weight: float
    values: Tensor
