"""What a training that goes on from a checkpoint must have in common with it."""

import logging
import os
from argparse import Namespace
from typing import Any, NamedTuple

from fairseq.criterions import CRITERION_REGISTRY
from fairseq.optim import OPTIMIZER_REGISTRY

from tsa_fairseq.errors import UsageError
from tsa_fairseq.files.checkpoint import load_safely, model_arguments, read_checkpoint
from tsa_fairseq.files.checksums import checksum
from tsa_fairseq.plugin.restore import to_load, to_resume
from tsa_fairseq.plugin.shape import take_shape
from tsa_fairseq.plugin.teacher import KD_TEACHER
from tsa_fairseq.tree.topology import Topology

logger = logging.getLogger(__name__)


class Followed(NamedTuple):
    """A checkpoint that a training goes on from."""

    path: str
    arguments: Namespace  # of its model


def follow_checkpoint(args: Namespace) -> Followed | None:
    """Take from the checkpoint that fairseq is going to resume what was not given, refuse a change.

    That is teacher, objective, and what shapes the function; the latter is compared when the
    arguments are complete (:func:`tsa_fairseq.plugin.shape.check_shape`). Nothing is compared with
    ``--reset-optimizer``, and nothing is there to compare with for ``--finetune-from-model``: both
    start another training from a checkpoint's parameters.

    Args:
        args: parsed by fairseq-train, before an architecture fills them in; ``kd_objective``,
            ``kd_teacher`` and ``kd_bridge_layers`` are None where they were not given, and become
            the checkpoint's. Another criterion than ours has none of them.

    Returns:
        The checkpoint; None if there is nothing to compare with.

    Raises:
        UsageError: the file cannot be read, or is none to start from; there is no optimizer state
            to go on with; another criterion, optimizer, precision, objective, teacher or number
            of the bridge's layers than the checkpoint's; or a teacher that is gone.
    """
    flag, path = to_resume(args)
    if path is None or args.reset_optimizer:
        _check_start(*to_load(args))
        return None
    state = read_checkpoint(path, flag, lazy=True)
    stored = model_arguments(state)
    _check_optimizer(flag, path, state, stored)
    _check_classes(args, path, state)
    take_shape(args, stored, path)
    _follow_objective(args, stored, path)
    return Followed(path, stored)


def _check_start(flag: str, path: str | None) -> None:
    """Refuse what fairseq would answer with a traceback when all data are read."""
    if path is None:
        return
    state = load_safely(path, flag, contents_only=True)
    for name, kind in (("model", dict), ("optimizer_history", list), ("extra_state", dict)):
        found = state.get(name) if isinstance(state, dict) else None
        if not isinstance(found, kind) or found == []:
            raise UsageError(
                f"{flag}: '{path}' has no '{name}', which fairseq starts from; expected a "
                "checkpoint of fairseq-train, or what tsa-fairseq average or export wrote"
            )


def _follow_objective(args: Namespace, stored: Namespace, path: str) -> None:
    theirs = getattr(stored, "kd_objective", None)
    if theirs is None or not hasattr(args, "kd_objective"):
        return
    if theirs == "tsa" and _predicts_once(stored):
        theirs = "none"  # as releases before 0.2 named what a tree of one leaf learns
    if args.kd_objective is None:
        args.kd_objective = theirs
    if args.kd_objective != theirs:
        raise UsageError(
            f"--kd-objective: got '{args.kd_objective}', but '{path}' was trained with {theirs}; "
            f"expected {theirs}, another --save-dir, or --reset-optimizer to start anew from its "
            "parameters"
        )
    layers = getattr(stored, "kd_bridge_layers", None)
    if args.kd_bridge_layers is None:
        args.kd_bridge_layers = layers
    if layers is not None and args.kd_bridge_layers != layers:
        raise UsageError(
            f"--kd-bridge-layers: got {args.kd_bridge_layers}, but '{path}' was trained with "
            f"{layers}; expected {layers}, or --reset-optimizer to start anew"
        )
    teacher = getattr(stored, "kd_teacher", None)
    if teacher is not None and args.kd_teacher is None:
        if not os.path.isfile(teacher):
            raise UsageError(
                f"{KD_TEACHER}: not given, and the teacher that '{path}' was trained with, "
                f"'{teacher}', is not there; expected where it is now"
            )
        args.kd_teacher = teacher
        logger.info("%s: %s, as in %s", KD_TEACHER, teacher, path)
    known = getattr(stored, "kd_teacher_checksum", None)
    if None not in (args.kd_teacher, known) and checksum(args.kd_teacher, KD_TEACHER) != known:
        raise UsageError(
            f"{KD_TEACHER}: '{args.kd_teacher}' is not the file that '{path}' was trained with: "
            "its SHA-256 differs; expected that file, or --reset-optimizer to start anew"
        )


def _check_optimizer(flag: str, path: str, state: dict[str, Any], stored: Namespace) -> None:
    """Refuse what fairseq would take without a word, and begin again at update 0."""
    if state.get("last_optimizer_state") is not None:
        return
    tree = ""
    if not hasattr(stored, "tree"):
        tree = "; a tree of several leaves starts from a plain model by --tree-init-from"
    raise UsageError(
        f"{flag}: '{path}' has no optimizer state, like an average or an export: training would "
        "begin again at update 0; expected a checkpoint to go on with, or, to start another "
        "training from its parameters, --finetune-from-model with a new --save-dir, or "
        f"--reset-optimizer{tree}"
    )


def _check_classes(args: Namespace, path: str, state: dict[str, Any]) -> None:
    """fairseq asserts these when all data are read; of half precision, the optimizer is another."""
    history = state.get("optimizer_history")
    last = history[-1] if history else {}
    theirs = last.get("criterion_name")
    ours = CRITERION_REGISTRY.get(getattr(args, "criterion", None))
    if None not in (theirs, ours) and ours.__name__ != theirs:
        named = [
            f"--criterion {n}" for n, one in CRITERION_REGISTRY.items() if one.__name__ == theirs
        ]
        raise UsageError(
            f"--criterion: got '{args.criterion}', but '{path}' was trained with {theirs}; "
            f"expected {' or '.join([*named, 'another --save-dir'])}, or --reset-optimizer to "
            "start anew from its parameters"
        )
    theirs, mine = last.get("optimizer_name"), _optimizer(args)
    if None not in (theirs, mine) and mine != theirs:
        raise UsageError(
            f"--optimizer: got what fairseq calls {mine}, but '{path}' was trained with {theirs}; "
            "expected the same --optimizer and precision (--fp16, --bf16, --amp, "
            "--memory-efficient-fp16), or --reset-optimizer to start anew from its parameters"
        )


def _optimizer(args: Namespace) -> str | None:
    """The name of the class that fairseq's trainer makes; None if it cannot be told."""
    given = {name for name, value in vars(args).items() if value is True}
    if "use_bmuf" in given:
        return "FairseqBMUF"
    if given & {"memory_efficient_fp16", "memory_efficient_bf16"}:
        return "MemoryEfficientFP16Optimizer"
    if "amp" in given:
        return "AMPOptimizer"
    if given & {"fp16", "bf16"}:
        return "FP16Optimizer"
    optimizer = OPTIMIZER_REGISTRY.get(getattr(args, "optimizer", None))
    return None if optimizer is None else str(optimizer.__name__)


def _predicts_once(stored: Any) -> bool:
    views = getattr(stored, "kd_views", None) or 1
    return views * Topology.parse(stored.tree, stored.decoder_layers).num_leaves == 1
