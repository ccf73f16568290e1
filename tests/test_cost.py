from argparse import Namespace

import pytest
import torch
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY
from helpers import TinyTask

from tsa_fairseq.plugin.model import TSATransformerModel
from tsa_fairseq.tree.cost import ARCHITECTURES, Dimensions, multiply_adds, parameters
from tsa_fairseq.tree.topology import Topology

WORDS = 40


def test_every_architecture_is_in_the_table():
    ours = {n for n, model in ARCH_MODEL_REGISTRY.items() if model is TSATransformerModel}
    assert ours == ARCHITECTURES.keys()


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_sizes_are_those_that_fairseq_fills_in(arch):
    args = Namespace()
    ARCH_CONFIG_REGISTRY[arch](args)
    for name, value in vars(ARCHITECTURES[arch]).items():
        assert getattr(args, f"encoder_{name}") == getattr(args, f"decoder_{name}") == value
    # what the count of parameters takes for granted
    for side in ("encoder", "decoder"):
        assert not getattr(args, f"{side}_normalize_before")
        assert not getattr(args, f"{side}_learned_pos")


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize(
    ("tree", "layers"),
    [
        (None, None),
        ("2", 2),
        ("1,1,2,4", 4),
        ("1[2,1[1,1]]", 3),
        ("0[3,3]", 3),
        ("0[1[1,1],2]", 2),
        ("0[1,1,1]", 1),
    ],
)
def test_parameters_are_those_of_the_model(arch, tree, layers):
    args = Namespace(tree=tree, share_all_embeddings=True)
    if layers is not None:
        args.decoder_layers = layers
    ARCH_CONFIG_REGISTRY[arch](args)
    with torch.device("meta"):  # sizes without memory
        model = TSATransformerModel.build_model(args, TinyTask(WORDS))
    topology = model.decoder.topology
    dims = ARCHITECTURES[arch].dimensions(WORDS)
    assert parameters(topology, dims) == sum(p.numel() for p in model.parameters())
    model.decoder.keep_inference_leaf()
    plain = Topology.parse(str(topology.depth), topology.depth)
    assert parameters(plain, dims) == sum(p.numel() for p in model.parameters())


def test_parameters_by_hand():
    dims = Dimensions(
        encoder_layers=2,
        encoder_embed_dim=3,
        encoder_ffn_embed_dim=5,
        decoder_embed_dim=3,
        decoder_ffn_embed_dim=11,
        vocabulary=13,
    )
    attention, norm = 4 * (3 * 3 + 3), 2 * 3
    encoder = attention + (3 * 5 + 5) + (5 * 3 + 3) + 2 * norm
    decoder = 2 * attention + (3 * 11 + 11) + (11 * 3 + 3) + 3 * norm
    embeddings = 13 * 3
    assert parameters(Topology.parse("2", 2), dims) == embeddings + 2 * encoder + 2 * decoder
    assert parameters(Topology.parse("1,4", 2), dims) == embeddings + 2 * encoder + 5 * decoder


def test_multiply_adds_by_hand():
    dims = Dimensions(
        encoder_layers=2,
        encoder_embed_dim=3,
        encoder_ffn_embed_dim=5,
        decoder_embed_dim=7,
        decoder_ffn_embed_dim=11,
        vocabulary=13,
    )
    encoder = 2 * (4 * 3 * 3 + 2 * 3 * 5)
    # q, k, v and output of self-attention; q and output, then k and v of cross-attention; ffn
    layer = 4 * 7 * 7 + (2 * 7 * 7 + 2 * 3 * 7) + 2 * 7 * 11
    assert multiply_adds(Topology.parse("2", 2), dims) == encoder + 2 * layer + 7 * 13
    assert multiply_adds(Topology.parse("1,4", 2), dims) == encoder + 5 * layer + 4 * 7 * 13


@pytest.mark.parametrize(
    ("layers", "width", "ffn", "vocabulary", "ratio"),
    [(4, 128, 256, 9_712, 2.8), (6, 512, 1024, 10_000, 1.77), (6, 512, 2048, 32_768, 2.1)],
)
def test_training_cost_of_published_models(layers, width, ffn, vocabulary, ratio):
    dims = Dimensions(layers, width, ffn, width, ffn, vocabulary)
    tree, plain = Topology.balanced(layers), Topology.parse(str(layers), layers)
    assert multiply_adds(tree, dims) / multiply_adds(plain, dims) == pytest.approx(ratio, rel=0.03)
