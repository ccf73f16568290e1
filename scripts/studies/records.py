"""What a run's folder says of it, in two small files: how it began, and why it failed."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar, Self

from studies.results import write_whole


@dataclass(frozen=True)
class Record:
    """A file of a run's folder."""

    FILE: ClassVar[str]

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Of a run's folder; None if it is not there."""
        path = folder / cls.FILE
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None

    def write(self, folder: Path) -> None:
        """Into a run's folder."""
        write_whole(folder / self.FILE, f"{json.dumps(asdict(self), indent=2)}\n".encode())


@dataclass(frozen=True)
class Begun(Record):
    """What a run keeps for as long as it lasts, from when it began.

    Args:
        command: fairseq-train, as in a shell.
        commit: whose code it uses.
        device: ``cpu`` or ``cuda``, and the processor's name.
    """

    FILE = "run.json"
    command: str
    commit: str
    device: str


@dataclass(frozen=True)
class Failure(Record):
    """Why a run could not go on.

    Args:
        message: what its command said last.
        commit: that was checked out then.
    """

    FILE = "failed.json"
    message: str
    commit: str
