"""A training's log: what was measured and when, how it was set, and whether it came to its end."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tsa_fairseq.errors import UsageError
from tsa_fairseq.evidence.lines import decode, read_bytes
from tsa_fairseq.evidence.log_lines import Point, record, settings

FINISHED, UNFINISHED, CRASHED = "finished", "unfinished", "crashed"
_DONE = re.compile(r"done training in (\d+(?:\.\d+)?) seconds")
_TYPES = re.compile(r"\] dictionary: (\d[\d,]{0,20}) types")
_PARAMETERS = re.compile(r"num\. (?:shared )?model params: (\d[\d,]{0,20})")
_TRACEBACK = "Traceback (most recent call last)"
_ERROR = re.compile(r"(?:[\w-]+: )?error: \S.*|[A-Za-z_][\w.]*(?:Error|Exception|Interrupt)\b.*")
_OURS = re.compile(r"\| (?:INFO|WARNING) \| (?:fairseq|valid|train)")


@dataclass
class Log:
    """Everything that is read of a log; a training that went on from a checkpoint is one training.

    Args:
        path: of the file or folder.
        config: what fairseq-train was told, by its flags' names.
        valid: figures on the validation data, after each validation, in bits a token; with
            ``epoch`` and ``num_updates``.
        train: means over each epoch of training.
        inner: means over the updates since the line before.
        state: :data:`FINISHED`, :data:`UNFINISHED` or :data:`CRASHED`.
        error: what it said when it crashed.
        types: words in the target dictionary.
        parameters: of the model in training.
        seconds: from the last start to the end; None if it did not end, or was started again.
    """

    path: str
    config: dict[str, Any] = field(default_factory=dict)
    valid: list[Point] = field(default_factory=list)
    train: list[Point] = field(default_factory=list)
    inner: list[Point] = field(default_factory=list)
    state: str = UNFINISHED
    error: str = ""
    types: int | None = None
    parameters: int | None = None
    seconds: float | None = None
    starts: int = 0

    @property
    def updates(self) -> int:
        """How far it came."""
        points = [*self.valid[-1:], *self.train[-1:], *self.inner[-1:]]
        return int(max((point.get("num_updates", 0) for point in points), default=0))

    def best(self) -> Point | None:
        """The validation that fairseq kept ``checkpoint_best.pt`` of; None without any."""
        metric = self.config.get("best_checkpoint_metric") or "loss"
        sign = -1 if self.config.get("maximize_best_checkpoint_metric") else 1
        known = [point for point in self.valid if metric in point]
        return min(reversed(known), key=lambda point: sign * point[metric], default=None)


def read_log(path: str, flag: str) -> Log:
    """Read what fairseq-train printed.

    Raises:
        UsageError: the file cannot be read, is empty, or is of another program.
    """
    text = decode(read_bytes(path, flag), path, flag)
    if not text.strip():
        raise UsageError(f"{flag}: '{path}' is empty; expected a log of fairseq-train")
    lines = re.split(r"[\r\n]+", text)
    if not is_log(lines):
        raise UsageError(
            f"{flag}: '{path}' is no log of fairseq-train: no line of it is one of fairseq's "
            "(--log-format simple, json or tqdm)"
        )
    log = Log(path)
    for number, line in enumerate(lines):
        _take(log, line, lines, number)
    return log


def is_log(lines: Sequence[str]) -> bool:
    """Whether lines are of a training's log."""
    return any(_OURS.search(line) or record(line) for line in lines)


def _take(log: Log, line: str, lines: Sequence[str], number: int) -> None:
    if (found := record(line)) is not None:
        _record(log, *found)
    elif (config := settings(line)) is not None:
        log.config, log.starts = config, log.starts + 1
        log.state, log.error, log.seconds = UNFINISHED, "", None
    elif match := _DONE.search(line):
        log.state, log.error = FINISHED, ""
        log.seconds = float(match[1]) if log.starts < 2 else None
    elif match := _TYPES.search(line):
        log.types = _whole(match[1])
    elif match := _PARAMETERS.search(line):
        log.parameters = _whole(match[1])
    elif line.startswith(_TRACEBACK) or re.match(r"(?:[\w-]+: )?error: \S", line):
        log.state, log.error = CRASHED, _last_words(lines[number:])


def _record(log: Log, tag: str, point: Point) -> None:
    subset = str(log.config.get("valid_subset") or "valid").split(",")[0]
    series = {subset: log.valid, "train": log.train, "train_inner": log.inner}.get(tag)
    if series is None:
        return
    updates = point.get("num_updates")
    if updates is None or not math.isfinite(updates):
        return
    # what was done after the checkpoint that a training went on from, was done once more
    while series and series[-1]["num_updates"] >= updates:
        series.pop()
    series.append(point)


def _last_words(lines: Sequence[str]) -> str:
    """What a program said when it ended: the line of the error."""
    return next((line for line in lines if _ERROR.match(line)), lines[0]).strip()


def _whole(text: str) -> int:
    return int(text.replace(",", ""))
