"""What is to be done: which run comes next, and how far each has come."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from studies import checkpoints, command, results
from studies.errors import StudyError
from studies.listing import Listing, Run, run_id
from studies.place import Place
from studies.records import Begun, Failure


@dataclass
class Queue:
    """The runs of a list, and what stands in the way of each.

    Args:
        listing: all runs.
        chosen: those that are to be done.
        place: the study's folder.
        rows: the file of results.
        device: ``cpu`` or ``cuda``.
        retry: ids of failed runs that are tried again.
    """

    listing: Listing
    chosen: list[Run]
    place: Place
    rows: Path
    device: str
    retry: set[str]

    def check(self) -> None:
        """Hold what has begun, and what is done, to what the list says now.

        Raises:
            StudyError: a run has other flags now; the file of results does not fit.
        """
        rows = {results.id_of(row): row for row in results.read(self.rows)}
        for run in self.chosen:
            begun = Begun.read(self.place.run(run.id))
            row = rows.get(run.id)
            if row is None and (begun is None or not self.has_trained(run)):
                continue
            said = row["command"] if row else begun.command if begun else ""
            device = row["device"] if row else begun.device if begun else ""
            if shlex.split(said) != command.train(run, kind(device)):
                raise StudyError(
                    f"LIST: run '{run.name}' with seed {run.seed} has begun with other flags; "
                    "give what is new another name"
                )

    def has_trained(self, run: Run) -> bool:
        """Whether it has something to go on from."""
        folder = self.place.run(run.id)
        return folder.exists() and bool(checkpoints.by_epoch(folder))

    def next(self, active: set[str], commit: str) -> Run | None:
        """The first run that can begin or go on now."""
        done = results.finished(results.read(self.rows))
        for run in self.chosen:
            if run.id in done or run.id in active:
                continue
            if self.obstacle(run, done, commit) is None:
                return run
        return None

    def obstacle(self, run: Run, done: set[str], commit: str) -> str | None:
        """Why a run that is not done cannot begin or go on; None if it can."""
        folder = self.place.run(run.id)
        if run.device == "cuda" and self.device != "cuda":
            return "needs --device cuda"
        begun = Begun.read(folder)
        if begun is not None and kind(begun.device) != self.device:
            return f"has begun with --device {kind(begun.device)}"
        failure = Failure.read(folder)
        if failure is not None and run.id not in self.retry:
            # Another commit may mend what stopped it at once, but not what it has trained.
            if failure.commit == commit or self.has_trained(run):
                return f"failed: {failure.message}"
        if run.needs and run_id(run.needs, run.seed) not in done:
            return f"waits for {run_id(run.needs, run.seed)}"
        return None


def kind(device: str) -> str:
    """``cpu`` or ``cuda``, of a device with its name."""
    return device.split(":")[0]
