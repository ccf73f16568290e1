"""Where a study keeps what it makes, and the snapshots of the code that its runs use.

DIR/code/COMMIT/   the repository as of a commit; commands run here, with data/ and runs/ linked
DIR/data/PROTOCOL/ what prepare.sh made
DIR/runs/RUN-sSEED/ checkpoints, train.log, run.json, evaluation/
"""

import io
import os
import platform
import re
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

from studies.errors import StudyError

ROOT = Path(__file__).resolve().parents[2]
# As examples/lib.sh sets them, and one thread a job.
CPU_SETTINGS = {
    "GLIBC_TUNABLES": "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=16000000000",
    "OMP_WAIT_POLICY": "passive",
    **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"),
}
ENTRY_POINT = re.compile(r"tsa-fairseq\"?\s*=\s*\"?([\w.]+):(\w+)")
BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Place:
    """A study's folder."""

    folder: Path

    def run(self, run_id: str) -> Path:
        """Of one training."""
        return self.folder / "runs" / run_id

    def data(self, protocol: str) -> Path:
        """Of one protocol's data."""
        return self.folder / "data" / protocol

    def code(self, commit: str) -> Path:
        """The repository as of a commit, made if it is not there."""
        made = self.folder / "code" / commit
        if not made.exists():
            _unpack(commit, made, self.folder)
        return made


def head() -> str:
    """The commit that a run which begins now uses.

    Raises:
        StudyError: this is no git repository.
    """
    return _git("rev-parse", "HEAD").decode().strip()


def environment(code: Path) -> dict[str, str]:
    """For commands of a snapshot: its package comes before an installed one."""
    path = f"{BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return {**os.environ, **CPU_SETTINGS, "PATH": path, "PYTHONPATH": str(code)}


def executable(command: list[str], code: Path) -> list[str]:
    """What to start for a command that is written as in a shell.

    ``tsa-fairseq`` is the snapshot's: where its main function is depends on the commit.

    Raises:
        StudyError: it is not installed beside this Python.
    """
    name, *arguments = command
    if name == "tsa-fairseq":
        match = ENTRY_POINT.search((code / "setup.py").read_text(encoding="utf-8"))
        if match is None:
            raise StudyError(f"{code}/setup.py: has no entry point tsa-fairseq")
        start = f"import sys; from {match[1]} import {match[2]}; sys.exit({match[2]}())"
        return [sys.executable, "-c", start, *arguments]
    if name == "bash":
        return command
    if not (BIN / name).exists():
        raise StudyError(
            f"{name} is not in {BIN}; run 'bash scripts/setup.sh', then use its Python"
        )
    return [sys.executable, str(BIN / name), *arguments]


def check_snapshot(code: Path) -> None:
    """Hold a snapshot to it that its package is what a command imports.

    Raises:
        StudyError: it is another one.
    """
    find = "import importlib.util as u; print(u.find_spec('tsa_fairseq').origin)"
    done = subprocess.run(
        [sys.executable, "-c", find],
        cwd=code,
        env=environment(code),
        capture_output=True,
        text=True,
    )
    expected = code / "tsa_fairseq" / "__init__.py"
    if done.stdout.strip() != str(expected):
        found = done.stdout.strip() or done.stderr.strip().split("\n")[-1]
        raise StudyError(f"the snapshot's tsa_fairseq is not the one used: {found}")


def device_name(device: str) -> str:
    """``cpu`` or ``cuda``, with what the machine calls it: results depend on it in the last bits.

    Raises:
        StudyError: there is no GPU.
    """
    if device == "cuda":
        ask = "import torch; print(torch.cuda.get_device_name())"
        done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True)
        if done.returncode:
            raise StudyError("--device: got 'cuda'; torch finds no GPU here")
        return f"cuda: {done.stdout.strip()}"
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n")
        name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.machine()
    return f"cpu: {name}"


def _git(*arguments: str) -> bytes:
    done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().split("\n")[-1]
        raise StudyError(f"git {arguments[0]}: {said}")
    return done.stdout


def _unpack(commit: str, made: Path, folder: Path) -> None:
    made.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=made.parent, prefix=".partial.") as temporary:
        new = Path(temporary) / "new"
        with tarfile.open(fileobj=io.BytesIO(_git("archive", "--format=tar", commit))) as archive:
            archive.extractall(new, filter="data")
        for name in ("data", "runs"):
            (folder / name).mkdir(exist_ok=True)
            (new / name).symlink_to(Path("../..") / name)
        check_snapshot(new)
        new.rename(made)
