"""All leaves together: what fairseq's ensemble of the single leaves would translate."""

import copy
import math

import pytest
import torch
from fairseq.sequence_generator import SequenceGenerator
from helpers import TREE, VARIANTS

from tsa_fairseq.tree.mixture import mix


def mixed(logits, scores=None):
    """Of logits: an output layer that changes nothing."""
    return mix(logits, lambda z: z, logits[0].size(-1), scores)


@pytest.mark.parametrize("how", ["ensemble", "gate"])
@pytest.mark.parametrize("rows", [1, 4, 5, 100])
def test_blocks_do_not_matter(how, rows, monkeypatch):
    """Of 5 sentences of 3 words, rows at a time."""
    torch.manual_seed(0)
    features, matrix = [torch.randn(5, 3, 4) for _ in range(3)], torch.randn(7, 4)
    scores = torch.randn(5, 3, 3) if how == "gate" else None
    whole = mix(features, lambda f: f @ matrix.t(), 7, scores)
    monkeypatch.setattr("tsa_fairseq.tree.mixture.BLOCK_BYTES", 4 * 7 * rows)
    found = mix(features, lambda f: f @ matrix.t(), 7, scores)
    torch.testing.assert_close(found, whole)
    assert found.shape == (5, 3, 7)


def test_mean_of_probabilities_by_hand():
    logits = [torch.tensor([[[0.2, 0.3, 0.5]]]).log(), 7 + torch.tensor([[[0.6, 0.3, 0.1]]]).log()]
    found = mixed(logits)
    torch.testing.assert_close(found.exp(), torch.tensor([[[0.4, 0.3, 0.3]]]))


def test_gated_logits_by_hand():
    """Weights 1/4 and 3/4."""
    logits = [torch.tensor([[[4.0, 0.0, 0.0]]]), torch.tensor([[[0.0, 4.0, 0.0]]])]
    scores = torch.tensor([[[1.0, 3.0]]]).log()
    found = mixed(logits, scores)
    torch.testing.assert_close(found, torch.tensor([[[1.0, 3.0, 0.0]]]).log_softmax(-1))


def test_probabilities_that_are_too_small_for_float32():
    """Two that are 0 as numbers, one of which has a logarithm that counts."""
    logits = [torch.tensor([[[0.0, -120.0, -300.0]]]), torch.tensor([[[0.0, -120.0, -400.0]]])]
    found = mixed(logits)[0, 0].tolist()
    assert found == pytest.approx([0.0, -120.0, -300.0 - math.log(2)])


@pytest.mark.parametrize("how", ["ensemble", "gate"])
def test_half_precision_is_mixed_in_float32(how):
    """A word that both leaves find nearly impossible keeps its probability."""
    logits = [torch.tensor([[[30.0, 0.0]]], dtype=torch.float16) for _ in range(2)]
    scores = torch.zeros(1, 1, 2, dtype=torch.float16) if how == "gate" else None
    found = mixed(logits, scores)
    assert found.dtype == torch.float32
    assert found[0, 0, 1].item() == pytest.approx(-30.0)


def translations(task, models, batch, beam=3):
    generator = SequenceGenerator(models, task.target_dictionary, beam_size=beam, max_len_b=8)
    return [
        [(h["tokens"].tolist(), h["score"].item()) for h in hypotheses]
        for hypotheses in generator.generate(models, batch)
    ]


def single_leaves(model, build, **variant):
    for leaf in range(model.decoder.topology.num_leaves):
        stock = build("transformer", **variant)
        stock.encoder = copy.deepcopy(model.encoder)
        stock.decoder = copy.deepcopy(model.decoder.leaf_decoder(leaf))
        yield stock.eval()


@pytest.mark.parametrize("prepared", [False, True])
@pytest.mark.parametrize("variant", VARIANTS)
def test_tree_ensemble_is_fairseqs(variant, prepared, build, task, batch, inference_config):
    """Hypotheses and scores, step by step, in beams that are reordered."""
    flags = dict(tree=TREE, noise=0.05)
    model = build(**flags, tree_inference="ensemble", **VARIANTS[variant]).eval()
    leaves = list(single_leaves(model, build, **VARIANTS[variant]))
    if prepared:
        model.prepare_for_inference_(inference_config)
    expected, found = (translations(task, models, batch) for models in (leaves, [model]))
    assert [[t for t, _ in h] for h in found] == [[t for t, _ in h] for h in expected]
    for one, other in zip(found, expected, strict=True):
        assert [s for _, s in one] == pytest.approx([s for _, s in other], abs=1e-5)
    alone = translations(task, leaves[:1], batch)
    assert alone != found, "the leaves differ"


@pytest.mark.parametrize("how", ["ensemble", "gate"])
def test_step_by_step_is_the_whole(how, build, batch):
    model = build(tree=TREE, noise=0.05, tree_inference=how, kd_objective="one").eval()
    target = batch["net_input"]["prev_output_tokens"]
    encoded = model.encoder(batch["net_input"]["src_tokens"], batch["net_input"]["src_lengths"])
    whole = model.decoder(target, encoder_out=encoded)[0]
    state = {}
    for step in range(1, 4):  # the shortest sentence has 4 words
        last = model.decoder(target[:, :step], encoder_out=encoded, incremental_state=state)[0]
        torch.testing.assert_close(last[:, -1], whole[:, step - 1], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(whole.exp().sum(-1), torch.ones(3, 7))


@pytest.mark.parametrize("tree", [TREE, "0[3,3,3]"])
def test_attention_to_the_source_is_that_of_leaf_0(tree, build, batch):
    """Which --print-alignment reads."""
    model = build(tree=tree, noise=0.05, tree_inference="ensemble").eval()
    (attention,) = model(**batch["net_input"])[1]["attn"]
    model.decoder.inference = 0
    (expected,) = model(**batch["net_input"])[1]["attn"]
    assert expected.shape == (3, 7, batch["net_input"]["src_tokens"].size(1))
    torch.testing.assert_close(attention, expected)


def test_gate_mixes_by_its_own_scores(build, task, batch, inference_config):
    model = build(tree=TREE, noise=0.05, tree_inference="gate", kd_objective="one").eval()
    net = batch["net_input"]
    output = model(**net, leaves="all")
    gate = output.heads["gate"].softmax(dim=-1)
    logits = torch.stack([f @ output.output_matrix.t() for f in output.features], dim=-2)
    by_hand = (gate.unsqueeze(-1) * logits).sum(dim=-2).log_softmax(dim=-1)
    torch.testing.assert_close(model(**net)[0], by_hand, rtol=1e-4, atol=1e-5)
    before = translations(task, [model], batch)
    model.prepare_for_inference_(inference_config)
    assert translations(task, [model], batch) == before
    names = [name for name in model.state_dict() if "gate" in name]
    assert names and all(name.startswith("heads.gate.") for name in names), "stored once"


def test_an_ensemble_does_not_ask_the_gate(build, batch, inference_config):
    """It is dropped with all heads, and does not follow the model to another type."""
    model = build(tree=TREE, tree_inference="ensemble", kd_objective="one").eval()
    expected = model(**batch["net_input"])[0]
    model.prepare_for_inference_(inference_config)
    assert len(model.heads) == 0 and model.decoder.gate is None
    found = model.double()(**batch["net_input"])[0]
    torch.testing.assert_close(found.float(), expected, rtol=1e-4, atol=1e-4)


def test_features_of_a_mixture_are_those_of_leaf_0(build, batch):
    model = build(tree=TREE, tree_inference="ensemble").eval()
    features = model(**batch["net_input"], features_only=True)[0]
    expected = model(**batch["net_input"], leaves=[0]).features[0]
    torch.testing.assert_close(features, expected)
