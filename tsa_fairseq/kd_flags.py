"""The flags of ``--criterion tsa_online_kd``, and what they may be."""

from dataclasses import dataclass, field
from typing import Any, Optional

from fairseq.dataclass import FairseqDataclass
from omegaconf import II

from tsa_fairseq.errors import UsageError
from tsa_fairseq.objectives import OBJECTIVES, KDSettings, Objective, build_objective

TRUNK_GRADIENTS = ("sum", "mean")
LOSSES = ("fused", "dense")


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
    kd_loss: str = field(
        default="fused",
        metadata={
            "help": "fused: compute output projection and loss over blocks of tokens, in little "
            "memory; dense: over all tokens at once, the readable reference"
        },
    )
    kd_block_tokens: Optional[int] = field(  # noqa: UP045 - fairseq reads this spelling only
        default=None,
        metadata={
            "help": "tokens whose predictions the fused loss holds at once (default: chosen by "
            "vocabulary and number of leaves)"
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
    if flags.kd_loss not in LOSSES:
        raise UsageError(f"--kd-loss: got '{flags.kd_loss}'; expected one of {', '.join(LOSSES)}")
    if flags.kd_block_tokens is not None and flags.kd_block_tokens < 1:
        raise UsageError(f"--kd-block-tokens: got {flags.kd_block_tokens}; expected 1 or more")
    if flags.kd_block_tokens is not None and flags.kd_loss == "dense":
        raise UsageError(
            f"--kd-block-tokens: got {flags.kd_block_tokens} with --kd-loss dense, "
            "which takes all tokens at once; expected --kd-loss fused"
        )
    settings = KDSettings(
        alpha=flags.kd_alpha,
        temperature=flags.kd_temperature,
        detach_targets=flags.kd_detach_targets,
        direction=flags.kd_direction,
        rampup_updates=flags.kd_rampup_updates,
    )
    return build_objective(flags.kd_objective, settings)
