"""Output projection and loss over blocks of tokens: no [tokens x vocabulary] tensor ever exists.

Written naively, K members, N tokens and V words make K·N·V logits, and distillation between them
holds several tensors of that size: for K = 4, N = 4,096 and V = 32,768 each is 2.1 GB in float32.
Here a block of n tokens is projected, its loss is computed, its gradient takes the place of its
logits and is multiplied out at once into the gradients of features and output matrix. The block is
then forgotten. What is held beside the inputs, in values of float32:

    logits of one block          K · n · V    CPU: 2^23 values or 34 MB, n = 64 for V = 32,768
    work on a slice of it        c · K · m · V, c = 4 to 11 by objective; CPU: K · m · V = 4 MB
    gradients                    K · N · D + V · D, and their products with the loss's at backward
    in half precision            1/2 to 1 block more, and on a CPU the matrix, V · D

A slice is what stays in a CPU's cache. On a GPU a slice is the block, and the block as large as
1/16 of the GPU's memory allows it and its work to be, 2^28 values at most: small blocks cost what
it takes to start their operations. That all of the memory is asked, not what is free, lets the same
GPU compute the same numbers again. c is 4 where the gradient is written down and T = 1, 5 at other
temperatures, else what autograd keeps, see ``Objective.copies``.
A teacher and a bridge count as members in K.

In half precision the gradient of the logits is rounded before it is multiplied out. Its smallest
entries, from label smoothing, are ε / (K·V): float16 would round them to 0 or to a few digits, and
fairseq's loss scale comes too late for them, when this is done. So there all gradients are computed
times a power of two, the same for all of a batch, which is taken away where the loss's own gradient
comes in. bfloat16 has float32's range and needs none.

Gradients on the way forward are the idea of Liger-Kernel's fused linear cross entropy, blocks that
of Cut Your Losses (Wijmans et al., arXiv 2411.09009); here for losses between several predictions.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tsa_fairseq.errors import UsageError
from tsa_fairseq.loss.projection import Predictor, product_type
from tsa_fairseq.objectives import Objective
from tsa_fairseq.objectives.blocks import LogitBlock, LossSums
from tsa_fairseq.tree.outputs import Prediction, widened

# Logits (K · n · V) of a block, at most: on a CPU enough rows for fast matrix products.
BLOCK_LOGITS = {"cpu": 2**23, "cuda": 2**28}
# Of a GPU's memory, what a block and the work on it may take.
MEMORY_SHARE = 1 / 16
# Logits of a slice on a CPU: 4 MB in float32.
SLICE_LOGITS = 2**20
# What a float16 gradient's entries are multiples of comes to 2^8: entries 250 times as large still
# fit, and those of label smoothing have all digits up to a vocabulary of 400,000.
HALF_UNIT = 2.0**8


def default_block_tokens(
    members: int, vocabulary: int, copies: int, memory: int | None = None
) -> int:
    """Tokens of a block, so that its logits have the size that suits the device.

    Args:
        members, vocabulary: K and V.
        copies: of its logits that there are at once while they are worked on.
        memory: of the GPU, in bytes; None: this is a CPU.
    """
    logits = BLOCK_LOGITS["cpu"]
    if memory is not None:
        logits = min(BLOCK_LOGITS["cuda"], int(memory * MEMORY_SHARE) // (4 * (1 + copies)))
    return max(1, logits // (members * vocabulary))


def half_scale(unit: float) -> float:
    """The power of two that brings what a gradient's entries are multiples of to ``HALF_UNIT``."""
    return 2.0 ** round(math.log2(HALF_UNIT / unit)) if unit > 0 else 1.0


@dataclass(frozen=True)
class FusedLoss:
    """An objective's loss of one batch, computed block by block.

    loss = (1/K) [w_ce · Σ_k CE_k + Σ_terms weight · Σ values], see :class:`Objective`

    Args:
        objective: how members learn.
        ramp: how far the distillation's weight has risen, from 0 to 1.
        label_smoothing: ε of the cross entropy.
        block_tokens: tokens whose logits may exist at once; None chooses by vocabulary and members.
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
        others: Mapping[str, Prediction] | None = None,
        leaf_of: tuple[int, ...] = (),
    ) -> tuple[Tensor, LossSums]:
        """The loss, with gradients for features, matrices and heads, and its parts, without.

        Under autocast, products are in autocast's type and gradients in their inputs' own.

        Shapes:
            features: N x K x D, one row a real token, its members side by side; matrix: V x D, or
            K x V x D, a matrix for each member; target: N; heads: N x ...; others: N x D' and
            V x D'; loss: a scalar, summed over tokens and averaged over members, float32 or wider.
            ``leaf_of``: the leaf of each member.

        Raises:
            UsageError: features and matrix have different types, or a tensor the wrong size; when
                this is made, a block of no tokens.
        """
        heads, others = dict(heads or {}), dict(others or {})
        predictions = {"": Prediction(features, matrix), **others}
        types = tuple(product_type(*prediction) for prediction in predictions.values())
        call = _Call(
            self, tuple(others), tuple(heads), types, leaf_of or tuple(range(features.size(1))),
            wants_gradients=torch.is_grad_enabled(),
        )  # fmt: skip
        _check_sizes(features, matrix, target, heads, others)
        flat = [tensor for prediction in predictions.values() for tensor in prediction]
        loss, sums = _Function.apply(call, target, *flat, *heads.values())
        return loss, sums


@dataclass(frozen=True)
class _Call:
    """What the autograd function is given beside tensors."""

    loss: FusedLoss
    others: tuple[str, ...]
    heads: tuple[str, ...]
    product_types: tuple[torch.dtype, ...]  # of the members, and of each of the others
    leaf_of: tuple[int, ...]
    wants_gradients: bool


class _Function(torch.autograd.Function):
    """Gradients are computed on the way forward, and multiplied by the loss's on the way back.

    Its tensors are the target, then features and matrix of the members and of each of the others,
    then the heads.
    """

    @staticmethod
    def forward(ctx: Any, call: _Call, target: Tensor, *tensors: Tensor) -> tuple[Tensor, LossSums]:
        wanted = [call.wants_gradients and needed for needed in ctx.needs_input_grad[2:]]
        ctx.scale = 1.0
        if torch.float16 in call.product_types:
            members = tensors[0].size(1)
            ctx.scale = half_scale(call.loss.objective.gradient_unit(members, call.loss.ramp))
        with torch.autocast(target.device.type, enabled=False):
            sums, gradients = _block_by_block(call, target, tensors, wanted, ctx.scale)
        ctx.save_for_backward(*gradients)
        ctx.types = [tensor.dtype for tensor in tensors]
        loss = call.loss.objective.weigh(sums, call.loss.ramp, call.loss.label_smoothing)
        return loss, sums  # the sums' tensors were made without a graph: none differentiates them

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_loss: Tensor, _: Any) -> tuple[Tensor | None, ...]:
        factor = of_loss / ctx.scale
        found = (
            None if gradient is None else (gradient * factor).to(dtype)
            for gradient, dtype in zip(ctx.saved_tensors, ctx.types, strict=True)
        )
        return None, None, *found


def _block_by_block(
    call: _Call, target: Tensor, tensors: tuple[Tensor, ...], wanted: list[bool], scale: float
) -> tuple[LossSums, list[Tensor | None]]:
    """The sums over all tokens, and the gradients wanted of ``tensors``, times ``scale``.

    Gradients are float32 or wider, whatever the inputs are.
    """
    wide = torch.promote_types(tensors[0].dtype, torch.float32)
    count = 2 * len(call.product_types)
    everyone = [
        Predictor(tensors[at], tensors[at + 1], kind, wide, wanted[at], wanted[at + 1])
        for at, kind in zip(range(0, count, 2), call.product_types, strict=True)
    ]
    members, others = everyone[0], dict(zip(call.others, everyone[1:], strict=True))
    heads = dict(zip(call.heads, tensors[count:], strict=True))
    of_heads = {
        name: torch.zeros_like(head, dtype=wide)
        for (name, head), wants in zip(heads.items(), wanted[count:], strict=True)
        if wants
    }
    wants_others = tuple(name for name, other in others.items() if other.wants_gradient)
    size = call.loss.block_tokens
    if size is None:
        predictions, vocabulary = tensors[0].size(1) + len(others), tensors[1].size(-2)
        size = default_block_tokens(
            predictions, vocabulary, call.loss.objective.copies, _memory(target.device)
        )

    sums = None
    # a block without tokens, too, has sums: zeros
    for start in range(0, max(target.size(0), 1), size):
        here = slice(start, start + size)
        logits = members.logits(here)
        of_others = {name: other.logits(here) for name, other in others.items()}
        gradient = members.room_for_gradient(logits)
        for part in _slices(logits):
            there = slice(start + part.start, start + part.stop)
            some = logits[part]
            block = LogitBlock(
                logits=some,
                gradient=some if gradient is logits else gradient[part],
                leaf_of=call.leaf_of,
                target=target[there],
                heads={name: widened(head[there]) for name, head in heads.items()},
                others={name: other[part].squeeze(1) for name, other in of_others.items()},
                label_smoothing=call.loss.label_smoothing,
                ramp=call.loss.ramp,
                gradient_scale=scale,
                wants_gradient=any(wanted),
                wants_heads=tuple(of_heads),
                wants_others=wants_others,
            )
            found, by_head = call.loss.objective.block_sums_(block)
            if sums is None:
                sums = found
            else:
                sums.add_(found)
            for name, of_head in by_head.items():
                of_heads[name][there] = of_head
        members.take_gradient_(here, gradient)
        for name, other in others.items():
            other.take_gradient_(here, of_others[name])
    assert sums is not None
    gradients = [gradient for who in everyone for gradient in who.gradients]
    return sums, [*gradients, *(of_heads.get(name) for name in heads)]


def _slices(logits: Tensor) -> Iterator[slice]:
    """Of a block's tokens, as many at a time as a CPU's cache takes; a GPU takes all."""
    tokens, members, vocabulary = logits.shape
    size = max(1, SLICE_LOGITS // (members * vocabulary)) if _is_cpu(logits.device) else tokens
    for start in range(0, max(tokens, 1), max(size, 1)):
        yield slice(start, min(start + size, tokens))


def _is_cpu(device: torch.device) -> bool:
    return device.type == "cpu"


def _memory(device: torch.device) -> int | None:
    """Of a GPU, in bytes; a device that is neither has 16 GB."""
    if _is_cpu(device):
        return None
    known = device.type == "cuda"
    return torch.cuda.get_device_properties(device).total_memory if known else 2**34


def _check_sizes(
    features: Tensor,
    matrix: Tensor,
    target: Tensor,
    heads: Mapping[str, Tensor],
    others: Mapping[str, Prediction],
) -> None:
    tokens, members, width = features.shape
    if matrix.size(-1) != width or (matrix.dim() == 3 and matrix.size(0) != members):
        raise UsageError(
            f"output matrix: got {_shape(matrix)}; expected V x {width}, or {members} x V x {width}"
        )
    for name, other in others.items():
        if other.matrix.shape != (matrix.size(-2), other.features.size(-1)):
            raise UsageError(
                f"output matrix of the {name}: got {_shape(other.matrix)}; "
                f"expected {matrix.size(-2)} x {other.features.size(-1)}"
            )
    by_token = {name: other.features for name, other in others.items()}
    for name, tensor in {"target": target, **heads, **by_token}.items():
        if tensor.dim() == 0 or tensor.size(0) != tokens:
            got = tensor.size(0) if tensor.dim() else "none"
            raise UsageError(f"{name}: got {got} tokens; expected {tokens}, as of the features")


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape))
