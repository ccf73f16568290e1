"""A line now and then while something takes long: how much, how fast, and how long still."""

import sys
import time
from typing import TextIO

SECONDS = 10.0


def duration(seconds: float) -> str:
    """As people say it: 40 s, 3 min 20 s, 1 h 5 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


class Progress:
    """Counts what is done and says so every ten seconds.

    Args:
        what: is done, such as ``tokenising``.
        total: how much there is; unknown if None.
        unit: of the counts; ``bytes`` are shown as MB.
        start: done before this run, which the rate leaves out.
        out: where lines go.
    """

    def __init__(
        self,
        what: str,
        total: int | None = None,
        unit: str = "lines",
        start: int = 0,
        out: TextIO | None = None,
    ) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.start = self.done = start
        self._out = sys.stdout if out is None else out
        self._began = self._said = time.monotonic()

    def add(self, count: int) -> None:
        """So much more is done."""
        self.done += count
        now = time.monotonic()
        if now - self._said >= SECONDS:
            self._said = now
            print(f"    {self.line(now - self._began)}", file=self._out, flush=True)

    def line(self, seconds: float) -> str:
        """What is said after so many seconds."""
        rate = (self.done - self.start) / max(seconds, 1e-9)
        if self.total is None:
            return f"{self.what}: {self._amount(self.done)}, {self._amount(rate)}/s"
        left = duration((self.total - self.done) / rate) if rate > 0 else "unknown"
        share = 100 * self.done / max(self.total, 1)
        return (
            f"{self.what}: {self._amount(self.done)} of {self._amount(self.total)} "
            f"({share:.0f} %), {self._amount(rate)}/s, {left} left"
        )

    def _amount(self, count: float) -> str:
        return f"{count / 1e6:,.1f} MB" if self.unit == "bytes" else f"{count:,.0f} {self.unit}"
