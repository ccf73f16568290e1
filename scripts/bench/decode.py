"""Translation by fairseq-generate: leaf 0 of a tree against a stock model that has its weights."""

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from bench.measure import Case, Work, WorkerError
from bench.step import PLUGIN
from tsa_fairseq.errors import UsageError
from tsa_fairseq.export import TreeCheckpoint

GENERATE = "import sys; from fairseq_cli.generate import cli_main; sys.exit(cli_main())"
TRAIN = "import sys; from fairseq_cli.train import cli_main; sys.exit(cli_main())"
# the speed has two decimals where the time has one
TRANSLATED = re.compile(r"Translated ([\d,]+) sentences .* \(([\d.]+) sentences/s")
PLAIN, LEAF = "plain transformer", "leaf 0 of the tree"


@dataclass(frozen=True)
class Generation:
    """A command, and where its hypotheses are noted down."""

    argv: tuple[str, ...]
    hypotheses: str


def cases(
    data: Path, checkpoint: str, folder: Path, device: str, fp16: bool, trained: bool
) -> list[Case]:
    """The stock model of leaf 0's weights, which is written to ``folder``, and the tree.

    Args:
        data: a directory for fairseq-generate.
        checkpoint: a tree's.
        folder: for the plain model and the hypotheses.
        device: ``cpu`` or ``cuda``.
        fp16: in half precision.
        trained: otherwise sentences do not end, and are cut off a little behind their source's end.
    """
    plain = folder / "plain.pt"
    torch.save(TreeCheckpoint.read(checkpoint, "--checkpoint").leaf(0), plain)
    flags = ["--user-dir", PLUGIN, "--beam", "5", "--max-tokens", "4096"]
    flags += ["--cpu"] if device == "cpu" else []
    flags += ["--fp16"] if fp16 else []
    flags += [] if trained else ["--max-len-a", "1", "--max-len-b", "3"]
    return [
        Case(
            name,
            prepare,
            Generation(
                (str(data), "--path", str(path), *flags),
                str(folder / f"hypotheses.{Path(path).name}"),
            ),
        )
        for name, path in {PLAIN: plain, LEAF: checkpoint}.items()
    ]


def prepare(generation: Generation) -> Callable[[], Work]:
    """A run of fairseq-generate, in one more process; its time is the one it reports itself.

    That is from the first sentence to the last, without loading.
    """

    def work() -> Work:
        command = [sys.executable, "-c", GENERATE, *generation.argv]
        done = subprocess.run(command, capture_output=True, text=True)
        found = TRANSLATED.search(done.stdout + done.stderr)
        if done.returncode or not found:
            raise WorkerError(f"fairseq-generate: {_last_line(done)}")
        lines = [line for line in done.stdout.splitlines() if line.startswith("H-")]
        Path(generation.hypotheses).write_text("\n".join(lines), encoding="utf-8")
        sentences = int(found.group(1).replace(",", ""))
        return Work(sentences, sentences / float(found.group(2)))

    return work


def check_same(cases: list[Case]) -> None:
    """Refuse times of models that translate differently.

    Raises:
        UsageError: they do.
    """
    texts = {Path(case.argument.hypotheses).read_text(encoding="utf-8") for case in cases}
    if len(texts) > 1:
        raise UsageError("the two models translate differently; their times say nothing")


def train_briefly(argv: list[str], folder: Path) -> str:
    """A tree's checkpoint after one update: it translates nonsense, at the usual speed."""
    flags = [flag for flag in argv if flag != "--no-save"]
    flags[flags.index("--max-update") + 1] = "1"
    flags += ["--save-dir", str(folder / "checkpoints"), "--disable-validation"]
    done = subprocess.run([sys.executable, "-c", TRAIN, *flags], capture_output=True, text=True)
    if done.returncode:
        raise WorkerError(f"fairseq-train: {_last_line(done)}")
    return str(folder / "checkpoints" / "checkpoint_last.pt")


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    return (done.stderr.strip().splitlines() or ["no message"])[-1]
