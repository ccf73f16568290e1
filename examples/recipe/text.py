"""Lines of a corpus as they come, made fit to be read again: UTF-8, newlines at the ends alone."""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from recipe.errors import warn


def lines_of(path: Path) -> Iterator[str]:
    """The lines of a file, without their ends.

    Bytes that are no UTF-8 become U+FFFD, which is warned of: one of them in a corpus of millions
    should not end a run of hours.
    """
    wrong = 0
    with path.open("rb") as file:
        for line in file:
            try:
                yield line.decode("utf-8").removesuffix("\n")
            except UnicodeDecodeError:
                wrong += 1
                yield line.decode("utf-8", "replace").removesuffix("\n")
    if wrong:
        warn(f"{path.name}: {wrong:,} lines are not UTF-8; what is not became U+FFFD there")


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines, and end each."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{line}\n" for line in lines)


def convert(source: Path, destination: Path, edit: Callable[[str], str]) -> None:
    """Write what becomes of each line."""
    write_lines(destination, map(edit, lines_of(source)))


def same_file(source: Path, destination: Path) -> None:
    """The file under another name too, without a copy where the file system can."""
    try:
        os.link(source, destination)
    except OSError:
        shutil.copyfile(source, destination)
