"""The folder of a training or of an export: which of its files say what."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsa_fairseq.errors import UsageError
from tsa_fairseq.evidence.event_files import is_event_folder, read_events
from tsa_fairseq.evidence.generated import is_generated
from tsa_fairseq.evidence.logs import Log, is_log, read_log
from tsa_fairseq.files.names import MODEL
from tsa_fairseq.files.origin import read_origin

_CHECKPOINTS = ("checkpoint_best.pt", "checkpoint_last.pt")
_TEXT = (".log", ".txt", ".out", ".err", "")
# Of a text, what says whose it is; a configuration alone is some 20 kB.
_HEAD_BYTES = 200_000
# Folders inside a run's in which translations are looked for.
_DEPTH = 3


@dataclass(frozen=True)
class Run:
    """A training, or an export of one.

    Args:
        path: as the user gave it.
        log: None if there is none.
        checkpoint: the file of the model that is kept; None without one.
        generated: files of fairseq-generate's output.
        origin: what an export says of itself.
    """

    path: str
    log: Log | None = None
    checkpoint: str | None = None
    generated: tuple[str, ...] = ()
    origin: dict[str, Any] | None = None

    @property
    def is_export(self) -> bool:
        """Whether it was made by ``tsa-fairseq export``."""
        return self.origin is not None

    def models(self) -> list[str]:
        """All files in the folder that an export can be made of: checkpoints and averages."""
        return _files(Path(self.path), "*.pt")


def find_run(path: str, flag: str) -> Run:
    """What there is in a folder of a run or of an export; or a log, or TensorBoard's events, alone.

    Raises:
        UsageError: there is nothing of a training, or several logs.
    """
    folder = Path(path)
    if folder.is_file():
        return Run(path, read_log(path, flag))
    if not folder.is_dir():
        raise UsageError(f"{flag}: '{path}' does not exist")
    origin = read_origin(folder)
    models = [str(folder / name) for name in MODEL.values() if (folder / name).is_file()]
    if origin and models:
        return Run(path, None, models[0], tuple(_generated(folder)), origin)
    checkpoints = [str(folder / name) for name in _CHECKPOINTS if (folder / name).is_file()]
    checkpoints += _files(folder, "checkpoint*.pt")
    checkpoints += _files(folder, "*.pt")  # an average is kept, and they are not
    log, generated = _log(folder, flag), tuple(_generated(folder))
    if log is None and not checkpoints and not generated:
        raise UsageError(
            f"{flag}: '{path}' holds no checkpoint, no log of fairseq-train, no output of "
            "fairseq-generate and no export"
        )
    return Run(path, log, next(iter(checkpoints), None), generated)


def run_around(file: str, flag: str) -> Run | None:
    """The run in whose folder a file of translations lies, or in a folder of it; None if none."""
    for folder in list(Path(file).parents)[:_DEPTH]:
        if any((folder / name).is_file() for name in (*_CHECKPOINTS, "train.log")):
            try:
                return find_run(str(folder), flag)
            except UsageError:  # the user named a file, and what lies around it is as it may be
                return None
    return None


def _files(folder: Path, pattern: str) -> list[str]:
    """By their names; a pipe would be waited for."""
    return sorted(str(path) for path in folder.glob(pattern) if path.is_file())


def _log(folder: Path, flag: str) -> Log | None:
    files = [p for p in _texts(folder, 1) if is_log(_head(p)) and not is_generated(_head(p))]
    named = [path for path in files if path.name == "train.log"]
    files = named or files
    if len(files) > 1:
        raise UsageError(
            f"{flag}: '{folder}' holds several logs, {_names(files)}; expected one of them"
        )
    if files:
        return read_log(str(files[0]), flag)
    events = [path for path in (folder, *sorted(folder.iterdir())) if path.is_dir()]
    events = [path for path in events if is_event_folder(path)]
    return read_events(str(events[0]), flag) if events else None


def _generated(folder: Path) -> list[str]:
    return [str(path) for path in _texts(folder, _DEPTH) if is_generated(_head(path))]


def _texts(folder: Path, depth: int) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        inside = len(Path(parent).relative_to(folder).parts)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if inside + 1 >= depth:
            folders.clear()
        for name in sorted(files):
            path = Path(parent) / name
            # a socket cannot be opened, and a pipe would be waited for
            if path.suffix in _TEXT and not name.startswith(".") and path.is_file():
                yield path


def _head(path: Path) -> list[str]:
    try:
        with open(path, "rb") as file:
            text = file.read(_HEAD_BYTES).decode("utf-8", errors="replace")
    except PermissionError:  # nothing of the user's run
        return []
    return text.replace("\r", "\n").split("\n")


def _names(files: list[Path]) -> str:
    return ", ".join(f"'{path}'" for path in files)
