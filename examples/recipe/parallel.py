"""A function over the lines of a file, on all cores, in order, in bounded memory."""

import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from multiprocessing import get_context
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Any, TypeVar

from recipe.progress import Progress

Result = TypeVar("Result")

# Lines of a task: seconds of tokenising at most, so that progress and Ctrl-C are prompt.
CHUNK = 2000
# Tasks that wait or are done and not written, for each process. With a chunk's text, its result and
# their copies on the way this bounds memory to some MB a process, whatever the corpus.
AHEAD = 3

_function: Callable[[list[str]], Any]


def cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def chunks(lines: Iterable[str]) -> Iterator[list[str]]:
    """Lines in lists of CHUNK."""
    iterator = iter(lines)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk


def _start(make: Callable[[], Callable[[list[str]], Any]]) -> None:
    global _function
    _function = make()


def _work(chunk: list[str]) -> Any:
    return _function(chunk)


def _processes(workers: int, make: Callable[[], Callable[[list[str]], Any]]) -> Pool:
    """Processes that know nothing of Ctrl-C, which a terminal sends to all: this one ends them.

    Each would have a traceback to say about it.
    """
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # which they inherit
    try:
        # spawn, not fork: nothing of this process, its memory included, is in the others
        return get_context("spawn").Pool(workers, _start, (make,))
    finally:
        signal.signal(signal.SIGINT, before)


def over_chunks(
    make: Callable[[], Callable[[list[str]], Result]],
    lines: Iterable[str],
    workers: int,
    progress: Progress,
) -> Iterator[Result]:
    """The results of a function of a list of lines, in the order of the lines.

    Args:
        make: builds the function, once in every process; it can be pickled.
        lines: what is worked on.
        workers: processes; with 1 this one does it all.
        progress: told how many lines are done.
    """
    if workers == 1:
        function = make()
        for chunk in chunks(lines):
            yield function(chunk)
            progress.add(len(chunk))
        return
    with _processes(workers, make) as pool:
        waiting: deque[tuple[int, Any]] = deque()
        for chunk in chunks(lines):
            waiting.append((len(chunk), pool.apply_async(_work, (chunk,))))
            if len(waiting) >= AHEAD * workers:
                count, result = waiting.popleft()
                yield result.get()
                progress.add(count)
        for count, result in waiting:
            yield result.get()
            progress.add(count)


def map_file(
    make: Callable[[], Callable[[list[str]], list[str]]],
    source: Path,
    destination: Path,
    workers: int,
    what: str,
) -> None:
    """Write what a function makes of every line of a file, a line for each."""
    progress = Progress(what, count_lines(source))
    with (
        source.open(encoding="utf-8", newline="\n") as lines,
        destination.open("w", encoding="utf-8", newline="\n") as out,
    ):
        stripped = (line.rstrip("\n") for line in lines)
        for result in over_chunks(make, stripped, workers, progress):
            out.writelines(f"{line}\n" for line in result)


def count_lines(path: Path) -> int:
    """The number of newlines in a file."""
    count = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            count += block.count(b"\n")
    return count
