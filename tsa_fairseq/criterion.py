"""``--criterion tsa_online_kd``: cross entropy of every leaf, and what leaves teach each other."""

import logging
import math
from dataclasses import dataclass, field
from typing import Any

import torch
from fairseq import utils
from fairseq.criterions import FairseqCriterion, register_criterion
from fairseq.dataclass import FairseqDataclass
from fairseq.logging import metrics
from omegaconf import II
from torch import Tensor
from torch.nn.functional import linear

from tsa_fairseq.divergence import (
    SmoothedCrossEntropy,
    disagreement,
    ensemble_nll,
    peer_divergence,
    smoothed_cross_entropy,
)
from tsa_fairseq.errors import UsageError
from tsa_fairseq.objectives import OBJECTIVES, KDSettings, Objective, build_objective
from tsa_fairseq.outputs import Term, TokenBlock, TreeOutput

logger = logging.getLogger(__name__)

TRUNK_GRADIENTS = ("sum", "mean")


@dataclass
class TSAOnlineKDConfig(FairseqDataclass):
    """The flags of ``--criterion tsa_online_kd``."""

    kd_objective: str = field(
        default="tsa",
        metadata={"help": f"how leaves learn from each other: {', '.join(OBJECTIVES)}"},
    )
    kd_alpha: float = field(
        default=KDSettings.alpha,
        metadata={
            "help": "weight of the distillation, from 0 to 1; the cross entropy gets the rest"
        },
    )
    kd_temperature: float = field(
        default=KDSettings.temperature,
        metadata={"help": "temperature T of the distilled distributions, above 0"},
    )
    kd_detach_targets: bool = field(
        default=KDSettings.detach_targets,
        metadata={"help": "let no gradient flow into the leaf that a leaf is pulled towards"},
    )
    kd_direction: str = field(
        default=KDSettings.direction,
        metadata={
            "help": "with --kd-detach-targets: seek the target's modes, KL(p_k || p_j), or cover "
            "them, KL(p_j || p_k)"
        },
    )
    kd_rampup_updates: int = field(
        default=KDSettings.rampup_updates,
        metadata={"help": "updates over which the distillation's weight rises; 0: none"},
    )
    kd_trunk_gradient: str = field(
        default="sum",
        metadata={
            "help": "gradient into a layer that several branches share: their sum, or their mean"
        },
    )
    label_smoothing: float = field(
        default=0.0,
        metadata={"help": "epsilon for label smoothing, 0 means no label smoothing"},
    )
    ignore_prefix_size: int = field(
        default=0,
        metadata={"help": "ignore the first N target tokens"},
    )
    sentence_avg: bool = II("optimization.sentence_avg")


def objective_from_flags(flags: Any) -> Objective:
    """Check every flag of the criterion, and build the objective that they describe.

    Args:
        flags: a :class:`TSAOnlineKDConfig`, or parsed arguments with the same names.

    Raises:
        UsageError: a flag out of range.
    """
    if not 0.0 <= flags.label_smoothing < 1.0:
        raise UsageError(
            f"--label-smoothing: got {flags.label_smoothing:g}; expected a number from 0 to below 1"
        )
    if flags.kd_trunk_gradient not in TRUNK_GRADIENTS:
        raise UsageError(
            f"--kd-trunk-gradient: got '{flags.kd_trunk_gradient}'; "
            f"expected one of {', '.join(TRUNK_GRADIENTS)}"
        )
    if flags.ignore_prefix_size < 0:
        raise UsageError(
            f"--ignore-prefix-size: got {flags.ignore_prefix_size}; expected 0 or more"
        )
    settings = KDSettings(
        alpha=flags.kd_alpha,
        temperature=flags.kd_temperature,
        detach_targets=flags.kd_detach_targets,
        direction=flags.kd_direction,
        rampup_updates=flags.kd_rampup_updates,
    )
    return build_objective(flags.kd_objective, settings)


@register_criterion("tsa_online_kd", dataclass=TSAOnlineKDConfig)
class TSAOnlineKDCriterion(FairseqCriterion):
    """An objective's loss, averaged over the leaves: settings of the plain model carry over.

    Raises:
        UsageError: a flag out of range.
    """

    def __init__(self, cfg: TSAOnlineKDConfig, task: Any) -> None:
        super().__init__(task)
        self.objective = objective_from_flags(cfg)
        self.sentence_avg = cfg.sentence_avg
        self.label_smoothing = cfg.label_smoothing
        self.ignore_prefix_size = cfg.ignore_prefix_size
        self.trunk_gradient = cfg.kd_trunk_gradient
        logger.info("objective %s: %s", cfg.kd_objective, self.objective.formula())

    def forward(
        self, model: Any, sample: dict[str, Any], reduce: bool = True
    ) -> tuple[Tensor, int, dict[str, Any]]:
        """The loss of one batch, its sample size, and sums for the log.

        Args:
            model: a ``tsa_transformer``, or fairseq's wrapper around one.
            sample: a batch of fairseq's translation task; it is not changed.
            reduce: sum the loss over tokens; otherwise it is B * T values, 0 at pads.
        """
        if not hasattr(model.decoder, "leaf_features"):
            # not a UsageError: fairseq answers an exception during a step by writing a checkpoint
            raise SystemExit(
                "error: --criterion: got 'tsa_online_kd', which needs a tree: expected "
                f"--arch tsa_transformer or a named one, not {type(model).__name__}"
            )
        output = model(**sample["net_input"], leaves="all", trunk_gradient=self.trunk_gradient)
        target = model.get_targets(sample, None)[:, self.ignore_prefix_size :]
        real = target.ne(self.padding_idx)  # B x T
        block = self._token_block(output, target, real)
        loss, logs = self._loss(block, output, real, reduce)
        sample_size = sample["target"].size(0) if self.sentence_avg else sample["ntokens"]
        logs.update(
            ntokens=sample["ntokens"],
            nsentences=sample["target"].size(0),
            sample_size=sample_size,
        )
        return loss, sample_size, logs

    def _token_block(self, output: TreeOutput, target: Tensor, real: Tensor) -> TokenBlock:
        """Every leaf's predictions at the real tokens; pads are gone before any softmax."""
        log_probs = []
        for features in output.features:
            # B x T x V, projected as the plain model does, pads too: the order in which the output
            # matrix' gradient is added up is then the same
            logits = linear(features[:, self.ignore_prefix_size :], output.output_matrix)
            # a half-precision softmax would round small probabilities to 0
            dtype = torch.promote_types(logits.dtype, torch.float32)
            log_probs.append(torch.log_softmax(logits[real], dim=-1, dtype=dtype))
        return TokenBlock(torch.stack(log_probs), target[real])

    def _loss(
        self, block: TokenBlock, output: TreeOutput, real: Tensor, reduce: bool
    ) -> tuple[Tensor, dict[str, Any]]:
        leaves, _, vocabulary = block.log_probs.shape
        ramp = self.objective.settings.ramp(output.num_updates)

        def total(values: Tensor) -> Tensor:
            """N values to their sum, added up in the batch's own layout.

            Floating-point sums depend on their order: with this one, a single leaf's loss is
            fairseq's to the last bit.
            """
            laid_out = values.new_zeros(real.shape).masked_scatter(real, values)
            return laid_out.sum() if reduce else laid_out.view(-1)

        parts = smoothed_cross_entropy(block.log_probs, block.target)
        sums = [
            SmoothedCrossEntropy(total(parts.nll[leaf]), total(parts.smooth[leaf]))
            for leaf in range(leaves)
        ]
        weight = self.objective.cross_entropy_weight(leaves, ramp)
        loss = weight * torch.stack(
            [ce.combine(self.label_smoothing, vocabulary) for ce in sums]
        ).sum(dim=0)
        terms = self.objective.terms(block, ramp)
        for term in terms:
            values = term.values.sum(dim=0) if term.values.dim() > 1 else term.values
            loss = loss + term.weight * total(values)
        loss = loss / leaves

        logs: dict[str, Any] = {"loss": loss.data, "nll_loss": sums[0].nll.data}
        if leaves > 1:
            with torch.no_grad():
                compared = self._comparison(block, terms)
            logs.update({name: total(values) for name, values in compared.items()})
            logs.update({f"nll_leaf{leaf}": ce.nll.data for leaf, ce in enumerate(sums)})
            logs["real_tokens"] = real.sum()
            logs["kd_weight"] = self.objective.kd_weight(leaves, ramp) * logs["real_tokens"]
        return loss, logs

    def _comparison(self, block: TokenBlock, terms: list[Term]) -> dict[str, Tensor]:
        """What the log says about the leaves together: N values each."""
        kd = torch.zeros_like(block.log_probs[0, :, 0])
        for term in terms:
            if term.name == "kd":
                kd = term.values.mean(dim=0) if term.values.dim() > 1 else term.values
        if self.objective.kd_is_pairwise_kl:
            pairwise_kl = kd
        else:
            pairwise_kl = peer_divergence(block.log_probs).mean(dim=0)
        return {
            "nll_ensemble": ensemble_nll(block.log_probs, block.target),
            "kd_loss": kd,
            "pairwise_kl": pairwise_kl,
            "disagreement": disagreement(block.log_probs),
        }

    @classmethod
    def reduce_metrics(cls, logging_outputs: list[dict[str, Any]]) -> None:
        """Turn sums over all workers and batches into the figures that fairseq shows.

        Losses, likelihoods and divergences are in bits a token, as everywhere in fairseq.
        """
        sums: dict[str, Any] = {}
        for log in logging_outputs:
            for name, value in log.items():
                sums[name] = sums.get(name, 0) + value
        ntokens, sample_size = sums["ntokens"], sums["sample_size"]
        bits = math.log(2)

        metrics.log_scalar("loss", sums["loss"] / sample_size / bits, sample_size, round=3)
        for name in ["nll_loss", *(name for name in sums if name.startswith("nll_leaf"))]:
            metrics.log_scalar(name, sums[name] / ntokens / bits, ntokens, round=3)
        metrics.log_derived("ppl", lambda meters: utils.get_perplexity(meters["nll_loss"].avg))
        if "real_tokens" not in sums:
            return
        metrics.log_scalar("nll_ensemble", sums["nll_ensemble"] / ntokens / bits, ntokens, round=3)
        # nothing is compared at the tokens that --ignore-prefix-size leaves out
        real = sums["real_tokens"]
        for name in ("kd_loss", "pairwise_kl"):
            metrics.log_scalar(name, sums[name] / real / bits, real, round=4)
        for name in ("kd_weight", "disagreement"):
            metrics.log_scalar(name, sums[name] / real, real, round=4)

    @staticmethod
    def logging_outputs_can_be_summed() -> bool:
        """True: every figure in the log is a sum over tokens."""
        return True
