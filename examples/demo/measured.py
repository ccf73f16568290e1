"""Runs a command and writes down how much memory it took at most.

python measured.py FILE COMMAND [ARGUMENT ...]

FILE holds bytes, the most of all calls with it: a training that goes on is one training. The exit
status is the command's.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

# What getrusage counts in.
UNIT = 1 if sys.platform == "darwin" else 1024


def main(file: Path, command: list[str]) -> int:
    """Run the command; its exit status, as a shell has it."""
    with subprocess.Popen(command) as process:
        while True:
            try:
                status = process.wait()
                break
            except KeyboardInterrupt:  # the command got it, too, and decides what it means
                continue
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * UNIT
    before = int(file.read_text()) if file.exists() else 0
    partial = file.with_suffix(".partial")
    partial.write_text(f"{max(peak, before)}\n")
    os.replace(partial, file)
    return 128 - status if status < 0 else status


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
