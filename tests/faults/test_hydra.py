"""fairseq-hydra-train with the files of examples/hydra, as a user runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_system import PLUGIN
from trainings import HERE, arguments, finished, start

from tsa_fairseq.cli.main import main
from tsa_fairseq.files.checkpoint import read_checkpoint

EXAMPLES = Path(__file__).parents[2] / "examples" / "hydra"
PROGRAM = "from fairseq_cli.hydra_train import cli_main; cli_main()"
SMALL = ["common.cpu=true", "dataset.num_workers=0", "dataset.data_buffer_size=0"]
SMALL += ["dataset.max_tokens=500", "optimization.max_update=2", "common.log_interval=1"]
SIZES = {"layers": (1, 2), "embed_dim": (32, 32), "ffn_embed_dim": (64, 64)}
SIZES["attention_heads"] = (2, 2)
NESTED = [f"model.{side}.{name}={pair[n]}" for name, pair in SIZES.items()
          for n, side in enumerate(("encoder", "decoder"))]  # fmt: skip
FLAT = [f"+{word.replace('coder.', 'coder_')}" for word in NESTED] + ["~model.encoder"]
FLAT += ["~model.decoder"]
ONE = "model.tree='1,3'"


def hydra(digits, folder, *words, config="train", flags=()):
    argv = [*flags, "--config-dir", str(EXAMPLES), "--config-name", config]
    argv += [f"common.user_dir={PLUGIN}", f"task.data={digits}", *SMALL, *words]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *argv], cwd=folder, text=True, timeout=300,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**os.environ, **HERE},
    )  # fmt: skip
    return done.returncode, done.stdout


def parameters(path):
    return read_checkpoint(str(path), "")["model"]


def test_a_tree_of_nested_keys(digits, tmp_path):
    """What fairseq-train makes with the same flags; exported; gone on with."""
    run = ["hydra.run.dir=run", "checkpoint.save_dir=../save", ONE, *NESTED]
    status, output = hydra(digits, tmp_path, *run)
    assert status == 0, output[-3000:]
    assert "objective tsa: (1/K)" in output
    last = tmp_path / "save" / "checkpoint_last.pt"
    assert main(["export", str(last), str(tmp_path / "out"), "--leaf", "2"]) == 0
    flags = ["--lr", "0.0005", "--warmup-updates", "4000", "--clip-norm", "0", "--dropout", "0.3"]
    flags += ["--share-decoder-input-output-embed", "--adam-betas", "(0.9,0.98)"]
    flags += ["--kd-alpha", "0.5", "--kd-rampup-updates", "0", "--max-update", "2"]
    assert finished(start(arguments(digits, tmp_path / "plain", *flags)))[0] == 0
    mine, theirs = parameters(last), parameters(tmp_path / "plain" / "checkpoint_last.pt")
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    # what shapes the function is compared here, too, in one line
    heads = [word.replace("heads=2", "heads=4") for word in run]
    status, output = hydra(digits, tmp_path, *heads)
    assert status == 1
    assert output.splitlines()[-1] == (
        "error: --encoder-attention-heads: got 4, but '../save/checkpoint_last.pt' was trained "
        "with 2; expected 2, or another --save-dir"
    )


@pytest.mark.slow
def test_flat_keys_are_the_same_training(digits, tmp_path):
    for name, sizes in (("nested", NESTED), ("flat", FLAT)):
        run = [f"hydra.run.dir={name}", "checkpoint.save_dir=save", ONE, *sizes]
        status, output = hydra(digits, tmp_path, *run)
        assert status == 0, output[-3000:]
    one, other = (
        parameters(tmp_path / n / "save" / "checkpoint_last.pt") for n in ("nested", "flat")
    )
    assert one.keys() == other.keys()
    assert all(torch.equal(other[name], tensor) for name, tensor in one.items())


@pytest.mark.slow
def test_a_sweep(digits, tmp_path):
    """Two trees times two objectives."""
    words = ["model.tree='1[1,1]','1[1,1,1]'", "criterion.kd_objective=tsa,dml", *NESTED]
    status, output = hydra(digits, tmp_path, *words, config="sweep", flags=["--multirun"])
    assert status == 0, output[-3000:]
    found = []
    for number in range(4):
        path = tmp_path / "sweep" / str(number) / "checkpoints" / "checkpoint_last.pt"
        model = read_checkpoint(str(path), "")["cfg"]["model"]
        found.append((model["tree"], model["kd_objective"]))
    assert sorted(found) == sorted(
        (tree, name) for tree in ("1[1,1]", "1[1,1,1]") for name in ("tsa", "dml")
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            [ONE.replace("1,3", "2[1,1]"), *NESTED],
            "--tree: '2[1,1]' has a path of 3 layers; every path must have --decoder-layers = 2",
        ),
        pytest.param(
            ["+model.trees=x", ONE, *NESTED],
            "model.trees: there is no option --trees; expected tree?",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_refused_in_one_line(words, message, digits, tmp_path):
    status, output = hydra(digits, tmp_path, *words)
    assert status == 1 and "Traceback" not in output
    assert output.splitlines()[-1] == f"error: {message}"
