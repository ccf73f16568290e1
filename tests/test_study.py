"""scripts/study.py: the list, the queue with commands that stand in for fairseq, rows, tables."""

import csv
import errno
import gzip
import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))
import study
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.significance import PairedTest
from studies import command, cost, paired, place, results, runner, scores
from studies.child import Child, Lock
from studies.curve import Curve
from studies.errors import RunFailed, StudyError
from studies.listing import read_listing
from studies.records import Failure
from study_fakes import commit, make_commands, make_repository

ROOT = Path(__file__).parent.parent
LIST = """
[protocol.S]
prepare = "--pairs 5"
train = "--lr 0.1 --max-tokens 99"
updates = 95
patience = 3
average = 2

[[run]]
name = "S-plain"
protocol = "S"
stage = 1
seeds = [1, 2]
flags = "--arch transformer"

[[run]]
name = "S-tree"
protocol = "S"
stage = 1
seeds = [1]
flags = "--arch tsa_transformer_multi30k --tree 1,1,2,4 --kd-views 2"
"""
# The best is 4.1, last at epoch 5; three epochs without a better one end at epoch 7.
PATIENT = "6 5 4.5 4.1 4.1 4.3 4.2 1 1 1"
FALLING = "9 8 7 6 5 4 3 2 1 0.5"

# The test set, and what every model but the ensemble translates.
RIGHT = ["eine katze schläft dort heute .", "zwei katzen schlafen dort heute ."]
GIVEN = [RIGHT[0], "zwei katzen schlafen dort heute falsch"]
BLEU_GIVEN = BLEU(tokenize="none", force=True).corpus_score(GIVEN, [RIGHT]).score


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A repository, commands and a list."""
    scores.recipe.cache_clear()
    repository, commands, out = tmp_path / "clone", tmp_path / "bin", tmp_path / "out"
    make_repository(repository)
    make_commands(commands)
    out.mkdir()
    (out / "nll").write_text(PATIENT)
    (tmp_path / "runs.toml").write_text(LIST)
    monkeypatch.setattr(place, "ROOT", repository)
    monkeypatch.setattr(scores, "ROOT", repository)
    monkeypatch.setattr(place, "BIN", commands)
    monkeypatch.setattr(runner, "LEAST_FREE_BYTES", 0)
    return World(tmp_path, monkeypatch)


class World:
    def __init__(self, folder, monkeypatch):
        self.folder, self.out, self.rows = folder, folder / "out", folder / "results.csv"
        self.list, self.clone, self.monkeypatch = (
            folder / "runs.toml",
            folder / "clone",
            monkeypatch,
        )

    def call(self, *argv):
        """The exit status of study.py."""
        self.monkeypatch.setattr(sys, "argv", ["study.py", *map(str, argv)])
        return study.main()

    def run(self, *argv):
        return self.call("run", self.list, "--out", self.out, "--poll", 0.01, *argv)

    def read(self):
        with open(self.rows, newline="") as file:
            return list(csv.DictReader(file))

    def log(self, run_id):
        return (self.out / "runs" / run_id / "train.log").read_text()


def test_a_run_to_its_row(world, capsys):
    assert world.run() == 0
    said = capsys.readouterr().out
    assert "S-plain-s1: epoch 7, 70 updates, nll 4.2 (best 4.1 at 5), 100 words/s\n" in said
    assert said.endswith("  nothing is left that can begin now\n")
    rows = {results.id_of(row): row for row in world.read()}
    assert sorted(rows) == ["S-plain-s1", "S-plain-s2", "S-tree-s1"]
    plain, tree = rows["S-plain-s1"], rows["S-tree-s1"]
    assert plain["command"] == (
        "fairseq-train data/S/data-bin --user-dir tsa_fairseq --task translation --source-lang en "
        "--target-lang de --lr 0.1 --max-tokens 99 --required-batch-size-multiple 1 "
        "--update-epoch-batch-itr True --num-workers 0 --distributed-world-size 1 --max-update 95 "
        "--save-interval-updates 95 --best-checkpoint-metric nll_loss --patience 3 "
        "--log-format json --log-interval 50 --arch transformer --seed 1 "
        "--save-dir runs/S-plain-s1 --cpu"
    )
    expected = {
        "run": "S-plain", "protocol": "S", "stage": "1", "seed": "1", "updates": "70",
        "epochs": "7", "ended_by": "patience", "best_nll": "4.1", "best_epoch": "5",
        "best_updates": "50", "averaged": "2", "madds_step": "1.00", "madds_total": "70",
        "best_leaf": "", "nll_ensemble": "", "bleu_ensemble_test": "",
    }  # fmt: skip
    assert {key: plain[key] for key in expected} == expected
    assert plain["commit"] == place.head() and plain["device"].startswith("cpu: ")
    assert "sacrebleu=" in plain["versions"]
    expected = {
        "nll_ensemble": "3.9", "disagreement": "0.25", "pairwise_kl": "0.125",
        "last_nll_ensemble": "4", "last_disagreement": "0.25", "best_leaf": "1",
        "best_leaf_nll": "4", "madds_step": "2.50", "madds_total": "175",
        "bleu_ensemble_test": "100.0000",
    }  # fmt: skip
    assert {key: tree[key] for key in expected} == expected
    assert plain["bleu_average_test"] == f"{BLEU_GIVEN:.4f}"
    chrf = scores.metrics()["chrf"].corpus_score(GIVEN, [RIGHT]).score
    assert plain["chrf_best_test"] == f"{chrf:.4f}"
    assert "|tok:none|" in plain["bleu_signature"] and "|nc:6|" in plain["chrf_signature"]


def test_what_is_kept_of_a_run(world):
    world.run("--only", "S-tree")
    folder = world.out / "runs" / "S-tree-s1"
    assert {p.name for p in folder.iterdir()} == {
        "average.pt", "evaluation", "lock", "log", "run.json", "train.log", "translated"
    }  # fmt: skip
    # the average of epochs 4 and 5, which is asked for as the average; epoch 5, the last of equals
    assert (folder / "translated").read_text().split("\n")[:6] == [
        "4 5", "4 5", "5", "5", "4 5", "4 5"
    ]  # fmt: skip
    assert (world.folder / "curves" / "S-tree-s1.csv").read_text().split("\n")[:2] == [
        "epoch,nll_loss,num_updates,loss,nll_leaf0,nll_leaf1,nll_ensemble,disagreement,pairwise_kl,"
        "train_nll_loss",
        "1,6,10,7,6,5.9,5.8,0.25,0.125,8",
    ]
    names = {p.name for p in (world.folder / "hypotheses").iterdir()}
    assert names == {
        *(f"S-tree-s1.{name}.gz" for name in ("average.valid", "average.test", "best.test")),
        *(f"S-tree-s1.{name}.gz" for name in ("ensemble.test", "average.test.counts")),
    }
    path = world.folder / "hypotheses" / "S-tree-s1.average.test.gz"
    assert gzip.decompress(path.read_bytes()).decode() == (
        "eine katze schläft dort heute .\nzwei katzen schlafen dort heute falsch\n"
    )
    assert path.read_bytes()[4:8] == bytes(4)  # no time in it


def test_the_limit_of_updates_falls_within_an_epoch(world):
    (world.out / "nll").write_text(FALLING)
    world.run("--only", "S-plain-s1")
    (row,) = world.read()
    assert (row["updates"], row["epochs"], row["ended_by"]) == ("95", "10", "limit")
    translated = (world.out / "runs" / "S-plain-s1" / "translated").read_text().split("\n")
    assert translated[0] == "9 10" and translated[2] == "10"


AT_THE_END = ("copy checkpoint_last.pt 7", "saved 7")
ACCIDENTS = [
    "training 1", "validated 3", "copy checkpoint_best.pt 4", "saved 5",
    "copy checkpoint_last.pt 6", "validated 7", "copy checkpoint_best.pt 7", *AT_THE_END,
]  # fmt: skip


def outcome(world):
    """What must not depend on interruptions."""
    (row,) = world.read()
    # the training's own figures of an epoch come after its checkpoint, and can be lost
    curve = (world.folder / "curves" / "S-plain-s1.csv").read_text().split("\n")
    return (
        {name: value for name, value in row.items() if name != "commit"},
        [line.rsplit(",", 1)[0] for line in curve],
        (world.out / "runs" / "S-plain-s1" / "translated").read_text(),
    )


UNINTERRUPTED = {}


@pytest.mark.parametrize("accident", ["", *ACCIDENTS])
@pytest.mark.parametrize("nll", [PATIENT, FALLING])
def test_interrupted_runs_end_as_others_do(accident, nll, world, capsys):
    """Killed anywhere and asked for again, a run gives what it gives if it is never stopped."""
    (world.out / "nll").write_text(nll)
    (world.out / "accident").write_text(accident)
    world.run("--only", "S-plain-s1")
    # at its end a training is done, whether or not its process ends well
    happens = {"": False, "copy checkpoint_best.pt 7": nll == FALLING}.get(accident, True)
    failed = happens and (accident not in AT_THE_END or nll == FALLING)
    assert failed != world.rows.exists()
    if failed:
        assert "S-plain-s1: failed: killed by signal 9; before: " in capsys.readouterr().out
        world.run("--only", "S-plain-s1", "--retry", "S-plain-s1")
    assert outcome(world) == UNINTERRUPTED.setdefault(nll, outcome(world))


def test_a_count_that_was_interrupted_ends_the_training(world):
    """fairseq's own patience begins anew at every start; the log's does not."""
    for accident in ("saved 5", "validated 7"):
        (world.out / "accident").write_text(accident)
        world.run("--only", "S-plain-s1", "--retry", "S-plain-s1")
    world.run("--only", "S-plain-s1", "--retry", "S-plain-s1")
    (row,) = world.read()
    assert (row["epochs"], row["ended_by"]) == ("7", "patience")
    assert "study: goes on after epoch 5\n" in world.log("S-plain-s1")
    assert "study: goes on after epoch 6\n" in world.log("S-plain-s1")


@pytest.mark.parametrize(("lost", "before"), [(5, 4), (4, 0)])
def test_a_lost_checkpoint_is_trained_again(lost, before, world):
    """The one of epoch 3 was deleted when 4 and 5, the average's, were there."""
    (world.out / "accident").write_text("validated 6")
    world.run("--only", "S-plain-s1")
    folder = world.out / "runs" / "S-plain-s1"
    # as after a loss of power
    (folder / f"checkpoint{lost}.pt").write_bytes(b"")
    world.run("--only", "S-plain-s1", "--retry", "S-plain-s1")
    assert f"study: goes on after epoch {before}\n" in world.log("S-plain-s1")
    assert world.read()[0]["epochs"] == "7"
    assert (folder / "translated").read_text().startswith("4 5\n")


def test_a_failed_run_is_marked_and_the_queue_goes_on(world, capsys):
    world.list.write_text(LIST.replace("--arch transformer", "--arch transformer --broken"))
    assert world.run("--jobs", 1) == 0
    message = "fairseq-train: error: unrecognized arguments: --broken"
    said = capsys.readouterr().out
    assert f"S-plain-s1: failed: {message}\n" in said and f"S-plain-s2: failed: {message}\n" in said
    assert [results.id_of(row) for row in world.read()] == ["S-tree-s1"]
    assert Failure.read(world.out / "runs" / "S-plain-s1") == Failure(message, place.head())

    world.call("status", world.list, "--out", world.out)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(maxsplit=5) for line in lines] == [
        ["run", "state", "epoch", "updates", "best", "nll  words/s"],
        ["S-plain-s1", "failed", *message.split(maxsplit=3)],
        ["S-tree-s1", "done", "7", "70", "4.1", f"BLEU {BLEU_GIVEN:.2f}"],
        ["S-plain-s2", "failed", *message.split(maxsplit=3)],
    ]
    # nothing is tried twice, unless it is asked for or the code is another one
    world.run()
    assert "begins" not in capsys.readouterr().out
    world.run("--retry", "S-plain-s2")
    assert capsys.readouterr().out.count("begins") == 1
    commit(world.clone)
    world.run()
    assert capsys.readouterr().out.count("begins") == 2


def test_a_run_keeps_its_commit(world):
    (world.out / "accident").write_text("saved 2")
    world.run("--only", "S-plain-s1")
    before, after = place.head(), commit(world.clone)
    world.run("--only", "S-plain-s1", "S-tree", "--retry", "S-plain")
    assert {row["run"]: row["commit"] for row in world.read()} == {
        "S-plain": before, "S-tree": after
    }  # fmt: skip


def test_a_run_that_starts_from_another(world):
    world.list.write_text(
        LIST.replace("stage = 1\nseeds = [1]", 'stage = 0\nseeds = [1]\nneeds = "S-plain"').replace(
            "--tree 1,1,2,4",
            "--tree 1,1,2,4 --tree-init-from runs/S-plain-s{seed}/checkpoint_last.pt",
        )
    )
    world.run("--only", "S-plain-s1", "S-tree")
    plain, tree = world.read()
    assert (plain["madds_total"], tree["madds_total"]) == ("70", "245")
    assert "--tree-init-from runs/S-plain-s1/checkpoint_last.pt" in tree["command"]
    folder = world.out / "runs" / "S-plain-s1"
    names = {p.name for p in folder.glob("checkpoint*")}
    assert names == {"checkpoint_best.pt", "checkpoint_last.pt"}


def test_what_a_killed_call_left_of_a_finished_run(world):
    world.run("--only", "S-plain-s1")
    folder = world.out / "runs" / "S-plain-s1"
    (folder / "checkpoint7.pt").touch()
    counts = paired.statistics_file(world.rows, "S-plain-s1")
    content = counts.read_bytes()
    counts.unlink()
    world.run("--only", "S-plain-s1")
    assert not (folder / "checkpoint7.pt").exists() and counts.read_bytes() == content


def test_hours_end(world, capsys):
    assert world.run("--only", "S-plain-s1", "--hours", 1e-9) == 0
    assert capsys.readouterr().out.endswith("  the hours are over; the next call goes on with \n")


def test_only_one_call_at_a_time(world, capsys):
    lock = Lock(world.out / "lock")
    assert lock.acquire()
    assert world.run() == 1
    assert capsys.readouterr().err == f"error: --out: {world.out} is in use by another call\n"
    lock.release()


def test_a_process_of_another_call_keeps_its_folder(world, capsys):
    """It holds the lock, even when its runner is gone."""
    world.monkeypatch.setattr(runner, "LOCK_TRIES", 2)
    folder = world.out / "runs" / "S-plain-s1"
    folder.mkdir(parents=True)
    lock = Lock(folder / "lock")
    assert lock.acquire()
    child = Child(["sleep", "60"], folder, dict(os.environ), folder / "log", lock)
    lock.release()
    assert world.run("--only", "S-plain-s1") == 1
    assert capsys.readouterr().err == (
        f"error: --out: {folder} is in use by a process of another call\n"
    )
    child.stop()
    assert world.run("--only", "S-plain-s1") == 0
    assert len(world.read()) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="prctl")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_children_die_with_the_runner(how, tmp_path):
    script = f"""
import os, sys, time
from pathlib import Path
sys.path.insert(0, {str(ROOT / "scripts")!r})
from studies.child import Child, Lock
lock = Lock(Path("lock"))
assert lock.acquire()
child = Child(["sleep", "60"], Path.cwd(), dict(os.environ), Path("log"), lock)
print(child.process.pid, os.getpriority(os.PRIO_PROCESS, child.process.pid), flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", script], cwd=tmp_path, stdout=subprocess.PIPE, text=True,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    child, priority = map(int, parent.stdout.readline().split())
    assert priority == 19
    group = Path(f"/proc/{child}/autogroup")  # which weighs more than that, where there are any
    assert not group.exists() or group.read_text().endswith(" nice 19\n")
    parent.send_signal(how)
    parent.wait()
    for _ in range(100):
        stat = Path(f"/proc/{child}/stat")
        if not stat.exists() or stat.read_text().split()[2] == "Z":
            break
        time.sleep(0.05)
    else:
        raise AssertionError("it lives")
    lock = Lock(tmp_path / "lock")
    assert lock.acquire()
    lock.release()


def test_sigterm_ends_a_call(world, capsys):
    """As the end of a session: what is at work is stopped, and goes on at the next call."""
    (world.out / "nll").write_text(FALLING)

    def terminate(self, run_id, job):
        if job.child is not None:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner.Runner, "_tell", terminate)
        assert world.run("--only", "S-plain-s1") == 130
    assert capsys.readouterr().out.endswith("  stopped; the same call goes on\n")
    assert world.run("--only", "S-plain-s1") == 0
    assert world.read()[0]["epochs"] == "10"


def test_missing_corpus(world, capsys):
    (world.folder / "corpus").mkdir()
    assert world.run("--data", world.folder / "corpus") == 1
    assert capsys.readouterr().err == (
        f"error: protocol 'S': --from: {world.folder / 'corpus'} has no train\n"
    )
    assert world.run("--data", world.folder / "nothing") == 1
    assert capsys.readouterr().err == (
        f"error: --data: no such directory: {world.folder / 'nothing'}\n"
    )
    (world.folder / "corpus" / "train").touch()
    assert world.run("--data", world.folder / "corpus", "--only", "S-plain-s1") == 0


def test_full_disk_at_the_row(world, capsys):
    """The file of results stays as it was, and the row comes at the next call."""
    world.run("--only", "S-plain-s1")
    before = world.rows.read_bytes()
    sync = os.fsync

    def full(descriptor):
        if os.readlink(f"/proc/self/fd/{descriptor}") == str(world.rows):
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert world.run("--only", "S-plain-s2") == 1
    (line,) = capsys.readouterr().err.splitlines()
    said = rf"error: --out: the disk of {world.out} is full \(\d+ MiB are free, 0 wanted\); "
    assert re.fullmatch(f"{said}nothing is lost: free some of it, and call again", line)
    assert world.rows.read_bytes() == before
    translated = (world.out / "runs" / "S-plain-s2" / "translated").read_text()
    assert world.run("--only", "S-plain-s2") == 0
    assert world.rows.read_bytes().startswith(before) and len(world.read()) == 2
    assert (world.out / "runs" / "S-plain-s2" / "translated").read_text() == translated


def test_full_disk_of_a_training_fails_no_run(world, capsys):
    world.monkeypatch.setattr(runner, "LEAST_FREE_BYTES", 2**60)
    assert world.run() == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: --out: the disk of {world.out} is full (")
    assert not list((world.out / "runs").glob("*/failed.json"))


def test_a_run_that_has_begun_keeps_its_flags(world, capsys):
    world.run("--only", "S-plain-s1")
    world.list.write_text(LIST.replace("--arch transformer", "--arch transformer --dropout 0"))
    assert world.run() == 1
    assert capsys.readouterr().err == (
        "error: LIST: run 'S-plain' with seed 1 has begun with other flags; "
        "give what is new another name\n"
    )


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda text: text[:-9],
            "line 2: cut short; remove that line, and its run is evaluated again",
        ),
        (lambda text: "a,b\n" + text, "has other columns than this study's"),
        (lambda text: text + "S-plain,S\n", "line 3: got 2 fields; expected 42"),
    ],
)
def test_results_that_do_not_fit(damage, message, world, capsys):
    world.run("--only", "S-plain-s1")
    text = damage(world.rows.read_text())
    world.rows.write_text(text)
    for call in (world.run, lambda: world.call("table", world.rows)):
        assert call() == 1
        comma = "," if message.startswith("line") else ""
        assert capsys.readouterr().err == f"error: --results: {world.rows}{comma} {message}\n"
    assert world.rows.read_text() == text


def test_the_snapshot_is_what_runs(world, capsys):
    """Its package comes first; one that would not is refused."""
    code = place.Place(world.out).code(place.head())
    place.check_snapshot(code)
    assert (code / "data").resolve() == world.out / "data"
    shutil.rmtree(code / "tsa_fairseq")
    with pytest.raises(StudyError, match="^the snapshot's tsa_fairseq is not the one used: "):
        place.check_snapshot(code)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('protocol = "S"', 'protocol = "X"', "run 'S-plain': protocol: got 'X'; expected one of S"),
        ('name = "S-tree"', 'name = "S-plain"', "two runs are called 'S-plain'"),
        ('name = "S-tree"', 'name = "S tree"',
         "run 'S tree': expected a name of letters, digits, '.', '+' and '-'"),
        ("seeds = [1, 2]", "seeds = [1, 1]",
         "run 'S-plain': seeds: got [1, 1]; expected different whole numbers"),
        ("seeds = [1, 2]", 'seeds = "1"', "run 'S-plain': seeds: got '1'; expected a list"),
        ("stage = 1", "", "run 'S-plain': stage is missing"),
        ("stage = 1", "stage = 1\nlr = 2",
         "run 'S-plain': got 'lr'; expected name, protocol, stage, seeds, flags, needs, device"),
        ("updates = 95", "updates = 0", "protocol 'S': updates: got 0; expected 1 or more"),
        ('train = "--lr', 'train = "\'--lr', "protocol 'S': train: No closing quotation"),
        ("stage = 1", 'stage = 1\nneeds = "S-big"',
         "run 'S-plain': needs: there is no run 'S-big' with seed 1"),
        ("stage = 1", 'stage = 1\nneeds = "S-plain"',
         "run 'S-plain': needs: 'S-plain' must stand before it"),
        ("stage = 1", 'stage = 1\ndevice = "tpu"',
         "run 'S-plain': device: got 'tpu'; expected one of any, cuda"),
        ("[protocol.S]", "[protocols.S]", "got 'protocols'; expected [protocol.NAME] and [[run]]"),
    ],
)  # fmt: skip
def test_lists_that_are_refused(before, after, message, world, capsys):
    world.list.write_text(LIST.replace(before, after, 1))
    assert world.run() == 1
    assert capsys.readouterr().err == f"error: LIST: {world.list}: {message}\n"
    assert list(world.out.iterdir()) == [world.out / "nll"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--only", "S-big"], "--only: got 'S-big'; expected some of S-plain, S-tree"),
        (["--retry", "x"], "--retry: got 'x'; expected some of S-plain, S-tree"),
        (["--jobs", "0"], "--jobs: got 0; expected 1 or more"),
        (["--hours", "0"], "--hours: got 0; expected more than 0"),
        (["--device", "tpu"], "--device: got 'tpu'; expected one of cpu, cuda"),
    ],
)
def test_flags_that_are_refused(flags, message, world, capsys):
    assert world.run(*flags) == 1
    assert capsys.readouterr().err == f"error: {message}\n"


def test_lists_that_cannot_be_read(world, capsys):
    world.list.write_text("run = [")
    assert world.run() == 1
    assert capsys.readouterr().err.startswith(f"error: LIST: {world.list} is no TOML: ")
    world.list.unlink()
    assert world.run() == 1
    assert capsys.readouterr().err == (
        f"error: LIST: {world.list} cannot be read: No such file or directory\n"
    )


def test_a_run_for_a_gpu_waits_for_one(world, capsys):
    world.list.write_text(LIST.replace("stage = 1", 'stage = 0\ndevice = "cuda"', 1))
    world.run()
    assert [row["run"] for row in world.read()] == ["S-tree"]
    world.call("status", world.list, "--out", world.out, "--only", "S-plain-s1")
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.split(maxsplit=2) == ["S-plain-s1", "queued", "needs --device cuda"]


def test_the_projects_own_list():
    """It is read; its runs are unique, and the first ones need nothing that is not there."""
    listing = read_listing(ROOT / "examples" / "multi30k" / "study" / "runs.toml")
    assert set(listing.protocols) == {"S", "M", "L"}
    first = [run.id for run in listing.runs if run.device == "any"][:3]
    assert first == ["S-plain-s1", "S-rdrop-s1", "S-tsa-fresh-s1"]
    for run in listing.runs:
        assert run.name.startswith(f"{run.protocol.name}-")
        assert not [word for word in command.train(run, "cpu") if word.startswith("/")]


@pytest.mark.parametrize(
    ("spec", "views", "parts"),
    [
        ("1,1,2,4", 2, ["2[2,2]", "2[2,2]"]),
        ("1,1,2,4", 4, ["4", "4", "4", "4"]),
        ("2[1[1,1],1[1,1]]", 2, ["2[2,2]", "2[2,2]"]),
        ("1,1,1,2", 2, ["4", "4"]),
        ("0[4,4]", 2, ["4", "4"]),
        ("2[2,1[1,1]]", 2, ["2[2,2]", "4"]),
        ("1,2,4,8", 2, ["1[1[2,2],1[2,2]]", "1[1[2,2],1[2,2]]"]),
    ],
)
def test_dealt_views_cost_what_their_leaves_need(spec, views, parts):
    assert [cost.dealt(spec, view, views) for view in range(views)] == parts


def test_cost_of_a_step(world):
    def words(flags):
        world.list.write_text(LIST.replace("--arch transformer", f"--arch {flags}"))
        return [" ".join(one) for one in cost.commands(read_listing(world.list).runs[0], 99)]

    assert words("transformer") == []
    multi30k = "--arch tsa_transformer_multi30k --vocabulary 99"
    assert (
        words("tsa_transformer_multi30k --tree 4 --kd-objective rdrop")
        == [f"tsa-fairseq tree 4 {multi30k}"] * 2
    )
    dealt = "--tree 1,1,1,2 --kd-views 2 --kd-views-leaves deal --decoder-layers 4"
    assert (
        words(f"tsa_transformer_multi30k {dealt}")
        == [f"tsa-fairseq tree 4 {multi30k} --decoder-layers 4"] * 2
    )
    said = "tree  4\ntraining multiply-adds   1.77 x the plain model's\n"
    assert cost.ratio([]) == 1 and cost.ratio([said, said]) == 3.54
    with pytest.raises(RunFailed):
        cost.ratio(["no"])


def sentences(seed, wrong):
    drawn = random.Random(seed)
    return [
        " ".join(word if drawn.random() > wrong else "x" for word in line.split())
        for line in REFERENCE
    ]


REFERENCE = [f"a b c d{n % 7} e f{n % 5} g h ." for n in range(60)]


def test_paired_tests_are_sacrebleus():
    ours, theirs = sentences(1, 0.2), sentences(2, 0.3)
    found = paired.compare({1: paired.count(ours, REFERENCE)}, {1: paired.count(theirs, REFERENCE)})
    bleu = BLEU(tokenize="none", force=True)
    expected = PairedTest([("b", theirs), ("a", ours)], {"BLEU": bleu}, [REFERENCE], "ar")()[1]
    before, after = expected["BLEU"]
    assert found.gain.p == after.p_value and found.seeds == (1,)
    assert found.gain.value == pytest.approx(after.score - before.score)
    assert found.gain.low < found.gain.value < found.gain.high


def test_seeds_are_pooled_by_sentence():
    """Twice the same translations are no more evidence than once."""
    ours = paired.count(sentences(1, 0.2), REFERENCE)
    theirs = paired.count(sentences(2, 0.3), REFERENCE)
    once = paired.compare({1: ours}, {1: theirs})
    twice = paired.compare({1: ours, 2: ours, 4: theirs}, {1: theirs, 2: theirs, 3: ours})
    assert twice.seeds == (1, 2)
    assert twice.gain == once.gain
    assert paired.compare({1: ours}, {2: theirs}) is None


def finished(folder, name, seed, wrong, step=1.0, **columns):
    """A row with its counts and its curve."""
    rows = folder / "results.csv"
    counts = paired.count(sentences(f"{name}{seed}", wrong), REFERENCE)
    bleu = paired.measure().score(np.array(counts)).value
    row = dict.fromkeys(results.COLUMNS, "") | {
        "run": name, "protocol": "S", "seed": str(seed), "updates": "40", "epochs": "4",
        "best_nll": "4.5", "best_epoch": "4", "best_updates": "40", "madds_step": f"{step}",
        "bleu_average_test": f"{bleu:.4f}", "chrf_average_test": "50",
        "bleu_average_valid": "30", "bleu_best_test": "20", "madds_total": f"{40 * step}",
        "bleu_signature": "b", "chrf_signature": "c", **columns,
    }  # fmt: skip
    results.append(rows, row)
    paired.write_statistics(rows, f"{name}-s{seed}", counts)
    curve = Curve(9, 9999)
    for epoch, nll in enumerate((9.0, 7.0, 5.0, 4.5), start=1):
        slower = nll + (1 if step > 1 and epoch < 4 else 0)
        curve.epochs[epoch] = {"nll_loss": slower, "num_updates": 10.0 * epoch}
    results.write_curve(rows, f"{name}-s{seed}", curve)
    return row


def test_table(tmp_path, capsys, monkeypatch):
    plain = [finished(tmp_path, "S-plain", seed, 0.3) for seed in (1, 2)]
    tree = finished(
        tmp_path,
        "S-tree",
        1,
        0.1,
        2.0,
        disagreement="0.1",
        bleu_ensemble_test="25",
        bleu_leaf_test="15",
    )
    monkeypatch.setattr(sys, "argv", ["study.py", "table", str(tmp_path / "results.csv")])
    monkeypatch.setenv("SACREBLEU_SEED", "7")
    assert study.main() == 0
    said = capsys.readouterr().out
    assert study.main() == 0
    assert capsys.readouterr().out == said
    scored = [float(row["bleu_average_test"]) for row in plain]
    mean, deviation = sum(scored) / 2, abs(scored[0] - scored[1]) / 2**0.5
    lines = said.splitlines()
    assert lines[0] == "**Protocol S**"
    assert lines[2] == (
        "| run | seeds | BLEU | chrF | BLEU, valid | nll | disagreement | computing "
        "| gain over plain |"
    )
    assert lines[4] == (
        f"| plain | 1, 2 | {mean:.2f} ± {deviation:.2f} | 50.00 ± 0.00 | 30.00 ± 0.00 | "
        "4.500 ± 0.000 | – | 40 ± 0 | – |"
    )
    gain = float(tree["bleu_average_test"]) - scored[0]
    assert lines[5].startswith("| tree | 1 | ")
    assert f" | 4.500 | 0.100 | 80 | {gain:+.2f} [+" in lines[5]
    assert lines[5].endswith("], p < 0.001 |")
    # plain has 9 at update 10, 7 at 20, 5 at 30; the tree gets there at 15, 25 and 36.7
    base = float(tree["bleu_average_test"])
    more = next(line for line in lines[6:] if line.startswith("| tree | "))
    assert more == (
        f"| tree | {20 - base:+.2f} | {25 - base:+.2f} | {15 - base:+.2f} | 2.0 x | 40 | 4.0 "
        "| +32 % | 8.000 |"
    )
    assert said.endswith("- bleu: `b`\n- chrf: `c`\n")


def test_plots(tmp_path, monkeypatch, capsys):
    finished(tmp_path, "S-plain", 1, 0.3)
    finished(tmp_path, "S-tree", 1, 0.1, 2.0, disagreement="0.1")
    argv = ["study.py", "plot", str(tmp_path / "results.csv"), "--out", str(tmp_path / "plots")]
    monkeypatch.setattr(sys, "argv", argv)
    assert study.main() == 0
    said = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert [path.name for path in said] == ["compute.svg", "disagreement.svg"]
    compute, disagreement = (path.read_text() for path in said)
    assert ">plain<" in compute and ">tree<" in compute
    assert ">plain<" not in disagreement and ">tree<" in disagreement
    assert study.main() == 0
    assert [path.read_text() for path in said] == [compute, disagreement]


def test_files_that_do_not_fit_their_rows(tmp_path, monkeypatch, capsys):
    row = finished(tmp_path, "S-plain", 1, 0.3)
    finished(tmp_path, "S-tree", 1, 0.1, 2.0)
    rows = tmp_path / "results.csv"

    def refused():
        monkeypatch.setattr(sys, "argv", ["study.py", "table", str(rows)])
        assert study.main() == 1
        return capsys.readouterr().err

    counts = paired.statistics_file(rows, "S-tree-s1")
    content = counts.read_bytes()
    paired.write_statistics(rows, "S-tree-s1", paired.count(REFERENCE, REFERENCE))
    assert refused().startswith(f"error: {counts} gives BLEU 100.0000, its row has ")
    counts.write_bytes(content[:40])
    assert refused() == (
        f"error: {counts} cannot be read; "
        "'study.py run' makes it for finished runs whose --out is there\n"
    )
    counts.write_bytes(content)
    curve = tmp_path / "curves" / "S-tree-s1.csv"
    curve.write_text("epoch\n1\n")
    assert refused() == f"error: {curve} cannot be read as a curve of nll_loss by num_updates\n"
    results.append(rows, row)
    assert refused() == f"error: --results: {rows}: two rows are of 'S-plain-s1'\n"
    rows.unlink()
    assert refused() == f"error: RESULTS: no such file: {rows}\n"


TINY = """
[protocol.T]
prepare = "--subwords 60 --sums {sums}"
updates = 500
patience = 5
average = 3
train = '''
    --encoder-layers 2 --encoder-embed-dim 16 --encoder-ffn-embed-dim 16 --encoder-attention-heads 2
    --decoder-layers 2 --decoder-embed-dim 16 --decoder-ffn-embed-dim 16 --decoder-attention-heads 2
    --share-all-embeddings --dropout 0.1 --optimizer adam --lr 0.02 --max-tokens 200
'''

[[run]]
name = "T-tree"
protocol = "T"
stage = 1
seeds = [1]
flags = """
TINY += """'''
    --arch tsa_transformer_multi30k --tree 1,2 --criterion tsa_online_kd --kd-objective tsa
    --kd-views 2 --kd-views-leaves deal
'''
"""


def write_corpus(folder):
    """A copy of Multi30k that is not one, with checksums; sentences that can be learned."""
    folder.mkdir()
    words = {"en": "one two three four five six".split(), "de": "eins zwei drei vier fünf".split()}
    words["de"].append("sechs")
    sums = []
    for part, count in {"train": 300, "val": 20, "test_2016_flickr": 20}.items():
        for language, names in words.items():
            drawn = random.Random(part)
            lines = [" ".join(drawn.choices(names, k=drawn.randint(2, 6))) for _ in range(count)]
            path = folder / f"{part}.lc.norm.tok.{language}"
            path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            sums.append(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n")
    (folder / "SUMS").write_text("".join(sums))


@pytest.mark.slow
@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="takes a snapshot of a git repository")
def test_a_real_run_is_killed_and_goes_on(tmp_path):
    """kill -9 of the runner in mid-epoch: the parameters and the row come out the same."""
    write_corpus(tmp_path / "corpus")
    (tmp_path / "runs.toml").write_text(TINY.replace("{sums}", f"{tmp_path}/corpus/SUMS"))

    def start(name):
        argv = [sys.executable, ROOT / "scripts" / "study.py", "run", tmp_path / "runs.toml"]
        argv += ["--out", tmp_path / name, "--results", tmp_path / f"{name}.rows" / "results.csv"]
        argv += ["--data", tmp_path / "corpus", "--poll", "0.1"]
        return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def parameters(name):
        return torch.load(tmp_path / name / "runs" / "T-tree-s1" / "average.pt", weights_only=True)[
            "model"
        ]

    for done in (1, 4):
        runner_process = start("killed")
        curve = Curve(5, 500)
        while max(curve.validated, default=0) <= done:
            assert runner_process.poll() is None, runner_process.stdout.read()
            time.sleep(0.05)
            curve.read(tmp_path / "killed" / "runs" / "T-tree-s1" / "train.log")
        runner_process.kill()
        runner_process.wait()
    for name in ("killed", "whole"):
        runner_process = start(name)
        said, _ = runner_process.communicate()
        assert runner_process.returncode == 0 and "T-tree-s1: done; " in said, said
    log = (tmp_path / "killed" / "runs" / "T-tree-s1" / "train.log").read_text()
    assert log.count("study: goes on after epoch") == 3
    killed, whole = parameters("killed"), parameters("whole")
    assert killed.keys() == whole.keys()
    assert all(torch.equal(killed[name], whole[name]) for name in whole)
    rows = [results.read(tmp_path / f"{name}.rows" / "results.csv") for name in ("killed", "whole")]
    assert rows[0] == rows[1]
    (row,) = rows[0]
    assert float(row["bleu_ensemble_test"]) > 0 and row["madds_step"] == "2.00"
