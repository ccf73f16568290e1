"""Variants of the same work, each in a process of its own, measured in turn.

All processes are alive during a suite and work one at a time: whatever else the machine does falls
on all variants alike, and a ratio within a round means something where a time alone does not.
"""

import ctypes
import multiprocessing
import statistics
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

STATUS = Path("/proc/self/status")


@dataclass(frozen=True)
class Work:
    """What one call did: how many tokens or sentences.

    Its time, if it took that itself; operations started, if it counted them, as when it is called
    for the first time, which is not timed.
    """

    amount: int
    seconds: float | None = None
    operations: int = 0


@dataclass(frozen=True)
class Case:
    """One variant.

    Args:
        name: as the table shows it.
        prepare: called in the new process; loads everything and returns the work to be measured.
            A function of a module, so that it can be sent there.
        argument: what ``prepare`` is given.
        multiply_adds: of one token's forward pass; 0 if they were not counted.
        device: ``cpu`` or ``cuda``.
    """

    name: str
    prepare: Callable[[Any], Callable[[], Work]]
    argument: Any
    multiply_adds: int = 0
    device: str = "cpu"


@dataclass
class Measured:
    """A variant's figures, one a round."""

    case: Case
    seconds: list[float]
    amounts: list[int]
    peak_bytes: int = 0
    operations: int = 0

    @property
    def median(self) -> float:
        """Seconds of a round."""
        return statistics.median(self.seconds)

    @property
    def rate(self) -> float:
        """Tokens or sentences a second."""
        return sum(self.amounts) / sum(self.seconds)

    def ratios(self, baseline: "Measured") -> list[float]:
        """Time over the baseline's, of each round."""
        return [a / b for a, b in zip(self.seconds, baseline.seconds, strict=True)]


class WorkerError(RuntimeError):
    """A variant failed; the message has its traceback."""


def _resident(key: str) -> int:
    """``VmRSS`` or ``VmHWM`` of this process in bytes; 0 where /proc does not tell."""
    if not STATUS.exists():
        return 0
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024


def _return_freed_memory() -> None:
    """What was freed and is kept by the C library would count as loaded, or as held, otherwise."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class _PeakMemory:
    """The most memory held since ``start``, above what was held when this was made."""

    def __init__(self, device: str) -> None:
        import torch

        self.cuda = torch.cuda if device == "cuda" else None
        _return_freed_memory()
        self.loaded = self.cuda.memory_allocated() if self.cuda else _resident("VmRSS")

    def start(self) -> None:
        if self.cuda:
            self.cuda.reset_peak_memory_stats()
            return
        _return_freed_memory()
        if STATUS.exists():
            Path("/proc/self/clear_refs").write_text("5")

    def bytes(self) -> int:
        peak = self.cuda.max_memory_allocated() if self.cuda else _resident("VmHWM")
        return max(0, peak - self.loaded)


def _worker(pipe: Connection, case: Case) -> None:
    try:
        work = case.prepare(case.argument)
        memory = _PeakMemory(case.device)
        pipe.send("ready")
        while pipe.recv():
            memory.start()
            begun = time.perf_counter()
            done = work()
            if memory.cuda:
                memory.cuda.synchronize()
            seconds = time.perf_counter() - begun
            if done.seconds is None:
                pipe.send((seconds, done.amount, memory.bytes(), done.operations))
            else:  # it was done in yet another process
                pipe.send((done.seconds, done.amount, 0, 0))
    except (EOFError, BrokenPipeError):
        pass  # nobody waits for this process any more
    except Exception:
        pipe.send(WorkerError(f"{case.name}\n{traceback.format_exc()}"))


def measure(cases: list[Case], rounds: int, say: Callable[[str], None]) -> list[Measured]:
    """Time every case ``rounds`` times in turn, after one round to warm up.

    Peak memory is the largest of all rounds; the warm-up counts, which makes the optimizer's state.

    Raises:
        WorkerError: a case failed.
    """
    workers: list[_Worker] = []
    results = [Measured(case, [], []) for case in cases]
    try:
        workers.extend(map(_Worker, cases))
        for worker in workers:
            worker.receive()  # it has loaded
        for number in range(rounds + 1):
            order = range(len(cases)) if number % 2 else reversed(range(len(cases)))
            for index in order:
                workers[index].pipe.send(True)
                seconds, amount, peak, operations = workers[index].receive()
                result = results[index]
                result.operations = max(result.operations, operations)
                result.peak_bytes = max(result.peak_bytes, peak)
                if number:
                    result.seconds.append(seconds)
                    result.amounts.append(amount)
            if number:
                times = ", ".join(f"{r.case.name} {r.seconds[-1]:.2f} s" for r in results)
                say(f"round {number} of {rounds}: {times}")
    finally:
        for worker in workers:
            worker.stop()
    return results


class _Worker:
    """A process with one variant."""

    def __init__(self, case: Case) -> None:
        context = multiprocessing.get_context("spawn")
        self.case = case
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_worker, args=(theirs, case), daemon=True)
        self.process.start()
        theirs.close()  # so that the pipe ends when the process does

    def receive(self) -> Any:
        try:
            message = self.pipe.recv()
        except (EOFError, ConnectionError):
            self.process.join()
            code = self.process.exitcode
            raise WorkerError(
                f"{self.case.name}: its process ended with status {code}"
                + (", killed: was there enough memory?" if code == -9 else "")
            ) from None
        if isinstance(message, Exception):
            raise message
        return message

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
