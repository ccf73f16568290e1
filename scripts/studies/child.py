"""Processes that never outlive the runner, and locks that they hold."""

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

PR_SET_PDEATHSIG = 1


class Lock:
    """A file that one runner, with its children, holds at a time.

    Children inherit it: one that somehow lives on keeps others out of its folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor = -1

    def acquire(self) -> bool:
        """Whether nobody else has it."""
        self.descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            return False
        return True

    def release(self) -> None:
        """Give it up, but for children that are still alive."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class Child:
    """A command at work with low priority, in a session of its own; its output goes to a file.

    Args:
        command: what to start.
        folder: where.
        environment: of the process.
        log: what it prints is added here.
        lock: held by the process too.
    """

    def __init__(
        self,
        command: list[str],
        folder: Path,
        environment: dict[str, str],
        log: Path,
        lock: Lock,
    ) -> None:
        self.log = log
        with open(log, "ab") as output:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(lock.descriptor,),
                preexec_fn=_tie_to(os.getpid()),
            )

    def ended(self) -> bool:
        """Whether it is over."""
        return self.process.poll() is not None

    @property
    def status(self) -> int:
        """0 if all went well; a negative signal if it was killed."""
        return int(self.process.returncode)

    def stop(self) -> None:
        """End it at once with all that it started; its files are made to bear that."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()


def _tie_to(parent: int) -> Callable[[], None]:
    """What the new process does first: low priority, and death with the parent (on Linux)."""
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None

    def prepare() -> None:
        os.nice(19)
        try:  # Linux shares the processor out between sessions first, and this is a new one
            with open("/proc/self/autogroup", "w") as group:
                group.write("19")
        except OSError:  # there are no such groups here
            pass
        if libc is not None:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before it was asked to be watched
            os._exit(1)

    return prepare


def last_line(log: Path) -> str:
    """What a command said last."""
    with open(log, "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 20_000))
        lines = file.read().decode("utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")
