"""Translation: a plain model, leaf 0 in the tree and exported, CTranslate2, and ensembles."""

import argparse
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from bench import ctranslate
from bench.measure import Case, Work, WorkerError
from bench.step import PLUGIN
from tsa_fairseq.deploy.export import TreeCheckpoint
from tsa_fairseq.errors import UsageError
from tsa_fairseq.files.dictionaries import Dictionaries

GENERATE = "import sys; from fairseq_cli.generate import cli_main; sys.exit(cli_main())"
TRAIN = "import sys; from fairseq_cli.train import cli_main; sys.exit(cli_main())"
# the speed has two decimals where the time has one
TRANSLATED = re.compile(r"Translated ([\d,]+) sentences .* \(([\d.]+) sentences/s")
PLAIN, LEAF, EXPORTED = "plain transformer", "leaf 0 of the tree", "leaf 0, exported"
ENSEMBLES = ENSEMBLE, TREE_ENSEMBLE = "exported leaves, fairseq's ensemble", "the tree's ensemble"
CTRANSLATE2 = "leaf 0, CTranslate2"
SAME = ((PLAIN, LEAF, EXPORTED), ENSEMBLES)
BEAM = 5
# Of a model that is not trained, so that every sentence runs to its limit.
MAX_LEN_A, MAX_LEN_B = 1, 3


@dataclass(frozen=True)
class Generation:
    """A command, and where its hypotheses are noted down."""

    argv: tuple[str, ...]
    hypotheses: str


def cases(
    data: Path, checkpoint: str, folder: Path, device: str, fp16: bool, trained: bool
) -> list[Case]:
    """Plain model, leaf 0, leaf 0 exported; on a CPU in CTranslate2, too; and all leaves together.

    Args:
        data: a directory for fairseq-generate.
        checkpoint: a tree's.
        folder: for the models that are made of it, and the hypotheses.
        device: ``cpu`` or ``cuda``.
        fp16: in half precision.
        trained: otherwise sentences do not end, and are cut off a little behind their source's end.
    """
    tree = TreeCheckpoint.read(checkpoint, "--checkpoint")
    leaves = _export(tree, data, folder / "leaves", "--leaf", "all")
    flags = ["--beam", str(BEAM), "--max-tokens", "4096", "--required-batch-size-multiple", "1"]
    flags += ["--cpu"] if device == "cpu" else []
    flags += ["--fp16"] if fp16 else []
    flags += [] if trained else ["--max-len-a", str(MAX_LEN_A), "--max-len-b", str(MAX_LEN_B)]
    plugin, together = (
        ["--user-dir", PLUGIN],
        ["--model-overrides", "{'tree_inference': 'ensemble'}"],
    )
    commands = {
        PLAIN: [str(_as_trained(tree, folder)), *plugin],
        LEAF: [checkpoint, *plugin],
        EXPORTED: [f"{leaves}/leaf0/model.pt"],
        ENSEMBLE: [":".join(f"{leaves}/leaf{n}/model.pt" for n in range(tree.topology.num_leaves))],
        TREE_ENSEMBLE: [checkpoint, *plugin, *together],
    }
    found = [
        Case(
            name,
            prepare,
            Generation(
                (str(data), "--path", *command, *flags), str(folder / f"hypotheses.{number}")
            ),
        )
        for number, (name, command) in enumerate(commands.items())
    ]
    if device == "cpu":
        models = {
            f"{CTRANSLATE2} {weights}": _export(
                tree, data, folder / weights, "--to", "ctranslate2", "--quantization", weights
            )
            for weights in ("float32", "int8")
        }
        limit = None if trained else (MAX_LEN_A, MAX_LEN_B)
        dictionaries = Dictionaries.find(tree.state, str(data), "--data")
        found += ctranslate.cases(models, dictionaries, BEAM, limit, torch.get_num_threads())
    return found


def _as_trained(tree: TreeCheckpoint, folder: Path) -> Path:
    """Leaf 0 as ``fairseq-train --arch transformer`` would have written it."""
    state, path = tree.leaf(0), folder / "plain.pt"
    state["cfg"]["model"] = argparse.Namespace(**state["cfg"]["model"])
    torch.save(state, path)
    return path


def _export(tree: TreeCheckpoint, data: Path, out: Path, *flags: str) -> str:
    """The folder that ``tsa-fairseq export`` made."""
    argv = [sys.executable, "-m", "tsa_fairseq.cli.main", "export", tree.path, str(out)]
    done = subprocess.run([*argv, "--data", str(data), *flags], capture_output=True, text=True)
    if done.returncode:
        raise WorkerError(f"tsa-fairseq export: {_last_line(done)}")
    return str(out)


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
        lines = [line.split("\t") for line in done.stdout.splitlines() if line.startswith("H-")]
        texts = sorted(f"{number} {words}" for number, _, words in lines)
        Path(generation.hypotheses).write_text("\n".join(texts), encoding="utf-8")
        sentences = int(found.group(1).replace(",", ""))
        return Work(sentences, sentences / float(found.group(2)))

    return work


def check_same(cases: list[Case]) -> None:
    """Refuse times of models that translate differently.

    Raises:
        UsageError: they do.
    """
    for names in SAME:
        chosen = [case for case in cases if case.name in names]
        texts = {Path(case.argument.hypotheses).read_text(encoding="utf-8") for case in chosen}
        if len(texts) > 1:
            raise UsageError(
                f"{', '.join(names)}: they translate differently; their times say nothing"
            )


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
