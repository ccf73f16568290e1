"""What a training that goes on from a checkpoint must have in common with it."""

import logging
import os
from argparse import Namespace
from typing import Any

from tsa_fairseq.errors import UsageError
from tsa_fairseq.files.checkpoint import checksum, model_arguments, read_checkpoint
from tsa_fairseq.plugin.teacher import KD_TEACHER
from tsa_fairseq.tree.topology import Topology

logger = logging.getLogger(__name__)


def follow_checkpoint(args: Namespace) -> None:
    """Take the teacher from the checkpoint that fairseq is going to resume, and refuse a change.

    Nothing is compared with ``--reset-optimizer``, and nothing is there to compare with for
    ``--finetune-from-model``: both start another training from a checkpoint's parameters.

    Args:
        args: parsed by fairseq-train; ``kd_objective``, ``kd_teacher`` and ``kd_bridge_layers`` are
            None where they were not given, and become the checkpoint's.

    Raises:
        UsageError: another objective, teacher or number of the bridge's layers than the
            checkpoint's, or a teacher that is gone.
    """
    path = None if args.reset_optimizer else _to_resume(args)
    stored = None if path is None else _stored_arguments(path)
    theirs = getattr(stored, "kd_objective", None)
    if theirs is None:
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


def _to_resume(args: Namespace) -> str | None:
    """Where fairseq looks for a checkpoint, if there is one."""
    path = args.restore_file
    if path == "checkpoint_last.pt":
        path = os.path.join(args.save_dir, path)
        once = getattr(args, "continue_once", None)
        if once is not None and not os.path.isfile(path):
            path = once
    return path if os.path.isfile(path) else None


def _predicts_once(stored: Any) -> bool:
    views = getattr(stored, "kd_views", None) or 1
    return views * Topology.parse(stored.tree, stored.decoder_layers).num_leaves == 1


def _stored_arguments(path: str) -> Any:
    try:
        return model_arguments(read_checkpoint(path, "--restore-file", lazy=True))
    except UsageError as error:  # fairseq will say itself what it cannot resume
        logger.warning("%s; its objective is not compared with this one", error)
        return None
