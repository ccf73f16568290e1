import pytest
import torch
from helpers import VARIANTS as SIMPLE_VARIANTS
from helpers import exactly, make_batch

from tsa_fairseq.errors import UsageError

TREES = ["3", "1[1[1,1],1[1,1]]", "1[2,1[1,1]]", "0[3,3,3]", "2[1,1]"]
VARIANTS = {
    **SIMPLE_VARIANTS,
    "output dimension": dict(decoder_output_dim=12),
    "embedding norm": dict(layernorm_embedding=True),
    "cross+self attention": dict(no_cross_attention=True, cross_self_attention=True),
    "activation checkpointing": dict(checkpoint_activations=True),
    "layer drop": dict(decoder_layerdrop=0.4, encoder_layerdrop=0.4),
}


def features(model, batch, leaves="all", **kwargs):
    return model(**batch["net_input"], leaves=leaves, **kwargs).features


@pytest.mark.parametrize("variant", VARIANTS)
def test_one_leaf_has_the_parameters_and_logits_of_the_plain_transformer(variant, build, batch):
    flags = {**VARIANTS[variant], "dropout": 0.3}
    plain = build("transformer", **flags).train()
    tree = build("tsa_transformer", tree="3", **flags).train()
    stock, ours = plain.state_dict(), tree.state_dict()
    assert list(stock) == list(ours)
    assert all(torch.equal(stock[name], ours[name]) for name in stock)
    torch.manual_seed(7)
    expected = plain(**batch["net_input"])[0]
    torch.manual_seed(7)
    actual = tree.output_layer(features(tree, batch)[0])
    assert torch.equal(expected, actual)


@pytest.mark.parametrize("variant", ["post-norm", "pre-norm", "layer drop"])
@pytest.mark.parametrize("tree", TREES)
def test_leaf_0_draws_what_the_plain_transformer_draws(tree, variant, build, batch):
    """In training, whatever branches off beside it."""
    flags = {**VARIANTS[variant], "dropout": 0.3}
    plain, model = build("transformer", **flags).train(), build(tree=tree, **flags).train()
    for seed in range(5):
        torch.manual_seed(seed)
        expected = plain(**batch["net_input"])[0]
        torch.manual_seed(seed)
        assert torch.equal(model.output_layer(features(model, batch)[0]), expected)


@pytest.mark.parametrize("tree", TREES)
def test_leaf_0_of_every_tree_starts_as_the_plain_transformer(tree, build):
    stock, ours = build("transformer").state_dict(), build(tree=tree).state_dict()
    assert all(torch.equal(stock[name], ours[name]) for name in stock)
    assert all(name.startswith("decoder.peers.") for name in ours.keys() - stock.keys())


def test_names_of_peers_and_norms(build):
    names = build(tree="1[1[1,1],2]", decoder_normalize_before=True).state_dict()
    peers = {".".join(name.split(".")[2:4]) for name in names if name.startswith("decoder.peers.")}
    assert peers == {"1.1", "2.1", "2.2"}
    norms = sorted(name for name in names if "leaf_norms" in name)
    assert norms == [
        f"decoder.leaf_norms.{leaf}.{p}" for leaf in (1, 2) for p in ("bias", "weight")
    ]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("tree", TREES)
def test_in_evaluation_a_leaf_alone_gives_what_it_gives_among_all(tree, variant, build, batch):
    model = build(tree=tree, noise=0.1, **VARIANTS[variant]).eval()
    together = features(model, batch)
    for leaf, expected in enumerate(together):
        (alone,) = features(model, batch, leaves=[leaf])
        stock, _ = model.decoder.leaf_decoder(leaf)(
            batch["net_input"]["prev_output_tokens"],
            encoder_out=model.encoder(
                batch["net_input"]["src_tokens"], batch["net_input"]["src_lengths"]
            ),
            features_only=True,
        )
        real = batch["target"].ne(1)
        torch.testing.assert_close(alone[real], expected[real], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(stock[real], expected[real], rtol=1e-5, atol=1e-5)
    for first, second in zip(together[:-1], together[1:], strict=True):
        assert not torch.allclose(first, second, atol=1e-2)


def test_any_selection_and_order_of_leaves(build, batch):
    model = build(tree="1[1[1,1],1[1,1]]").eval()
    together = features(model, batch)
    for selection in [(2, 0), (3, 1), (1, 2, 3)]:
        output = model(**batch["net_input"], leaves=selection)
        assert output.leaf_of == selection
        for leaf, actual in zip(selection, output.features, strict=True):
            torch.testing.assert_close(actual, together[leaf], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("variant", ["post-norm", "pre-norm", "learned positions"])
@pytest.mark.parametrize("leaf", [0, 2])
def test_step_by_step_decoding_gives_the_full_forward(leaf, variant, build, task):
    batch = make_batch(task, lengths=(6, 6, 6))
    model = build(tree="1[2,1[1,1]]", tree_inference=f"leaf:{leaf}", **VARIANTS[variant]).eval()
    shifted = batch["net_input"]["prev_output_tokens"]
    (expected,) = features(model, batch, leaves=[leaf])
    encoder_out = model.encoder(batch["net_input"]["src_tokens"], batch["net_input"]["src_lengths"])
    state = {}
    for step in range(1, shifted.size(1) + 1):
        logits, _ = model.decoder(
            shifted[:, :step], encoder_out=encoder_out, incremental_state=state
        )
        torch.testing.assert_close(
            logits[:, -1], model.output_layer(expected)[:, step - 1], rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("variant", ["post-norm", "pre-norm"])
@pytest.mark.parametrize("leaf", [0, 1, 3])
def test_for_inference_only_a_plain_decoder_is_left(leaf, variant, build, batch, inference_config):
    flags = {"tree_inference": f"leaf:{leaf}", **VARIANTS[variant]}
    model = build(tree="1,2,4", noise=0.1, **flags).eval()
    expected = model(**batch["net_input"])[0]
    (of_leaf,) = features(model, batch, leaves=[leaf])
    assert torch.equal(expected, model.output_layer(of_leaf))
    model.prepare_for_inference_(inference_config)
    model.prepare_for_inference_(inference_config)
    assert model._is_generation_fast
    assert torch.equal(model(**batch["net_input"])[0], expected)
    assert len(features(model, batch)) == 1
    assert (
        model.state_dict().keys() == build("transformer", **VARIANTS[variant]).state_dict().keys()
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_peers_have_the_parameters_of_the_layer_they_stand_beside(variant, build):
    state = build(tree="1,2,4", **VARIANTS[variant]).state_dict()

    def below(prefix):
        return {
            name[len(prefix) :]: t.shape for name, t in state.items() if name.startswith(prefix)
        }

    for depth, peers in [(1, [1]), (2, [1, 2, 3])]:
        for peer in peers:
            expected = below(f"decoder.layers.{depth}.")
            assert below(f"decoder.peers.{depth}.{peer}.") == expected != {}


@pytest.mark.parametrize("source_pads", [0, 2])
def test_targets_without_padding(source_pads, build, task):
    batch = make_batch(task, lengths=(5, 5))
    batch["net_input"]["src_tokens"][0, :source_pads] = 1
    for flags in VARIANTS.values():
        model = build(tree="1,2,4", noise=0.1, **flags).eval()
        for leaf, expected in enumerate(features(model, batch)):
            (alone,) = features(model, batch, leaves=[leaf])
            torch.testing.assert_close(alone, expected, rtol=1e-5, atol=1e-5)


def test_shared_layers_run_once(build, batch):
    model = build(tree="1,2,4").eval()
    calls = []
    for name, module in model.decoder.named_modules():
        if type(module).__name__ == "TransformerDecoderLayerBase":
            module.register_forward_hook(lambda *_, name=name: calls.append(name))
    features(model, batch)
    assert len(calls) == len(set(calls)) == 7


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v != "layer drop"])
@pytest.mark.parametrize("tree", TREES)
def test_every_parameter_gets_a_gradient(tree, variant, build, batch):
    model = build(tree=tree, **VARIANTS[variant]).train()
    sum(model.output_layer(f).square().sum() for f in features(model, batch)).backward()
    without = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.abs().sum() > 0
    ]
    # a key bias shifts all scores of a query alike, so that its gradient is 0 up to rounding
    assert [name for name in without if not name.endswith("k_proj.bias")] == []
    assert all(parameter.grad is not None for parameter in model.parameters())


def trunk_gradients(build, batch, tree, **kwargs):
    model = build(tree=tree).double().train()
    sum(f.square().sum() for f in features(model, batch, **kwargs)).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def test_mean_trunk_gradient_divides_at_every_split(build, batch):
    for tree, shares in {
        "1,2,4": {"layers.0": 4, "layers.1": 2, "peers.1.1": 2, "layers.2": 1, "peers.2.3": 1},
        "0[3,3,3]": {"embed_tokens": 3, "layers.0": 1, "peers.0.2": 1},
    }.items():
        summed = trunk_gradients(build, batch, tree)
        mean = trunk_gradients(build, batch, tree, trunk_gradient="mean")
        for part, share in shares.items():
            names = [n for n in summed if n.startswith(f"decoder.{part}")]
            assert names
            for name in names:
                torch.testing.assert_close(mean[name] * share, summed[name])


def test_mean_trunk_gradient_of_an_unbalanced_tree(build, batch):
    """d/dx of (a + (b + c) / 2) / 2 at the first split, by leaves computed one at a time."""
    shared = ["decoder.layers.0.fc1.weight", "decoder.embed_tokens.weight"]
    shared += ["encoder.layers.1.fc1.weight", "encoder.embed_tokens.weight"]
    each = []
    for leaf in range(3):
        model = build(tree="1[2,1[1,1]]").double().train()
        features(model, batch, leaves=[leaf])[0].square().sum().backward()
        each.append({name: model.get_parameter(name).grad for name in shared})
    mean = trunk_gradients(build, batch, "1[2,1[1,1]]", trunk_gradient="mean")
    for name in shared:
        expected = (each[0][name] + (each[1][name] + each[2][name]) / 2) / 2
        torch.testing.assert_close(mean[name], expected)


def test_mean_trunk_gradient_through_checkpointed_layers(build, batch):
    name = "encoder.layers.0.fc1.weight"
    grads = []
    for checkpointing in (False, True):
        model = build(tree="1,2,4", checkpoint_activations=checkpointing).double().train()
        outputs = features(model, batch, trunk_gradient="mean")
        sum(f.square().sum() for f in outputs).backward()
        grads.append(model.get_parameter(name).grad)
        assert not any(m._forward_pre_hooks for m in model.modules())
    torch.testing.assert_close(grads[0], grads[1])


def test_layer_drop_skips_peers_in_training_only(build, batch):
    model = build(tree="1,2,4", decoder_layerdrop=0.5)
    ran = []
    for module in model.decoder.modules():
        if type(module).__name__ == "TransformerDecoderLayerBase":
            module.register_forward_hook(lambda *_: ran.append(1))
    torch.manual_seed(0)
    counts = []
    for _ in range(200):
        ran.clear()
        features(model.train(), batch)
        counts.append(len(ran))
    assert 3.2 < sum(counts) / len(counts) < 3.8  # 7 layers, half of them dropped
    ran.clear()
    features(model.eval(), batch)
    assert len(ran) == 7


def test_unknown_leaf(build, batch):
    model = build(tree="1,2,4")
    message = exactly("leaf 4: the tree '1[1[1,1],1[1,1]]' has leaves 0 to 3")
    with pytest.raises(UsageError, match=message):
        features(model, batch, leaves=[0, 4])
    with pytest.raises(UsageError, match=message):
        model.decoder.leaf_decoder(4)
    with pytest.raises(UsageError, match="^leaf -1: "):
        features(model, batch, leaves=[-1])
