"""The mean of checkpoints: by hand, of those that were asked for, and before or after an export."""

import argparse

import pytest
import torch
from helpers import exactly, save_tree

from tsa_fairseq.cli.main import main
from tsa_fairseq.deploy.averaging import average, best, newest
from tsa_fairseq.deploy.export import TreeCheckpoint
from tsa_fairseq.errors import UsageError


def save(path, value, updates=0, score=None, dtype=torch.float32, maximize=False, **more):
    state = {
        "cfg": {"model": argparse.Namespace(arch="transformer"),
                "checkpoint": {"maximize_best_checkpoint_metric": maximize}},
        "model": {"w": torch.full((2, 2), value, dtype=dtype), "count": torch.tensor(3), **more},
        "optimizer_history": [{"num_updates": updates}],
        "extra_state": {"train_iterator": {"epoch": updates}, "val_loss": score},
        "last_optimizer_state": {"state": [1.0] * 9},
    }  # fmt: skip
    torch.save(state, path)
    return str(path)


def quiet(_):
    pass


def test_mean(tmp_path):
    paths = [save(tmp_path / f"{n}.pt", float(n), updates=n) for n in (1, 2, 6)]
    said = []
    state = average(paths, said.append)
    assert state["model"]["w"].tolist() == [[3.0, 3.0], [3.0, 3.0]]
    assert state["model"]["count"].item() == 3
    assert state["last_optimizer_state"] is None
    assert state["optimizer_history"] == [{"num_updates": 6}], "all else is the last one's"
    assert said == [f"reading {path}" for path in paths]


def test_half_precision_is_added_up_in_float32(tmp_path):
    """2,048 + 1 is 2,048 in float16."""
    values = [2048.0, 1.0, 1.0, 1.0]
    paths = [save(tmp_path / f"{n}.pt", v, dtype=torch.float16) for n, v in enumerate(values)]
    mean = average(paths, quiet)["model"]["w"]
    assert mean.dtype == torch.float32 and mean[0, 0].item() == 2051 / 4


@pytest.fixture
def folder(tmp_path):
    """Scores are best at 20 updates; the epoch's end at 40 was also kept as a best one."""
    save(tmp_path / "checkpoint1.pt", 1.0, updates=10, score=3.0)
    save(tmp_path / "checkpoint_2_20.pt", 2.0, updates=20, score=1.0)
    save(tmp_path / "checkpoint3.pt", 3.0, updates=40, score=2.0)
    save(tmp_path / "checkpoint.best_loss_2.0.pt", 3.0, updates=40, score=2.0)
    save(tmp_path / "checkpoint_last.pt", 9.0, updates=40, score=2.0)
    save(tmp_path / "checkpoint_best.pt", 9.0, updates=20, score=1.0)
    return tmp_path


def updates(paths):
    return [
        torch.load(p, weights_only=False)["optimizer_history"][-1]["num_updates"] for p in paths
    ]


def test_the_last_and_the_best(folder):
    assert updates(newest(str(folder), 2, quiet)) == [20, 40]
    assert updates(best(str(folder), 2, quiet)) == [40, 20]
    assert updates(newest(str(folder), 3, quiet)) == [10, 20, 40]


def test_scores_that_shall_be_large(folder):
    for path, number, score in [("checkpoint1.pt", 10, 30.0), ("checkpoint_2_20.pt", 20, 10.0)]:
        save(folder / path, 1.0, updates=number, score=score, maximize=True)
    assert updates(best(str(folder), 1, quiet)) == [10]


@pytest.mark.parametrize("leaf", [0, 2])
def test_average_then_export_is_export_then_average(leaf, task, data, tmp_path):
    trees, leaves = [], []
    for seed in range(3):
        path = tmp_path / f"tree{seed}.pt"
        model = save_tree(path, task, data)
        state = torch.load(path, weights_only=False)
        with torch.no_grad():
            state["model"] = {n: t + seed * 0.1 for n, t in model.state_dict().items()}
        torch.save(state, path)
        trees.append(str(path))
        torch.save(TreeCheckpoint.read(str(path)).leaf(leaf), tmp_path / f"leaf{seed}.pt")
        leaves.append(str(tmp_path / f"leaf{seed}.pt"))
    mean = tmp_path / "mean.pt"
    torch.save(average(trees, quiet), mean)
    first = TreeCheckpoint.read(str(mean)).leaf(leaf)["model"]
    second = average(leaves, quiet)["model"]
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_command(folder, tmp_path, capsys):
    out = tmp_path / "mean.pt"
    assert main(["average", str(out), str(folder), "--last", "2"]) == 0
    shown = capsys.readouterr()
    assert shown.out == f"{out}: the mean of 2 checkpoints, checkpoint_2_20.pt, checkpoint3.pt\n"
    assert torch.load(out, weights_only=False)["model"]["w"][0, 0].item() == 2.5
    before = out.read_bytes()
    assert main(["average", str(out), str(folder), "--best", "1"]) == 1
    assert capsys.readouterr().err == (
        f"tsa-fairseq: error: OUT: '{out}' exists; expected a new file, or --force\n"
    )
    assert out.read_bytes() == before
    assert main(["average", str(out), str(folder), "--best", "1", "--force"]) == 0
    assert capsys.readouterr().out == f"{out}: the mean of 1 checkpoint, checkpoint_2_20.pt\n"
    assert torch.load(out, weights_only=False)["model"]["w"][0, 0].item() == 2.0


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["{f}"], "INPUT: '{f}' is a folder; expected --last N or --best N"),
        (["{f}", "--last", "1", "--best", "1"],
         "INPUT: '{f}' is a folder; expected --last N or --best N"),
        (["{f}", "--last", "4"], "--last: got 4; '{f}' has 3 checkpoints to choose"),
        (["{f}", "--best", "0"], "--best: got 0; expected 1 or more"),
        (["{f}/checkpoint1.pt", "--last", "2"],
         "--last: takes one folder of checkpoints; expected no file names"),
        (["{f}/gone.pt"], "CHECKPOINT: '{f}/gone.pt' does not exist or is not a file"),
        (["{f}/checkpoint1.pt", "{f}/wide.pt"],
         "CHECKPOINT: '{f}/wide.pt' does not fit '{f}/checkpoint1.pt': its w is (3, 2), "
         "there (2, 2)"),
        (["{f}/checkpoint1.pt", "{f}/more.pt"],
         "CHECKPOINT: '{f}/more.pt' does not fit '{f}/checkpoint1.pt': 'more.pt' has extra, "
         "'checkpoint1.pt' has not"),
    ],
)  # fmt: skip
def test_bad_input(argv, message, folder, capsys):
    save(folder / "wide.pt", 1.0, w=torch.zeros(3, 2))
    save(folder / "more.pt", 1.0, extra=torch.zeros(1))
    out = folder / "mean.pt"
    assert main(["average", str(out), *(word.format(f=folder) for word in argv)]) == 1
    err = capsys.readouterr().err.splitlines()[-1]
    assert err == f"tsa-fairseq: error: {message.format(f=folder)}"
    assert not list(folder.glob("mean*"))


@pytest.mark.parametrize(
    ("name", "value"),
    [("tree", "1[2,1[1,1]]"), ("decoder_attention_heads", 4), ("activation_fn", "gelu"),
     ("encoder_normalize_before", True)],
)  # fmt: skip
def test_models_of_the_same_shapes_that_differ(name, value, task, data, tmp_path, capsys):
    """A tree's nodes have the same names in 1[1[1,1],2] and 1[2,1[1,1]]."""
    one, other = tmp_path / "one.pt", tmp_path / "other.pt"
    save_tree(one, task, data)
    state = torch.load(one, weights_only=False)
    before = getattr(state["cfg"]["model"], name)
    setattr(state["cfg"]["model"], name, value)
    torch.save(state, other)
    assert main(["average", str(tmp_path / "mean.pt"), str(one), str(other)]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"tsa-fairseq: error: CHECKPOINT: '{other}' does not fit '{one}': its "
        f"--{name.replace('_', '-')} is {value}, there {before}"
    )
    assert not (tmp_path / "mean.pt").exists()


def test_shared_embeddings_are_stored_once(task, data, tmp_path):
    paths = [str(tmp_path / f"{n}.pt") for n in range(2)]
    for path in paths:
        save_tree(path, task, data, share_all_embeddings=True)
    mean = average(paths, quiet)["model"]
    assert mean["encoder.embed_tokens.weight"] is mean["decoder.output_projection.weight"]
    assert mean["encoder.layers.0.fc1.bias"] is not mean["encoder.layers.1.fc1.bias"]


def test_an_input_is_not_replaced(folder, capsys):
    path = folder / "checkpoint1.pt"
    before = path.read_bytes()
    assert main(["average", str(path), str(path), "--force"]) == 1
    assert capsys.readouterr().err == (
        f"tsa-fairseq: error: OUT: '{path}' is one of the inputs; expected another file\n"
    )
    chosen = folder / "checkpoint3.pt"
    assert main(["average", str(chosen), str(folder), "--last", "1", "--force"]) == 1
    assert capsys.readouterr().err == (
        f"tsa-fairseq: error: OUT: '{chosen}' is no average as this program wrote it; --force "
        "replaces averages alone\n"
    )
    mean = folder / "checkpoint9.pt"
    assert main(["average", str(mean), str(chosen)]) == 0
    assert main(["average", str(mean), str(folder), "--last", "1", "--force"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"tsa-fairseq: error: OUT: '{mean}' is one of the inputs; expected another file"
    )
    assert path.read_bytes() == before


def test_a_file_that_appears_meanwhile_stays(folder, tmp_path, monkeypatch):
    out = tmp_path / "mean.pt"

    def meanwhile(paths, say):
        out.write_text("mine")
        return {"model": {}}

    monkeypatch.setattr("tsa_fairseq.cli.average.average", meanwhile)
    assert main(["average", str(out), str(folder), "--last", "2"]) == 1
    assert out.read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_a_place_that_cannot_be_written(folder, capsys):
    """Before any file is read."""
    out = folder / "nowhere" / "mean.pt"
    assert main(["average", str(out), str(folder), "--last", "1"]) == 1
    assert capsys.readouterr().err == (
        f"tsa-fairseq: error: OUT: '{out}' cannot be written: there is no folder '{out.parent}'\n"
    )
    assert main(["average", str(folder), str(folder), "--last", "1", "--force"]) == 1
    assert capsys.readouterr().err == (
        f"tsa-fairseq: error: OUT: '{folder}' is a folder; expected a new file\n"
    )


def test_hostile_files_are_not_read(tmp_path):
    class Hostile:
        def __reduce__(self):
            return (open, (str(tmp_path / "written"), "w"))

    path = tmp_path / "x.pt"
    torch.save({"model": {}, "cfg": {}, "evil": Hostile()}, path)
    message = (
        f"CHECKPOINT: '{path}' is refused: it contains io.open, which is code and not among "
        "what fairseq's checkpoints hold; nothing of it was run"
    )
    with pytest.raises(UsageError, match=exactly(message)):
        average([str(path)], quiet)
    assert not (tmp_path / "written").exists()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_smaller_files(dtype, tmp_path, capsys):
    """Added up in float32, and rounded once: in half precision 2048 + 1 would be 2048."""
    big = torch.full((500, 500), 2048.0)
    paths = [save(tmp_path / f"{n}.pt", float(n), big=big * (n == 0) + n) for n in (0, 1, 1, 2)]
    whole, small = tmp_path / "whole.pt", tmp_path / "small.pt"
    assert main(["average", str(whole), *paths]) == 0
    assert main(["average", str(small), *paths, "--dtype", dtype]) == 0
    means, found = (torch.load(file, weights_only=False)["model"] for file in (whole, small))
    assert means["w"].dtype == torch.float32
    for name in ("w", "big"):
        assert found[name].dtype == getattr(torch, dtype)
        assert torch.equal(found[name], means[name].to(found[name].dtype))
    assert found["count"].dtype == torch.int64
    assert small.stat().st_size < 0.52 * whole.stat().st_size
    assert main(["average", str(small), *paths, "--dtype", "int8", "--force"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "tsa-fairseq: error: --dtype: got 'int8'; expected one of float32, float16, bfloat16"
    )
