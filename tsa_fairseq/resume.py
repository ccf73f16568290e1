"""What a training that goes on from a checkpoint must have in common with it."""

import logging
import os
from argparse import Namespace
from typing import Any

from tsa_fairseq.checkpoint import model_arguments, read_checkpoint
from tsa_fairseq.errors import UsageError
from tsa_fairseq.teacher import FLAG, checksum

logger = logging.getLogger(__name__)


def follow_checkpoint(args: Namespace) -> None:
    """Take the teacher from the checkpoint that fairseq is going to resume, and refuse a change.

    Nothing is compared with ``--reset-optimizer``, and nothing is there to compare with for
    ``--finetune-from-model``: both start another training from a checkpoint's parameters.

    Args:
        args: parsed by fairseq-train; ``kd_objective`` and ``kd_teacher`` may be None.

    Raises:
        UsageError: another objective or another teacher than the checkpoint's.
    """
    path = _to_resume(args)
    stored = None if path is None else _stored_arguments(path)
    theirs = getattr(stored, "kd_objective", None)
    if theirs is None or args.reset_optimizer:
        return
    if args.kd_objective is None:
        args.kd_objective = theirs
    if args.kd_objective != theirs:
        raise UsageError(
            f"--kd-objective: got '{args.kd_objective}', but '{path}' was trained with {theirs}; "
            f"expected {theirs}, another --save-dir, or --reset-optimizer to start anew from its "
            "parameters"
        )
    teacher = getattr(stored, "kd_teacher", None)
    if teacher is not None and args.kd_teacher is None:
        args.kd_teacher = teacher
        logger.info("%s: %s, as in %s", FLAG, teacher, path)
    known = getattr(stored, "kd_teacher_checksum", None)
    if args.kd_teacher is not None and known is not None and checksum(args.kd_teacher) != known:
        raise UsageError(
            f"{FLAG}: '{args.kd_teacher}' is not the file that '{path}' was trained with: its "
            "SHA-256 differs; expected that file, or --reset-optimizer to start anew"
        )


def _to_resume(args: Namespace) -> str | None:
    """Where fairseq looks for a checkpoint, if there is one."""
    path = args.restore_file
    if path == "checkpoint_last.pt":
        path = os.path.join(args.save_dir, path)
    return path if os.path.isfile(path) else None


def _stored_arguments(path: str) -> Any:
    try:
        return model_arguments(read_checkpoint(path, "--restore-file"))
    except UsageError as error:  # fairseq will say itself what it cannot resume
        logger.warning("%s; its objective is not compared with this one", error)
        return None
