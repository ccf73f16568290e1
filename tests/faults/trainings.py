"""How the tests of this folder start trainings, stop them, and look at what is left."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from test_system import DIMENSIONS, PLUGIN, TRAINING, TREE

from tsa_fairseq.files.checkpoint import read_checkpoint

TRAIN = Path(__file__).parent / "train.py"
# the clone's package, wherever another is installed
HERE = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(PLUGIN).parent)}
EVERY = ["--required-batch-size-multiple", "1", "--log-interval", "1"]
TREE_ONLY = ["--arch", "tsa_transformer", "--tree", "1,3", "--criterion", "tsa_online_kd"]


def arguments(data, save, *flags, tree=TREE):
    """Of fairseq-train."""
    given = [data, "--user-dir", PLUGIN, *DIMENSIONS, *TRAINING, *EVERY, *tree, "--save-dir", save]
    return [str(word) for word in (*given, *flags)]


def start(argv, **environment):
    """fairseq-train in a process of its own, whose signals are as a shell's foreground job has."""

    def foreground():
        signal.signal(signal.SIGINT, signal.default_int_handler)

    return subprocess.Popen(
        [sys.executable, str(TRAIN), *argv],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=foreground,
        env={**os.environ, **HERE, **environment},
    )  # fmt: skip


def pair(argv, timeout=150, **environment):
    """Two processes of one training, as torchrun starts them: status and output of each."""
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    both = [start(argv, RANK=str(rank), **place, **environment) for rank in range(2)]
    try:
        return [finished(process, timeout) for process in both]
    finally:
        for process in both:
            process.kill()


def launch(argv, timeout=150):
    """Two processes by torchrun itself: status and output of all together."""
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
        *("--master-port", str(free_port()), str(TRAIN), *argv),
    ]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout,
        env={**os.environ, **HERE},
    )  # fmt: skip
    return done.returncode, done.stdout


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def finished(process, timeout=120):
    output, _ = process.communicate(timeout=timeout)
    return process.returncode, output


def errors(output):
    """The lines in which a training says why it ends; a traceback counts as one."""
    return [line for line in output.splitlines() if line.startswith(("error:", "Traceback (most"))]


def updates_of(path):
    return read_checkpoint(str(path), "")["optimizer_history"][-1]["num_updates"]


def wait_for(path, timeout=300):
    """Until there is a file."""
    end = time.monotonic() + timeout
    while not Path(path).exists():
        assert time.monotonic() < end, f"{path} did not appear"
        time.sleep(0.01)


def figures(output, kind, name):
    return re.findall(rf'\| {kind} \| .*"{name}": "([^"]+)"', output)
