import argparse
import dataclasses

import pytest
import torch
from fairseq import options
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY
from fairseq.models.transformer import TransformerModel
from helpers import TINY, TREE, command_line, exactly, make_batch, save_tree

from tsa_fairseq.errors import UsageError
from tsa_fairseq.plugin.arguments import complete_arguments
from tsa_fairseq.plugin.criterion import TSAOnlineKDConfig
from tsa_fairseq.plugin.model import TSATransformerModel

# What fairseq-train parsed; a checkpoint's arguments have a _name as well.
TRAINING = {
    **{f.name: f.default for f in dataclasses.fields(TSAOnlineKDConfig) if f.name != "_name"},
    "save_dir": "x",
    "restore_file": "checkpoint_last.pt",
    "finetune_from_model": None,
    "no_save": False,
    "reset_optimizer": False,
    "max_update": 1,
    "cpu": True,
    "distributed_init_method": None,
    "distributed_world_size": 1,
    "disable_validation": False,
    "criterion": "tsa_online_kd",
}


def arguments(**flags):
    return argparse.Namespace(**{**TINY, **flags})


@pytest.mark.parametrize(
    ("arch", "stock"),
    [
        ("tsa_transformer", "transformer"),
        ("tsa_transformer_iwslt_de_en", "transformer_iwslt_de_en"),
        ("tsa_transformer_wmt_en_de", "transformer_wmt_en_de"),
        ("tsa_transformer_wmt_en_de_big", "transformer_wmt_en_de_big"),
    ],
)
def test_named_architectures_have_fairseqs_dimensions(arch, stock):
    ours, theirs = argparse.Namespace(), argparse.Namespace()
    ARCH_CONFIG_REGISTRY[arch](ours)
    ARCH_CONFIG_REGISTRY[stock](theirs)
    added = {
        "tree": "4[1[1,1],1[1,1]]",
        "tree_inference": "leaf:0",
        "tree_init_from": None,
        "tree_peers": "attention",
        "tree_init_peers": "attention",
    }
    assert vars(ours) == {**vars(theirs), **added}


def test_multi30k_architecture():
    args = argparse.Namespace(decoder_layers=5)
    ARCH_CONFIG_REGISTRY["tsa_transformer_multi30k"](args)
    for side in ("encoder", "decoder"):
        assert getattr(args, f"{side}_embed_dim") == 128
        assert getattr(args, f"{side}_ffn_embed_dim") == 256
        assert getattr(args, f"{side}_attention_heads") == 4
    assert (args.encoder_layers, args.decoder_layers) == (4, 5)
    assert args.tree == "3[1[1,1],1[1,1]]"


def test_every_architecture_is_this_model():
    ours = [name for name in ARCH_MODEL_REGISTRY if name.startswith("tsa_")]
    assert len(ours) == 5
    assert all(ARCH_MODEL_REGISTRY[name] is TSATransformerModel for name in ours)


def test_no_flag_collides_with_fairseqs(tmp_path):
    def flags(*argv):
        parser = options.get_training_parser()
        options.parse_args_and_arch(parser, [str(tmp_path), *argv])
        return {flag for action in parser._actions for flag in action.option_strings}

    stock = flags("--arch", "transformer", "--criterion", "cross_entropy")
    smoothed = flags("--arch", "transformer", "--criterion", "label_smoothed_cross_entropy")
    ours = flags("--arch", "tsa_transformer", "--criterion", "tsa_online_kd")
    # shared on purpose: the plain model's criterion means the same by them
    meant = {"--label-smoothing", "--ignore-prefix-size"}
    assert meant <= smoothed - stock
    added = ours - stock - meant
    assert added == {
        *("--tree", "--tree-inference", "--tree-init-from", "--tree-peers"),
        "--tree-init-peers",
        *("--kd-objective", "--kd-alpha", "--kd-temperature", "--kd-detach-targets"),
        *("--kd-direction", "--kd-rampup-updates", "--kd-trunk-gradient"),
        *("--kd-loss", "--kd-block-tokens", "--kd-ce-weight", "--kd-views", "--kd-views-leaves"),
        *("--kd-view-cut", "--kd-aggregation", "--kd-mask-self"),
        *("--kd-teacher", "--kd-bridge-layers", "--kd-bridge-init"),
    }
    assert stock <= ours


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            {"tree": "2[2,1]"},
            "--tree: '2[2,1]' has paths of 4 and 3 layers; "
            "every path must have --decoder-layers = 3",
        ),
        (
            {"tree": "2[1,1]", "tree_inference": "leaf:2"},
            "--tree-inference: got 'leaf:2'; the tree '2[1,1]' has leaf:0 to leaf:1",
        ),
        ({"decoder_layers": 0}, "--decoder-layers: got 0; expected 1 to 1,024"),
        (
            {"tree_init_from": "nowhere.pt"},
            "--tree-init-from: 'nowhere.pt' does not exist or is not a file",
        ),
        (
            {**TRAINING, "kd_alpha": 1.5},
            "--kd-alpha: got 1.5; expected a number from 0 to 1",
        ),
        (
            {"tree_inference": "all"},
            "--tree-inference: got 'all'; expected leaf:N, such as leaf:0, ensemble or gate",
        ),
        (
            {"tree_inference": "gate"},
            "--tree-inference: got 'gate'; a gate is what --kd-objective one trains: "
            "expected leaf:N or ensemble",
        ),
        (
            {"tree_init_peers": "clone"},
            "--tree-init-peers: got 'clone'; expected one of fresh, attention, copy",
        ),
        (
            {"adaptive_softmax_cutoff": "10,20"},
            "--adaptive-softmax-cutoff: got '10,20'; it cannot be used with a tree: "
            "the leaves' predictions must be over the whole vocabulary",
        ),
        (
            {"decoder_layers_to_keep": "0,1"},
            "--decoder-layers-to-keep: got '0,1'; it cannot be used with a tree: "
            "pruning by layer number would break the tree's paths",
        ),
        (
            {"encoder_layers_to_keep": "0"},
            "--encoder-layers-to-keep: got '0'; it cannot be used with a tree: fairseq would drop "
            "the decoder's layers with the encoder's; an exported leaf takes it together with "
            "--decoder-layers-to-keep",
        ),
        (
            {**TRAINING, "quant_noise_scalar": 0.2},
            "--quant-noise-scalar: got '0.2'; it cannot be used with a tree: the leaves' loss "
            "would read the output matrix without the noise; --quant-noise-pq can",
        ),
        (
            {"base_layers": 1},
            "--base-layers: got '1'; it cannot be used with a tree: "
            "BASE layers are inserted between the layers that the tree counts",
        ),
        (
            {**TRAINING, "criterion": "cross_entropy", "tree": "2[1,1]"},
            "--criterion: got 'cross_entropy', which would train leaf 0 of the tree '2[1,1]' "
            "alone; expected tsa_online_kd",
        ),
    ],
)
def test_refused_arguments(flags, message):
    with pytest.raises(UsageError, match=exactly(message)):
        complete_arguments(arguments(**flags))


def test_one_leaf_may_be_trained_with_any_criterion():
    complete_arguments(arguments(tree="3", **{**TRAINING, "criterion": "cross_entropy"}))
    complete_arguments(arguments(tree="2[1,1]", **TRAINING))


@pytest.mark.parametrize("leaf", [0, 1])
def test_a_leaf_trained_with_quantisation_noise_is_exported(leaf, task, data, tmp_path, capsys):
    """It computes the same without the plugin's model: noise is for training alone."""
    path, out = tmp_path / "tree.pt", tmp_path / "out"
    tree = save_tree(path, task, data, quant_noise_pq=0.3).eval()
    status, _, err = command_line(capsys, "export", path, out, "--leaf", leaf)
    assert status == 0, err
    state = torch.load(out / "model.pt", weights_only=True)
    plain = TransformerModel.build_model(argparse.Namespace(**state["cfg"]["model"]), task)
    plain.load_state_dict(state["model"], strict=True)
    assert any("quant_noise" in name for name in state["model"])
    net = make_batch(task)["net_input"]
    (expected,) = tree(**net, leaves=[leaf]).features
    found = plain.eval()(**net, features_only=True)[0]
    torch.testing.assert_close(found, expected)


def test_quantisation_noise_reaches_every_leaf(build, batch):
    model = build(tree="2[1,1]", quant_noise_pq=0.5, noise=0.05)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model(**batch["net_input"], leaves="all")
    for name in ("layers.0", "layers.2", "peers.2.1"):  # fairseq writes the noise into the weights
        weight = f"decoder.{name}.fc1.weight"
        noisy = model.state_dict()[weight]
        assert 0.3 < (noisy == 0).float().mean() < 0.7
        assert torch.equal(noisy[noisy != 0], 2 * before[weight][noisy != 0])


def test_a_model_with_scalar_noise_of_an_earlier_release_still_loads():
    complete_arguments(arguments(tree="2[1,1]", quant_noise_scalar=0.2))


def test_replacing_unknown_words_is_refused(build, inference_config):
    inference_config.generation.replace_unk = "@@ "
    message = (
        "--replace-unk: got '@@ '; fairseq fails with it at the first unknown word, with this and "
        "any other model: expected --print-alignment, to replace by what it prints"
    )
    with pytest.raises(UsageError, match=exactly(message)):
        build(tree=TREE).prepare_for_inference_(inference_config)


def test_chosen_leaf_translates(build, batch):
    models = [build(tree="1,2,4", tree_inference=f"leaf:{leaf}").eval() for leaf in range(4)]
    (expected,) = models[0](**batch["net_input"], leaves=[2]).features
    assert torch.equal(models[2](**batch["net_input"], features_only=True)[0], expected)
    assert not torch.allclose(models[1](**batch["net_input"], features_only=True)[0], expected)


def test_extra_outputs_of_fairseq_are_kept(build, batch):
    stock = build("transformer").eval()(**batch["net_input"])[1]
    ours = build(tree="1,2,4").eval()(**batch["net_input"])[1]
    assert stock.keys() == ours.keys()
    assert torch.equal(stock["attn"][0], ours["attn"][0])


def test_updates_done_are_passed_on(build, batch):
    model = build(tree="2[1,1]")
    assert model(**batch["net_input"], leaves="all").num_updates is None
    heard = []
    model.encoder.set_num_updates = heard.append  # as fairseq's own modules are told
    model.set_num_updates(7)
    assert heard == [7]
    assert model(**batch["net_input"], leaves="all").num_updates == 7
