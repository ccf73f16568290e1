"""The loss over all tokens at once: the readable reference for :mod:`tsa_fairseq.loss.fused`.

It holds several K x N x V tensors. For a single leaf it is fairseq's label-smoothed cross entropy,
and has its gradients, to the last bit: all is computed in fairseq's order.
"""

import torch
from torch import Tensor
from torch.nn.functional import linear

from tsa_fairseq.objectives import Objective
from tsa_fairseq.objectives.blocks import LossSums, TokenBlock
from tsa_fairseq.tree.outputs import TreeOutput


def dense_loss(
    output: TreeOutput,
    target: Tensor,
    real: Tensor,
    objective: Objective,
    ramp: float,
    label_smoothing: float,
    reduce: bool = True,
) -> tuple[Tensor, LossSums]:
    """An objective's loss of one batch, by autograd, and its parts.

    Args:
        output: of the tree; its features and heads belong to the tokens of ``target``.
        target: B x T.
        real: where ``target`` is no pad, B x T.
        objective: how members learn.
        ramp: how far the distillation's weight has risen, from 0 to 1.
        label_smoothing: ε of the cross entropy.
        reduce: sum over tokens; otherwise the loss and every part have B * T values, 0 at pads.
    """

    def total(values: Tensor) -> Tensor:
        """... x N values to their sums, added up in the batch's own layout.

        Floating-point sums depend on their order: with this one, a single leaf's loss is fairseq's.
        """
        laid_out = values.new_zeros(*values.shape[:-1], *real.shape)
        laid_out = laid_out.masked_scatter(real, values).flatten(-2)
        return laid_out.sum(dim=-1) if reduce else laid_out

    block = _token_block(output, target, real, label_smoothing)
    sums = objective.sums(block, ramp, total)
    return objective.weigh(sums, ramp, label_smoothing), sums.detach()


def _token_block(
    output: TreeOutput, target: Tensor, real: Tensor, label_smoothing: float
) -> TokenBlock:
    """All predictions at the real tokens; pads are gone before any softmax."""

    def predicted(features: Tensor, matrix: Tensor) -> Tensor:
        # B x T x V, projected as the plain model does, pads too: the order in which the output
        # matrix' gradient is added up is then the same
        logits = linear(features, matrix)
        # a half-precision softmax would round small probabilities to 0
        dtype = torch.promote_types(logits.dtype, torch.float32)
        return torch.log_softmax(logits[real], dim=-1, dtype=dtype)

    matrix = output.output_matrix
    log_probs = [
        predicted(features, matrix if matrix.dim() == 2 else matrix[member])
        for member, features in enumerate(output.features)
    ]
    return TokenBlock(
        log_probs=torch.stack(log_probs),
        target=target[real],
        heads={name: head[real] for name, head in output.heads.items()},
        others={name: predicted(*other) for name, other in output.others.items()},
        leaf_of=output.leaf_of,
        label_smoothing=label_smoothing,
    )
