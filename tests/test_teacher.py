import argparse
import copy
import pathlib

import pytest
import torch
from helpers import TinyTask, exactly, save_stock

from tsa_fairseq.errors import UsageError
from tsa_fairseq.files.checksums import checksum
from tsa_fairseq.plugin.kd_flags import objective_from_flags
from tsa_fairseq.plugin.resume import follow_checkpoint
from tsa_fairseq.plugin.teacher import Teacher


@pytest.fixture
def path(task, tmp_path):
    path = str(tmp_path / "teacher.pt")
    save_stock(path, task, dropout=0.3)
    return path


def change(path, edit):
    state = torch.load(path, weights_only=True)
    edit(state)
    torch.save(state, path)
    return path


def test_a_teacher_predicts_as_its_checkpoint_does(path, task, batch):
    """Without dropout, however it was trained, and whatever the random state is."""
    expected = save_stock(path, task, dropout=0.3).eval()(**batch["net_input"])[0]
    state = torch.get_rng_state()
    teacher = Teacher(path, task)
    assert torch.equal(torch.get_rng_state(), state), "loading it changes no later draw"
    found = teacher(batch["net_input"], torch.zeros(1), 0)
    features, matrix = found.prediction
    torch.testing.assert_close(features @ matrix.t(), expected)
    assert not features.requires_grad and not matrix.requires_grad
    torch.testing.assert_close(found.state.transpose(0, 1), features)


def test_a_teacher_takes_the_students_type(path, task, batch):
    teacher = Teacher(path, task)
    found = teacher(batch["net_input"], torch.zeros(1, dtype=torch.bfloat16), 1)
    assert found.prediction.features.dtype == found.state.dtype == torch.bfloat16


@pytest.mark.parametrize("sizes", [dict(decoder_layers=1), dict(decoder_embed_dim=24)])
def test_larger_and_smaller_teachers(sizes, path, task, build, batch, criterion):
    save_stock(path, task, **sizes)
    tested = criterion(kd_objective="kd", kd_teacher=path, kd_alpha=1.0)
    loss, _, logs = tested(build(tree="2[1,1]"), batch)
    assert loss.isfinite() and logs["kd_loss"] > 0 and logs["nll_teacher"] > 0


def test_one_leaf_learns_from_a_teacher(path, build, batch, criterion):
    """It is the plain Transformer distilled the classic way; the log says so."""
    tested = criterion(kd_objective="kd", kd_teacher=path)
    loss, _, logs = tested(build(tree="3"), batch)
    assert {"kd_loss", "kd_weight", "nll_teacher"} <= logs.keys()
    assert "pairwise_kl" not in logs
    assert logs["kd_weight"] == 8.0  # ½ for each of 16 tokens


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        (
            "arch",
            "tsa_transformer",
            "is a model of --arch tsa_transformer; expected fairseq's transformer, any size",
        ),
        (
            "adaptive_softmax_cutoff",
            "10,20",
            "has an adaptive softmax; expected predictions over the whole vocabulary",
        ),
    ],
)
def test_models_that_cannot_teach(argument, value, message, path):
    def edit(state):
        setattr(state["cfg"]["model"], argument, value)

    with pytest.raises(UsageError, match=exactly(f"--kd-teacher: '{path}' {message}")):
        Teacher(change(path, edit), TinyTask())


def test_parameters_that_do_not_fit(path):
    def edit(state):
        del state["model"]["decoder.layers.0.fc1.weight"]

    message = (
        f"--kd-teacher: '{path}' does not fit its own arguments: "
        'Missing key(s) in state_dict: "decoder.layers.0.fc1.weight".'
    )
    with pytest.raises(UsageError, match=exactly(message + " ").replace(r"\ $", r"\s?$")):
        Teacher(change(path, edit), TinyTask())


def test_a_dictionary_of_another_size(path):
    message = (
        f"--kd-teacher: '{path}' was trained with a source dictionary of 40 words, this data has "
        "one of 50; expected the same"
    )
    with pytest.raises(UsageError, match=exactly(message)):
        Teacher(path, TinyTask(words=50))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["w1", "w0", *(f"w{n}" for n in range(2, 36))],
            "was trained with another target dictionary, '{file}': word 4 is 'w1' there and 'w0' "
            "here; expected the same dictionary",
        ),
        (
            [f"v{n}" for n in range(36)],
            "has no word of its target dictionary, '{file}', in common with this data; "
            "expected the same dictionary",
        ),
        (
            [f"w{n}" for n in range(35)],
            "was trained with another target dictionary, '{file}': word 39 is nothing there and "
            "'w35' here; expected the same dictionary",
        ),
    ],
)
@pytest.mark.parametrize("layout", [dict, argparse.Namespace])
@pytest.mark.parametrize("beside", [True, False])
def test_a_dictionary_with_other_words(beside, layout, words, message, path, tmp_path):
    """It stands beside the checkpoint, or where the checkpoint says its data were."""
    data = tmp_path / "data"
    data.mkdir()

    def edit(state):
        state["cfg"]["task"] = layout(data=str(data), source_lang="de", target_lang="en")

    change(path, edit)
    (data / "dict.de.txt").write_text("".join(f"w{n} 1\n" for n in range(36)))
    place = tmp_path if beside else data
    (place / "dict.en.txt").write_text("".join(f"{word} 1\n" for word in words))
    message = message.format(file=place / "dict.en.txt")
    with pytest.raises(UsageError, match=exactly(f"--kd-teacher: '{path}' {message}")):
        Teacher(path, TinyTask())


def test_the_same_dictionary_is_taken(path, task, tmp_path, caplog):
    def edit(state):
        state["cfg"]["task"] = argparse.Namespace(data="gone", source_lang="de", target_lang="en")

    change(path, edit)
    Teacher(path, task)
    assert "only the number of words is compared" in caplog.text
    caplog.clear()
    caplog.set_level("WARNING")
    for side in ("de", "en"):
        (tmp_path / f"dict.{side}.txt").write_text("".join(f"w{n} 1\n" for n in range(36)))
    Teacher(path, task)
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            dict(kd_objective="kd"),
            "--kd-teacher: not given; --kd-objective kd needs a checkpoint of fairseq's "
            "transformer with the same dictionaries",
        ),
        (
            dict(kd_objective="dml", kd_teacher="x.pt"),
            "--kd-teacher: got 'x.pt' with --kd-objective dml, which takes no teacher; "
            "expected one of kd, sokd",
        ),
        (
            dict(kd_objective="kd", kd_teacher="x.pt", kd_bridge_layers=1),
            "--kd-bridge-layers: got '1' with --kd-objective kd, which has no bridge; "
            "expected sokd",
        ),
        (
            dict(kd_objective="tsa", kd_bridge_init="random"),
            "--kd-bridge-init: got 'random' with --kd-objective tsa, which has no bridge; "
            "expected sokd",
        ),
        (
            dict(kd_objective="sokd", kd_teacher="x.pt", kd_bridge_layers=0),
            "--kd-bridge-layers: got 0; expected 1 or more",
        ),
        (
            dict(kd_objective="sokd", kd_teacher="x.pt", kd_bridge_init="x"),
            "--kd-bridge-init: got 'x'; expected one of teacher, random",
        ),
        (dict(kd_detach_targets="x"), "--kd-detach-targets: got 'x'; expected one of yes, no"),
    ],
)
def test_flags(flags, message):
    from tsa_fairseq.plugin.criterion import TSAOnlineKDConfig

    with pytest.raises(UsageError, match=exactly(message)):
        objective_from_flags(TSAOnlineKDConfig(**{"max_update": 9, **flags}))


# ---- going on ------------------------------------------------------------------------------------


def arguments(save, **flags):
    given = dict(
        save_dir=str(save), restore_file="checkpoint_last.pt", reset_optimizer=False,
        finetune_from_model=None, kd_objective=None, kd_teacher=None, kd_bridge_layers=None,
    )  # fmt: skip
    return argparse.Namespace(**{**given, **flags})


def stored(save, **flags):
    state = {"cfg": {"model": argparse.Namespace(**flags)}, "model": {}}
    state |= {"optimizer_history": [{"num_updates": 3}], "extra_state": {}}
    torch.save({**state, "last_optimizer_state": {"state": {}}}, save / "checkpoint_last.pt")
    return str(save / "checkpoint_last.pt")


def test_nothing_to_go_on_from(tmp_path):
    args = arguments(tmp_path, kd_objective="dml")
    follow_checkpoint(args)
    assert args == arguments(tmp_path, kd_objective="dml")
    stored(tmp_path)  # of another criterion
    follow_checkpoint(args)
    assert args == arguments(tmp_path, kd_objective="dml")


NO_OPTIMIZER = (
    "has no optimizer state, like an average or an export: training would begin again at update 0; "
    "expected a checkpoint to go on with, or, to start another training from its parameters, "
    "--finetune-from-model with a new --save-dir, or --reset-optimizer"
)
OF_ANOTHER_MODEL = "; a tree of several leaves starts from a plain model by --tree-init-from"


@pytest.mark.parametrize("criterion", ["ours", "another"])
@pytest.mark.parametrize("lacks", ["missing", "none"])
@pytest.mark.parametrize("kind", ["tree", "plain"])
def test_no_optimizer_state_to_go_on_with(kind, lacks, criterion, tmp_path):
    """Whichever criterion trains, and of the same objective."""
    path = tmp_path / "average.pt"
    model = dict(tree="6", kd_objective="dml") if kind == "tree" else {}
    state = {"cfg": {"model": argparse.Namespace(**model)}, "model": {}}
    state |= {"optimizer_history": [{"num_updates": 3}], "extra_state": {}}
    torch.save(state if lacks == "missing" else {**state, "last_optimizer_state": None}, path)

    def given(**flags):
        args = arguments(tmp_path, **{"kd_objective": "dml", **flags})
        if criterion == "another":
            del args.kd_objective, args.kd_teacher, args.kd_bridge_layers
        return args

    said = NO_OPTIMIZER + ("" if kind == "tree" else OF_ANOTHER_MODEL)
    with pytest.raises(UsageError, match=exactly(f"--restore-file: '{path}' {said}")):
        follow_checkpoint(given(restore_file=str(path)))
    with pytest.raises(UsageError, match=exactly(f"--continue-once: '{path}' {said}")):
        follow_checkpoint(given(continue_once=str(path)))
    follow_checkpoint(given(restore_file=str(path), reset_optimizer=True))
    follow_checkpoint(given(finetune_from_model=str(path)))
    last = path.rename(tmp_path / "checkpoint_last.pt")
    with pytest.raises(UsageError, match=exactly(f"--restore-file: '{last}' {said}")):
        follow_checkpoint(given())


@pytest.mark.parametrize("flag", ["--restore-file", "--finetune-from-model"])
@pytest.mark.parametrize(
    ("state", "problem"),
    [
        ([1, 2], "has no 'model', which fairseq starts from; {}"),
        ({"model": {}}, "has no 'optimizer_history', which fairseq starts from; {}"),
        (
            {"model": {}, "optimizer_history": []},
            "has no 'optimizer_history', which fairseq starts from; {}",
        ),
        (
            {"model": {}, "optimizer_history": [{}]},
            "has no 'extra_state', which fairseq starts from; {}",
        ),
        (
            {"model": pathlib.PurePosixPath("a")},
            "is refused: it contains pathlib.PurePosixPath, which is code and not among what "
            "fairseq's checkpoints hold; nothing of it was run",
        ),
    ],
)
def test_nothing_to_start_from(state, problem, flag, tmp_path):
    path = tmp_path / "start.pt"
    torch.save(state, path)
    start = {flag[2:].replace("-", "_"): str(path)}
    expected = "expected a checkpoint of fairseq-train, or what tsa-fairseq average or export wrote"
    with pytest.raises(UsageError, match=exactly(f"{flag}: '{path}' {problem.format(expected)}")):
        follow_checkpoint(arguments(tmp_path, reset_optimizer=flag == "--restore-file", **start))


def test_another_criterion_has_no_objective_to_compare(tmp_path):
    stored(tmp_path, kd_objective="dml")
    args = arguments(tmp_path)
    del args.kd_objective, args.kd_teacher, args.kd_bridge_layers
    before = copy.copy(args)
    follow_checkpoint(args)
    assert args == before


def test_the_objective_goes_on(tmp_path):
    stored(tmp_path, kd_objective="okddip")
    args = arguments(tmp_path)
    follow_checkpoint(args)
    assert args.kd_objective == "okddip"


@pytest.mark.parametrize("restore", [False, True])
def test_another_objective(restore, tmp_path):
    path = stored(tmp_path, kd_objective="okddip")
    where = dict(save_dir="elsewhere", restore_file=path) if restore else {}
    message = (
        f"--kd-objective: got 'one', but '{path}' was trained with okddip; expected okddip, "
        "another --save-dir, or --reset-optimizer to start anew from its parameters"
    )
    with pytest.raises(UsageError, match=exactly(message)):
        follow_checkpoint(arguments(tmp_path, kd_objective="one", **where))
    args = arguments(tmp_path, kd_objective="one", reset_optimizer=True, **where)
    follow_checkpoint(args)
    assert args.kd_objective == "one"


def test_the_teacher_is_found_again(path, tmp_path):
    stored(
        tmp_path,
        kd_objective="kd",
        kd_teacher=path,
        kd_teacher_checksum=checksum(path, "--kd-teacher"),
    )
    args = arguments(tmp_path)
    follow_checkpoint(args)
    assert args.kd_teacher == path


def test_another_teacher(path, tmp_path):
    last = stored(
        tmp_path,
        kd_objective="kd",
        kd_teacher=path,
        kd_teacher_checksum=checksum(path, "--kd-teacher"),
    )
    moved = tmp_path / "moved.pt"
    moved.write_bytes(open(path, "rb").read())
    follow_checkpoint(arguments(tmp_path, kd_teacher=str(moved)))  # the same file elsewhere
    moved.write_bytes(b"another")
    message = (
        f"--kd-teacher: '{moved}' is not the file that '{last}' was trained with: its SHA-256 "
        "differs; expected that file, or --reset-optimizer to start anew"
    )
    with pytest.raises(UsageError, match=exactly(message)):
        follow_checkpoint(arguments(tmp_path, kd_teacher=str(moved)))


def test_a_teacher_that_is_gone(path, tmp_path):
    last = stored(tmp_path, kd_objective="kd", kd_teacher="gone.pt")
    message = (
        f"--kd-teacher: not given, and the teacher that '{last}' was trained with, 'gone.pt', is "
        "not there; expected where it is now"
    )
    with pytest.raises(UsageError, match=exactly(message)):
        follow_checkpoint(arguments(tmp_path))


def test_the_bridge_keeps_its_layers(path, tmp_path):
    last = stored(tmp_path, kd_objective="sokd", kd_teacher=path, kd_bridge_layers=3)
    args = arguments(tmp_path)
    follow_checkpoint(args)
    assert args.kd_bridge_layers == 3
    message = (
        f"--kd-bridge-layers: got 2, but '{last}' was trained with 3; expected 3, or "
        "--reset-optimizer to start anew"
    )
    with pytest.raises(UsageError, match=exactly(message)):
        follow_checkpoint(arguments(tmp_path, kd_bridge_layers=2))


def test_continue_once_is_a_resume(tmp_path):
    """fairseq takes that file on the first launch, with its optimizer."""
    path = stored(tmp_path, kd_objective="dml")
    save = tmp_path / "save"
    save.mkdir()
    with pytest.raises(UsageError, match="was trained with dml"):
        follow_checkpoint(arguments(save, kd_objective="one", continue_once=path))
    stored(save, kd_objective="one")
    follow_checkpoint(arguments(save, kd_objective="one", continue_once=path))


def test_a_tree_of_one_leaf_of_an_earlier_release(tmp_path):
    """It was trained with tsa, which for one leaf is cross entropy alone: now called none."""
    stored(tmp_path, kd_objective="tsa", tree="6", decoder_layers=6, kd_detach_targets=False)
    args = arguments(tmp_path)
    follow_checkpoint(args)
    assert args.kd_objective == "none"
    stored(tmp_path, kd_objective="tsa", tree="6", decoder_layers=6, kd_views=2)
    args = arguments(tmp_path)
    follow_checkpoint(args)
    assert args.kd_objective == "tsa"


@pytest.mark.parametrize(("value", "detached"), [(True, True), (False, False), ("yes", True)])
def test_flags_of_checkpoints_of_an_earlier_release(value, detached):
    from tsa_fairseq.plugin.criterion import TSAOnlineKDConfig

    flags = TSAOnlineKDConfig(max_update=9)
    flags.kd_detach_targets = value
    assert objective_from_flags(flags).settings.detach_targets is detached


def test_a_broken_checkpoint_is_refused(tmp_path):
    (tmp_path / "checkpoint_last.pt").write_bytes(b"broken")
    args = arguments(tmp_path, kd_objective="dml")
    with pytest.raises(UsageError, match="^--restore-file: '.*last.pt' cannot be loaded as a"):
        follow_checkpoint(copy.copy(args))
