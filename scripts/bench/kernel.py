"""The closed form of cross entropy and peer divergence on a GPU: three ways to compute it."""

from collections.abc import Callable
from dataclasses import dataclass

from bench.measure import Case, Work

NAMES = ("torch's operations", "torch.compile", "kernel")
# Of a round: one takes milliseconds.
REPEATS = 20


@dataclass(frozen=True)
class Sizes:
    """Leaves, tokens and words, whether the gradient is float16, and which way."""

    leaves: int
    tokens: int
    words: int
    fp16: bool
    way: str


def cases(leaves: int, tokens: int, words: int, fp16: bool) -> list[Case]:
    """All three."""
    return [Case(way, prepare, Sizes(leaves, tokens, words, fp16, way), 0, "cuda") for way in NAMES]


def prepare(sizes: Sizes) -> Callable[[], Work]:
    """Draw logits and references, and return the figures with the gradient, ``REPEATS`` times."""
    import torch

    from tsa_fairseq.objectives import closed_form, kernel
    from tsa_fairseq.objectives.blocks import LogitBlock

    torch.manual_seed(1)
    logits = torch.randn(sizes.tokens, sizes.leaves, sizes.words, device="cuda")
    target = torch.randint(sizes.words, (sizes.tokens,), device="cuda")
    gradient = torch.empty_like(logits, dtype=torch.float16) if sizes.fp16 else logits
    block = LogitBlock(
        logits=logits,
        gradient=gradient,
        leaf_of=tuple(range(sizes.leaves)),
        target=target,
        label_smoothing=0.1,
        ramp=1.0,
        wants_gradient=True,
    )
    compute = (kernel if sizes.way == "kernel" else closed_form).mutual_cross_entropy_
    if sizes.way == "torch.compile":
        compute = torch.compile(compute, dynamic=False)

    def work() -> Work:
        for _ in range(REPEATS):
            compute(block, 0.5, 0.5, 1.0, "none")
        return Work(REPEATS * sizes.tokens)

    return work
