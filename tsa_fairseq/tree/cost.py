"""What a tree costs: the sizes of the named architectures, parameters, multiply-adds. No torch.

Everything is counted from the sizes alone, so that no model needs to be built: for fairseq's
default layers, which are post-norm with biases, and sinusoidal positions, which are computed.
"""

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


@dataclass(frozen=True)
class Architecture:
    """The sizes that a named architecture gives both its encoder and its decoder.

    The fields are fairseq's flags without ``--encoder-`` or ``--decoder-``.
    """

    layers: int
    embed_dim: int
    ffn_embed_dim: int
    attention_heads: int

    def dimensions(self, vocabulary: int) -> Dimensions:
        """With so many words in the joined dictionary."""
        side = self.embed_dim, self.ffn_embed_dim
        return Dimensions(self.layers, *side, *side, vocabulary)


# What --arch stands for. A test compares them with the models that fairseq builds.
ARCHITECTURES = {
    "tsa_transformer": Architecture(6, 512, 2048, 8),
    "tsa_transformer_iwslt_de_en": Architecture(6, 512, 1024, 4),
    # the tiny model of the Multi30k literature (Wu et al. 2021)
    "tsa_transformer_multi30k": Architecture(4, 128, 256, 4),
    "tsa_transformer_wmt_en_de": Architecture(6, 512, 2048, 8),
    "tsa_transformer_wmt_en_de_big": Architecture(6, 1024, 4096, 16),
}


def parameters(topology: Topology, dims: Dimensions) -> int:
    """Parameters of a model with this tree for a decoder and one dictionary for both languages.

    One matrix embeds source and target and projects every leaf's output
    (``--share-all-embeddings``), so that encoder and decoder have one width. The leaf that is kept
    has those of a plain tree, of one leaf.
    """
    d_enc, d_dec = dims.encoder_embed_dim, dims.decoder_embed_dim
    encoder_layer = (
        _attention(d_enc, d_enc)
        + _feed_forward(d_enc, dims.encoder_ffn_embed_dim)
        + 2 * _norm(d_enc)
    )
    decoder_layer = (
        _attention(d_dec, d_dec)
        + _attention(d_dec, d_enc)
        + _feed_forward(d_dec, dims.decoder_ffn_embed_dim)
        + 3 * _norm(d_dec)
    )
    embeddings = dims.vocabulary * d_dec
    return embeddings + dims.encoder_layers * encoder_layer + topology.num_nodes * decoder_layer


def _attention(width: int, source_width: int) -> int:
    """Queries and output, keys and values; weights and biases."""
    return 2 * (width + 1) * width + 2 * (source_width + 1) * width


def _feed_forward(width: int, inner: int) -> int:
    return (width + 1) * inner + (inner + 1) * width


def _norm(width: int) -> int:
    return 2 * width


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
