"""3,000 updates: memory, open files and speed stay what they are."""

import json
import os
import re
import time
from pathlib import Path

import pytest
from trainings import arguments, start, updates_of

UPDATES, EVERY = 3000, 250


def looked_at(process):
    """MB of memory and open files of a process."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    memory = int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1)) / 1024
    return memory, len(os.listdir(f"/proc/{process.pid}/fd"))


@pytest.mark.slow
def test_soak(digits, tmp_path, capsys):
    process = start(
        arguments(
            digits, tmp_path, "--max-update", UPDATES, "--save-interval-updates", EVERY,
            "--keep-interval-updates", "2", "--no-epoch-checkpoints",
        )
    )  # fmt: skip
    seen, began = [], time.monotonic()
    for line in process.stdout:
        found = re.search(r'"num_updates": "(\d+)"', line)
        if found and "| train_inner |" in line and int(found.group(1)) % EVERY == 0:
            updates = int(found.group(1))
            seen.append((updates, *looked_at(process), updates / (time.monotonic() - began)))
    assert process.wait(60) == 0
    with capsys.disabled():
        for updates, memory, files, speed in seen:
            figures = dict(updates=updates, mb=round(memory), files=files, per_s=round(speed, 1))
            print(json.dumps(figures))
    assert updates_of(tmp_path / "checkpoint_last.pt") == UPDATES
    assert len(seen) == UPDATES // EVERY
    _, memory, files, _ = zip(*seen, strict=True)
    assert max(memory[1:]) < 1.1 * memory[1]
    assert len(set(files)) == 1
    assert len(list(tmp_path.glob("checkpoint_*_*.pt"))) <= 2
