"""What every objective is."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from tsa_fairseq.objectives.blocks import LogitBlock, LossSums, Term, TokenBlock
from tsa_fairseq.objectives.divergence import SmoothedCrossEntropy
from tsa_fairseq.objectives.settings import KDSettings, Published
from tsa_fairseq.objectives.token_loss import loss_sums


class Objective(ABC):
    """A loss over a group of predictions: (1/K) [w_ce · Σ_k CE_k + Σ_terms weight · Σ values].

    The group's K members are the leaves, or with several views the leaves of every view. An
    objective says how much their label-smoothed cross entropies weigh and what else there is. It is
    a pure function of a block of tokens, so that blocks can be computed apart: whoever writes one
    gives ``distillation``, and the fused loss differentiates it a block at a time. Where the
    gradient can be written down, ``block_sums_`` is overridden, which is faster.
    """

    published: ClassVar[Published]
    # members and leaves that there must be, teachers and heads that it needs
    least_members: ClassVar[int] = 2
    least_leaves: ClassVar[int] = 1
    needs_teacher: ClassVar[bool] = False
    head: ClassVar[Literal["gate", "peer_attention", "bridge"] | None] = None
    # the names of what ``figures`` returns
    logged: ClassVar[tuple[str, ...]] = ()
    # how often a sentence is computed, and how many of its tokens are cut, unless flags say so
    views: ClassVar[int] = 1
    view_cut: ClassVar[float] = 0.0
    compares_views: ClassVar[bool] = False  # a leaf's own predictions, in several views
    # tensors of the logits' size that exist at once while ``block_sums_`` works, at T ≠ 1
    copies: ClassVar[int] = 7
    trunk_gradient: ClassVar[Literal["sum", "mean"]] = "sum"

    def __init__(self, settings: KDSettings) -> None:
        self.settings = settings.over(self.published)

    @property
    def kd_is_pairwise_kl(self) -> bool:
        """Whether the distillation's mean over members is their mean pairwise KL at temperature 1.

        The criterion logs that divergence, and need not compute it twice.
        """
        return False

    def kd_weight(self, members: int, ramp: float) -> float:
        """What the distillation term is multiplied by: α · w(t), or 0 for too few members."""
        return self.settings.alpha * ramp if members >= self.least_members else 0.0

    def cross_entropy_weight(self, members: int, ramp: float) -> float:
        """What every member's cross entropy is multiplied by."""
        if self.settings.ce_weight is not None:
            return self.settings.ce_weight
        return 1.0 - self.kd_weight(members, ramp) if self.settings.convex else 1.0

    def gradient_unit(self, members: int, ramp: float) -> float:
        """What entries of the logits' gradient are made of: the largest weight of a member.

        T (q − p) is at most T, and for a large T no more than logits differ.
        """
        kd = self.kd_weight(members, ramp) * min(self.settings.temperature, 10.0)
        return max(kd, self.cross_entropy_weight(members, ramp)) / members

    @abstractmethod
    def distillation(self, block: TokenBlock) -> Tensor:
        """How far the members are from their targets, without T²: as a term's values, nats."""

    def further_terms(self, block: TokenBlock, ramp: float) -> list[Term]:
        """Terms beside the cross entropies and the distillation."""
        return []

    def figures(self, block: TokenBlock) -> dict[str, Tensor]:
        """What the log shows beside what it shows of every objective, N values each: ``logged``."""
        return {}

    def terms(self, block: TokenBlock, ramp: float) -> list[Term]:
        """The terms beside the cross entropies; that named ``kd`` is the distillation."""
        members = block.log_probs.size(0)
        if members < self.least_members:
            return []
        kd = self.squared(self.distillation(block), block)
        weight = self.kd_weight(members, ramp)
        return [Term("kd", weight, kd), *self.further_terms(block, ramp)]

    def squared(self, divergence: Tensor, block: TokenBlock) -> Tensor:
        """T² times a divergence, in the block's type, which at extreme temperatures is another."""
        return (self.settings.temperature**2 * divergence).to(block.log_probs.dtype)

    def sums(self, block: TokenBlock, ramp: float, total: Callable[[Tensor], Tensor]) -> LossSums:
        """The parts of the loss of a block, with a graph; ``total`` sums over its tokens."""
        terms = self.terms(block, ramp)
        with torch.no_grad():
            figures = self.figures(block) if terms else {}
        return loss_sums(block, terms, figures, self.kd_is_pairwise_kl, total)

    def block_sums_(self, block: LogitBlock) -> tuple[LossSums, Mapping[str, Tensor]]:
        """Sums over a block's tokens and the gradient of the loss, which :meth:`weigh` defines.

        By autograd, which serves every objective: the graph lives as long as this call, and is as
        large as the block. Whoever overrides this, ``terms`` or ``weigh`` must keep them agreeing.

        Returns:
            The sums, without a graph, and the gradients of the heads wanted, by name; a head that
            is not named has none. Those of logits go where the block says.
        """
        logits = block.logits.detach()
        heads = {name: head.detach() for name, head in block.heads.items()}
        others = {name: other.detach() for name, other in block.others.items()}
        inputs = [logits, *(others[n] for n in block.wants_others)]
        inputs += [heads[name] for name in block.wants_heads]
        with torch.set_grad_enabled(block.wants_gradient):
            for tensor in inputs:
                tensor.requires_grad_(block.wants_gradient)
            sums = self.sums(
                TokenBlock(
                    log_probs=torch.log_softmax(logits, dim=-1).transpose(0, 1),  # K x N x V
                    leaf_of=block.leaf_of,
                    target=block.target,
                    heads=heads,
                    others={n: torch.log_softmax(other, dim=-1) for n, other in others.items()},
                    label_smoothing=block.label_smoothing,
                ),
                block.ramp,
                lambda values: values.sum(dim=-1),
            )
            loss = self.weigh(sums, block.ramp, block.label_smoothing)
            loss = loss * block.gradient_scale
        by_head: dict[str, Tensor] = {}
        if block.wants_gradient:
            of_logits, *rest = torch.autograd.grad(
                loss, inputs, allow_unused=True, materialize_grads=True
            )
            block.gradient.copy_(of_logits)
            for name in block.wants_others:
                block.others[name].copy_(rest.pop(0))
            by_head = dict(zip(block.wants_heads, rest, strict=True))
        return sums.detach(), by_head

    def weigh(self, sums: LossSums, ramp: float, label_smoothing: float) -> Tensor:
        """The loss, from its parts.

        Dividing by K keeps learning rates and the loss scales of half precision those of the plain
        model.
        """
        members = sums.nll.size(0)
        parts = SmoothedCrossEntropy(sums.nll, sums.smooth)
        cross_entropy = parts.combine(label_smoothing, sums.vocabulary).sum(dim=0)
        loss = self.cross_entropy_weight(members, ramp) * cross_entropy
        for term in sums.terms:
            loss = loss + term.weight * term.values.sum(dim=0)
        return loss / members

    def formula(self) -> str:
        """The loss as a formula with this run's numbers."""
        settings, T = self.settings, f"{self.settings.temperature:g}"
        alpha = f"{settings.alpha:g}"
        if settings.rampup_updates:
            alpha += f"·w(t), w(t) over {settings.rampup_updates} updates"
        return (
            f"(1/K) Σ_k [{self.weight_of_ce()}CE_k + a {T}² {self.divergence()} at T = {T}]"
            f"{self.remark()}, a = {alpha}"
        )

    def weight_of_ce(self) -> str:
        """The cross entropy's weight as the formula has it; nothing stands for 1."""
        if self.settings.ce_weight is not None:
            return f"{self.settings.ce_weight:g} "
        return "(1-a) " if self.settings.convex else ""

    @abstractmethod
    def divergence(self) -> str:
        """What ``distillation`` computes for member k, for the formula."""

    def remark(self) -> str:
        """What follows the sum over members in the formula: more terms, and what targets are."""
        return ""


class TargetObjective(Objective):
    """Every member is pulled towards a target by KL(t ‖ p_k), or KL(p_k ‖ t) for ``seek``."""

    # Whether the formula shows sg[target] where targets are detached: no where they never have a
    # gradient, as a teacher, or where only a part of them is detached.
    shows_stop_gradient: ClassVar[bool] = True

    def towards(self, target: Tensor, log_probs: Tensor) -> Tensor:
        """The divergence per token, from log probabilities that are tempered already.

        Shapes: both ... x N x V, or what is broadcast to that; result: ... x N, nats.
        """
        if self.settings.direction == "cover":
            return (target.exp() * (target - log_probs)).sum(dim=-1)
        return (log_probs.exp() * (log_probs - target)).sum(dim=-1)

    def as_target(self, prediction: Tensor) -> Tensor:
        """A prediction to be learned from: without a graph if ``--kd-detach-targets`` says so."""
        return prediction.detach() if self.settings.detach_targets else prediction

    def kl_formula(self, target: str, learner: str = "p_k") -> str:
        """The divergence as the formula shows it."""
        stopped = self.settings.detach_targets and self.shows_stop_gradient
        return self.directed_kl(f"sg[{target}]" if stopped else target, learner)

    def directed_kl(self, target: str, learner: str) -> str:
        """The same without a word about gradients."""
        covers = self.settings.direction == "cover"
        first, second = (target, learner) if covers else (learner, target)
        return f"KL({first} ‖ {second})"
