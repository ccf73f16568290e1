"""A leaf as a plain checkpoint: the plain model's names, the leaf's predictions."""

import hashlib
import json
import subprocess
import sys

import pytest
import torch
from fairseq.models import ARCH_MODEL_REGISTRY
from helpers import TREE, VARIANTS, TinyTask, command_line, exactly, save_stock, save_tree

import tsa_fairseq
from tsa_fairseq.deploy.export import TreeCheckpoint
from tsa_fairseq.errors import UsageError
from tsa_fairseq.files.checkpoint import model_arguments, read_checkpoint
from tsa_fairseq.plugin.teacher import Teacher


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


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_smaller_files(dtype, task, data, tmp_path, capsys):
    """Half the size, shared embeddings stored once, and translations of the rounded parameters."""
    path, sizes = tmp_path / "tree.pt", []
    save_tree(path, task, data, share_all_embeddings=True, encoder_ffn_embed_dim=4000)
    for name in ("float32", str(dtype).removeprefix("torch.")):
        out = tmp_path / name
        assert command_line(capsys, "export", path, out, "--dtype", name)[0] == 0
        sizes.append((out / "model.pt").stat().st_size)
    assert sizes[1] < 0.55 * sizes[0]
    whole, small = (
        torch.load(tmp_path / name / "model.pt", weights_only=True)["model"]
        for name in ("float32", str(dtype).removeprefix("torch."))
    )
    assert small.keys() == whole.keys()
    for name, tensor in small.items():
        if name.endswith(".version"):
            assert tensor.item() == 3.0
        else:
            assert tensor.dtype == dtype and torch.equal(tensor, whole[name].to(dtype))
    sides = ("decoder.embed_tokens", "decoder.output_projection", "encoder.embed_tokens")
    assert len({small[f"{side}.weight"].data_ptr() for side in sides}) == 1
    loaded = tsa_fairseq.load(out)
    assert loaded.translate("w3 w4", max_len_b=3)
    weight = loaded.models[0].encoder.layers[0].fc1.weight
    assert weight.dtype == torch.float32
    assert torch.equal(weight, small["encoder.layers.0.fc1.weight"].float())


def test_the_folder_is_ready_to_use(pieces, pieces_data, tmp_path, capsys):
    out, tree, data = tmp_path / "out", tmp_path / "tree.pt", pieces_data
    task = TinyTask(4 + len((data / "dict.en.txt").read_text().splitlines()))
    save_tree(tree, task, data)
    status, shown, _ = command_line(
        capsys, "export", tree, out, "--leaf", "1", "--subwords", pieces
    )
    assert status == 0
    assert {path.name for path in out.iterdir()} == {
        "model.pt", "dict.de.txt", "dict.en.txt", "sentencepiece.bpe.model", "export.json",
        "README.md",
    }  # fmt: skip
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
        f"tsa-fairseq translate {out}",
    ]


def test_all_leaves(tree, tmp_path, capsys):
    assert command_line(capsys, "export", tree, tmp_path / "out", "--leaf", "all")[0] == 0
    said = [
        json.loads((tmp_path / "out" / f"leaf{k}" / "export.json").read_text()) for k in range(3)
    ]
    assert [one["leaf"] for one in said] == [0, 1, 2]


def test_an_exported_leaf_can_be_a_teacher(tree, task, tmp_path, capsys):
    command_line(capsys, "export", tree, tmp_path / "out")
    assert Teacher(str(tmp_path / "out" / "model.pt"), task).num_layers == 3


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
    assert err == (
        f"tsa-fairseq: error: CHECKPOINT: '{tree}' is damaged: its archive is not whole, or not of "
        "torch's kind\n"
    )
    assert not list(tmp_path.glob("out*"))


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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            dict(kd_teacher_layout=None),
            "--leaf: got 'bridge'; '{path}' does not say how large its teacher is",
        ),
        (
            dict(kd_teacher="/proc/self/pagemap"),  # a file that has no size, and no end
            "--teacher: '/proc/self/pagemap' is not the file that the bridge was trained on: its "
            "SHA-256 differs; expected that file",
        ),
    ],
)
def test_a_bridge_that_says_nothing_true(changes, message, task, data, tmp_path, capsys):
    teacher, path = tmp_path / "teacher.pt", tmp_path / "tree.pt"
    save_stock(teacher, task)
    save_tree(path, task, data, objective="sokd", teacher=teacher)
    state = torch.load(path, weights_only=False)
    vars(state["cfg"]["model"]).update(changes)
    torch.save(state, path)
    err = command_line(capsys, "export", path, tmp_path / "out", "--leaf", "bridge")[2]
    assert err == f"tsa-fairseq: error: {message.format(path=path)}\n"


def test_a_tree_without_a_bridge(tree, tmp_path, capsys):
    err = command_line(capsys, "export", tree, tmp_path / "out", "--leaf", "bridge")[2]
    assert err == (
        f"tsa-fairseq: error: --leaf: got 'bridge'; '{tree}' has none, which --kd-objective sokd "
        "trains\n"
    )


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


def test_a_checkpoint_that_is_replaced_while_it_is_read(tree, monkeypatch):
    """By a training: its SHA-256, which the export notes, would be of another one."""

    def read(path, flag):
        state = read_checkpoint(path, flag)
        tree.write_bytes(b"another")
        return state

    monkeypatch.setattr("tsa_fairseq.deploy.export.read_checkpoint", read)
    message = (
        f"CHECKPOINT: '{tree}' was replaced while it was looked at; try again, or copy it first"
    )
    with pytest.raises(UsageError, match=exactly(message)):
        TreeCheckpoint.read(str(tree))
