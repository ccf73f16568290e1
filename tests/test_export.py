"""A leaf as a plain checkpoint: the plain model's names, the leaf's predictions."""

import contextlib
import hashlib
import json
import math
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fairseq.data import Dictionary
from fairseq.data.data_utils import post_process
from fairseq.data.indexed_dataset import make_builder
from fairseq.models import ARCH_MODEL_REGISTRY
from helpers import TREE, VARIANTS, TinyTask, command_line, save_stock, save_tree

import tsa_fairseq
from tsa_fairseq.checkpoint import model_arguments
from tsa_fairseq.export import TreeCheckpoint
from tsa_fairseq.subwords import kind_of
from tsa_fairseq.teacher import Teacher
from tsa_fairseq.validation import Scores


def stock_model(state, task):
    args = model_arguments(state)
    assert args.arch == args._name == "transformer"
    model = ARCH_MODEL_REGISTRY["transformer"].build_model(args, task)
    model.load_state_dict(state["model"], strict=True)
    return model.eval()


@pytest.mark.parametrize("leaf", [0, 1, 2])
@pytest.mark.parametrize("variant", VARIANTS)
def test_exported_leaf_predicts_as_the_leaf(variant, leaf, task, data, batch, tmp_path):
    path = str(tmp_path / "tree.pt")
    model = save_tree(path, task, data, **VARIANTS[variant]).eval()
    stock = stock_model(TreeCheckpoint.read(path).leaf(leaf), task)
    features = model(**batch["net_input"], leaves=[leaf]).features[0]
    expected = model.decoder.output_layer(features)
    assert torch.equal(stock(**batch["net_input"])[0], expected)


def test_what_the_checkpoint_says(tree, task):
    state = TreeCheckpoint.read(str(tree)).leaf(2)
    stock = save_stock(tree.with_name("stock.pt"), task)
    assert list(state["model"]) == list(stock.state_dict()), "the plain model's names and order"
    arguments = state["cfg"]["model"]
    assert isinstance(arguments, dict)
    assert not [name for name in arguments if name.startswith(("tree", "kd_"))]
    assert arguments["user_dir"] is state["cfg"]["common"]["user_dir"] is None
    assert state["cfg"]["common"]["seed"] == 3
    assert state["cfg"]["criterion"] == {
        "_name": "label_smoothed_cross_entropy", "label_smoothing": 0.1, "report_accuracy": False,
    }  # fmt: skip
    assert state["optimizer_history"][-1]["criterion_name"] == "LabelSmoothedCrossEntropyCriterion"
    assert state["last_optimizer_state"] is None
    assert state["extra_state"] == {"train_iterator": {"epoch": 2, "version": 2}}
    assert "decoder.version" in state["model"] and state["model"]["decoder.version"] == 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_float32(dtype, task, data, tmp_path):
    path = str(tmp_path / "tree.pt")
    model = save_tree(path, task, data, dtype=dtype)
    parameters = TreeCheckpoint.read(path).leaf(0)["model"]
    weight = parameters["decoder.layers.0.fc1.weight"]
    assert weight.dtype == torch.float32
    assert torch.equal(weight, model.decoder.layers[0].fc1.weight.float())


def test_the_folder_is_ready_to_use(pieces, pieces_data, tmp_path, capsys):
    out, tree, data = tmp_path / "out", tmp_path / "tree.pt", pieces_data
    task = TinyTask(4 + len((data / "dict.en.txt").read_text().splitlines()))
    save_tree(tree, task, data)
    status, shown, _ = command_line(
        capsys, "export", tree, out, "--leaf", "1", "--subwords", pieces
    )
    assert status == 0
    names = {"model.pt", "dict.de.txt", "dict.en.txt", "sentencepiece.bpe.model", "export.json"}
    assert {path.name for path in out.iterdir()} == names
    assert (out / "dict.en.txt").read_bytes() == (data / "dict.en.txt").read_bytes()
    said = json.loads((out / "export.json").read_text())
    assert (said["leaf"], said["tree"], said["source"], said["updates"]) == (1, TREE, "tree.pt", 7)
    assert said["source_sha256"] == hashlib.sha256(tree.read_bytes()).hexdigest()
    # nothing but plain types and tensors: torch's loader needs nobody to vouch for them
    program = "import sys, torch; print(len(torch.load(sys.argv[1], weights_only=True)['model']))"
    done = subprocess.run([sys.executable, "-c", program, str(out / "model.pt")],
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    parameters = sum(
        p.numel() for p in stock_model(TreeCheckpoint.read(str(tree)).leaf(1), task).parameters()
    )
    size = (out / "model.pt").stat().st_size
    assert shown.splitlines() == [
        f"leaf 1 -> {out}: {parameters:,} parameters, {size:,} bytes",
        f"fairseq-interactive {out} --path {out / 'model.pt'} -s de -t en --beam 5 "
        f"--bpe sentencepiece --sentencepiece-model {out / 'sentencepiece.bpe.model'}",
    ]


def test_languages_that_the_checkpoint_does_not_name(tree, data, tmp_path, capsys):
    """As after a training without -s and -t: the data tell them, and the export says so."""
    state = torch.load(tree, weights_only=False)
    state["cfg"]["task"].update(source_lang=None, target_lang=None)
    torch.save(state, tree)
    (data / "train.de-en.de.idx").touch()
    out = tmp_path / "out"
    assert command_line(capsys, "export", tree, out)[0] == 0
    task = torch.load(out / "model.pt", weights_only=True)["cfg"]["task"]
    assert (task["source_lang"], task["target_lang"]) == ("de", "en")


def test_all_leaves(tree, tmp_path, capsys):
    assert command_line(capsys, "export", tree, tmp_path / "out", "--leaf", "all")[0] == 0
    said = [
        json.loads((tmp_path / "out" / f"leaf{k}" / "export.json").read_text()) for k in range(3)
    ]
    assert [one["leaf"] for one in said] == [0, 1, 2]


def test_an_exported_leaf_can_be_a_teacher(tree, task, tmp_path, capsys):
    command_line(capsys, "export", tree, tmp_path / "out")
    assert Teacher(str(tmp_path / "out" / "model.pt"), task).num_layers == 3


def test_nothing_is_overwritten(tree, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    status, _, err = command_line(capsys, "export", tree, out)
    assert (status, err) == (
        1, f"tsa-fairseq: error: OUT: '{out}' exists; expected a new folder, or --force\n",
    )  # fmt: skip
    status, _, err = command_line(capsys, "export", tree, out, "--force")
    assert (status, err) == (
        1, f"tsa-fairseq: error: OUT: '{out}' holds 'mine.txt'; --force replaces exports alone\n",
    )  # fmt: skip
    assert [p.name for p in out.iterdir()] == ["mine.txt"]
    out = tmp_path / "export"
    command_line(capsys, "export", tree, out, "--leaf", "1")
    assert command_line(capsys, "export", tree, out, "--leaf", "2", "--force")[0] == 0
    assert json.loads((out / "export.json").read_text())["leaf"] == 2


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--leaf", "3"], f"--leaf: got '3'; the tree '{TREE}' has leaves 0 to 2"),
        (["--leaf", "x"], "--leaf: got 'x'; expected a leaf's number, best, all or bridge"),
        (["--subwords", "no.model"], "--subwords: 'no.model' does not exist or is not a file"),
        (
            ["--data", "nowhere"],
            "--data: got 'nowhere', which has no dict.de.txt; "
            "expected what fairseq-preprocess made",
        ),
    ],
)
def test_bad_input(argv, message, tree, tmp_path, capsys):
    status, _, err = command_line(capsys, "export", tree, tmp_path / "out", *argv)
    assert (status, err) == (1, f"tsa-fairseq: error: {message}\n")
    assert not list(tmp_path.glob("out*"))


def test_what_an_export_is_made_of_is_not_replaced(tree, data, tmp_path, capsys):
    """Nor files beside an export, nor an export when the new one fails."""
    out = tmp_path / "out"
    command_line(capsys, "export", tree, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    for flag, value in (("--data", out), ("--subwords", out / "model.pt")):
        err = command_line(capsys, "export", tree, out, "--force", flag, value)[2]
        assert err == (
            f"tsa-fairseq: error: OUT: '{out}' holds '{value}', which the export is made of; "
            "expected another folder\n"
        )
    err = command_line(capsys, "export", tree, tmp_path, "--leaf", "all", "--force")[2]
    assert err.startswith(f"tsa-fairseq: error: OUT: '{tmp_path}' holds '{tree}', which")
    (out / "notes.txt").write_text("mine")
    err = command_line(capsys, "export", tree, out, "--force")[2]
    assert "holds 'notes.txt'; --force replaces exports alone" in err
    (out / "notes.txt").unlink()
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.parametrize("flags", [["--leaf", "2"], ["--leaf", "2", "--to", "ctranslate2"]])
def test_a_disk_that_is_full(flags, tree, tmp_path, capsys):
    """The old export stays, and nothing half-written."""
    out = tmp_path / "out"
    command_line(capsys, "export", tree, out, "--leaf", "1")
    with files_no_larger_than(20_000):
        err = command_line(capsys, "export", tree, out, "--force", *flags)[2]
    reason = err.removeprefix(f"tsa-fairseq: error: OUT: '{out}' cannot be written: ")
    assert reason != err and err.count("\n") == 1, err
    assert json.loads((out / "export.json").read_text())["leaf"] == 1
    assert {path.name for path in tmp_path.iterdir()} == {"out", "bin", "tree.pt"}


@contextlib.contextmanager
def files_no_larger_than(size):
    """The system refuses to write more, as where a disk is full; Python ignores its signal."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_dictionary_of_another_size(tree, data, tmp_path, capsys):
    (data / "dict.en.txt").write_text("one 1\n")
    err = command_line(capsys, "export", tree, tmp_path / "out")[2]
    assert err == (
        f"tsa-fairseq: error: --data: '{data / 'dict.en.txt'}' has 5 words, the model 40; "
        "expected the dictionary that it was trained with\n"
    )


@pytest.mark.parametrize(
    ("flags", "tied"), [(dict(share_all_embeddings=True), 3),
                        (dict(share_decoder_input_output_embed=True), 2), ({}, 1)]
)  # fmt: skip
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_shared_embeddings_are_stored_once(dtype, flags, tied, task, data, tmp_path):
    """As they must be counted; fairseq writes a copy of each when it trained on a GPU."""
    path = str(tmp_path / "tree.pt")
    save_tree(path, task, data, dtype=dtype, **flags)
    state = torch.load(path, weights_only=False)
    state["model"] = {name: tensor.clone() for name, tensor in state["model"].items()}
    torch.save(state, path)
    model = TreeCheckpoint.read(path).leaf(1)["model"]
    sides = ("decoder.embed_tokens", "decoder.output_projection", "encoder.embed_tokens")
    assert len({model[f"{side}.weight"].data_ptr() for side in sides}) == 4 - tied


def test_data_that_is_gone(tree, data, tmp_path, capsys):
    (data / "dict.en.txt").unlink()
    err = command_line(capsys, "export", tree, tmp_path / "out")[2]
    assert err == (
        f"tsa-fairseq: error: --data: not given, and '{data}' has no dict.en.txt; "
        "expected what fairseq-preprocess made\n"
    )


def test_not_a_tree(task, tmp_path, capsys):
    path = tmp_path / "stock.pt"
    save_stock(path, task)
    err = command_line(capsys, "export", path, tmp_path / "out")[2]
    assert err == (
        f"tsa-fairseq: error: CHECKPOINT: '{path}' is a model of --arch transformer; "
        "expected a tsa_transformer\n"
    )


def test_a_truncated_file(tree, tmp_path, capsys):
    tree.write_bytes(tree.read_bytes()[:5000])
    err = command_line(capsys, "export", tree, tmp_path / "out")[2]
    assert err.startswith(f"tsa-fairseq: error: CHECKPOINT: '{tree}' cannot be loaded as a")
    assert err.count("\n") == 1 and not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("metric", [[], ["--metric", "nll"], ["--metric", "bleu"]])
def test_the_best_leaf(metric, task, data, tmp_path, capsys):
    """Of three leaves, the one that has seen the validation data for reference."""
    path, out = tmp_path / "tree.pt", tmp_path / "out"
    model = save_tree(path, task, data, share_decoder_input_output_embed=True)
    write_valid(data, ["w1 w2 w3 w4 w5", "w1 w2 w1 w2 w3", "w3 w4 w3 w2 w1"])
    train_leaf(model, 1, task, data, path)
    status, said, err = command_line(capsys, "export", path, out, "--leaf", "best", *metric)
    assert status == 0, err
    assert json.loads((out / "export.json").read_text())["leaf"] == 1
    figures = json.loads((out / "export.json").read_text())
    line = said.splitlines()[1]
    values = [float(x) for x in re.findall(r"leaf \d ([\d.]+)", line)]
    if metric == ["--metric", "bleu"]:
        signature = figures["signature"]
        assert signature.startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
        assert line == f"validation bleu, {signature}: " + shown(values, 2)
        assert values[1] == pytest.approx(100.0) and max(values[0], values[2]) < 50
        assert figures["valid_bleu"] == pytest.approx(100.0)
        assert err.splitlines() == [f"translating 3 sentences with leaf {k}" for k in range(3)]
    else:
        assert line == "validation nll, bits a token: " + shown(values, 3)
        assert figures["valid_nll"] == pytest.approx(min(values), abs=5e-4)
        assert err.splitlines() == ["nll of 3 leaves, 1 batches"]


def shown(values, digits):
    return ", ".join(f"leaf {k} {value:.{digits}f}" for k, value in enumerate(values))


def write_valid(data, lines):
    """What fairseq-preprocess makes of sentences that are their own translation."""
    dictionary = Dictionary.load(str(data / "dict.en.txt"))
    for language in ("de", "en"):
        path = data / f"valid.de-en.{language}"
        builder = make_builder(f"{path}.bin", "mmap", len(dictionary))
        for line in lines:
            builder.add_item(dictionary.encode_line(line, add_if_not_exist=False))
        builder.finalize(f"{path}.idx")


def train_leaf(model, leaf, task, data, path):
    """Until it knows the validation data by heart; into the checkpoint."""
    state = torch.load(path, weights_only=True)
    lines = [line.split() for line in ("w1 w2 w3 w4 w5", "w1 w2 w1 w2 w3", "w3 w4 w3 w2 w1")]
    words = torch.tensor(
        [[task.target_dictionary.index(word) for word in line] + [2] for line in lines]
    )
    net = {"src_tokens": words, "src_lengths": torch.full((3,), 6),
           "prev_output_tokens": words.roll(1, dims=1)}  # fmt: skip
    model.decoder.inference = leaf
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(200):
        loss = torch.nn.functional.cross_entropy(model(**net)[0].flatten(0, 1), words.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.05
    torch.save({**state, "model": model.state_dict()}, path)


@pytest.mark.parametrize("shared", [{}, dict(share_all_embeddings=True)])
@pytest.mark.parametrize("norm", [False, True])
def test_the_bridge(norm, shared, task, data, batch, tmp_path, capsys):
    """What is exported predicts what the bridge predicts while it trains."""
    teacher, path, out = tmp_path / "teacher.pt", tmp_path / "tree.pt", tmp_path / "out"
    sizes = dict(decoder_layers=4, decoder_embed_dim=8, encoder_embed_dim=8)
    save_stock(teacher, task, **sizes, decoder_normalize_before=norm, **shared)
    model = save_tree(path, task, data, objective="sokd", teacher=teacher).eval()
    taught = Teacher(str(teacher), task)(batch["net_input"], torch.zeros(1), 2)
    prediction = model(**batch["net_input"], leaves="all", teacher=taught).others["bridge"]
    status, said, err = command_line(capsys, "export", path, out, "--leaf", "bridge")
    assert status == 0, err
    state = torch.load(out / "model.pt", weights_only=True)
    found = stock_model(state, task)(**batch["net_input"])[0]
    torch.testing.assert_close(found, prediction.features @ prediction.matrix.t())
    figures = json.loads((out / "export.json").read_text())
    assert (figures["leaf"], figures["teacher"]) == ("bridge", "teacher.pt")
    parameters = sum(p.numel() for p in stock_model(state, task).parameters())
    assert said.startswith(f"bridge -> {out}: {parameters:,} parameters")
    assert Teacher(str(out / "model.pt"), task).num_layers == 4, "a better teacher"


def test_the_bridges_teacher_elsewhere(task, data, tmp_path, capsys):
    teacher, moved = tmp_path / "teacher.pt", tmp_path / "moved.pt"
    path, out = tmp_path / "tree.pt", tmp_path / "out"
    save_stock(teacher, task)
    save_tree(path, task, data, objective="sokd", teacher=teacher)
    teacher.rename(moved)
    err = command_line(capsys, "export", path, out, "--leaf", "bridge")[2]
    assert err == (
        f"tsa-fairseq: error: --teacher: not given, and '{teacher}', which the checkpoint names, "
        "is not there; expected the bridge's teacher\n"
    )
    save_stock(teacher, task, seed=2)
    err = command_line(capsys, "export", path, out, "--leaf", "bridge")[2]
    assert err == (
        f"tsa-fairseq: error: --teacher: '{teacher}' is not the file that the bridge was trained "
        "on: its SHA-256 differs; expected that file\n"
    )
    flags = ["--leaf", "bridge", "--teacher", moved]
    assert command_line(capsys, "export", path, out, *flags)[0] == 0
    err = command_line(capsys, "export", path, out, "--leaf", "bridge", "--teacher", "no.pt")[2]
    assert err == (
        "tsa-fairseq: error: --teacher: 'no.pt' does not exist; expected the bridge's teacher\n"
    )


def test_a_tree_without_a_bridge(tree, tmp_path, capsys):
    err = command_line(capsys, "export", tree, tmp_path / "out", "--leaf", "bridge")[2]
    assert err == (
        f"tsa-fairseq: error: --leaf: got 'bridge'; '{tree}' has none, which --kd-objective sokd "
        "trains\n"
    )


def test_no_validation_data(tree, data, tmp_path, capsys):
    err = command_line(capsys, "export", tree, tmp_path / "out", "--leaf", "best")[2]
    assert err == (
        f"tsa-fairseq: error: --data: '{data}' has no valid data; expected what "
        "fairseq-preprocess made\n"
    )


def meanwhile(monkeypatch, do):
    """Something happens while the best leaf is looked for."""

    def score(*_):
        do()
        return Scores("nll", (1.0, 2.0, 3.0))

    monkeypatch.setattr("tsa_fairseq.cli_export.leaf_scores", score)


def test_a_folder_that_appears_meanwhile_stays(tree, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"

    def write_thesis():
        out.mkdir()
        (out / "thesis.txt").write_text("mine")

    meanwhile(monkeypatch, write_thesis)
    err = command_line(capsys, "export", tree, out, "--leaf", "best")[2]
    assert err == (f"tsa-fairseq: error: OUT: '{out}' exists; expected a new folder, or --force\n")
    assert (out / "thesis.txt").read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {"out", "bin", "tree.pt"}


@pytest.mark.parametrize("at", [0, 1])
def test_an_interrupt_loses_nothing(at, tree, tmp_path, capsys, monkeypatch):
    """Ctrl-C right after the old export was moved away, or right before the new one comes."""
    out, rename, calls = tmp_path / "out", Path.rename, []
    command_line(capsys, "export", tree, out, "--leaf", "1")

    def interrupted(path, target):
        calls.append(path)
        if len(calls) == at + 1:
            if at == 0:
                rename(path, target)
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        command_line(capsys, "export", tree, out, "--leaf", "2", "--force")
    assert json.loads((out / "export.json").read_text())["leaf"] == 1
    assert {path.name for path in tmp_path.iterdir()} == {"out", "bin", "tree.pt"}


def test_a_mount_point(tree, tmp_path, capsys, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.setattr("tsa_fairseq.folders.os.path.ismount", lambda path: path == out)
    err = command_line(capsys, "export", tree, out, "--force")[2]
    assert err == (
        f"tsa-fairseq: error: OUT: '{out}' is a mount point; expected a folder inside it\n"
    )


@pytest.mark.parametrize("metric", ["nll", "bleu"])
def test_a_leaf_without_a_number_is_not_the_best(metric):
    better = 1.0 if metric == "nll" else 3.0
    assert Scores(metric, (math.nan, 2.0, better)).best == 2


def test_no_leaf_has_a_number(tree, data, tmp_path, capsys):
    write_valid(data, ["w1 w2 w3"])
    state = torch.load(tree, weights_only=False)
    state["model"]["encoder.layers.0.fc1.bias"][:] = math.nan
    torch.save(state, tree)
    err = command_line(capsys, "export", tree, tmp_path / "out", "--leaf", "best")[2]
    assert err.splitlines()[-1] == (
        f"tsa-fairseq: error: CHECKPOINT: '{tree}': no leaf has a nll that is a number"
    )
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_that_is_replaced_meanwhile(tree, tmp_path, capsys, monkeypatch):
    """By the training that still goes on: the best leaf of one is not that of another."""
    meanwhile(monkeypatch, lambda: tree.write_bytes(b"another"))
    err = command_line(capsys, "export", tree, tmp_path / "out", "--leaf", "best")[2]
    assert err == (
        f"tsa-fairseq: error: CHECKPOINT: '{tree}' was replaced while it was looked at; try "
        "again, or copy it first\n"
    )
    assert not (tmp_path / "out").exists()


def test_another_model_is_not_an_export(tree, data, tmp_path, capsys):
    """The files of an export without its JSON may be somebody's download."""
    out = tmp_path / "out"
    out.mkdir()
    for name in ("model.pt", "dict.de.txt", "sentencepiece.bpe.model"):
        (out / name).write_text("mine")
    err = command_line(capsys, "export", tree, out, "--force")[2]
    assert err == (
        f"tsa-fairseq: error: OUT: '{out}' holds 'dict.de.txt'; --force replaces exports alone\n"
    )
    assert len(list(out.iterdir())) == 3


def test_an_export_of_any_language_is_replaced(tree, tmp_path, capsys):
    out = tmp_path / "out"
    command_line(capsys, "export", tree, out)
    (out / "dict.en.txt").rename(out / "dict.zh-Hans.txt")
    assert command_line(capsys, "export", tree, out, "--force")[0] == 0


def test_places_that_are_no_folder(tree, tmp_path, capsys, monkeypatch):
    file, link, inside = tmp_path / "file", tmp_path / "link", tmp_path / "file" / "out"
    file.write_text("mine")
    link.symlink_to("nowhere")
    for out, said in (
        (file, "is not a folder; expected a new one"),
        (link, "is not a folder; expected a new one"),
        (inside, f"cannot be written: '{file}' is not a folder"),
    ):
        err = command_line(capsys, "export", tree, out, "--force")[2]
        assert err == f"tsa-fairseq: error: OUT: '{out}' {said}\n"
    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.chdir(out)
    err = command_line(capsys, "export", tree, ".", "--force")[2]
    assert err == (
        "tsa-fairseq: error: OUT: '.' is where this was called from; expected another folder\n"
    )


def test_new_parents_do_not_stay_behind(tree, tmp_path, capsys):
    out = tmp_path / "new" / "folder" / "out"
    with files_no_larger_than(20_000):
        err = command_line(capsys, "export", tree, out)[2]
    assert "cannot be written" in err and not (tmp_path / "new").exists()
    assert command_line(capsys, "export", tree, out)[0] == 0


def test_embeddings_from_a_file(task, data, tmp_path, capsys):
    """It is not needed where the export is used: they are in the checkpoint."""
    path, out = tmp_path / "tree.pt", tmp_path / "out"
    save_tree(path, task, data)
    state = torch.load(path, weights_only=False)
    state["cfg"]["model"].encoder_embed_path = state["cfg"]["model"].decoder_embed_path = "gone.vec"
    torch.save(state, path)
    for target in ("fairseq", "ctranslate2"):
        flags = ["--to", target, "--force"]
        assert command_line(capsys, "export", path, out, *flags)[0] == 0
        assert tsa_fairseq.load(out).translate("w3", max_len_b=3)


@pytest.mark.parametrize(
    ("breaks", "lacks"),
    [
        (lambda s: s.pop("optimizer_history"), "'optimizer_history'"),
        (lambda s: s["extra_state"].clear(), "'train_iterator' in its 'extra_state'"),
        (lambda s: s["cfg"].pop("criterion"), "'criterion' in its 'cfg'"),
        (
            lambda s: s["model"].pop("decoder.peers.2.2.fc1.bias"),
            "parameter decoder.peers.2.2.fc1.bias",
        ),
        (
            lambda s: delattr(s["cfg"]["model"], "decoder_layers"),
            "'decoder_layers' among the model's arguments",
        ),
    ],
)
def test_checkpoints_that_are_not_complete(breaks, lacks, tree, tmp_path, capsys):
    state = torch.load(tree, weights_only=False)
    breaks(state)
    torch.save(state, tree)
    err = command_line(capsys, "export", tree, tmp_path / "out")[2]
    assert err == (
        f"tsa-fairseq: error: CHECKPOINT: '{tree}' is no complete checkpoint of a tree: "
        f"no {lacks}\n"
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "one two three\n",
            "Incorrect dictionary format, expected '<token> <cnt> [flags]': \"one two\"",
        ),
        (
            "one 1\none 1\n",
            "Duplicate word found when loading Dictionary: 'one'. Duplicate words can overwrite "
            "earlier ones by adding the #fairseq:overwrite flag at the end of the corresponding "
            "row in the dictionary file. If using the Camembert model, please download an "
            "updated copy of the model file.",
        ),
    ],
)
def test_a_broken_dictionary(text, reason, tree, data, tmp_path, capsys):
    (data / "dict.en.txt").write_text(text)
    err = command_line(capsys, "export", tree, tmp_path / "out")[2]
    file = data / "dict.en.txt"
    assert err == (
        f"tsa-fairseq: error: --data: '{file}' is not a dictionary of fairseq's: {reason}\n"
    )


def test_subwords_of_something_else(tree, data, pieces, tmp_path, capsys):
    codes = tmp_path / "codes"
    codes.write_text("#version: 0.2\nt h\n")
    for path, said in (
        (codes, "is not a sentencepiece model"),
        (pieces, "has no piece that is in the model's dictionary"),
    ):
        err = command_line(capsys, "export", tree, tmp_path / "out", "--subwords", path)[2]
        assert err == f"tsa-fairseq: error: --subwords: '{path}' {said}\n"


@pytest.mark.parametrize(
    ("symbols", "text"),
    [
        (["▁ein", "▁hau", "s"], "ein haus"),
        (["ein", "hau@@", "▁", "s@@"], "ein hau▁ s"),
        (["ein", "hau@@", "s"], "ein haus"),
        (["ein", "hau", "s"], "ein hau s"),
    ],
)
def test_subwords_are_joined(symbols, text):
    """As fairseq's --remove-bpe does, told by the dictionary."""
    assert post_process(" ".join(symbols), kind_of(symbols)) == text


ALONE = """
import json, sys
sys.modules["tsa_fairseq"] = None
from fairseq.models.transformer import TransformerModel
found = {}
for folder in sys.argv[2:]:
    model = TransformerModel.from_pretrained(folder).eval()
    tokens = [model.encode(text) for text in json.loads(sys.argv[1])]
    best = [beam[0] for beam in model.generate(tokens, beam=3, max_len_b=9)]
    found[folder] = [(b["tokens"].tolist(), b["score"].item()) for b in best]
print(json.dumps(found))
"""


def test_without_the_plugin(task, data, tmp_path, capsys):
    """First and last leaf of every kind of tree, in a process that cannot import the plugin."""
    sentences, expected = ["w1 w2 w3", "w4", "w5 w6 w5 w6 w7"], {}
    for number, flags in enumerate(VARIANTS.values()):
        path = tmp_path / f"tree{number}.pt"
        save_tree(path, task, data, **flags)
        for leaf in (0, 2):
            out = str(tmp_path / f"out{number}.{leaf}")
            assert command_line(capsys, "export", path, out, "--leaf", leaf)[0] == 0
            tree = tsa_fairseq.load(path, inference=f"leaf:{leaf}")
            tokens = [tree.encode(text) for text in sentences]
            best = [beam[0] for beam in tree.generate(tokens, beam=3, max_len_b=9)]
            expected[out] = [(b["tokens"].tolist(), b["score"].item()) for b in best]
    argv = [sys.executable, "-c", ALONE, json.dumps(sentences), *expected]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found.keys() == expected.keys() and len(found) == 2 * len(VARIANTS)
    for out, hypotheses in expected.items():
        assert [tokens for tokens, _ in found[out]] == [tokens for tokens, _ in hypotheses]
        scores = [score for _, score in hypotheses]
        assert [score for _, score in found[out]] == pytest.approx(scores, abs=1e-5)
    scores = {tuple(score for _, score in hypotheses) for hypotheses in expected.values()}
    assert len(scores) == len(expected), "they differ from each other"


@pytest.mark.parametrize(
    ("symbols", "kind"),
    [
        ([*(["word"] * 99), "▁odd"], None),
        ([*(["word"] * 101), "odd@@"], None),
        ([*(["字"] * 99), "▁"], "sentencepiece"),
        ([*(["s"] * 19), "▁ein"], "sentencepiece"),
        ([*(["word"] * 99), "hau@@"], "subword_nmt"),
    ],
)
def test_odd_words_do_not_make_subwords(symbols, kind):
    assert kind_of(symbols) == kind
