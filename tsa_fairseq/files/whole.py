"""Files and folders that appear when they are whole, and from which nothing is lost.

Each is made under a name of its own beside its place, which says the process: ``.NAME.PID.new``.
"""

import ctypes
import errno
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tsa_fairseq.errors import UsageError

# Of Linux's renameat2: fail if the new name is taken; exchange both.
_NOREPLACE, _EXCHANGE = 1, 2
_HERE = -100  # AT_FDCWD
# The place that is written to is full, whatever file the system's message names.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENAMETOOLONG)


def temporary(out: Path, kind: str, process: int | None = None) -> Path:
    """Where a process makes a new file or folder, or keeps an old one: ``new`` or ``old``."""
    return out.with_name(f".{out.name}.{process or os.getpid()}.{kind}")


def write_whole(out: Path, fill: Callable[[Path], None], check: Callable[[], None]) -> None:
    """Make a folder that appears when it is whole, and only then replaces what stood there.

    Args:
        out: the folder.
        fill: writes into the empty folder that it is given.
        check: asks again whether what stands there may be replaced: filling takes its time.

    Raises:
        UsageError: it cannot be written, or ``check`` says no.
    """
    out = Path(os.path.abspath(out))
    made = [path for path in out.parents if not os.path.exists(path)]
    partial = temporary(out, "new")
    try:
        try:
            partial.mkdir(parents=True)
            fill(partial)
        except OSError as error:
            raise _refusal(out, error, partial) from None
        check()
        try:
            _replace(out, partial)
        except OSError as error:
            raise _refusal(out, error) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if not os.path.exists(out):
            for path in made:
                if path.is_dir() and not any(path.iterdir()):
                    path.rmdir()


def _replace(out: Path, new: Path) -> None:
    """Put a folder in another's place, which stands under the new one's name then, if anywhere.

    At once where the system can. Elsewhere, whatever happens in between, one of them is left, and
    :func:`tsa_fairseq.files.leftovers.clear` puts it back.
    """
    there = os.path.exists(out)
    if _rename_at_once(new, out, _EXCHANGE if there else _NOREPLACE):
        return
    old = temporary(out, "old")
    try:
        if there:
            out.rename(old)
        new.rename(out)
    except BaseException:
        if old.exists() and not out.exists():
            old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def write_file(out: str, write: Callable[[str], None], check: Callable[[], None]) -> None:
    """Make a file that appears when it is whole, and only then replaces what stood there.

    Args:
        out: the file.
        write: writes it under the name that it is given.
        check: see :func:`write_whole`.

    Raises:
        UsageError: it cannot be written, or ``check`` says no.
    """
    partial = temporary(Path(os.path.abspath(out)), "new")
    try:
        # of our own making: a link that lies under this name would be written through
        partial.unlink(missing_ok=True)
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        write(str(partial))
        check()
        # what appears in this very moment stays
        if os.path.lexists(out) or not _rename_at_once(partial, Path(out), _NOREPLACE):
            os.replace(partial, out)
    except OSError as error:
        raise _refusal(out, error) from None
    finally:
        if os.path.lexists(partial):
            os.remove(partial)


def save(state: dict[str, Any], path: Path | str) -> None:
    """``torch.save``, with an ``OSError`` for what cannot be written, as from any other writer."""
    import torch  # here alone: a folder or a text is written without it

    try:
        torch.save(state, path)
    except RuntimeError as error:
        raise OSError(str(error).splitlines()[0]) from error


def _rename_at_once(old: Path, new: Path, how: int) -> bool:
    """By Linux's ``renameat2``; False where there is none, or not on this file system.

    Raises:
        OSError: it failed for another reason.
    """
    if not sys.platform.startswith("linux"):
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    if rename(_HERE, os.fsencode(old), _HERE, os.fsencode(new), how) == 0:
        return True
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM):
        return False
    raise OSError(code, os.strerror(code), str(new))


def _refusal(out: Path | str, error: OSError, inside: Path | None = None) -> UsageError:
    """In the words of the system; by the name of a file elsewhere that could not be read."""
    reason, name = error.strerror or str(error), error.filename
    elsewhere = name and inside and not Path(os.path.abspath(name)).is_relative_to(inside)
    # of a copy that failed for want of space, the system names the file that was read
    if elsewhere and error.errno not in _FULL:
        return UsageError(f"'{name}' cannot be read: {reason}")
    return UsageError(f"OUT: '{out}' cannot be written: {reason}")
