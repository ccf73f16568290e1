"""Output projection and loss over blocks of tokens: no [tokens x vocabulary] tensor ever exists.

Written naively, K leaves, N tokens and V words make K·N·V logits, and distillation between leaves
holds several tensors of that size: for K = 4, N = 4,096 and V = 32,768 each is 2.1 GB in float32.
Here a block of n tokens is projected, its loss is computed, its gradient takes the place of its
logits and is multiplied out at once into the gradients of features and output matrix. The block is
then forgotten. What is held beside the inputs, in values of float32:

    logits of one block          K · n · V    CPU: 2^23 values or 34 MB, n = 64 for V = 32,768
    work on a slice of it        3 · K · m · V, 2 more with T ≠ 1; CPU: 12 MB, m = 8 of the n tokens
    gradients                    K · N · D + V · D, and their products with the loss's at backward
    in half precision            1/2 to 1 block more, and on a CPU the matrix, V · D

A slice is what stays in a CPU's cache; on a GPU it is the whole block.

Gradients on the way forward are the idea of Liger-Kernel's fused linear cross entropy, blocks that
of Cut Your Losses (Wijmans et al., arXiv 2411.09009); here for losses between several predictions.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tsa_fairseq.errors import UsageError
from tsa_fairseq.objectives import Objective
from tsa_fairseq.outputs import LogitBlock, LossSums
from tsa_fairseq.projection import Projection

# Logits (K · n · V) of a block: enough rows for fast matrix products.
BLOCK_LOGITS = {"cpu": 2**23, "cuda": 2**24}
# Logits of a slice on a CPU: 4 MB in float32.
SLICE_LOGITS = 2**20


def default_block_tokens(leaves: int, vocabulary: int, device: str) -> int:
    """Tokens of a block, so that its logits have the size that suits the device."""
    return max(1, BLOCK_LOGITS.get(device, BLOCK_LOGITS["cuda"]) // (leaves * vocabulary))


@dataclass(frozen=True)
class FusedLoss:
    """An objective's loss of one batch, computed block by block.

    loss = (1/K) [w_ce · Σ_k CE_k + Σ_terms weight · Σ values], see :class:`Objective`

    Args:
        objective: how leaves learn.
        ramp: how far the distillation's weight has risen, from 0 to 1.
        label_smoothing: ε of the cross entropy.
        block_tokens: tokens whose logits may exist at once; None chooses by vocabulary and leaves.
    """

    objective: Objective
    ramp: float
    label_smoothing: float
    block_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.block_tokens is not None and self.block_tokens < 1:
            raise UsageError(f"--kd-block-tokens: got {self.block_tokens}; expected 1 or more")

    def __call__(
        self,
        features: Tensor,
        matrix: Tensor,
        target: Tensor,
        heads: Mapping[str, Tensor] | None = None,
    ) -> tuple[Tensor, LossSums]:
        """The loss, with gradients for features, matrix and heads, and its parts, without.

        Under autocast, products are in autocast's type and gradients in their inputs' own.

        Shapes:
            features: K x N x D, one row a real token; matrix: V x D, or K x V x D, a matrix for
            each leaf; target: N; heads: N x ...; loss: a scalar, summed over tokens and averaged
            over leaves, float32 or wider.

        Raises:
            UsageError: features and matrix have different types, or a tensor the wrong size; when
                this is made, a block of no tokens.
        """
        heads = dict(heads or {})
        call = _Call(
            self,
            tuple(heads),
            _product_type(features, matrix),
            wants_gradients=torch.is_grad_enabled(),
        )
        _check_sizes(features, matrix, target, heads)
        loss, sums = _Function.apply(call, target, features, matrix, *heads.values())
        return loss, sums


@dataclass(frozen=True)
class _Call:
    """What the autograd function is given beside tensors."""

    loss: FusedLoss
    heads: tuple[str, ...]
    product_type: torch.dtype
    wants_gradients: bool


class _Function(torch.autograd.Function):
    """Gradients are computed on the way forward, and multiplied by the loss's on the way back."""

    @staticmethod
    def forward(
        ctx: Any, call: _Call, target: Tensor, features: Tensor, matrix: Tensor, *heads: Tensor
    ) -> tuple[Tensor, LossSums]:
        wanted = [call.wants_gradients and needed for needed in ctx.needs_input_grad[2:]]
        with torch.autocast(features.device.type, enabled=False):
            named = dict(zip(call.heads, heads, strict=True))
            sums, gradients = _block_by_block(call, target, features, matrix, named, wanted)
        ctx.save_for_backward(*gradients)
        ctx.types = [tensor.dtype for tensor in (features, matrix, *heads)]
        loss = call.loss.objective.weigh(sums, call.loss.ramp, call.loss.label_smoothing)
        return loss, sums  # the sums' tensors were made without a graph: none differentiates them

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_loss: Tensor, _: Any) -> tuple[Tensor | None, ...]:
        scaled = (
            None if gradient is None else (gradient * of_loss).to(dtype)
            for gradient, dtype in zip(ctx.saved_tensors, ctx.types, strict=True)
        )
        return None, None, *scaled


def _block_by_block(
    call: _Call,
    target: Tensor,
    features: Tensor,
    matrix: Tensor,
    heads: Mapping[str, Tensor],
    wanted: list[bool],
) -> tuple[LossSums, list[Tensor | None]]:
    """The sums over all tokens, and the gradients wanted: of features, matrix and heads.

    Gradients are float32 or wider, whatever the inputs are.
    """
    (leaves, tokens, _), vocabulary = features.shape, matrix.size(-2)
    wide = torch.promote_types(features.dtype, torch.float32)
    projection = Projection(matrix, call.product_type, wide)
    x = projection.operand(features.transpose(0, 1)).contiguous()  # N x K x D
    size = call.loss.block_tokens
    if size is None:
        size = default_block_tokens(leaves, vocabulary, x.device.type)

    like_inputs = (x, matrix, *heads.values())
    gradients = [
        torch.zeros_like(tensor, dtype=wide) if wants else None
        for tensor, wants in zip(like_inputs, wanted, strict=True)
    ]
    of_features, of_matrix, *rest = gradients
    of_heads = {name: g for name, g in zip(heads, rest, strict=True) if g is not None}
    sums = None
    # a block without tokens, too, has sums: zeros
    for start in range(0, max(tokens, 1), size):
        here = slice(start, start + size)
        logits = projection.logits(x[here])
        for part in _slices(logits):
            there = slice(start + part.start, start + part.stop)
            block = LogitBlock(
                logits[part],
                target[there],
                {name: _widened(head[there]) for name, head in heads.items()},
                call.loss.ramp,
                call.loss.label_smoothing,
                wants_gradient=any(wanted),
                wants_heads=tuple(of_heads),
            )
            found, by_head = call.loss.objective.block_sums_(block)
            sums = found if sums is None else sums + found
            for name, gradient in by_head.items():
                of_heads[name][there] = gradient
        if of_features is not None or of_matrix is not None:
            of_logits = projection.scaled(logits)
            if of_features is not None:
                of_features[here] = projection.back(of_logits)
            if of_matrix is not None:
                projection.add_matrix_gradient_(of_matrix, of_logits, x[here])
    if of_features is not None:
        gradients[0] = of_features.transpose(0, 1)
    assert sums is not None
    return sums, gradients


def _widened(head: Tensor) -> Tensor:
    """Half precision to float32, as the logits are; whole numbers as they are."""
    if not head.is_floating_point():
        return head
    return head.to(torch.promote_types(head.dtype, torch.float32))


def _slices(logits: Tensor) -> Iterator[slice]:
    """Of a block's tokens, as many at a time as a CPU's cache holds."""
    tokens, leaves, vocabulary = logits.shape
    size = max(1, SLICE_LOGITS // (leaves * vocabulary)) if logits.device.type == "cpu" else tokens
    for start in range(0, max(tokens, 1), max(size, 1)):
        yield slice(start, min(start + size, tokens))


def _product_type(features: Tensor, matrix: Tensor) -> torch.dtype:
    """What matrix products are computed in."""
    device = features.device.type
    if torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    if matrix.dtype != features.dtype:
        raise UsageError(
            f"output matrix: got {_name(matrix.dtype)}; "
            f"expected {_name(features.dtype)}, the type of the leaves' features"
        )
    return features.dtype


def _check_sizes(
    features: Tensor, matrix: Tensor, target: Tensor, heads: Mapping[str, Tensor]
) -> None:
    leaves, tokens, width = features.shape
    if matrix.size(-1) != width or (matrix.dim() == 3 and matrix.size(0) != leaves):
        shape = " x ".join(map(str, matrix.shape))
        raise UsageError(
            f"output matrix: got {shape}; expected V x {width}, or {leaves} x V x {width}"
        )
    for name, tensor in {"target": target, **heads}.items():
        if tensor.dim() == 0 or tensor.size(0) != tokens:
            got = tensor.size(0) if tensor.dim() else "none"
            raise UsageError(f"{name}: got {got} tokens; expected {tokens}, as of the features")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
