"""The flags of ``--criterion tsa_online_kd``, and what they may be."""

from dataclasses import dataclass, field
from typing import Any, Optional

from fairseq.dataclass import FairseqDataclass
from omegaconf import II

from tsa_fairseq.errors import UsageError, check_choice
from tsa_fairseq.objectives import OBJECTIVES, KDSettings, Objective, build_objective
from tsa_fairseq.plugin.heads import BRIDGE_STARTS
from tsa_fairseq.tree.views import Views

CRITERION = "tsa_online_kd"
VIEWS_LEAVES = ("all", "deal")
TRUNK_GRADIENTS = ("sum", "mean")
LOSSES = ("fused", "dense")
ONE_LEAF_OBJECTIVE, TREE_OBJECTIVE = "none", "tsa"


def _given(help_text: str, **more: Any) -> Any:
    """A flag that is None where it is not given: its default is the objective's, or computed."""
    return field(default=None, metadata={"help": help_text, **more})


@dataclass
class TSAOnlineKDConfig(FairseqDataclass):
    """The flags of ``--criterion tsa_online_kd``; fairseq reads types as they are spelled here."""

    kd_objective: Optional[str] = _given(  # noqa: UP045
        f"how leaves learn from each other: {', '.join(OBJECTIVES)} "
        f"(default: {TREE_OBJECTIVE}; {ONE_LEAF_OBJECTIVE} for a tree of one leaf)"
    )
    kd_alpha: Optional[float] = _given(  # noqa: UP045
        "weight of the distillation (default: as the objective was published)"
    )
    kd_ce_weight: Optional[float] = _given(  # noqa: UP045
        "weight of the cross entropy (default: 1; with tsa and kd what --kd-alpha leaves of 1)"
    )
    kd_temperature: Optional[float] = _given(  # noqa: UP045
        "temperature T of the distilled distributions, 0.01 to 10000 (default: as published)"
    )
    kd_detach_targets: Optional[str] = _given(  # noqa: UP045
        "yes: let no gradient flow into the leaves that a target is made of; no: let it flow "
        "(default: as published)",
        argparse_const="yes",
    )
    kd_direction: Optional[str] = _given(  # noqa: UP045
        "seek the target's modes, KL(p || target), or cover them, KL(target || p) "
        "(default: as published)"
    )
    kd_rampup_updates: Optional[int] = _given(  # noqa: UP045
        "updates over which the distillation's weight rises; 0: none (default: as published, "
        "which for okddip, one and cl-ilr is 27% of --max-update; give it if that changes)"
    )
    kd_trunk_gradient: Optional[str] = _given(  # noqa: UP045
        "gradient into a layer that several branches share: their sum, or their mean "
        "(default: sum; mean with cl-ilr)"
    )
    kd_views: Optional[int] = _given(  # noqa: UP045
        "how often a sentence is computed, each time under its own dropout "
        "(default: 1; 2 with rdrop and simcut)"
    )
    kd_view_cut: Optional[float] = _given(  # noqa: UP045
        "probability with which a token's embedding is zero in every view but the first "
        "(default: 0; 0.05 with simcut)"
    )
    kd_views_leaves: str = field(
        default="all",
        metadata={
            "help": "all: every leaf reads every view; deal: leaf k reads view k mod --kd-views"
        },
    )
    kd_aggregation: Optional[str] = _given(  # noqa: UP045
        "with okddip: what peers' targets mix, logits or probabilities (default: logits)"
    )
    kd_mask_self: bool = field(
        default=False, metadata={"help": "with okddip: no peer attends to itself"}
    )
    kd_teacher: Optional[str] = _given(  # noqa: UP045
        "with kd and sokd: a checkpoint of fairseq's transformer with the same dictionaries; "
        "a resumed training finds it again"
    )
    kd_bridge_layers: Optional[int] = _given(  # noqa: UP045
        "with sokd: how many of the teacher's top layers the bridge has (default: 2, or all of 1)"
    )
    kd_bridge_init: Optional[str] = _given(  # noqa: UP045
        "with sokd: start the bridge from the teacher's layers, or random (default: teacher)"
    )
    kd_loss: str = field(
        default="fused",
        metadata={
            "help": "fused: compute output projection and loss over blocks of tokens, in little "
            "memory; dense: over all tokens at once, the readable reference"
        },
    )
    kd_block_tokens: Optional[int] = _given(  # noqa: UP045
        "tokens whose predictions the fused loss holds at once (default: chosen by vocabulary and "
        "number of predictions)"
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
    max_update: int = II("optimization.max_update")
    save_dir: str = II("checkpoint.save_dir")


def objective_from_flags(flags: Any) -> Objective:
    """Check every flag of the criterion, and build the objective that they describe.

    Args:
        flags: a :class:`TSAOnlineKDConfig`, or parsed arguments with the same names.

    Raises:
        UsageError: a flag out of range, or that the objective has no use for.
    """
    if not 0.0 <= flags.label_smoothing < 1.0:
        raise UsageError(
            f"--label-smoothing: got {flags.label_smoothing:g}; expected a number from 0 to below 1"
        )
    if flags.ignore_prefix_size < 0:
        raise UsageError(
            f"--ignore-prefix-size: got {flags.ignore_prefix_size}; expected 0 or more"
        )
    check_choice("--kd-trunk-gradient", flags.kd_trunk_gradient, TRUNK_GRADIENTS)
    check_choice("--kd-loss", flags.kd_loss, LOSSES)
    if flags.kd_block_tokens is not None and flags.kd_block_tokens < 1:
        raise UsageError(f"--kd-block-tokens: got {flags.kd_block_tokens}; expected 1 or more")
    if flags.kd_block_tokens is not None and flags.kd_loss == "dense":
        raise UsageError(
            f"--kd-block-tokens: got {flags.kd_block_tokens} with --kd-loss dense, "
            "which takes all tokens at once; expected --kd-loss fused"
        )
    check_choice("--kd-views-leaves", flags.kd_views_leaves, VIEWS_LEAVES)
    # checkpoints of 0.1.0 have a truth value there
    detach = {"True": "yes", "False": "no"}.get(
        str(flags.kd_detach_targets), flags.kd_detach_targets
    )
    check_choice("--kd-detach-targets", detach, ("yes", "no"))
    settings = KDSettings(
        alpha=flags.kd_alpha,
        ce_weight=flags.kd_ce_weight,
        temperature=flags.kd_temperature,
        detach_targets=None if detach is None else detach == "yes",
        direction=flags.kd_direction,
        rampup_updates=flags.kd_rampup_updates,
        max_update=flags.max_update,
        aggregation=flags.kd_aggregation,
        mask_self=flags.kd_mask_self,
    )
    objective = build_objective(flags.kd_objective or TREE_OBJECTIVE, settings)
    _check_teacher_flags(flags, objective)
    return objective


def views_from_flags(flags: Any, objective: Objective) -> Views:
    """How often a batch is computed in training.

    Raises:
        UsageError: fewer views than there must be, or a share of tokens out of range.
    """
    name = objective.published.objective
    count = objective.views if flags.kd_views is None else flags.kd_views
    if count < 1:
        raise UsageError(f"--kd-views: got {count}; expected 1 or more")
    dealt = flags.kd_views_leaves == "deal"
    if dealt and count == 1:
        raise UsageError(
            "--kd-views-leaves: got 'deal' with --kd-views 1; expected 2 or more views"
        )
    if objective.compares_views and count == 1:
        raise UsageError(
            f"--kd-views: got 1 with --kd-objective {name}, which compares the views of a leaf; "
            "expected 2 or more"
        )
    if objective.compares_views and dealt:
        raise UsageError(
            f"--kd-views-leaves: got 'deal' with --kd-objective {name}, which compares the views "
            "of a leaf; expected all"
        )
    cut = objective.view_cut if flags.kd_view_cut is None else flags.kd_view_cut
    if not 0.0 <= cut < 1.0:
        raise UsageError(f"--kd-view-cut: got {cut:g}; expected a number from 0 to below 1")
    if cut > 0 and count == 1:
        raise UsageError(f"--kd-view-cut: got {cut:g} with --kd-views 1; expected 2 or more views")
    return Views(count, dealt, cut)


def check_group(objective: Objective, views: Views, tree: str, leaves: int) -> None:
    """Refuse a tree that is too small for its objective or views.

    Raises:
        UsageError: too few leaves.
    """
    name = objective.published.objective
    got = f"the tree '{tree}' has {leaves} {'leaf' if leaves == 1 else 'leaves'}"
    if leaves < objective.least_leaves:
        raise UsageError(
            f"--kd-objective: got '{name}', which needs {objective.least_leaves} leaves or more; "
            f"{got}"
        )
    members = len(views.members(range(leaves)))
    if members < objective.least_members:
        able = [n for n, o in OBJECTIVES.items() if max(o.least_members, o.least_leaves) == 1]
        raise UsageError(
            f"--kd-objective: got '{name}', which needs {objective.least_members} leaves or "
            f"--kd-views 2; {got}: expected one of {', '.join(able)}, or a tree that branches"
        )
    if views.dealt and views.count > leaves:
        raise UsageError(
            f"--kd-views: got {views.count} with --kd-views-leaves deal; {got}: "
            f"expected at most {leaves}"
        )


def _check_teacher_flags(flags: Any, objective: Objective) -> None:
    name = objective.published.objective
    if objective.needs_teacher and not flags.kd_teacher:
        raise UsageError(
            f"--kd-teacher: not given; --kd-objective {name} needs a checkpoint of fairseq's "
            "transformer with the same dictionaries"
        )
    if flags.kd_teacher and not objective.needs_teacher:
        able = ", ".join(n for n, o in OBJECTIVES.items() if o.needs_teacher)
        raise UsageError(
            f"--kd-teacher: got '{flags.kd_teacher}' with --kd-objective {name}, "
            f"which takes no teacher; expected one of {able}"
        )
    bridge = (("--kd-bridge-layers", flags.kd_bridge_layers),
              ("--kd-bridge-init", flags.kd_bridge_init))  # fmt: skip
    for flag, value in bridge:
        if value is not None and objective.head != "bridge":
            raise UsageError(
                f"{flag}: got '{value}' with --kd-objective {name}, which has no bridge; "
                "expected sokd"
            )
    if flags.kd_bridge_layers is not None and flags.kd_bridge_layers < 1:
        raise UsageError(f"--kd-bridge-layers: got {flags.kd_bridge_layers}; expected 1 or more")
    check_choice("--kd-bridge-init", flags.kd_bridge_init, BRIDGE_STARTS)
