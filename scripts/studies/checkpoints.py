"""The checkpoints of a run: which are kept, and which one an interrupted training goes on from."""

import os
import re
import shutil
import zipfile
from pathlib import Path

from studies.curve import Curve

# At the end of an epoch, or where the limit of updates fell within one.
WRITTEN = re.compile(r"checkpoint_?(\d+)(_\d+)?\.pt")
LAST, BEST = "checkpoint_last.pt", "checkpoint_best.pt"


def by_epoch(folder: Path) -> dict[int, str]:
    """The names of the checkpoints that fairseq-train wrote whole, under their own names."""
    found = {}
    for path in folder.iterdir():
        if match := WRITTEN.fullmatch(path.name):
            found[int(match[1])] = path.name
    return found


def prune(folder: Path, curve: Curve, average: int) -> None:
    """Delete what neither the average nor the best checkpoint can need any more.

    What is deleted has better ones beside it, which a repeated epoch would write again: it does
    not matter when this is called.
    """
    names = by_epoch(folder)
    old = _rest(names, curve, average)
    if not old:
        return
    _to_disk(folder / names[_newest(names, curve)])
    _to_disk(folder)
    for epoch in old:
        (folder / names[epoch]).unlink()


def _rest(names: dict[int, str], curve: Curve, average: int) -> list[int]:
    kept = set(curve.ranked(names)[:average]) | {curve.best()}
    newest = _newest(names, curve)
    return [epoch for epoch in names if epoch not in kept and epoch < newest]


def _newest(names: dict[int, str], curve: Curve) -> int:
    """The one that a training goes on from; what it wrote after its end does not count."""
    return max((epoch for epoch in names if epoch in curve.validated), default=0)


def recover(folder: Path, curve: Curve, average: int) -> int:
    """Make the folder of an interrupted training one that fairseq-train goes on from.

    A kill or a loss of power leaves half-written files: the copies checkpoint_last.pt and
    checkpoint_best.pt are made anew from the epochs' own files, and epochs whose files, or whose
    lines in the log, were lost are trained again.

    Returns:
        The last epoch that counts; 0 if the training begins anew.
    """
    for path in folder.glob("*.tmp"):
        path.unlink()
    names = by_epoch(folder)
    for epoch in [epoch for epoch, name in names.items() if not readable(folder / name)]:
        (folder / names.pop(epoch)).unlink()
    last = max((e for e in names if _complete(e, names, curve, average)), default=0)
    settle(folder, curve, last)
    return last


def _complete(epoch: int, names: dict[int, str], curve: Curve, average: int) -> bool:
    """Whether nothing of the epoch and those before it is lost."""
    if not set(range(1, epoch + 1)) <= set(curve.validated):
        return False
    # Of the epochs in the log: those that prune would have kept.
    everything = {e: f"checkpoint{e}.pt" for e in curve.validated}
    kept = {*curve.ranked(everything)[:average], curve.best()}
    return all(e in names for e in kept if e is not None and e <= epoch)


def settle(folder: Path, curve: Curve, last: int) -> None:
    """The checkpoints as they were right after an epoch; what came later is gone."""
    names = by_epoch(folder)
    for epoch in [epoch for epoch in names if epoch > last]:
        (folder / names.pop(epoch)).unlink()
    if not last:
        for name in (LAST, BEST):
            (folder / name).unlink(missing_ok=True)
        return
    best = min((e for e in names if e <= last), key=lambda e: (curve.nll(e), -e))
    _copy(folder / names[last], folder / LAST)
    _copy(folder / names[best], folder / BEST)


def keep_only(folder: Path, kept: set[str]) -> None:
    """Delete a finished run's checkpoints but for some."""
    for path in folder.glob("checkpoint*.pt*"):
        if path.name not in kept:
            path.unlink()


def readable(path: Path) -> bool:
    """Whether a checkpoint is whole: torch writes zip files, which have checksums."""
    try:
        with zipfile.ZipFile(path) as file:
            return file.testzip() is None
    except (OSError, zipfile.BadZipFile):
        return False


def _copy(source: Path, target: Path) -> None:
    temporary = target.with_name(f"{target.name}.tmp")
    shutil.copyfile(source, temporary)
    temporary.replace(target)


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
