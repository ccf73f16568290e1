"""Folders and files that appear when they are whole, and from which nothing is lost."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tsa_fairseq.errors import UsageError

# The files of an export to fairseq or CTranslate2, and of one of all leaves.
_WRITTEN = re.compile(
    r"leaf\d+|(leaf\d+/)?"
    r"(model\.(pt|bin)|(export|config)\.json|sentencepiece\.bpe\.model|dict\.\w+\.txt"
    r"|(shared|source|target)_vocabulary\.(json|txt))"
)


def check_target(out: Path, force: bool, inputs: list[str]) -> None:
    """Refuse a place that something else would be lost from.

    Raises:
        UsageError: the folder exists, holds more than an export, or what the export is made of.
    """
    for path in inputs:
        if Path(path).resolve().is_relative_to(out.resolve()):
            raise UsageError(
                f"OUT: '{out}' holds '{path}', which the export is made of; expected another folder"
            )
    if not os.path.lexists(out):
        return
    if not force:
        raise UsageError(f"OUT: '{out}' exists; expected a new folder, or --force")
    foreign = _foreign(out)
    if foreign is not None:
        raise UsageError(f"OUT: '{out}' holds '{foreign}'; --force replaces exports alone")


def _foreign(out: Path) -> str | None:
    """What in a folder no export wrote; the folder itself, if it is none."""
    if out.is_symlink() or not out.is_dir():
        return out.name
    for path in sorted(out.rglob("*")):
        inside = str(path.relative_to(out))
        if not _WRITTEN.fullmatch(inside) or path.is_symlink():
            return inside
    return None


def write_whole(out: Path, fill: Callable[[Path], None]) -> None:
    """Make a folder that appears when it is whole, and only then replaces what stood there.

    Raises:
        UsageError: it cannot be written.
    """
    out = Path(os.path.abspath(out))
    partial, old = (out.with_name(f".{out.name}.{os.getpid()}.{kind}") for kind in ("new", "old"))
    try:
        partial.mkdir(parents=True)
        fill(partial)
        if out.exists():
            out.rename(old)
        partial.rename(out)
    except OSError as error:
        if old.exists() and not out.exists():
            old.rename(out)
        raise _refusal(out, error) from None
    finally:
        for path in (partial, old):
            shutil.rmtree(path, ignore_errors=True)


def write_file(out: str, write: Callable[[str], None]) -> None:
    """Make a file that appears when it is whole, and only then replaces what stood there.

    Raises:
        UsageError: it cannot be written.
    """
    partial = f"{out}.{os.getpid()}.partial"
    try:
        write(partial)
        os.replace(partial, out)
    except OSError as error:
        raise _refusal(out, error) from None
    finally:
        if os.path.exists(partial):
            os.remove(partial)


def save(state: dict[str, Any], path: Path | str) -> None:
    """``torch.save``, with an ``OSError`` for what cannot be written, as from any other writer."""
    try:
        torch.save(state, path)
    except RuntimeError as error:
        raise OSError(str(error).splitlines()[0]) from error


def _refusal(out: Path | str, error: OSError) -> UsageError:
    return UsageError(f"OUT: '{out}' cannot be written: {error.strerror or error}")
