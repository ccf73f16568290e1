"""Two processes on a CPU, through the command line."""

import os
import signal
import socket

import pytest
import torch
from trainings import (
    TREE_ONLY,
    arguments,
    errors,
    finished,
    launch,
    pair,
    start,
    updates_of,
    wait_for,
)

from tsa_fairseq.files.checkpoint import read_checkpoint
from tsa_fairseq.objectives import OBJECTIVES

# what each process draws for dropout is its own
SAME = ["--dropout", "0", "--max-update", "6", "--no-epoch-checkpoints", "--disable-validation"]


def parameters(folder):
    return read_checkpoint(str(folder / "checkpoint_last.pt"), "")["model"]


def assert_same(one, other):
    one, other = parameters(one), parameters(other)
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        if name.endswith("k_proj.bias"):  # no attention depends on it: its gradient is rounding
            continue
        torch.testing.assert_close(other[name], tensor, rtol=1e-4, atol=1e-6, msg=name)


def test_torchrun_makes_one_training(digits, tmp_path):
    """That of one process which adds up two batches: the same batches, and parameters."""
    status, output = launch(arguments(digits, tmp_path / "two", *SAME))
    assert status == 0, output[-3000:]
    assert "training on 2 devices" in output
    assert "--ddp-backend: legacy_ddp on a CPU, where pytorch_ddp fails" in output
    one = start(arguments(digits, tmp_path / "one", *SAME, "--update-freq", "2"))
    assert finished(one)[0] == 0
    assert updates_of(tmp_path / "two" / "checkpoint_last.pt") == 6
    assert_same(tmp_path / "one", tmp_path / "two")


VIEWS = ["--kd-views", "2"]
KINDS = [
    # which tokens SimCut cuts, each process draws for itself
    *(
        pytest.param(name, ["--kd-view-cut", "0"] if name == "simcut" else [], "1", id=name)
        for name in OBJECTIVES
    ),
    pytest.param("tsa", [], "3", id="update-freq"),
    pytest.param("dml", VIEWS, "1", id="views"),
    pytest.param("okddip", [*VIEWS, "--kd-views-leaves", "deal"], "2", id="dealt views"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "flags", "freq"), KINDS)
def test_every_objective(name, flags, freq, digits, stock, tmp_path):
    teacher = ["--kd-teacher", stock] if OBJECTIVES[name].needs_teacher else []
    flags = [*SAME, "--kd-objective", name, *teacher, *flags]
    both = pair(arguments(digits, tmp_path / "two", *flags, "--update-freq", freq, tree=TREE_ONLY))
    assert [status for status, _ in both] == [0, 0], both[0][1][-2000:]
    one = start(
        arguments(
            digits, tmp_path / "one", *flags, "--update-freq", str(2 * int(freq)), tree=TREE_ONLY
        )
    )
    assert finished(one)[0] == 0
    assert_same(tmp_path / "one", tmp_path / "two")


SAVING = ["--max-update", "9", "--save-interval-updates", "1", "--no-epoch-checkpoints"]


@pytest.mark.parametrize(
    ("what", "when", "first", "second"),
    [
        pytest.param(
            "weight", 4,
            "a gradient of another process is not finite",
            "the output of decoder.layers.1.fc1 is not finite",
            id="a layer",
        ),
        pytest.param(
            "gradient", 4,
            "a gradient of another process is not finite",
            "the gradient of {matrix} is not finite, though the loss is",
            id="a gradient", marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_a_number_that_is_not_finite_stops_all(what, when, first, second, digits, tmp_path):
    """Each says what it knows, in one line, and nobody waits for a time-out."""
    both = pair(arguments(digits, tmp_path, *SAVING), FAULT_NAN=f"1:{when}:{what}")
    last = f"the last good checkpoint is '{tmp_path / 'checkpoint_last.pt'}'"
    wanted = (first, second.format(matrix="decoder.output_projection.weight"))
    for (status, output), why in zip(both, wanted, strict=True):
        assert status == 1
        assert errors(output) == [f"error: at update {when}, {why}; {last}"], output[-3000:]
    assert updates_of(tmp_path / "checkpoint_last.pt") == when


@pytest.mark.slow
def test_in_validation_too(digits, tmp_path):
    both = pair(arguments(digits, tmp_path, *SAVING), FAULT_NAN="1:valid:weight")
    for status, output in both:
        assert status == 1
        assert errors(output) == [
            "error: a loss is not finite; the process that computed it says which"
        ]
    assert (
        "in validation, the output of decoder.layers.1.fc1 is not finite; "
        "no good checkpoint has been written"
    ) in both[1][1]


@pytest.mark.slow
def test_a_process_that_dies(digits, tmp_path):
    """The other one ends soon; both go on from the last checkpoint."""
    both = pair(arguments(digits, tmp_path, *SAVING), FAULT_DIE="1:5")
    assert both[1][0] == -signal.SIGKILL and both[0][0] != 0
    assert updates_of(tmp_path / "checkpoint_last.pt") == 5
    again = pair(arguments(digits, tmp_path, *SAVING))
    assert [status for status, _ in again] == [0, 0]
    assert updates_of(tmp_path / "checkpoint_last.pt") == 9


def test_two_trainings_in_one_folder(digits, tmp_path):
    """The second is refused; not any more when the first was killed, which unlocks nothing."""
    save = tmp_path / "save"
    first = start(arguments(digits, save, "--max-update", "100000", "--save-interval", "100000"))
    try:
        lock = save / ".training.lock"
        wait_for(lock)
        second = finished(start(arguments(digits, save, *SAVING)))
        assert second[0] == 1
        assert errors(second[1]) == [
            f"error: --save-dir: '{save}' is where process {first.pid} on {socket.gethostname()} "
            "trains; expected another folder, or that one's end"
        ]
        assert first.poll() is None
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.communicate()
    assert lock.exists()
    third = finished(start(arguments(digits, save, *SAVING)))
    assert third[0] == 0, third[1][-3000:]
    assert updates_of(save / "checkpoint_last.pt") == 9 and not lock.exists()


@pytest.mark.slow
def test_a_gradient_of_one_process(digits, tmp_path):
    """Without StopIteration from fairseq's detector, and without its pages of norms."""
    status, output = finished(start(arguments(digits, tmp_path, *SAVING), FAULT_NAN="0:3:gradient"))
    assert status == 1 and "dumping norms" not in output
    assert errors(output) == [
        "error: at update 3, the gradient of decoder.output_projection.weight is not finite, "
        f"though the loss is; the last good checkpoint is '{tmp_path / 'checkpoint_last.pt'}'"
    ]
