"""``tsa-fairseq tree``: a tree drawn, with its size and what its training costs."""

import argparse
from argparse import Namespace
from typing import Any

import torch

import tsa_fairseq
from tsa_fairseq.errors import UsageError
from tsa_fairseq.tree.topology import Dimensions, Topology, multiply_adds

DEFAULT_ARCH = "tsa_transformer"
DEFAULT_VOCABULARY = 10_000


def add_tree(commands: Any) -> None:
    """The command's options."""
    tree: argparse.ArgumentParser = commands.add_parser(
        "tree", help="draw a tree, with its parameters and training cost"
    )
    tree.add_argument("spec", metavar="SPEC", nargs="?", help="as for --tree (default: --arch's)")
    tree.add_argument("--arch", default=DEFAULT_ARCH, help="default: %(default)s")
    tree.add_argument(
        "--decoder-layers", type=int, metavar="N", help="layers on every path (default: --arch's)"
    )
    tree.add_argument(
        "--vocabulary",
        type=int,
        default=DEFAULT_VOCABULARY,
        metavar="V",
        help="words in the joined dictionary (default: %(default)s)",
    )
    tree.set_defaults(run=describe_tree)


def describe_tree(args: Namespace) -> str:
    """The tree drawn, with its parameters and its training cost beside the plain model's.

    Raises:
        UsageError: a bad tree, architecture, number of layers or vocabulary.
    """
    if args.vocabulary < 5:
        raise UsageError(
            f"--vocabulary: got {args.vocabulary}; expected 5 or more, four are fairseq's symbols"
        )
    filled = _architecture(args.arch, args.decoder_layers, args.spec)
    topology = Topology.parse(filled.tree, filled.decoder_layers)
    plain = Topology.parse(str(topology.depth), topology.depth)
    dims = Dimensions(
        encoder_layers=filled.encoder_layers,
        encoder_embed_dim=filled.encoder_embed_dim,
        encoder_ffn_embed_dim=filled.encoder_ffn_embed_dim,
        decoder_embed_dim=filled.decoder_embed_dim,
        decoder_ffn_embed_dim=filled.decoder_ffn_embed_dim,
        vocabulary=args.vocabulary,
    )
    training, inference = _count_parameters(filled, args.vocabulary)
    ratio = multiply_adds(topology, dims) / multiply_adds(plain, dims)
    nodes = ",".join(str(width) for width in topology.widths)
    sharing = "joined vocabulary, shared embeddings"
    return "\n".join(
        [
            topology.draw(),
            "",
            f"tree                     {topology} (nodes at each layer: {nodes})",
            f"architecture             {args.arch}, {args.vocabulary:,} words, {sharing}",
            f"parameters, training     {training:,}",
            f"parameters, inference    {inference:,} (the plain model's)",
            f"training multiply-adds   {ratio:.2f} x the plain model's",
        ]
    )


def _architecture(arch: str, decoder_layers: int | None, spec: str | None) -> Namespace:
    """The model arguments that ``--arch`` stands for."""
    from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY

    ours = [
        name
        for name, model in ARCH_MODEL_REGISTRY.items()
        if model is tsa_fairseq.plugin.model.TSATransformerModel
    ]
    if arch not in ours:
        raise UsageError(f"--arch: got '{arch}'; expected one of {', '.join(sorted(ours))}")
    args = Namespace(tree=spec, share_all_embeddings=True)
    if decoder_layers is not None:
        args.decoder_layers = decoder_layers
    ARCH_CONFIG_REGISTRY[arch](args)
    return args


class _Vocabulary:
    """As much of a fairseq task with a joined dictionary as building a model takes."""

    def __init__(self, words: int) -> None:
        from fairseq.data import Dictionary

        self.source_dictionary = self.target_dictionary = Dictionary()
        for word in range(words - len(self.source_dictionary)):
            self.source_dictionary.add_symbol(str(word))


def _count_parameters(args: Namespace, words: int) -> tuple[int, int]:
    """Parameters of the whole tree and of the leaf that translates, counted in a built model."""
    with torch.device("meta"):  # sizes without memory
        model: Any = tsa_fairseq.plugin.model.TSATransformerModel.build_model(
            args, _Vocabulary(words)
        )
    training = _parameters(model)
    model.decoder.keep_inference_leaf()
    return training, _parameters(model)


def _parameters(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
