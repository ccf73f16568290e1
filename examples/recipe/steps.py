"""Work in steps, each a folder that appears when it is whole, so that a stopped run goes on."""

import shutil
from collections.abc import Callable
from pathlib import Path

from recipe.errors import say


class Steps:
    """The steps of one preparation.

    Args:
        work: a folder that outlives a stopped run; what is in it is of the same settings.
    """

    def __init__(self, work: Path) -> None:
        self.work = work

    def path(self, name: str) -> Path:
        """Where a step's results are."""
        return self.work / name

    def run(self, name: str, what: str, make: Callable[[Path], None]) -> Path:
        """Make a step's folder, unless an earlier run did.

        Args:
            name: of the folder.
            what: is done, for the user.
            make: fills an empty folder; it gets the step's name when this returns.
        """
        folder = self.path(name)
        if folder.is_dir():
            say(f"{what}: done by an earlier run")
            return folder
        say(what)
        unfinished = self.work / f"{name}.unfinished"
        if unfinished.exists():
            shutil.rmtree(unfinished)
        unfinished.mkdir(parents=True)
        make(unfinished)
        unfinished.rename(folder)
        return folder
