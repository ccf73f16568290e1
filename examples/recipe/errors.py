"""How the recipes' programs end: with a reason in one line, which a user can do something about."""

import errno
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

# What the system says of a disk, or of a user's part of it, that holds no more.
FULL = (errno.ENOSPC, errno.EDQUOT)


class RecipeError(Exception):
    """What cannot be done, and why; the message is one line for the user."""


def existing(path: Path) -> Path:
    """The path, or the folder it will be in, as far as there is one."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path


def size(count: float) -> str:
    """A number of bytes, for people."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def say(message: str) -> None:
    """What is done now."""
    print(f"==> {message}", flush=True)


def warn(message: str) -> None:
    """What the user should know, and what stops nothing."""
    print(f"warning: {message}", file=sys.stderr, flush=True)


def check_space(flag: str, where: Path, needed: int) -> None:
    """Refuse before any work what a disk cannot hold.

    Args:
        flag: whose value the place is.
        where: what will be written; it need not exist.
        needed: bytes.

    Raises:
        RecipeError: there is less room.
    """
    free = shutil.disk_usage(existing(where)).free
    if free < needed:
        raise RecipeError(
            f"{flag}: {where} has {size(free)} of free space; about {size(needed)} are needed"
        )


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def run(main: Callable[[], None]) -> None:
    """Call a program's main; what it cannot do becomes one line and status 1."""
    signal.signal(signal.SIGTERM, _interrupted)  # as Ctrl-C: temporary files are removed
    try:
        main()
    except RecipeError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("error: interrupted; the same command goes on from the last finished step")
    except OSError as error:
        if error.errno not in FULL:
            where = f"{error.filename}: " if error.filename else ""
            sys.exit(f"error: {where}{error.strerror or error}")
        sys.exit(
            "error: the disk is full; make room, and the same command goes on from the last "
            "finished step"
        )
