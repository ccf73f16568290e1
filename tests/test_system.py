"""The real command line, on a translation task that a tiny model learns in seconds.

Sequences of digits are translated into German number words, one word a digit.
"""

import json
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import fairseq_cli.generate
import fairseq_cli.interactive
import fairseq_cli.train
import pytest
import torch

import tsa_fairseq
from tsa_fairseq.cli.main import main
from tsa_fairseq.files.checkpoint import read_checkpoint
from tsa_fairseq.objectives import OBJECTIVES
from tsa_fairseq.plugin.criterion import TSAOnlineKDCriterion

PLUGIN = str(Path(tsa_fairseq.__file__).parent)
WORDS = "null eins zwei drei vier fünf sechs sieben acht neun".split()
DIMENSIONS = [
    *("--encoder-layers", "1", "--decoder-layers", "2"),
    *("--encoder-embed-dim", "32", "--encoder-ffn-embed-dim", "64"),
    *("--decoder-embed-dim", "32", "--decoder-ffn-embed-dim", "64"),
    *("--encoder-attention-heads", "2", "--decoder-attention-heads", "2"),
]
TRAINING = [
    *("--optimizer", "adam", "--lr", "0.005", "--lr-scheduler", "inverse_sqrt"),
    *("--warmup-updates", "20", "--max-tokens", "500", "--label-smoothing", "0.1"),
    # no thread that prepares batches: one still at work when a short run ends may abort the process
    *("--data-buffer-size", "0"),
    *("--cpu", "--num-workers", "0", "--log-format", "json"),
]
TREE = [
    *("--arch", "tsa_transformer", "--tree", "1,3"),
    *("--criterion", "tsa_online_kd", "--kd-alpha", "0.3", "--kd-rampup-updates", "40"),
]
PLAIN = ["--arch", "transformer", "--criterion", "label_smoothed_cross_entropy"]
UPDATES = 140


def command(name, *args, **kwargs):
    """Run one of fairseq's commands, as a user would."""
    program = f"import sys; from fairseq_cli.{name} import cli_main; sys.exit(cli_main())"
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, args)], capture_output=True, text=True, **kwargs
    )


def succeeded(done):
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


def train(data, save, *flags):
    arguments = ["--user-dir", PLUGIN, *DIMENSIONS, *TRAINING, "--save-dir", save, *flags]
    return succeeded(command("train", data, *arguments))


def logged(output, kind):
    """The figures of every log line of one kind: train_inner, train or valid."""
    marker = f"| INFO | {kind} | "
    return [json.loads(s.split(marker)[1]) for s in output.splitlines() if marker in s]


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    root, draw = tmp_path_factory.mktemp("digits"), random.Random(0)
    for split, count in [("train", 3000), ("valid", 100), ("test", 100)]:
        lines = [[draw.randrange(10) for _ in range(draw.randint(2, 5))] for _ in range(count)]
        for side, word in [("digits", str), ("words", WORDS.__getitem__)]:
            text = "".join(" ".join(map(word, line)) + "\n" for line in lines)
            (root / f"{split}.{side}").write_text(text, encoding="utf-8")
    prefixes = [f(split) for split in ("train", "valid", "test")
                for f in (lambda s: f"--{s}pref", lambda s: root / s)]  # fmt: skip
    succeeded(command("preprocess", "-s", "digits", "-t", "words", *prefixes,
                      "--destdir", root / "bin", "--workers", "1"))  # fmt: skip
    return root / "bin"


@pytest.fixture(scope="session")
def trained(data, tmp_path_factory):
    """A save directory and what was printed while training into it."""
    root = tmp_path_factory.mktemp("trained")
    output = train(
        data, root / "save", *TREE,
        *("--max-update", UPDATES, "--save-interval-updates", UPDATES // 2),
        *("--log-interval", "20", "--update-epoch-batch-itr", "True"),
        *("--tensorboard-logdir", root / "tensorboard"),
        *("--eval-bleu", "--eval-bleu-args", '{"beam": 2}'),
        *("--best-checkpoint-metric", "nll_ensemble"),
    )  # fmt: skip
    return root, output


def test_it_learns(trained):
    _, output = trained
    first, last = logged(output, "train_inner")[0], logged(output, "valid")[-1]
    # log2(10) = 3.3 bits is what guessing a digit costs; the end of the sentence adds to it
    assert float(first["nll_loss"]) > 2.5
    assert float(last["valid_nll_loss"]) < 1.2
    assert float(last["valid_bleu"]) > 40
    for leaf in range(3):
        assert float(last[f"valid_nll_leaf{leaf}"]) < 1.2
    assert last["valid_nll_leaf0"] == last["valid_nll_loss"]
    best = min(float(entry["valid_nll_ensemble"]) for entry in logged(output, "valid"))
    assert float(last["valid_best_nll_ensemble"]) == best


def test_figures_are_shown_in_training_and_validation(trained):
    _, output = trained
    names = {"loss", "nll_loss", "ppl", "nll_leaf0", "nll_leaf1", "nll_leaf2", "nll_ensemble"}
    names |= {"kd_loss", "kd_weight", "pairwise_kl", "disagreement"}
    assert names <= logged(output, "train_inner")[0].keys()
    assert {f"valid_{name}" for name in names} <= logged(output, "valid")[0].keys()
    weights = [float(entry["kd_weight"]) for entry in logged(output, "train_inner")]
    assert weights[0] < weights[1] < 0.3 and weights[-1] == 0.3
    assert "objective tsa: (1/K) Σ_k [(1-a) CE_k + a 1² mean_{j≠k} KL(p_k ‖ p_j)" in output


def test_tensorboard_gets_the_figures(trained):
    root, _ = trained
    events = b"".join(p.read_bytes() for p in (root / "tensorboard").rglob("events*"))
    assert b"nll_ensemble" in events and b"disagreement" in events


def test_stopped_and_resumed_equals_never_stopped(data, trained, tmp_path):
    """In the middle of an epoch; without --update-epoch-batch-itr, fairseq itself would go on with
    other batches in every epoch but the first."""
    root, output = trained
    (half,) = (root / "save").glob(f"checkpoint_*_{UPDATES // 2}.pt")
    shutil.copy(half, tmp_path / "checkpoint_last.pt")
    again = train(data, tmp_path, *TREE, "--max-update", UPDATES, "--log-interval", "20",
                  "--update-epoch-batch-itr", "True")  # fmt: skip
    states = [read_checkpoint(str(d / "checkpoint_last.pt"), "") for d in (root / "save", tmp_path)]
    assert states[0]["optimizer_history"][-1]["num_updates"] == UPDATES
    for name, tensor in states[0]["model"].items():
        assert torch.equal(states[1]["model"][name], tensor), name
    losses = [logged(text, "train_inner")[-1]["loss"] for text in (output, again)]
    assert losses[0] == losses[1]


def test_one_leaf_trains_bit_for_bit_as_the_plain_transformer(data, tmp_path):
    curves, models = [], []
    one_leaf = ["--arch", "tsa_transformer", "--tree", "2", "--criterion", "tsa_online_kd",
                "--kd-loss", "dense"]  # fmt: skip
    for name, flags in [("plain", PLAIN), ("tree", one_leaf)]:
        output = train(data, tmp_path / name, *flags, "--max-update", "20", "--log-interval", "1",
                       "--dropout", "0.3", "--update-freq", "2")  # fmt: skip
        figures = ("loss", "nll_loss", "ppl", "gnorm")
        curves.append([[e[figure] for figure in figures] for e in logged(output, "train_inner")])
        path = str(tmp_path / name / "checkpoint_last.pt")
        models.append(read_checkpoint(path, "")["model"])
    assert len(curves[0]) == 20
    assert curves[0] == curves[1]
    assert list(models[0]) == list(models[1])
    for name, tensor in models[0].items():
        assert torch.equal(models[1][name], tensor), name


@pytest.mark.parametrize("precision", [[], ["--memory-efficient-fp16"]])
def test_fused_and_dense_train_alike(precision, data, tmp_path):
    """30 updates: the losses as they are logged, and how well leaf 0 does at the end."""
    curves, ends = [], []
    for name, flags in [("dense", []), ("fused", ["--kd-block-tokens", "50"])]:
        output = train(data, tmp_path / name, *TREE, "--kd-loss", name, *flags, *precision,
                       "--max-update", "30", "--log-interval", "1")  # fmt: skip
        curves.append([float(entry["loss"]) for entry in logged(output, "train_inner")])
        ends.append(float(logged(output, "valid")[-1]["valid_nll_loss"]))
    assert len(curves[0]) == 30 and curves[0][-1] < 0.8 * curves[0][0]
    tolerance = 0.02 if precision else 0.002
    assert curves[1] == pytest.approx(curves[0], abs=tolerance)
    assert ends[1] == pytest.approx(ends[0], abs=tolerance)


def hypotheses(output):
    lines = [line[2:].split("\t") for line in output.splitlines() if line.startswith("H-")]
    return {int(number): text for number, _, text in lines}


def generate(data, path, *flags):
    # by default fairseq leaves out a last group of fewer than eight sentences
    every_sentence = ("--required-batch-size-multiple", "1")
    arguments = ["--user-dir", PLUGIN, "--path", path, "--cpu", "--beam", "2", *every_sentence]
    return hypotheses(succeeded(command("generate", data, *arguments, *flags)))


def test_generate_translates_by_every_leaf(data, trained):
    root, _ = trained
    path = root / "save" / "checkpoint_best.pt"
    digits = (data.parent / "test.digits").read_text().splitlines()
    expected = [[WORDS[int(d)] for d in line.split()] for line in digits]
    for leaf in (0, 2):
        overrides = ["--model-overrides", f"{{'tree_inference': 'leaf:{leaf}'}}"] if leaf else []
        found = generate(data, path, *overrides)
        right = sum(
            word == other
            for number, text in found.items()
            for word, other in zip(expected[number], text.split(), strict=False)
        )
        assert len(found) == 100
        # a guess is right one time in ten
        assert right / sum(map(len, expected)) > 0.5


def test_all_leaves_translate_together(data, trained):
    root, _ = trained
    path = root / "save" / "checkpoint_best.pt"
    together = generate(data, path, "--model-overrides", "{'tree_inference': 'ensemble'}")
    alone = generate(data, path)
    digits = (data.parent / "test.digits").read_text().splitlines()
    expected = [" ".join(WORDS[int(d)] for d in line.split()) for line in digits]

    def right(found):
        return sum(text == expected[number] for number, text in found.items())

    assert together != alone and len(together) == 100
    assert right(together) >= right(alone) - 5


WITHOUT_PLUGIN = "import sys; sys.modules['tsa_fairseq'] = None; "


def test_an_exported_leaf_needs_no_plugin(data, trained, tmp_path):
    """Hypotheses and scores of the leaf, in fairseq alone; from Python; and trained further."""
    root, _ = trained
    path, out = root / "save" / "checkpoint_best.pt", tmp_path / "out"
    exported = subprocess.run(
        [sys.executable, "-m", "tsa_fairseq.cli.main", "export", path, out, "--leaf", "best"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    leaf = json.loads((out / "export.json").read_text())["leaf"]
    nll = re.search(r"^validation nll, bits a token: leaf 0 ([\d.]+), leaf 1 ([\d.]+), "
                    r"leaf 2 ([\d.]+)$", exported.stdout, re.MULTILINE).groups()  # fmt: skip
    assert leaf == min(range(3), key=lambda k: float(nll[k]))

    def alone(name, *arguments):
        program = WITHOUT_PLUGIN + f"from fairseq_cli.{name} import cli_main; cli_main()"
        argv = [sys.executable, "-c", program, *map(str, arguments)]
        return succeeded(subprocess.run(argv, capture_output=True, text=True))

    def scored(output):
        return [line for line in output.splitlines() if line.startswith("H-")]

    common = ["--cpu", "--beam", "2"]
    overrides = ["--model-overrides", f"{{'tree_inference': 'leaf:{leaf}'}}"]
    of_leaf = succeeded(
        command("generate", data, "--user-dir", PLUGIN, "--path", path, *common, *overrides)
    )
    of_export = alone("generate", data, "--path", out / "model.pt", *common)
    assert scored(of_export) == scored(of_leaf) and scored(of_leaf)

    program = WITHOUT_PLUGIN + (
        "from fairseq.models.transformer import TransformerModel as T; "
        "print(T.from_pretrained(sys.argv[1]).eval().translate(['3 1 4'], beam=2))"
    )
    argv = [sys.executable, "-c", program, str(out)]
    assert "drei" in succeeded(subprocess.run(argv, capture_output=True, text=True))
    further = alone("train", data, *DIMENSIONS, *TRAINING, *PLAIN, "--save-dir", tmp_path / "more",
                    "--finetune-from-model", out / "model.pt", "--max-update", "1", "--lr", "0",
                    "--warmup-init-lr", "0",
                    "--required-batch-size-multiple", "1")  # fmt: skip
    found = float(logged(further, "valid")[-1]["valid_nll_loss"])
    assert found == pytest.approx(float(nll[leaf]), abs=2e-3)


def test_the_ensemble_is_fairseqs_of_the_exported_leaves(data, trained, tmp_path):
    """Through the command line: the same hypotheses, and scores that agree."""
    root, _ = trained
    path, out = root / "save" / "checkpoint_best.pt", tmp_path / "out"
    subprocess.run(
        [sys.executable, "-m", "tsa_fairseq.cli.main", "export", path, out, "--leaf", "all"],
        capture_output=True, check=True,
    )  # fmt: skip
    leaves = ":".join(str(out / f"leaf{leaf}" / "model.pt") for leaf in range(3))

    def scored(path, *flags):
        output = succeeded(command("generate", data, "--path", path, "--cpu", *flags))
        lines = [line.split("\t") for line in output.splitlines() if line.startswith("H-")]
        return {number: (words, float(score)) for number, score, words in lines}

    together = ["--user-dir", PLUGIN, "--model-overrides", "{'tree_inference': 'ensemble'}"]
    found, expected = scored(path, *together), scored(leaves)
    assert len(found) >= 96 and found.keys() == expected.keys()
    for number, (words, score) in found.items():
        assert words == expected[number][0]
        assert score == pytest.approx(expected[number][1], abs=1e-5)


def test_validate_gives_what_training_logged(data, trained):
    root, output = trained
    path = root / "save" / "checkpoint_last.pt"
    done = command("validate", data, "--task", "translation", "--user-dir", PLUGIN,
                   "--path", path, "--cpu", "--max-tokens", "500")  # fmt: skip
    line = succeeded(done)
    last = logged(output, "valid")[-1]
    for name in ("loss", "nll_loss", "nll_leaf2", "nll_ensemble"):
        assert f"{name} {last[f'valid_{name}']}" in line
    assert "kd_weight 0.3" in line


def test_interactive_translates(data, trained):
    root, _ = trained
    done = command("interactive", data, "--user-dir", PLUGIN, "--cpu", "--beam", "2",
                   "--path", root / "save" / "checkpoint_best.pt", input="3 1 4\n")  # fmt: skip
    found = hypotheses(succeeded(done))
    assert set(found[0].split()) <= set(WORDS) and len(found[0].split()) >= 2


def test_unknown_words_are_not_replaced(data, trained, in_process):
    root, _ = trained
    with pytest.raises(SystemExit) as raised:
        in_process(fairseq_cli.interactive, data, "--user-dir", PLUGIN, "--cpu",
                   "--path", root / "save" / "checkpoint_best.pt", "--replace-unk")  # fmt: skip
    assert raised.value.code == (
        "error: --replace-unk: got '@@ '; fairseq fails with it at the first unknown word, with "
        "this and any other model: expected --print-alignment, to replace by what it prints"
    )


def test_layers_to_keep_of_an_exported_leaf(data, trained, tmp_path, in_process, capsys):
    """What the refusal with a tree advises."""
    root, _ = trained
    path, out = root / "save" / "checkpoint_best.pt", tmp_path / "out"
    assert main(["export", str(path), str(out)]) == 0
    keep = "{'encoder_layers_to_keep': '0', 'decoder_layers_to_keep': '0'}"
    for model, flags in ((path, ["--user-dir", PLUGIN]), (out / "model.pt", [])):
        argv = [data, "--path", model, "--cpu", *flags, "--model-overrides", keep]
        argv += ["--required-batch-size-multiple", "1"]
        capsys.readouterr()
        if flags:
            with pytest.raises(SystemExit, match="-layers-to-keep: got '0'"):
                in_process(fairseq_cli.generate, *argv)
        else:
            in_process(fairseq_cli.generate, *argv)
            assert len(hypotheses(capsys.readouterr().out)) == 100


def test_warm_start_from_a_stock_checkpoint(data, tmp_path):
    """The plain model's figures are leaf 0's, and the checkpoint no longer needs that file."""
    plain = train(data, tmp_path / "plain", *PLAIN, "--max-update", "10")
    start = tmp_path / "plain" / "checkpoint_last.pt"
    flags = [*TREE, "--tree-init-from", start, "--max-update", "1", "--lr", "0",
             "--warmup-init-lr", "0"]  # fmt: skip
    output = train(data, tmp_path / "tree", *flags)
    before, after = (logged(text, "valid")[-1]["valid_nll_loss"] for text in (plain, output))
    assert before == after
    shutil.rmtree(tmp_path / "plain")
    assert len(generate(data, tmp_path / "tree" / "checkpoint_last.pt")) == 100


def test_a_refusal_is_one_line_and_nothing_is_written(data, tmp_path):
    done = command("train", data, "--user-dir", PLUGIN, *DIMENSIONS, *TRAINING, *TREE,
                   "--tree", "2[1,1]", "--save-dir", tmp_path / "save")  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: --tree: '2[1,1]' has a path of 3 layers; every path must have --decoder-layers = 2"
    ]
    assert not (tmp_path / "save").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            [*TREE, "--kd-alpha", "1.2"],
            "error: --kd-alpha: got 1.2; expected a number from 0 to 1",
        ),
        (
            [*TREE, "--kd-temperature", "0"],
            "error: --kd-temperature: got 0; expected a number from 0.01 to 10000",
        ),
        (
            [*TREE, "--kd-objective", "x"],
            f"error: --kd-objective: got 'x'; expected one of {', '.join(OBJECTIVES)}",
        ),
        (
            [*TREE, "--tree", "2", "--kd-objective", "dml"],
            "error: --kd-objective: got 'dml', which needs 2 leaves or --kd-views 2; "
            "the tree '2' has 1 leaf: expected one of kd, sokd, none, or a tree that branches",
        ),
        (
            [*TREE, "--tree", "1,2", "--kd-objective", "okddip"],
            "error: --kd-objective: got 'okddip', which needs 3 leaves or more; "
            "the tree '1,2' has 2 leaves",
        ),
        (
            [*TREE, "--kd-objective", "one", "--kd-teacher", "x.pt"],
            "error: --kd-teacher: got 'x.pt' with --kd-objective one, which takes no teacher; "
            "expected one of kd, sokd",
        ),
        (
            [*TREE, "--kd-objective", "kd", "--kd-teacher", "nowhere.pt"],
            "error: --kd-teacher: 'nowhere.pt' does not exist or is not a file",
        ),
        (
            [*TREE, "--tree-inference", "leaf:3"],
            "error: --tree-inference: got 'leaf:3'; the tree '1,3' has leaf:0 to leaf:2",
        ),
        (
            [*TREE, "--tree-init-from", "nowhere.pt"],
            "error: --tree-init-from: 'nowhere.pt' does not exist or is not a file",
        ),
        (
            [*TREE, "--adaptive-softmax-cutoff", "5"],
            "error: --adaptive-softmax-cutoff: got '[5]'; it cannot be used with a tree: "
            "the leaves' predictions must be over the whole vocabulary",
        ),
        (
            [*TREE, "--encoder-layers-to-keep", "0"],
            "error: --encoder-layers-to-keep: got '[0]'; it cannot be used with a tree: fairseq "
            "would drop the decoder's layers with the encoder's; an exported leaf takes it "
            "together with --decoder-layers-to-keep",
        ),
        (
            [*TREE, "--quant-noise-scalar", "0.1"],
            "error: --quant-noise-scalar: got '0.1'; it cannot be used with a tree: the leaves' "
            "loss would read the output matrix without the noise; --quant-noise-pq can",
        ),
        (
            [*TREE, "--ignore-prefix-size", "6"],  # five words at most, and the end
            "error: --ignore-prefix-size: got 6, which leaves nothing of any sentence; expected "
            "less than 6, the tokens of the longest target with its end",
        ),
        (
            [*TREE[:4], "--criterion", "label_smoothed_cross_entropy"],
            "error: --criterion: got 'label_smoothed_cross_entropy', which would train leaf 0 "
            "of the tree '1,3' alone; expected tsa_online_kd",
        ),
        (
            [*TREE, "--kd-block-tokens", "0"],
            "error: --kd-block-tokens: got 0; expected 1 or more",
        ),
        (
            [*TREE, "--kd-temperature", "1e-39"],
            "error: --kd-temperature: got 1e-39; expected a number from 0.01 to 10000",
        ),
        (
            [*PLAIN, "--criterion", "tsa_online_kd"],
            "error: --criterion: got 'tsa_online_kd', which needs a tree: "
            "expected --arch tsa_transformer or a named one, not TransformerModel",
        ),
    ],
)
def test_refused_by_fairseq_train(flags, message, data, tmp_path, monkeypatch):
    save = tmp_path / "save"
    argv = [str(data), "--user-dir", PLUGIN, *DIMENSIONS, *TRAINING, "--save-dir", str(save)]
    monkeypatch.setattr(sys, "argv", ["fairseq-train", *argv, *flags])
    with pytest.raises(SystemExit) as raised:
        fairseq_cli.train.cli_main()
    assert raised.value.code == message
    assert not list(save.glob("[!.]*"))  # the lock is this process's until it ends


@pytest.fixture
def in_process(monkeypatch):
    """in_process(module, *arguments): a command without the seconds that an import takes."""

    def run(module, *arguments):
        monkeypatch.setattr(sys, "argv", ["fairseq", *map(str, arguments)])
        module.cli_main()

    return run


@pytest.fixture(scope="session")
def teacher(data, tmp_path_factory):
    """A plain Transformer, larger than the student."""
    save = tmp_path_factory.mktemp("teacher")
    train(data, save, *PLAIN, "--decoder-embed-dim", "48", "--max-update", "30")
    return save / "checkpoint_last.pt"


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_trains_goes_on_and_translates(
    name, data, teacher, tmp_path, in_process, capsys
):
    """30 updates; from the 20th again, bit for bit the same; leaf 0 translates, teacher or not."""
    teacher = shutil.copy(teacher, tmp_path / "teacher.pt")
    flags = ["--arch", "tsa_transformer", "--criterion", "tsa_online_kd", "--kd-objective", name]
    flags += [] if OBJECTIVES[name].views > 1 else ["--tree", "1,3"]
    with_teacher = [*flags, "--kd-teacher", teacher] if OBJECTIVES[name].needs_teacher else flags
    if name in ("okddip", "sokd"):
        views = ["--kd-views", "2", "--kd-view-cut", "0.1"]
        flags, with_teacher = [*flags, *views], [*with_teacher, *views]
    common = [data, "--user-dir", PLUGIN, *DIMENSIONS, *TRAINING, "--max-update", "30"]
    common += ["--update-epoch-batch-itr", "True", "--dropout", "0.1"]
    whole, again = tmp_path / "whole", tmp_path / "again"
    in_process(fairseq_cli.train, *common, *with_teacher, "--save-dir", whole,
               "--save-interval-updates", "20")  # fmt: skip
    again.mkdir()
    shutil.copy(whole / "checkpoint_1_20.pt", again / "checkpoint_last.pt")
    # objective and teacher are found again, and so is the tree of R-Drop and SimCut
    flags = [flag for flag in flags if flag not in ("--kd-objective", name)]
    in_process(fairseq_cli.train, *common, *flags, "--save-dir", again)
    states = [read_checkpoint(str(d / "checkpoint_last.pt"), "") for d in (whole, again)]
    assert states[1]["optimizer_history"][-1]["num_updates"] == 30
    for parameter, tensor in states[0]["model"].items():
        assert torch.equal(states[1]["model"][parameter], tensor), parameter
    heads = {n.split(".")[1] for n in states[0]["model"] if n.startswith("heads.")}
    assert heads == {OBJECTIVES[name].head} - {None}
    teacher.unlink()
    capsys.readouterr()
    in_process(fairseq_cli.generate, data, "--user-dir", PLUGIN, "--cpu", "--beam", "2",
               "--required-batch-size-multiple", "1",
               "--path", again / "checkpoint_last.pt")  # fmt: skip
    assert len(hypotheses(capsys.readouterr().out)) == 100


def test_another_objective_needs_another_start(data, tmp_path, in_process):
    """Refused on resume; from the parameters alone it goes on, with heads of its own."""
    common = [data, "--user-dir", PLUGIN, *DIMENSIONS, *TRAINING, *TREE]
    first, second = tmp_path / "first", tmp_path / "second"
    in_process(fairseq_cli.train, *common, "--kd-objective", "one", "--save-dir", first,
               "--max-update", "3")  # fmt: skip
    last = first / "checkpoint_last.pt"
    written = last.read_bytes()
    with pytest.raises(SystemExit) as raised:
        in_process(fairseq_cli.train, *common, "--kd-objective", "okddip", "--save-dir", first,
                   "--max-update", "6")  # fmt: skip
    assert raised.value.code == (
        f"error: --kd-objective: got 'okddip', but '{last}' was trained with one; expected one, "
        "another --save-dir, or --reset-optimizer to start anew from its parameters"
    )
    assert last.read_bytes() == written
    in_process(fairseq_cli.train, *common, "--kd-objective", "okddip", "--save-dir", second,
               "--finetune-from-model", last, "--max-update", "1", "--lr", "0",
               "--warmup-init-lr", "0")  # fmt: skip
    states = [read_checkpoint(str(d / "checkpoint_last.pt"), "")["model"] for d in (first, second)]
    assert {n.split(".")[1] for n in states[1] if n.startswith("heads.")} == {"peer_attention"}
    for name, tensor in states[0].items():
        assert name.startswith("heads.") or torch.equal(states[1][name], tensor), name


@pytest.mark.slow
def test_an_average_to_go_on_from(data, tmp_path, in_process):
    """Refused before anything is written, with either criterion; as a new start it is taken."""
    common = [data, "--user-dir", PLUGIN, *DIMENSIONS, *TRAINING]
    one_leaf = ["--arch", "tsa_transformer", "--tree", "2", *PLAIN[2:]]
    for name, flags in (("tree", TREE), ("one_leaf", one_leaf)):
        first, second = tmp_path / name, tmp_path / f"{name}.again"
        in_process(fairseq_cli.train, *common, *flags, "--save-dir", first, "--max-update", "3")
        mean = tmp_path / f"{name}.pt"
        assert main(["average", str(mean), str(first / "checkpoint_last.pt")]) == 0
        on = [*common, *flags, "--save-dir", second, "--max-update", "5"]
        with pytest.raises(SystemExit) as raised:
            in_process(fairseq_cli.train, *on, "--restore-file", mean)
        assert raised.value.code == (
            f"error: --restore-file: '{mean}' has no optimizer state, like an average or an "
            "export: training would begin again at update 0; expected a checkpoint to go on with, "
            "or, to start another training from its parameters, --finetune-from-model with a new "
            "--save-dir, or --reset-optimizer"
        )
        assert not second.exists()
        for start in ("--restore-file", "--finetune-from-model"):
            meant = [start, mean, *(["--reset-optimizer"] if start == "--restore-file" else [])]
            in_process(fairseq_cli.train, *on, *meant)
            state = read_checkpoint(str(second / "checkpoint_last.pt"), "")
            assert state["optimizer_history"][-1]["num_updates"] == 5
            shutil.rmtree(second)


def test_what_validation_leaves_out_is_said_once(data, tmp_path, in_process, monkeypatch, caplog):
    """As many as the criterion is not given then, also of batches cut by length."""
    validated, forward = [], TSAOnlineKDCriterion.forward

    def counting(self, model, sample, *args, **kwargs):
        if not model.training:
            validated.append(len(sample["target"]))
        return forward(self, model, sample, *args, **kwargs)

    monkeypatch.setattr(TSAOnlineKDCriterion, "forward", counting)
    in_process(fairseq_cli.train, data, "--user-dir", PLUGIN, *DIMENSIONS, *TRAINING, *TREE,
               "--max-tokens-valid", "50", "--max-update", "1", "--save-dir", tmp_path)  # fmt: skip
    assert sum(validated) == 96 and len(validated) == 10
    said = [r.message for r in caplog.records if r.name == "tsa_fairseq.plugin.left_out"]
    assert said == [
        "--required-batch-size-multiple: got 8, by which a last batch of another size is left out, "
        "in validation 4 of 100 sentences of 'valid'; expected 1, which leaves out none"
    ]


def test_a_teacher_with_other_words(data, teacher, tmp_path, in_process):
    """The same number of them: of the other side's digits and words, in another order."""
    lines = (data / "dict.words.txt").read_text().splitlines()
    moved = tmp_path / "bin"
    shutil.copytree(data, moved)
    (moved / "dict.words.txt").write_text("\n".join(lines[::-1]) + "\n")
    with pytest.raises(SystemExit) as raised:
        in_process(fairseq_cli.train, moved, "--user-dir", PLUGIN, *DIMENSIONS, *TRAINING, *TREE,
                   "--kd-objective", "kd", "--kd-teacher", teacher, "--max-update", "1",
                   "--save-dir", tmp_path / "save")  # fmt: skip
    first, last = (line.split()[0] for line in (lines[0], lines[-1]))
    assert raised.value.code == (
        f"error: --kd-teacher: '{teacher}' was trained with another target dictionary, "
        f"'{data / 'dict.words.txt'}': word 4 is '{first}' there and '{last}' here; "
        "expected the same dictionary"
    )
    assert not list((tmp_path / "save").glob("[!.]*"))


def test_a_bridge_deeper_than_its_teacher(data, teacher, tmp_path, in_process):
    """Said while the command line is read, which is before any other process is started."""
    with pytest.raises(SystemExit) as raised:
        in_process(fairseq_cli.train, data, "--user-dir", PLUGIN, *DIMENSIONS, *TRAINING, *TREE,
                   "--kd-objective", "sokd", "--kd-teacher", teacher, "--kd-bridge-layers", "3",
                   "--save-dir", tmp_path / "save")  # fmt: skip
    assert raised.value.code == (
        f"error: --kd-bridge-layers: got 3; '{teacher}' has 2 decoder layers: expected 1 to 2"
    )
    assert not (tmp_path / "save").exists()


def test_a_tree_of_one_leaf_distils_nothing_by_itself(data, tmp_path):
    output = train(data, tmp_path, "--arch", "tsa_transformer", "--tree", "2",
                   "--criterion", "tsa_online_kd", "--max-update", "1")  # fmt: skip
    assert "objective none: (1/K) Σ_k CE_k" in output
