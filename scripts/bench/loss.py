"""The loss alone: random features to gradients, without a model."""

from collections.abc import Callable
from dataclasses import dataclass

from bench.measure import Case, Work


@dataclass(frozen=True)
class Sizes:
    """Leaves, tokens, words, width; and which of the two losses."""

    leaves: int
    tokens: int
    words: int
    width: int
    fused: bool
    device: str
    fp16: bool


def cases(leaves: int, tokens: int, words: int, width: int, device: str, fp16: bool) -> list[Case]:
    """Dense and fused."""
    cost = leaves * words * width
    return [
        Case(
            name,
            prepare,
            Sizes(leaves, tokens, words, width, name == "fused", device, fp16),
            cost,
            device,
        )
        for name in ("dense", "fused")
    ]


def prepare(sizes: Sizes) -> Callable[[], Work]:
    """Draw features, an output matrix and references, and return the loss with its gradients."""
    import torch

    from tsa_fairseq.loss.dense import dense_loss
    from tsa_fairseq.loss.fused import FusedLoss
    from tsa_fairseq.objectives import KDSettings, build_objective
    from tsa_fairseq.tree.outputs import TreeOutput

    torch.manual_seed(1)
    dtype = torch.float16 if sizes.fp16 else torch.float32
    place = dict(dtype=dtype, device=sizes.device)
    # B x T x D of each leaf, one sentence without padding
    features = [torch.randn(1, sizes.tokens, sizes.width, **place) for _ in range(sizes.leaves)]
    matrix = torch.randn(sizes.words, sizes.width, **place) * sizes.width**-0.5
    target = torch.randint(sizes.words, (1, sizes.tokens), device=sizes.device)
    inputs = [*features, matrix]
    for tensor in inputs:
        tensor.requires_grad_()
    objective = build_objective("tsa", KDSettings())
    output = TreeOutput(tuple(range(sizes.leaves)), tuple(features), matrix, None)
    everywhere = torch.ones_like(target, dtype=torch.bool)

    def work() -> Work:
        if sizes.fused:
            stacked = torch.stack(features, dim=2).flatten(0, 1)  # N x K x D
            loss, _ = FusedLoss(objective, 1.0, 0.1)(stacked, matrix, target.view(-1))
        else:
            loss, _ = dense_loss(output, target, everywhere, objective, 1.0, 0.1)
        loss.backward()
        for tensor in inputs:
            tensor.grad = None
        return Work(sizes.tokens)

    return work
