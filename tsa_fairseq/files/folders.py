"""Where something may be written, and what may be replaced there."""

import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from tsa_fairseq.errors import UsageError
from tsa_fairseq.files.ownership import not_written_by_us


def check_target(out: Path, force: bool, inputs: Sequence[str]) -> None:
    """Refuse a place that something else would be lost from, or that cannot be written.

    Raises:
        UsageError: the folder exists, holds more than an export, or what the export is made of.
    """
    for path in inputs:
        if Path(path).resolve().is_relative_to(out.resolve()):
            raise UsageError(
                f"OUT: '{out}' holds '{path}', which the export is made of; expected another folder"
            )
    _check_parent(out)
    if not os.path.lexists(out):
        return
    if out.is_symlink() or not out.is_dir():
        raise UsageError(f"OUT: '{out}' is not a folder; expected a new one")
    if not force:
        raise UsageError(f"OUT: '{out}' exists; expected a new folder, or --force")
    if os.path.ismount(out):
        raise UsageError(f"OUT: '{out}' is a mount point; expected a folder inside it")
    if Path.cwd().is_relative_to(out.resolve()):
        raise UsageError(f"OUT: '{out}' is where this was called from; expected another folder")
    foreign = not_written_by_us(out)
    if foreign is not None:
        raise UsageError(f"OUT: '{out}' holds {foreign}; --force replaces exports alone")


def check_file(
    out: str,
    force: bool,
    inputs: Sequence[str],
    kind: str,
    is_ours: Callable[[str], bool],
    flag: str = "OUT",
) -> None:
    """Refuse a file that exists, or that cannot be written.

    Args:
        out: the file.
        force: whether one of this program's may be replaced.
        inputs: what it is made of.
        kind: what it is.
        is_ours: whether a file is one that this program wrote.
        flag: what named it.

    Raises:
        UsageError: it exists, and is not to be replaced, or none of ours, or an input.
    """
    parent = Path(os.path.abspath(out)).parent
    if not parent.exists():
        raise UsageError(f"{flag}: '{out}' cannot be written: there is no folder '{parent}'")
    _check_parent(Path(out), flag)
    if os.path.isdir(out):
        raise UsageError(f"{flag}: '{out}' is a folder; expected a new file")
    there = os.path.lexists(out)
    if there and not force:
        raise UsageError(f"{flag}: '{out}' exists; expected a new file, or --force")
    if Path(out).resolve() in (Path(path).resolve() for path in inputs):
        raise UsageError(f"{flag}: '{out}' is one of the inputs; expected another file")
    if there and not stat.S_ISREG(os.lstat(out).st_mode):
        raise UsageError(f"{flag}: '{out}' is no regular file; expected a new file")
    if there and not is_ours(out):
        raise UsageError(
            f"{flag}: '{out}' is no {kind} as this program wrote it; --force replaces {kind}s alone"
        )


def _check_parent(out: Path, flag: str = "OUT") -> None:
    parent = next(path for path in Path(os.path.abspath(out)).parents if os.path.lexists(path))
    if not parent.is_dir():
        raise UsageError(f"{flag}: '{out}' cannot be written: '{parent}' is not a folder")
    if not os.access(parent, os.W_OK):
        raise UsageError(f"{flag}: '{out}' cannot be written: '{parent}' is read-only")
