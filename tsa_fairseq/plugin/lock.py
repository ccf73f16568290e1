"""One training in a folder at a time: two would write each other's checkpoints.

The lock is the operating system's, on a file that says who holds it. It goes with the process,
however that ends, so that none is ever stale; what an ended process left in the file is of no
account.
"""

import errno
import os
import socket
import weakref
from importlib import import_module
from pathlib import Path
from typing import Any

from tsa_fairseq.errors import UsageError

# There is none on Windows, where nothing is locked.
locks: Any = import_module("fcntl") if os.name == "posix" else None

SAVE_DIR, LOCK = "--save-dir", ".training.lock"
# A file system without locks, or one that is full.
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS, errno.ENOSPC, errno.EDQUOT}
# By folder; an open file for as long as this process trains there.
_held: dict[str, int] = {}


def check_folder(folder: str) -> None:
    """Refuse a folder of checkpoints that cannot be written to, or that another training writes to.

    Nothing is made: a training may be refused for other reasons yet.

    Raises:
        UsageError: it cannot be used.
    """
    place = Path(folder)
    if place.exists() and not place.is_dir():
        raise UsageError(f"{SAVE_DIR}: '{folder}' is a file; expected a folder")
    there = next(p for p in (place, *place.absolute().parents) if p.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(f"{SAVE_DIR}: '{folder}' cannot be written to; expected one that can")
    if place.is_dir() and str(place.resolve()) not in _held and (place / LOCK).exists():
        descriptor = _open(place)
        if descriptor is not None:
            try:  # shared: processes of one training may look at the same time
                _take(descriptor, folder, shared=True)
            finally:
                os.close(descriptor)


def hold_folder(folder: str, owner: object) -> None:
    """Keep other trainings out of a folder for as long as ``owner`` and this process live.

    Raises:
        UsageError: one is in there.
    """
    place = Path(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(place, error) from None
    key = str(place.resolve())
    if key in _held:
        return
    descriptor = _open(place)
    if descriptor is None:
        return
    try:
        if not _take(descriptor, folder):
            os.close(descriptor)
            return
    except UsageError:
        os.close(descriptor)
        raise
    if not _is_still_there(descriptor, place):  # who held it has just removed it
        os.close(descriptor)
        hold_folder(folder, owner)
        return
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()} {socket.gethostname()}\n".encode())
    _held[key] = descriptor
    weakref.finalize(owner, _release, key, os.getpid())


def _open(place: Path) -> int | None:
    if locks is None:
        return None
    try:
        # not a link to somewhere else, which would be written to
        how = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        return os.open(place / LOCK, how, 0o644)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return None
        raise _unwritable(place, error) from None


def _unwritable(place: Path, error: OSError) -> UsageError:
    return UsageError(
        f"{SAVE_DIR}: '{place}' cannot be written to: {error.strerror}; expected one that can"
    )


def _take(descriptor: int, folder: str, shared: bool = False) -> bool:
    """Lock an open file; False where files cannot be locked.

    Raises:
        UsageError: another process has.
    """
    try:
        locks.lockf(descriptor, (locks.LOCK_SH if shared else locks.LOCK_EX) | locks.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            return False
        who = os.pread(descriptor, 300, 0).decode(errors="replace").split()
        holder = f"process {who[0]} on {who[1]}" if len(who) == 2 else "another process"
        raise UsageError(
            f"{SAVE_DIR}: '{folder}' is where {holder} trains; expected another folder, "
            "or that one's end"
        ) from None
    return True


def _is_still_there(descriptor: int, place: Path) -> bool:
    try:
        return os.fstat(descriptor).st_ino == os.stat(place / LOCK).st_ino
    except FileNotFoundError:
        return False


def _release(key: str, process: int) -> None:
    """Let others in; not in a process that was forked from the one that trains."""
    if os.getpid() != process:
        return
    (Path(key) / LOCK).unlink(missing_ok=True)
    os.close(_held.pop(key))
