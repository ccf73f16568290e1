"""What ``--arch`` takes: the dimensions of fairseq's own architectures, and of Multi30k's."""

from argparse import Namespace
from collections.abc import Callable
from typing import Any

from fairseq.models import register_model_architecture
from fairseq.models.transformer import (
    base_architecture,
    transformer_iwslt_de_en,
    transformer_wmt_en_de,
    transformer_wmt_en_de_big,
)

from tsa_fairseq.plugin.arguments import complete_arguments
from tsa_fairseq.plugin.configuration import arguments_of
from tsa_fairseq.plugin.model import TSATransformerModel
from tsa_fairseq.tree.cost import ARCHITECTURES


@register_model_architecture("tsa_transformer", "tsa_transformer")
def tsa_transformer(args: Namespace) -> None:
    """The dimensions of fairseq's ``transformer``: 6+6 layers, 512/2048, 8 heads."""
    _complete(args, base_architecture)


@register_model_architecture("tsa_transformer", "tsa_transformer_iwslt_de_en")
def tsa_transformer_iwslt_de_en(args: Namespace) -> None:
    """The dimensions of fairseq's ``transformer_iwslt_de_en``: 6+6 layers, 512/1024, 4 heads."""
    _complete(args, transformer_iwslt_de_en)


@register_model_architecture("tsa_transformer", "tsa_transformer_wmt_en_de")
def tsa_transformer_wmt_en_de(args: Namespace) -> None:
    """The dimensions of fairseq's ``transformer_wmt_en_de``: 6+6 layers, 512/2048, 8 heads."""
    _complete(args, transformer_wmt_en_de)


@register_model_architecture("tsa_transformer", "tsa_transformer_wmt_en_de_big")
def tsa_transformer_wmt_en_de_big(args: Namespace) -> None:
    """The dimensions of ``transformer_wmt_en_de_big``: 6+6 layers, 1024/4096, 16 heads."""
    _complete(args, transformer_wmt_en_de_big)


@register_model_architecture("tsa_transformer", "tsa_transformer_multi30k")
def tsa_transformer_multi30k(args: Namespace) -> None:
    """The tiny model of the Multi30k literature: 4+4 layers, 128/256, 4 heads (Wu et al. 2021)."""
    _complete(args, _multi30k)


def _multi30k(args: Namespace) -> None:
    for side in ("encoder", "decoder"):
        for name, value in vars(ARCHITECTURES["tsa_transformer_multi30k"]).items():
            if not hasattr(args, f"{side}_{name}"):
                setattr(args, f"{side}_{name}", value)
    base_architecture(args)


def _complete(args: Any, defaults: Callable[[Namespace], None]) -> None:
    with arguments_of(args, TSATransformerModel.add_args) as flat:
        complete_arguments(flat, defaults)
