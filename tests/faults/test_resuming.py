"""A training goes on as the function that it was: what shapes it is the checkpoint's."""

import re
import shutil

import pytest
import torch
from fairseq import options
from helpers import TinyTask, exactly, save_tree
from trainings import PLUGIN

from tsa_fairseq.errors import UsageError

MINE = ["--arch", "tsa_transformer", "--criterion", "tsa_online_kd"]


@pytest.fixture
def last(tmp_path, data):
    """The checkpoint_last.pt of a small tree."""
    (tmp_path / "save").mkdir()
    path = tmp_path / "save" / "checkpoint_last.pt"
    save_tree(path, TinyTask(), data)
    return path


def parsed(last, *flags):
    """What fairseq-train makes of a command line, before it reads any data."""
    argv = ["data", "--user-dir", PLUGIN, *MINE, "--save-dir", str(last.parent), *flags]
    return options.parse_args_and_arch(options.get_training_parser(), argv)


def test_what_is_not_given_is_the_checkpoints(last):
    args = parsed(last)
    assert args.tree == "1[1[1,1],2]"
    sizes = args.decoder_layers, args.decoder_embed_dim, args.encoder_ffn_embed_dim
    assert sizes == (3, 16, 24) and args.decoder_attention_heads == 2


@pytest.mark.parametrize("tree", ["1[1[1,1],2]", " 1 [ 1[ 1,1 ], 2 ]"])
def test_the_same_tree_however_it_is_written(tree, last):
    assert parsed(last, "--tree", tree).tree == tree


@pytest.mark.parametrize(
    ("flags", "what", "theirs"),
    [
        # the same parameter names and sizes, other parents
        (["--tree", "1[2,1[1,1]]"], "--tree: got '1[2,1[1,1]]'", "'1[1[1,1],2]'"),
        (["--tree", "1,3,3"], "--tree: got '1[2,2,2]'", "'1[1[1,1],2]'"),
        (["--tree", "3"], "--tree: got '3'", "'1[1[1,1],2]'"),
        (["--decoder-attention-heads", "4"], "--decoder-attention-heads: got 4", "2"),
        (["--encoder-attention-heads", "1"], "--encoder-attention-heads: got 1", "2"),
        (["--decoder-normalize-before"], "--decoder-normalize-before: got True", "False"),
        (["--encoder-normalize-before"], "--encoder-normalize-before: got True", "False"),
        (["--activation-fn", "gelu"], "--activation-fn: got 'gelu'", "'relu'"),
        (["--no-scale-embedding"], "--no-scale-embedding: got True", "False"),
        (["--layernorm-embedding"], "--layernorm-embedding: got True", "False"),
        (["--no-cross-attention"], "--no-cross-attention: got True", "False"),
        (["--encoder-learned-pos"], "--encoder-learned-pos: got True", "False"),
        (["--share-all-embeddings"], "--share-all-embeddings: got True", "False"),
        (["--decoder-layers", "4", "--tree", "4"], "--decoder-layers: got 4", "3"),
        (["--encoder-embed-dim", "32"], "--encoder-embed-dim: got 32", "16"),
        (["--decoder-ffn-embed-dim", "48"], "--decoder-ffn-embed-dim: got 48", "24"),
        # an architecture of a name brings its sizes
        (["--arch", "tsa_transformer_multi30k"], "--encoder-layers: got 4", "2"),
    ],
)
def test_another_function_is_refused(flags, what, theirs, last):
    message = (
        f"{what}, but '{last}' was trained with {theirs}; expected {theirs}, or another --save-dir"
    )
    with pytest.raises(UsageError, match=exactly(message)):
        parsed(last, *flags)


def test_another_criterion_is_refused(last):
    with pytest.raises(
        UsageError,
        match=exactly(
            f"--criterion: got 'cross_entropy', but '{last}' was trained with "
            "TSAOnlineKDCriterion; expected --criterion tsa_online_kd or another --save-dir, or "
            "--reset-optimizer to start anew from its parameters"
        ),
    ):
        parsed(last, "--criterion", "cross_entropy")


@pytest.mark.parametrize(
    ("flags", "ours"),
    [
        (["--optimizer", "sgd", "--lr", "1"], "SGD"),
        (["--optimizer", "adam", "--fp16"], "FP16Optimizer"),
        (["--optimizer", "adam", "--bf16"], "FP16Optimizer"),
        (["--optimizer", "adam", "--amp"], "AMPOptimizer"),
        (["--optimizer", "adam", "--memory-efficient-fp16"], "MemoryEfficientFP16Optimizer"),
    ],
)
def test_another_optimizer_or_precision_is_refused(flags, ours, last, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    message = (
        f"--optimizer: got what fairseq calls {ours}, but '{last}' was trained with FairseqAdam; "
        "expected the same --optimizer and precision (--fp16, --bf16, --amp, "
        "--memory-efficient-fp16), or --reset-optimizer to start anew from its parameters"
    )
    with pytest.raises(UsageError, match=exactly(message)):
        parsed(last, *flags)
    parsed(last, *flags, "--reset-optimizer")
    parsed(last, "--optimizer", "adam")


def test_a_checkpoint_to_go_on_from_that_is_not_there(last, tmp_path):
    """fairseq would begin anew, without a word."""
    path = tmp_path / "gone.pt"
    with pytest.raises(
        UsageError, match=exactly(f"--restore-file: '{path}' does not exist or is not a file")
    ):
        parsed(last, "--restore-file", str(path))


def test_a_checkpoint_of_an_early_torch_is_not_torn(last):
    torch.save(torch.load(last, weights_only=True), last, _use_new_zipfile_serialization=False)
    with pytest.raises(
        UsageError,
        match=exactly(
            f"--restore-file: '{last}' is in the format of torch before 1.6, which cannot be "
            "verified; expected it saved again by a newer torch, where it is trusted"
        ),
    ):
        parsed(last)


def test_starting_anew_may_be_another_function(last):
    """What has the same parameters; another size is found when they are loaded."""
    args = parsed(last, "--tree", "1[2,1[1,1]]", "--decoder-layers", "3", "--reset-optimizer")
    assert args.tree == "1[2,1[1,1]]"


def test_parameters_that_do_not_fit_are_one_line(build, last):
    model = build(tree="1[1[1,1],2]")
    state = torch.load(last)["model"]
    state["decoder.layers.1.fc1.weight"] = torch.zeros(48, 16)
    del state["decoder.layers.2.fc1.bias"]
    with pytest.raises(RuntimeError):  # who loads a model from Python has another message
        model.load_state_dict(dict(state))
    model.resumed_from = str(last)
    message = (
        f"error: '{last}' does not fit this model: its decoder.layers.1.fc1.weight is (48, 16), "
        "this model's (24, 16) (and 1 more)"
    )
    with pytest.raises(SystemExit, match=exactly(message)):
        model.load_state_dict(dict(state))


# ---- torn checkpoints ----------------------------------------------------------------------------


def test_a_torn_last_checkpoint(last, caplog):
    """The newest whole one, by its updates; said aloud, and the start is not --finetune's."""
    whole = last.with_name("checkpoint1.pt")
    shutil.copy(last, whole)
    older = torch.load(last)
    older["optimizer_history"][-1]["num_updates"] = 3
    torch.save(older, last.with_name("checkpoint_1_3.pt"))
    without = {**older, "last_optimizer_state": None}
    torch.save(without, last.with_name("checkpoint9.pt"))
    last.with_name("checkpoint2.pt").write_bytes(last.read_bytes()[:-1000])
    last.write_bytes(last.read_bytes()[: last.stat().st_size // 2])
    args = parsed(last, "--finetune-from-model", str(whole))
    assert args.restore_file == str(whole) and args.finetune_from_model is None
    assert args.tree == "1[1[1,1],2]"
    assert (
        f"warning: '{last}' is torn (its end is missing), as when a training is killed while it "
        f"copies a checkpoint; going on from '{whole}', the newest whole one"
    ) in caplog.text


def flipped(content):
    """With one bit of the largest parameter changed."""
    place = len(content) // 2
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda content: content[:100], "its end is missing"),
        (lambda content: b"", "it is empty"),
        (lambda content: b"no checkpoint", "it cannot be read"),
        (flipped, "the checksum of checkpoint_last/data/[0-9]+ in it is wrong"),
    ],
)
def test_nothing_whole_to_go_on_from(damage, problem, last):
    last.write_bytes(damage(last.read_bytes()))
    with pytest.raises(UsageError) as raised:
        parsed(last)
    pattern = exactly(
        f"--save-dir: '{last}' is torn (PROBLEM), and no other checkpoint there is whole; expected "
        "one to go on from, or that it is moved away, to begin anew"
    ).replace("PROBLEM", problem)
    assert re.match(pattern, str(raised.value)), raised.value


def test_a_torn_file_that_is_named(last, tmp_path):
    torn = tmp_path / "torn.pt"
    torn.write_bytes(last.read_bytes()[:5000])
    for flag in ("--restore-file", "--finetune-from-model"):
        save = last.parent if flag == "--restore-file" else tmp_path / "empty"
        hint = f", such as '{last}'" if flag == "--restore-file" else ""
        message = f"{flag}: '{torn}' is torn (its end is missing); expected a whole file{hint}"
        with pytest.raises(UsageError, match=exactly(message)):
            parsed(save / "x", flag, str(torn))
