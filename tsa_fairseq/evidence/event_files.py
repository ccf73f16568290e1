"""TensorBoard's event files, as fairseq's ``--tensorboard-logdir`` writes them."""

import struct
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from tsa_fairseq.errors import UsageError
from tsa_fairseq.evidence.log_lines import Point
from tsa_fairseq.evidence.logs import UNFINISHED, Log

PATTERN = "events.out.tfevents*"
_SUBSETS = ("valid", "train", "train_inner")


def is_event_folder(folder: Path) -> bool:
    """Whether fairseq has written events into it: one folder inside for every tag."""
    return any(folder.glob(f"*/{PATTERN}"))


def read_events(path: str, flag: str) -> Log:
    """The figures of a training; these files say nothing of its flags, or of how it ended.

    Raises:
        UsageError: no package that knows them is installed, or one of them is broken.
    """
    Event, folder, log = _event_type(path, flag), Path(path), Log(path, state=UNFINISHED)
    for tag, series in zip(_SUBSETS, (log.valid, log.train, log.inner), strict=True):
        points: dict[int, Point] = {}
        for file in sorted(filter(Path.is_file, (folder / tag).glob(PATTERN))):
            for event in _events(Event, file, flag):
                for value in event.summary.value:
                    number = _number(value)
                    if number is not None:
                        point = points.setdefault(event.step, {"num_updates": float(event.step)})
                        point[value.tag] = number
        series += [points[step] for step in sorted(points)]
    if not log.valid and not log.inner:
        raise UsageError(
            f"{flag}: '{path}' has no figures of fairseq's; expected events in {folder / 'valid'}"
        )
    return log


def _events(Event: Any, file: Path, flag: str) -> Iterator[Any]:
    broken: Any = import_module("google.protobuf.message").DecodeError
    try:
        yield from map(Event.FromString, _records(file, flag))
    except broken:
        raise UsageError(f"{flag}: '{file}' is no file of TensorBoard's events") from None


def _event_type(path: str, flag: str) -> Any:
    """The message that TensorBoard, or the small package that only writes for it, knows."""
    try:
        from tensorboard.compat.proto.event_pb2 import Event
    except ModuleNotFoundError:
        try:
            from tensorboardX.proto.event_pb2 import Event
        except ModuleNotFoundError:
            raise UsageError(
                f"{flag}: '{path}' holds TensorBoard's events, which are read with tensorboard: "
                "pip install tensorboard"
            ) from None
    return Event


def _records(file: Path, flag: str) -> Iterator[bytes]:
    """A record is its length (8 bytes, and 4 of a checksum), itself, and 4 of a checksum.

    One that is not whole yet, at the end, is left out: a training may be writing.
    """
    content, place = file.read_bytes(), 0
    while place + 12 <= len(content):
        (length,) = struct.unpack_from("<Q", content, place)
        if length > len(content) and not place:
            raise UsageError(f"{flag}: '{file}' is no file of TensorBoard's events")
        if place + 16 + length > len(content):
            return
        yield content[place + 12 : place + 12 + length]
        place += 16 + length


def _number(value: Any) -> float | None:
    """Of a scalar, as older and newer writers put it."""
    if value.HasField("simple_value"):
        return float(value.simple_value)
    if value.HasField("tensor") and value.tensor.float_val:
        return float(value.tensor.float_val[0])
    return None
