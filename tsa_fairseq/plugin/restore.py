"""Which checkpoint a training is going to go on from, and what is done if that one is torn.

fairseq writes one checkpoint of a moment whole and copies it onto the others, among them
``checkpoint_last.pt``: who is killed meanwhile leaves a torn file under the name that the next
start reads.
"""

import logging
import os
import zipfile
from argparse import Namespace
from pathlib import Path
from typing import Any

from tsa_fairseq.errors import UsageError
from tsa_fairseq.files.archive import Damaged, check_not_early
from tsa_fairseq.files.checkpoint import read_checkpoint
from tsa_fairseq.files.names import check_exists

logger = logging.getLogger(__name__)

RESTORE, FINETUNE, LAST = "--restore-file", "--finetune-from-model", "checkpoint_last.pt"


def to_resume(args: Namespace) -> tuple[str, str | None]:
    """The flag that says where fairseq looks for a checkpoint, and the file if there is one."""
    flag, path = RESTORE, args.restore_file
    if path == LAST:
        path = os.path.join(args.save_dir, path)
        once = getattr(args, "continue_once", None)
        if once is not None and not os.path.isfile(path):
            flag, path = "--continue-once", once
    return flag, path if os.path.isfile(path) else None


def to_load(args: Namespace) -> tuple[str, str | None]:
    """The flag and the checkpoint whose parameters fairseq loads, to go on or to start from."""
    flag, path = to_resume(args)
    return (FINETUNE, args.finetune_from_model) if path is None else (flag, path)


def avoid_torn_checkpoint(args: Namespace) -> None:
    """Go on from the newest whole checkpoint of the folder if ``checkpoint_last.pt`` is torn.

    Args:
        args: parsed by fairseq-train; ``restore_file`` becomes the other one.

    Raises:
        UsageError: no other is whole, or the torn file is one that a flag names; or a file that a
            flag names is missing.
    """
    if args.restore_file != LAST:  # fairseq would begin anew, without a word
        check_exists(args.restore_file, RESTORE)
    flag, path = to_load(args)
    if path is None:
        return
    check_exists(path, flag)
    problem = torn(path)
    if problem is None:
        return
    ours = os.path.join(args.save_dir, LAST)
    other = newest_whole(args.save_dir, besides=path)
    if path != ours:
        hint = "" if other is None else f", such as '{other}'"
        raise UsageError(f"{flag}: '{path}' is torn ({problem}); expected a whole file{hint}")
    if other is None:
        raise UsageError(
            f"--save-dir: '{path}' is torn ({problem}), and no other checkpoint there is whole; "
            "expected one to go on from, or that it is moved away, to begin anew"
        )
    logger.warning(
        "warning: '%s' is torn (%s), as when a training is killed while it copies a checkpoint; "
        "going on from '%s', the newest whole one",
        *(path, problem, other),
    )
    args.restore_file = other
    args.finetune_from_model = None  # fairseq takes one of the two; this training has begun


def torn(path: str) -> str | None:
    """What shows that a checkpoint was not written to its end, or changed since; None: nothing.

    A zip file, which torch writes since 1.6, has its table of contents at its end and a checksum of
    every part. Of older files only torch can tell.
    """
    try:
        with open(path, "rb") as file:
            if file.read(4) != b"PK\x03\x04":
                return "it is empty" if os.path.getsize(path) == 0 else _unreadable(path)
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, EOFError, NotImplementedError):
        return "its end is missing"
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    return None if damaged is None else f"the checksum of {damaged} in it is wrong"


def newest_whole(folder: str, besides: str) -> str | None:
    """The checkpoint of a training's folder with the most updates that is whole; None: none is.

    One without an optimizer's state is none to go on from.
    """
    found: list[tuple[int, float, str]] = []
    for path in sorted(map(str, Path(folder).glob("checkpoint*.pt"))):
        if path == besides or torn(path) is not None:
            continue
        updates = _updates(path)
        if updates is not None:
            found.append((updates, os.path.getmtime(path), path))
    return max(found)[2] if found else None


def _updates(path: str) -> int | None:
    """How many updates a checkpoint to go on from has seen; None: it is none."""
    try:
        state: dict[str, Any] = read_checkpoint(path, RESTORE, lazy=True)
        if state.get("last_optimizer_state") is None:
            return None
        return int(state["optimizer_history"][-1]["num_updates"])
    except (UsageError, LookupError, TypeError, ValueError):
        return None


def _unreadable(path: str) -> str | None:
    try:
        check_not_early(path)
    except Damaged:
        return None  # whole or not, it is refused where it is read, in better words
    try:
        read_checkpoint(path, RESTORE, lazy=True)
    except UsageError:
        return "it cannot be read"
    return None
