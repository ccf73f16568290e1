"""Logs of fairseq-train in its three formats, TensorBoard's events, and what else is no log."""

import builtins
import os

import pytest
from evidence_texts import CRASH, DONE, training, write
from helpers import exactly

from tsa_fairseq.errors import UsageError
from tsa_fairseq.evidence.event_files import read_events
from tsa_fairseq.evidence.logs import CRASHED, FINISHED, UNFINISHED, read_log
from tsa_fairseq.evidence.runs import find_run


@pytest.mark.parametrize("form", ["simple", "json", "tqdm"])
def test_the_three_formats_say_the_same(tmp_path, form):
    log = read_log(str(training(tmp_path / "x", [5.5, 4.25, 4.5], leaves=2, form=form)), "RUN")
    assert [point["nll_loss"] for point in log.valid] == [5.5, 4.25, 4.5]
    assert [point["epoch"] for point in log.valid] == [1, 2, 3]
    assert log.valid[1] == {
        "epoch": 2, "loss": 5.25, "nll_loss": 4.25, "nll_leaf0": 4.25, "nll_leaf1": 4.5,
        "nll_ensemble": 3.75, "kd_loss": 0.125, "kd_weight": 0.5, "disagreement": 0.25,
        "pairwise_kl": 0.375, "wpb": 100, "num_updates": 20,
    }  # fmt: skip
    assert [point["num_updates"] for point in log.train] == [10, 20, 30]
    assert [point["num_updates"] for point in log.inner] == [10, 20, 30]
    assert [point["nll_loss"] for point in log.inner] == [5.5, 4.25, 4.5]
    assert log.best()["num_updates"] == 20
    assert (log.state, log.error, log.updates, log.seconds) == (FINISHED, "", 30, 8.5)
    assert (log.types, log.parameters) == (100, 3000)
    config = {"seed": 1, "arch": "tsa_transformer", "tree": "1,2", "lr": [0.01], "max_update": 40}
    assert log.config.items() >= config.items()


ODD = [
    "2026-01-01 00:00:00 | INFO | fairseq_cli.train | {'lr': 1.2.3, 'seed': [foo], 'x': '\\x'}",
    f"2026-01-01 00:00:00 | INFO | fairseq_cli.train | {{'seed': {'9' * 5000}}}",
    '2026-01-01 00:00:00 | INFO | valid | {"epoch": Infinity, "valid_loss": "1"}',
    f'2026-01-01 00:00:00 | INFO | valid | {{"epoch": 1, "x": {"[" * 100_000}}}',
    f'2026-01-01 00:00:00 | INFO | valid | {{"epoch": 1{"0" * 400}, "valid_loss": "1"}}',
    '2026-01-01 00:00:00 | INFO | valid | {"epoch": 1, "valid_num_updates": "nan"}',
    "2026-01-01 00:00:00 | INFO | fairseq_cli.train | done training in 1.2.3 seconds",
    "2026-01-01 00:00:00 | INFO | fairseq.tasks.translation | [sr] dictionary: , types",
]


def test_lines_that_only_look_like_fairseqs(tmp_path):
    path = training(tmp_path / "x", [5.5, 4.25], form="json")
    whole = read_log(str(path), "RUN")
    text = path.read_text()
    for line in ODD:
        path.write_text(f"{line}\n{text}{line}\n")
        log = read_log(str(path), "RUN")
        assert (log.valid, log.inner, log.types) == (whole.valid, whole.inner, whole.types), line


def test_pipes_are_not_waited_for(tmp_path):
    training(tmp_path / "train.log", [5, 4])
    os.mkfifo(tmp_path / "checkpoint9.pt")
    run = find_run(str(tmp_path), "RUN")
    assert run.checkpoint is None and run.models() == []


def test_how_a_training_ended(tmp_path):
    unfinished = read_log(str(training(tmp_path / "a", [5, 4], end=[])), "RUN")
    assert (unfinished.state, unfinished.error, unfinished.seconds) == (UNFINISHED, "", None)
    crashed = read_log(str(training(tmp_path / "b", [5, 4], end=CRASH)), "RUN")
    assert (crashed.state, crashed.error) == (CRASHED, "RuntimeError: no memory left")
    refused = write(tmp_path / "c", [DONE, "error: --tree: '4[2' ends too early"])
    assert read_log(str(refused), "RUN").error == "error: --tree: '4[2' ends too early"


def test_a_training_that_went_on_is_one(tmp_path):
    """Epoch 2 was lost, and done again."""
    first = training(tmp_path / "a", [5, 4], end=CRASH).read_text()
    rest = training(tmp_path / "b", [9, 3, 2]).read_text().split("\n")
    rest = [line for line in rest if "epoch 001" not in line]
    log = read_log(str(write(tmp_path / "c", [*first.split("\n")[:-1], *rest])), "RUN")
    assert [point["nll_loss"] for point in log.valid] == [5, 3, 2]
    assert [point["num_updates"] for point in log.inner] == [10, 20, 30]
    assert (log.state, log.error) == (FINISHED, "")
    assert log.seconds is None  # of the second start alone


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty; expected a log of fairseq-train"),
        (
            b"step 1: loss 3.5\nstep 2: loss 3.1\n",
            "is no log of fairseq-train: no line of it is one of fairseq's (--log-format simple, "
            "json or tqdm)",
        ),
        (b"a\n\xff\xfe", "is no text: line 2 is not UTF-8: invalid start byte"),
        (b"a\n\nb\0", "is no text: line 3 has a zero byte"),
        (b"\x1f\x8b\x08\0broken", "cannot be read: "),
    ],
)
def test_what_is_no_log(tmp_path, content, message):
    path = tmp_path / "x.log"
    path.write_bytes(content)
    with pytest.raises(UsageError) as refused:
        read_log(str(path), "RUN")
    said = str(refused.value)
    assert said.startswith(f"RUN: '{path}' {message}") and "\n" not in said
    assert said == f"RUN: '{path}' {message}" or message.endswith(": ")


def events(folder):
    from tensorboardX import SummaryWriter

    for tag, steps in (("valid", (10, 20)), ("train_inner", (5, 15))):
        with SummaryWriter(str(folder / tag)) as writer:
            for step in steps:
                writer.add_scalar("nll_loss", 50 / step, step)
                writer.add_scalar("wps", 1000 + step, step)
    return folder


def test_events(tmp_path):
    pytest.importorskip("tensorboardX")
    log = read_events(str(events(tmp_path / "tb")), "RUN")
    assert [(point["num_updates"], point["nll_loss"]) for point in log.valid] == [
        (10, 5),
        (20, 2.5),
    ]
    assert [point["wps"] for point in log.inner] == [1005, 1015]
    # the same by way of the folder of a run that has no log
    (tmp_path / "checkpoint_best.pt").write_bytes(b"")
    assert find_run(str(tmp_path), "RUN").log.valid == log.valid
    # a training is writing: its last record is not whole
    file = next((tmp_path / "tb" / "valid").iterdir())
    file.write_bytes(file.read_bytes()[:-3])
    whole, last = read_events(str(tmp_path / "tb"), "RUN").valid
    assert "wps" in whole and last == {"num_updates": 20, "nll_loss": 2.5}
    file.write_bytes(b"not any of them")
    message = f"RUN: '{file}' is no file of TensorBoard's events"
    with pytest.raises(UsageError, match=exactly(message)):
        read_events(str(tmp_path / "tb"), "RUN")


def test_events_without_their_package(tmp_path, monkeypatch):
    pytest.importorskip("tensorboardX")
    folder, real = events(tmp_path), builtins.__import__

    def absent(name, *args):
        if name.startswith("tensorboard"):
            raise ModuleNotFoundError(name=name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", absent)
    message = (
        f"RUN: '{folder}' holds TensorBoard's events, which are read with tensorboard: "
        "pip install tensorboard"
    )
    with pytest.raises(UsageError, match=exactly(message)):
        read_events(str(folder), "RUN")


def test_folders_that_say_nothing(tmp_path):
    message = (
        f"RUN: '{tmp_path}' holds no checkpoint, no log of fairseq-train, no output of "
        "fairseq-generate and no export"
    )
    with pytest.raises(UsageError, match=exactly(message)):
        find_run(str(tmp_path), "RUN")
    for name in ("a.log", "b.log"):
        training(tmp_path / name, [5])
    message = (
        f"RUN: '{tmp_path}' holds several logs, '{tmp_path / 'a.log'}', '{tmp_path / 'b.log'}'; "
        "expected one of them"
    )
    with pytest.raises(UsageError, match=exactly(message)):
        find_run(str(tmp_path), "RUN")
    training(tmp_path / "train.log", [4])
    assert find_run(str(tmp_path), "RUN").log.path == str(tmp_path / "train.log")
    with pytest.raises(UsageError, match=exactly(f"RUN: '{tmp_path / 'no'}' does not exist")):
        find_run(str(tmp_path / "no"), "RUN")
