"""Folders and files that appear when they are whole, and from which nothing is lost."""

import os
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tsa_fairseq.errors import UsageError
from tsa_fairseq.files.names import ORIGIN

# The files of an export to fairseq or CTranslate2, and of one of all leaves.
_WRITTEN = re.compile(
    r"leaf\d+|(leaf\d+/)?"
    r"(model\.(pt|bin)|(export|config)\.json|README\.md|MODEL_CARD\.md|dict\.[^/]+\.txt"
    r"|(shared|source|target)_vocabulary\.(json|txt)"
    r"|sentencepiece\.(bpe|source|target)\.model|bpe(codes|vocabulary)(\.(source|target))?)"
)


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
    foreign = _foreign(out)
    if foreign is not None:
        raise UsageError(f"OUT: '{out}' holds '{foreign}'; --force replaces exports alone")


def check_file(out: str, force: bool, inputs: Sequence[str]) -> None:
    """Refuse a file that exists, or that cannot be written.

    Raises:
        UsageError: it exists, and is not to be replaced, or is a folder or an input.
    """
    parent = Path(os.path.abspath(out)).parent
    if not parent.exists():
        raise UsageError(f"OUT: '{out}' cannot be written: there is no folder '{parent}'")
    _check_parent(Path(out))
    if os.path.isdir(out):
        raise UsageError(f"OUT: '{out}' is a folder; expected a new file")
    if os.path.lexists(out) and not force:
        raise UsageError(f"OUT: '{out}' exists; expected a new file, or --force")
    if Path(out).resolve() in (Path(path).resolve() for path in inputs):
        raise UsageError(f"OUT: '{out}' is one of the inputs; expected another file")


def _check_parent(out: Path) -> None:
    parent = next(path for path in Path(os.path.abspath(out)).parents if os.path.lexists(path))
    if not parent.is_dir():
        raise UsageError(f"OUT: '{out}' cannot be written: '{parent}' is not a folder")
    if not os.access(parent, os.W_OK):
        raise UsageError(f"OUT: '{out}' cannot be written: '{parent}' is read-only")


def _foreign(out: Path) -> str | None:
    """What in a folder no export wrote; an export's files count as one beside its JSON alone."""
    for path in sorted(out.rglob("*")):
        inside = str(path.relative_to(out))
        ours = path.is_dir() or (path.parent / ORIGIN).is_file()
        if not ours or not _WRITTEN.fullmatch(inside) or path.is_symlink():
            return inside
    return None


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
    made = [path for path in out.parents if not path.exists()]
    partial, old = (out.with_name(f".{out.name}.{os.getpid()}.{kind}") for kind in ("new", "old"))
    try:
        try:
            partial.mkdir(parents=True)
            fill(partial)
        except OSError as error:
            raise _refusal(out, error, partial) from None
        check()
        try:
            _replace(out, partial, old)
        except OSError as error:
            raise _refusal(out, error) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if not out.exists():
            for path in made:
                if path.is_dir() and not any(path.iterdir()):
                    path.rmdir()


def _replace(out: Path, new: Path, old: Path) -> None:
    """Put a folder in another's place; whatever happens in between, one of them is left."""
    try:
        if out.exists():
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
    partial = f"{out}.{os.getpid()}.partial"
    try:
        write(partial)
        check()
        os.replace(partial, out)
    except OSError as error:
        raise _refusal(out, error) from None
    finally:
        if os.path.exists(partial):
            os.remove(partial)


def save(state: dict[str, Any], path: Path | str) -> None:
    """``torch.save``, with an ``OSError`` for what cannot be written, as from any other writer."""
    import torch  # here alone: a folder or a text file is written without it

    try:
        torch.save(state, path)
    except RuntimeError as error:
        raise OSError(str(error).splitlines()[0]) from error


def _refusal(out: Path | str, error: OSError, inside: Path | None = None) -> UsageError:
    """In the words of the system; by the name of a file elsewhere that could not be read."""
    reason, name = error.strerror or str(error), error.filename
    if inside is not None and name and not Path(os.path.abspath(name)).is_relative_to(inside):
        return UsageError(f"'{name}' cannot be read: {reason}")
    return UsageError(f"OUT: '{out}' cannot be written: {reason}")
