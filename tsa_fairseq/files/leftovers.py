"""What a process left that was killed while it wrote: put back, or removed, by the next one."""

import os
import re
import shutil
import stat
from pathlib import Path

from tsa_fairseq.errors import warn
from tsa_fairseq.files.archive import is_archive
from tsa_fairseq.files.whole import temporary

# The files of an export to fairseq or CTranslate2, and of one of all leaves; and while it is made.
_WRITTEN = re.compile(
    r"(leaf\d+/)?converted|leaf\d+|(leaf\d+/)?(converted/)?"
    r"(model\.(pt|bin)|(export|config)\.json|README\.md|dict\.[^/]+\.txt"
    r"|(shared|source|target)_vocabulary\.(json|txt)"
    r"|sentencepiece\.(bpe|source|target)\.model|bpe(codes|vocabulary)(\.(source|target))?)"
)


def clear(out: Path) -> None:
    """Put back, or remove, what killed processes left beside a place, and say so.

    Only what has the name of such a process's, which is no longer there, and holds nothing but what
    it would have written. A process of another machine cannot be told from one that is gone: do not
    write to one place from two.

    Args:
        out: the file or folder that they were to write.
    """
    out = Path(os.path.abspath(out))
    if not out.parent.is_dir():
        return
    for kind in ("old", "new"):  # what was there comes first
        for path in sorted(out.parent.glob(f".{_escaped(out.name)}.*.{kind}")):
            number = path.name.removeprefix(f".{out.name}.").removesuffix(f".{kind}")
            if not number.isdecimal() or path != temporary(out, kind, int(number)):
                continue
            if not _runs(int(number)) and _is_ours(path):
                _clear(path, out, kind)


def _clear(path: Path, out: Path, kind: str) -> None:
    try:
        if kind == "old" and not os.path.lexists(out):
            path.rename(out)
            warn(f"OUT: '{out}' was away: what replaced it was killed; it is put back")
            return
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        warn(f"OUT: '{path}', left by a process that was killed, is removed")
    except OSError as error:
        warn(f"OUT: '{path}', left by a process that was killed, stays: {error.strerror}")


def _escaped(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # another user's
        return True
    return True


def _is_ours(path: Path) -> bool:
    """Whether it is this user's, and what one of our processes would have left."""
    try:
        found = path.lstat()
        if hasattr(os, "getuid") and found.st_uid != os.getuid():
            return False
        if stat.S_ISREG(found.st_mode):
            return found.st_size == 0 or is_archive(str(path))
        if not stat.S_ISDIR(found.st_mode):
            return False
        return all(
            _WRITTEN.fullmatch(str(one.relative_to(path)))
            and (one.is_dir() or stat.S_ISREG(one.lstat().st_mode))
            and not one.is_symlink()
            for one in path.rglob("*")
        )
    except OSError:
        return False
