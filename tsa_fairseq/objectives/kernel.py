"""Cross entropy and peer divergence with their gradients for a GPU: one pass to read, one to write.

The same figures as :mod:`tsa_fairseq.objectives.closed_form`, whose formulas these are, in Triton,
which comes with torch's CUDA builds. One program works on one token, all of its members together:

    1. log Σ exp z, Σ z, the most probable word and Σ p · gap of every member, the sums of
       exponentials brought to a new maximum whenever one is met;
    2. for ``cover`` alone: Σ_j Σ_v p_j · gap_k, which needs all log Σ exp first;
    3. the gradient, at once in the type that it is multiplied in.

A token's figures stand in one row, so that a single sum makes the batch's.
"""

import torch
import triton
import triton.language as tl

from tsa_fairseq.objectives.blocks import LogitBlock, LossSums, Term
from tsa_fairseq.objectives.divergence import Detach, smoothing_weights

# Logits in registers at once, and the threads that share them.
TILE, WARPS = 4096, 8


@triton.jit
def _mutual_cross_entropy(  # type: ignore[no-untyped-def]
    logits, target, gradient, figures, inverse_t, of_p, on_all, on_gold, kd_unit,
    V: tl.constexpr, K: tl.constexpr, ROWS: tl.constexpr, TILE_WORDS: tl.constexpr,
    TEMPERED: tl.constexpr, SEEKS: tl.constexpr, COVERS: tl.constexpr,
    WANTS_GRADIENT: tl.constexpr,
):  # fmt: skip
    """Of one token: K x V logits to 3 K + 4 figures and the gradient.

    ROWS is K rounded up to a power of two; SEEKS and COVERS are the sides with a gradient.
    """
    token = tl.program_id(0).to(tl.int64)
    k = tl.arange(0, ROWS)
    member = k < K
    row = token * K * V + k.to(tl.int64)[:, None] * V
    words = tl.arange(0, TILE_WORDS)

    top_logit = tl.full([ROWS], float("-inf"), tl.float32)
    top = tl.zeros([ROWS], tl.int32)
    total = tl.zeros([ROWS], tl.float32)
    mass = tl.zeros([ROWS], tl.float32)
    gap_mass = tl.zeros([ROWS], tl.float32)
    mass_t = tl.zeros([ROWS], tl.float32)
    gap_mass_t = tl.zeros([ROWS], tl.float32)
    for start in range(0, V, TILE_WORDS):
        word = start + words
        inside = member[:, None] & (word < V)[None, :]
        z = tl.load(logits + row + word[None, :], mask=inside, other=float("-inf"))
        known = tl.where(inside, z, 0.0)
        total += tl.sum(known, 1)
        highest = tl.max(z, 1)
        top = tl.where(highest > top_logit, start + tl.argmax(z, 1), top)
        # rows beyond K have no maximum
        now = tl.where(member, tl.maximum(top_logit, highest), 0.0)
        before = tl.exp(top_logit - now)
        e = tl.exp(z - now[:, None])
        mass = mass * before + tl.sum(e, 1)
        if K > 1:
            gap = tl.where(inside, z - tl.sum(known, 0)[None, :] / K, 0.0)
            gap_mass = gap_mass * before + tl.sum(e * gap, 1)
            if TEMPERED:
                before_t = tl.exp((top_logit - now) * inverse_t)
                e_t = tl.exp((z - now[:, None]) * inverse_t)
                mass_t = mass_t * before_t + tl.sum(e_t, 1)
                gap_mass_t = gap_mass_t * before_t + tl.sum(e_t * gap, 1)
        top_logit = now

    gold = tl.load(target + token)
    at_gold = tl.load(logits + token * K * V + k * V + gold, mask=member, other=0)
    log_sum = tl.where(member, top_logit + tl.log(mass), 0.0)
    nll = log_sum - at_gold
    out = figures + token * (3 * K + 4)
    tl.store(out + k, nll, mask=member)
    tl.store(out + K + k, V * log_sum - total, mask=member)

    log_sum_t, mean_gap = log_sum, gap_mass / mass
    if K > 1:
        number = K * log_sum - tl.sum(log_sum, 0)
        pairwise = tl.where(member, (K * mean_gap - number) / (K - 1), 0.0)
        tl.store(out + 3 * K, tl.sum(pairwise, 0) / K)
        kd = pairwise
        if TEMPERED:
            log_sum_t = tl.where(member, top_logit * inverse_t + tl.log(mass_t), 0.0)
            mean_gap = gap_mass_t / mass_t * inverse_t
            number = K * log_sum_t - tl.sum(log_sum_t, 0)
            kd = (K * mean_gap - number) / (K - 1)
        if not SEEKS:
            of_targets = tl.zeros([ROWS], tl.float32)
            for start in range(0, V, TILE_WORDS):
                word = start + words
                inside = member[:, None] & (word < V)[None, :]
                z = tl.load(logits + row + word[None, :], mask=inside, other=0.0) * inverse_t
                q = tl.where(inside, tl.exp(z - log_sum_t[:, None]), 0.0)
                gap = z - tl.sum(z, 0)[None, :] / K
                of_targets += tl.sum(tl.sum(q, 0)[None, :] * gap, 1)
            mean_gaps = tl.sum(tl.where(member, mean_gap, 0.0), 0)
            kd = (mean_gaps - of_targets + number) / (K - 1)
        kd = tl.where(member, kd / (inverse_t * inverse_t), 0.0)
        tl.store(out + 2 * K + k, kd, mask=member)
        tl.store(out + 3 * K + 1, tl.sum(kd, 0) / K)
        lowest = tl.min(tl.where(member, nll, float("inf")), 0)
        chance = tl.sum(tl.where(member, tl.exp(lowest - nll), 0.0), 0) / K
        tl.store(out + 3 * K + 2, lowest - tl.log(chance))
        differ = (top[:, None] != top[None, :]) & member[:, None] & member[None, :]
        pairs = tl.sum(tl.sum(differ.to(tl.float32), 1), 0)
        tl.store(out + 3 * K + 3, pairs / (K * (K - 1)))

    if WANTS_GRADIENT:
        for start in range(0, V, TILE_WORDS):
            word = start + words
            inside = member[:, None] & (word < V)[None, :]
            z = tl.load(logits + row + word[None, :], mask=inside, other=0.0)
            g = of_p * tl.exp(z - log_sum[:, None]) - on_all
            if K > 1:
                z *= inverse_t
                q = tl.where(inside, tl.exp(z - log_sum_t[:, None]), 0.0)
                if SEEKS:
                    gap = z - tl.sum(z, 0)[None, :] / K
                    g += kd_unit * K * q * (gap - mean_gap[:, None])
                if COVERS:
                    g += kd_unit * (K * q - tl.sum(q, 0)[None, :])
            g -= tl.where((word == gold)[None, :], on_gold, 0.0)
            tl.store(gradient + row + word[None, :], g, mask=inside)


def serves(block: LogitBlock) -> bool:
    """Whether the kernel can work on these logits: float32 ones of a few members."""
    return block.logits.dtype == torch.float32 and block.logits.size(1) <= 32


def mutual_cross_entropy_(
    block: LogitBlock, ce_weight: float, kd_weight: float, temperature: float, detach: Detach
) -> LossSums:
    """As :func:`tsa_fairseq.objectives.closed_form.mutual_cross_entropy_`.

    Args:
        block: its logits are float32 and contiguous; see :func:`serves`.
        ce_weight, kd_weight, temperature, detach: as there.
    """
    tokens, members, vocabulary = block.logits.shape
    figures = block.logits.new_zeros(tokens, 3 * members + 4)
    on_gold, on_all = smoothing_weights(block.label_smoothing, vocabulary)
    ce_unit = block.gradient_scale * ce_weight / members
    kd_unit = block.gradient_scale * kd_weight * temperature / max(members - 1, 1) / members
    rows = triton.next_power_of_2(members)
    if tokens:
        with torch.cuda.device_of(block.logits):
            _mutual_cross_entropy[(tokens,)](
                block.logits, block.target, block.gradient, figures, 1 / temperature,
                ce_unit * (on_gold + vocabulary * on_all), ce_unit * on_all, ce_unit * on_gold,
                kd_unit, V=vocabulary, K=members, ROWS=rows, TILE_WORDS=max(TILE // rows, 1),
                TEMPERED=temperature != 1.0, SEEKS=detach != "cover", COVERS=detach != "seek",
                WANTS_GRADIENT=block.wants_gradient, num_warps=WARPS,
            )  # fmt: skip
    nll, smooth, kd, compared = figures.sum(dim=0).split([members, members, members, 4])
    if members == 1:
        return LossSums(vocabulary, block.leaf_of, nll, smooth)
    names = ("pairwise_kl", "kd_loss", "nll_ensemble", "disagreement")
    return LossSums(
        vocabulary,
        block.leaf_of,
        nll,
        smooth,
        (Term("kd", kd_weight, kd),),
        dict(zip(names, compared.unbind(), strict=True)),
    )
