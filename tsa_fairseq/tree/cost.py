"""What a tree costs: multiply-adds of a training step. Imports no torch."""

from dataclasses import dataclass

from tsa_fairseq.tree.topology import Topology


@dataclass(frozen=True)
class Dimensions:
    """The sizes that decide what a step costs, as in fairseq's flags."""

    encoder_layers: int
    encoder_embed_dim: int
    encoder_ffn_embed_dim: int
    decoder_embed_dim: int
    decoder_ffn_embed_dim: int
    vocabulary: int


def multiply_adds(topology: Topology, dims: Dimensions) -> int:
    """Multiply-adds of one forward pass per target token, with as many source as target tokens.

    Counts matrix products with parameters: projections of the attentions, feed-forward layers and
    the output projection of every leaf. Left out are the products of queries with keys and values,
    which depend on the sentence's length, normalisation and softmax. The backward pass costs twice
    as much for every model, so that ratios hold for training as well.
    """
    d_enc, d_dec = dims.encoder_embed_dim, dims.decoder_embed_dim
    encoder_layer = 4 * d_enc**2 + 2 * d_enc * dims.encoder_ffn_embed_dim
    self_attention = 4 * d_dec**2
    cross_attention = 2 * d_dec**2 + 2 * d_enc * d_dec
    decoder_layer = self_attention + cross_attention + 2 * d_dec * dims.decoder_ffn_embed_dim
    return (
        dims.encoder_layers * encoder_layer
        + topology.num_nodes * decoder_layer
        + topology.num_leaves * d_dec * dims.vocabulary
    )
