"""Which files of a folder this program wrote: an export lists its own, with checksums.

Nothing else is replaced by ``--force``.
"""

import hashlib
import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tsa_fairseq.files.checksums import checksum
from tsa_fairseq.files.names import CARD, ORIGIN
from tsa_fairseq.files.signed import is_signed

# In an export's JSON: the other files by their names, and the checksum of the JSON without it.
_FILES, _OWN = "files", "export_sha256"


def write_origin(folder: Path, origin: dict[str, Any]) -> None:
    """Write an export's JSON, when all its other files are there, which it lists.

    Raises:
        OSError: it cannot be written.
    """
    files = {path.name: checksum(str(path), "OUT") for path in sorted(folder.iterdir())}
    said = {**origin, _FILES: files}
    text = json.dumps({**said, _OWN: _checksum(said)}, indent=2) + "\n"
    (folder / ORIGIN).write_text(text, encoding="utf-8")


def not_written_by_us(out: Path) -> str | None:
    """What in a folder no export wrote, or was changed since; in words that go on after "holds".

    Args:
        out: the folder of an export, or of one of all leaves.
    """
    leaves = [path for path in sorted(out.iterdir()) if _is_leaf(path)]
    listed = {path: sum_ for folder in (out, *leaves) for path, sum_ in _listed(folder)}
    changed = [path for path, sum_ in listed.items() if sum_ is None]
    for path in [*changed, *sorted(out.rglob("*"))]:
        if path in leaves or (path.name == CARD and is_signed(str(path))):
            continue
        inside = path.relative_to(out)
        if path not in listed or not stat.S_ISREG(path.lstat().st_mode):
            return f"'{inside}'"
        known = listed[path]
        if known is None or known != checksum(str(path), "OUT"):
            return f"'{inside}', which is not as it was exported"
    return None


def _is_leaf(path: Path) -> bool:
    number = path.name.removeprefix("leaf")
    return path.name != number and number.isdecimal() and path.is_dir() and not path.is_symlink()


def _listed(folder: Path) -> Iterator[tuple[Path, str | None]]:
    """An export's files and their checksums; None of a JSON that is not as it was written."""
    file = folder / ORIGIN
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        files, own = said[_FILES], said.pop(_OWN)
        whole = own == _checksum(said) and all(type(name) is str for name in files.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return  # another's: none of the files is ours
    # as it is on the disk: its checksum is inside of it
    yield file, checksum(str(file), "OUT") if whole else None
    if whole:
        yield from ((folder / name, sum_) for name, sum_ in files.items())


def _checksum(said: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
