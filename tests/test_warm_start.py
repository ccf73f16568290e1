import argparse
import os

import pytest
import torch
from helpers import TINY, TinyTask, exactly

from tsa_fairseq.errors import UsageError
from tsa_fairseq.plugin.model import TSATransformerModel
from tsa_fairseq.plugin.warm_start import warm_start

IS_A_TREE = (
    "is a tree; expected a checkpoint of fairseq's transformer, which tsa-fairseq export makes of "
    "a leaf; to start from all leaves, give it to --finetune-from-model, with its --tree"
)
PRE_NORM = {"encoder_normalize_before": True, "decoder_normalize_before": True}


@pytest.fixture
def stock(build, tmp_path):
    """stock(**flags): the path of a plain transformer's checkpoint."""

    def save(seed=5, **flags):
        path = tmp_path / "stock.pt"
        torch.save({"model": build("transformer", seed=seed, **flags).state_dict()}, path)
        return str(path)

    return save


def names_of_peers(model):
    return [n for n in model.state_dict() if ".peers." in n or ".leaf_norms." in n]


@pytest.mark.parametrize("flags", [{}, PRE_NORM, {"share_all_embeddings": True}])
@pytest.mark.parametrize("peers", ["fresh", "attention", "copy"])
def test_leaf_0_is_the_checkpoint(peers, flags, build, stock):
    path = stock(**flags)
    loaded = torch.load(path, weights_only=True)["model"]
    drawn = build(tree="1,2,4", tree_peers="fresh", **flags).state_dict()
    model = build(tree="1,2,4", tree_init_from=path, tree_init_peers=peers, **flags)
    state = model.state_dict()
    for name, tensor in loaded.items():
        assert torch.equal(state[name], tensor)
    for name in names_of_peers(model):
        depth_or_leaf, rest = name.split(".")[2], ".".join(name.split(".")[4:])
        source = f"decoder.layers.{depth_or_leaf}.{rest}"
        if ".leaf_norms." in name:
            source = "decoder.layer_norm." + name.split(".")[3]
        taken = peers == "copy" or (peers == "attention" and ".encoder_attn" in name)
        expected = loaded[source] if taken else drawn[name]
        assert torch.equal(state[name], expected)


def test_copied_peers_predict_what_the_checkpoint_predicts(build, batch, stock):
    path = stock(**PRE_NORM)
    plain = build("transformer", seed=5, **PRE_NORM).eval()
    model = build(tree="1,2,4", tree_init_from=path, tree_init_peers="copy", **PRE_NORM).eval()
    expected = plain(**batch["net_input"], features_only=True)[0]
    for actual in model(**batch["net_input"], leaves="all").features:
        torch.testing.assert_close(actual, expected)


def test_the_path_is_forgotten_once_it_is_used(task, stock):
    """Else the checkpoints of this model would not load where that file is missing."""
    args = argparse.Namespace(**TINY, tree="1,2,4", tree_init_from=stock())
    TSATransformerModel.build_model(args, task)
    assert args.tree_init_from is None


def refused(model, path, message):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(UsageError, match=exactly(f"--tree-init-from: '{path}' {message}")):
        warm_start(model, path)
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in before)


def test_checkpoint_of_another_size(build, stock):
    path = stock(decoder_ffn_embed_dim=32)
    name = "decoder.layers.0.fc1.bias"
    message = f"does not fit leaf 0: its {name} is (32,), this model's (24,) (and 8 more)"
    refused(build(tree="1,2,4"), path, message)


def test_checkpoint_with_other_layers(build, stock):
    model = build(tree="2[1,1]")
    path = stock(decoder_layers=4)
    name = "decoder.layers.3.encoder_attn.k_proj.bias"
    refused(
        model, path, f"does not fit leaf 0: it has {name}, which this model has not (and 25 more)"
    )
    path = stock(decoder_layers=2)
    name = "decoder.layers.2.encoder_attn.k_proj.bias"
    refused(model, path, f"does not fit leaf 0: it has no {name} (and 25 more)")


def test_checkpoint_with_another_dictionary(build, stock, monkeypatch):
    path = stock()
    monkeypatch.setattr(TinyTask.__init__, "__defaults__", (50,))
    from fairseq.models import ARCH_MODEL_REGISTRY

    args = build(tree="2[1,1]").args
    larger = ARCH_MODEL_REGISTRY["tsa_transformer"].build_model(args, TinyTask())
    name = "decoder.embed_tokens.weight"
    message = f"does not fit leaf 0: its {name} is (40, 16), this model's (50, 16) (and 2 more)"
    refused(larger, path, message)


@pytest.mark.parametrize(
    "flags",
    [
        {"tree": "2[1,1]"},
        {"tree": "2[1,1]", **PRE_NORM},
        {"tree": "2[1,1]", "criterion": "tsa_online_kd", "kd_objective": "one"},
    ],
)
def test_a_tree_is_said_to_be_one(flags, build, tmp_path):
    path = str(tmp_path / "tree.pt")
    torch.save({"model": build(**flags).state_dict()}, path)
    wanted = build(tree="2[1,1]", **{n: v for n, v in flags.items() if n in PRE_NORM})
    refused(wanted, path, IS_A_TREE)


def test_a_tree_of_one_leaf_is_a_plain_model(build, tmp_path):
    path = str(tmp_path / "plain.pt")
    plain = build(tree="3", seed=5).state_dict()
    torch.save({"model": plain}, path)
    state = build(tree="1,2,4", tree_init_from=path).state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in plain.items())


def change(path, **tensors):
    """Change or add parameters in a checkpoint's file."""
    state = torch.load(path, weights_only=True)
    state["model"].update(tensors)
    torch.save(state, path)


def test_positions_that_older_releases_stored(build, stock):
    path = stock()
    sinusoids = {
        f"{s}.embed_positions._float_tensor": torch.zeros(1) for s in ("encoder", "decoder")
    }
    expected = torch.load(path, weights_only=True)["model"]
    change(path, **sinusoids)
    state = build(tree="1,2,4", tree_init_from=path).state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())


def test_names_of_old_releases_are_upgraded(build, stock):
    path = stock()
    state = torch.load(path, weights_only=True)["model"]
    new, old = "decoder.layers.1.final_layer_norm.", "decoder.layers.1.layer_norms.2."
    norm = {p: torch.randn(16) for p in ("weight", "bias")}
    for part, tensor in norm.items():
        del state[new + part]
        state[old + part] = tensor
    torch.save({"model": state}, path)
    loaded = build(tree="1,2,4", tree_init_from=path).state_dict()
    assert all(torch.equal(loaded[new + part], tensor) for part, tensor in norm.items())


def test_separate_embeddings_do_not_fit_shared_ones(build, stock):
    path = stock()
    model = build(tree="2[1,1]", share_decoder_input_output_embed=True)
    names = "decoder.embed_tokens.weight with decoder.output_projection.weight"
    refused(
        model, path, f"does not fit leaf 0: this model shares {names}, which differ in the file"
    )


def test_another_number_of_heads(build, stock):
    path = stock()
    state = torch.load(path, weights_only=True)
    torch.save({**state, "args": argparse.Namespace(decoder_attention_heads=4)}, path)
    refused(build(tree="2[1,1]"), path, "has --decoder-attention-heads 4, this model 2")


def test_odd_contents(build, stock):
    path = stock()
    change(path, **{"decoder.version": 3})
    said = "is not a fairseq checkpoint: its parameter decoder.version is 3; expected a tensor"
    refused(build(tree="2[1,1]"), path, said)
    path = stock(**PRE_NORM)
    change(path, **{"decoder.version": torch.tensor([2.0])})
    refused(
        build(tree="2[1,1]", **PRE_NORM),
        path,
        "is a pre-norm model without a final norm, as early releases of fairseq made; "
        "expected one with decoder.version 3",
    )


def test_missing_and_foreign_files(build, tmp_path):
    model = build(tree="2[1,1]")
    refused(model, "nowhere.pt", "does not exist or is not a file")
    refused(model, str(tmp_path), "does not exist or is not a file")
    other = tmp_path / "other.pt"
    torch.save([1, 2], other)
    refused(model, str(other), "is not a fairseq checkpoint: it holds no 'model'")
    torch.save({"weights": {}}, other)
    refused(model, str(other), "is not a fairseq checkpoint: it holds no 'model'")


def test_text_and_truncated_files(build, stock, tmp_path):
    text = tmp_path / "text.pt"
    text.write_text("no checkpoint")
    path = stock()
    with open(path, "rb+") as file:
        file.truncate(os.path.getsize(path) // 2)
    for bad, said in (
        (
            str(text),
            "cannot be loaded as a checkpoint: it is damaged, no file of torch's, or holds more "
            "than fairseq stores; nothing of it was run",
        ),
        (path, "is damaged: its archive is not whole, or not of torch's kind"),
    ):
        refused(build(tree="2[1,1]"), bad, said)
