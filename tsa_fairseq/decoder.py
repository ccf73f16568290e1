"""fairseq's Transformer decoder with peers beside its last layers."""

import copy
from collections.abc import Sequence
from typing import Any, cast

import torch
from fairseq.models.transformer import TransformerDecoderBase
from fairseq.modules import LayerNorm
from torch import Tensor, nn

from tsa_fairseq.errors import UsageError
from tsa_fairseq.grammar import Branch
from tsa_fairseq.layer_drop import LayerDropInPlace, pass_on
from tsa_fairseq.outputs import TreeFeatures
from tsa_fairseq.topology import Topology
from tsa_fairseq.trunk_gradient import average_at_splits, averaged_encoder_gradient
from tsa_fairseq.views import LayerInputs, NodeViews, Views

EncoderOut = dict[str, list[Tensor]]


class TreeDecoder(TransformerDecoderBase):
    """A decoder whose layers branch as a topology says.

    Leaf 0 is the stock decoder itself: its layers are ``layers``, its final norm ``layer_norm``,
    under fairseq's parameter names. Every other node is ``peers.<depth>.<peer>``; a pre-norm tree
    has ``leaf_norms.<leaf>`` for every leaf but 0. All leaves share the embeddings, the projection
    ``project_out_dim`` and the output projection.

    Args:
        cfg: fairseq's ``TransformerConfig``.
        dictionary: the target dictionary.
        embed_tokens: the target embeddings.
        topology: the tree; its depth is ``cfg.decoder.layers``.
        inference_leaf: the leaf that translates.
        no_encoder_attn: whether layers go without attention to the encoder.
    """

    layers: nn.ModuleList
    layer_norm: nn.Module | None
    peers: nn.ModuleDict
    leaf_norms: nn.ModuleDict

    def __init__(
        self,
        cfg: Any,
        dictionary: Any,
        embed_tokens: nn.Embedding,
        topology: Topology,
        inference_leaf: int = 0,
        no_encoder_attn: bool = False,
    ) -> None:
        super().__init__(cfg, dictionary, embed_tokens, no_encoder_attn=no_encoder_attn)
        self.topology = topology
        self.inference_leaf = inference_leaf
        # by index: iterating over fairseq's list would drop layers now
        self.layers = self._in_a_row([self.layers[depth] for depth in range(topology.depth)])
        # after everything else, so that one seed draws the same leaf 0 for every tree
        self.peers = nn.ModuleDict()
        for depth, width in enumerate(topology.widths):
            if width > 1:
                self.peers[str(depth)] = nn.ModuleDict(
                    {
                        str(peer): self.build_decoder_layer(cfg, no_encoder_attn)
                        for peer in range(1, width)
                    }
                )
        self.leaf_norms = nn.ModuleDict()
        if self.layer_norm is not None:
            for leaf in range(1, topology.num_leaves):
                self.leaf_norms[str(leaf)] = LayerNorm(self.embed_dim, export=cfg.export)

    def node(self, depth: int, peer: int) -> nn.Module:
        """The decoder layer of one node."""
        if peer == 0:
            return self.layers[depth]
        peers = cast(nn.ModuleDict, self.peers[str(depth)])
        return peers[str(peer)]

    def _in_a_row(self, layers: list[nn.Module]) -> nn.ModuleList:
        """The list that fairseq's forward pass iterates over."""
        if self.decoder_layerdrop == 0:
            return nn.ModuleList(layers)
        row = LayerDropInPlace(self.decoder_layerdrop, layers)
        row.training = self.training
        return row

    def leaf_norm(self, leaf: int) -> nn.Module | None:
        """The final norm of one leaf; None for a post-norm tree."""
        if self.layer_norm is None or leaf == 0:
            return self.layer_norm
        return self.leaf_norms[str(leaf)]

    def check_leaf(self, leaf: int) -> None:
        """Refuse a leaf the tree does not have.

        Raises:
            UsageError: ``leaf`` is out of range.
        """
        if not 0 <= leaf < self.topology.num_leaves:
            raise UsageError(
                f"leaf {leaf}: the tree '{self.topology}' has leaves 0 to "
                f"{self.topology.num_leaves - 1}"
            )

    def leaf_decoder(self, leaf: int) -> TransformerDecoderBase:
        """The stock decoder that one leaf is. It shares its modules with the tree.

        Raises:
            UsageError: ``leaf`` is out of range.
        """
        self.check_leaf(leaf)
        decoder = copy.copy(self)
        decoder.__class__ = TransformerDecoderBase
        # the copy is shallow: without this, the next lines would change the tree itself
        decoder._modules = dict(self._modules)
        path = enumerate(self.topology.paths[leaf])
        decoder.layers = self._in_a_row([self.node(depth, peer) for depth, peer in path])
        decoder.layer_norm = self.leaf_norm(leaf)
        del decoder.peers, decoder.leaf_norms
        return decoder

    def extract_features(self, *args: Any, **kwargs: Any) -> tuple[Tensor, dict[str, list[Any]]]:
        """fairseq's ``extract_features``, for the leaf that translates."""
        return self._leaf_features(self.inference_leaf, *args, **kwargs)

    def _leaf_features(
        self, leaf: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, dict[str, list[Any]]]:
        if leaf == 0:
            return super().extract_features(*args, **kwargs)
        return self.leaf_decoder(leaf).extract_features(*args, **kwargs)

    def leaf_features(
        self,
        prev_output_tokens: Tensor,
        encoder_out: EncoderOut,
        leaves: Sequence[int],
        trunk_gradient: str = "sum",
        views: Views = Views(),  # noqa: B008 - frozen
    ) -> TreeFeatures:
        """Features of several leaves for whole target sentences; shared layers run once.

        Args:
            prev_output_tokens: the target, shifted right; B x T, B counting every view's sentences.
            encoder_out: what the encoder returned.
            leaves: the leaves wanted.
            trunk_gradient: ``sum`` leaves gradients as they are; ``mean`` is for all leaves
                together, see :mod:`tsa_fairseq.trunk_gradient`.
            views: which leaf reads which view.

        Raises:
            UsageError: a leaf is out of range.
        """
        for leaf in leaves:
            self.check_leaf(leaf)
        nodes = NodeViews(self.topology, views)
        if trunk_gradient == "sum":
            outputs, states = self._run_tree(prev_output_tokens, encoder_out, leaves, nodes)
        else:
            with averaged_encoder_gradient(nodes, self.node):
                outputs, states = self._run_tree(prev_output_tokens, encoder_out, leaves, nodes)
            average_at_splits(nodes, states)
        return TreeFeatures(outputs, states[self.topology.split - 1, 0].transpose(0, 1))

    def _run_tree(
        self,
        prev_output_tokens: Tensor,
        encoder_out: EncoderOut,
        leaves: Sequence[int],
        nodes: NodeViews,
    ) -> tuple[tuple[Tensor, ...], dict[tuple[int, int], Tensor]]:
        """The features of the leaves, and the output of every node by depth and peer."""
        # The stock decoder computes the first leaf and tells what went into each of its layers
        # (T x B x D), which is where the others branch off. It computes all rows alike: with views
        # dealt out, only what all leaves share.
        first = None if nodes.divided else leaves[0]
        if first is None:
            stock, path = self._shared_layers(), [0] * (self.topology.split + 1)
            features, extra = stock.extract_features(prev_output_tokens, encoder_out=encoder_out)
        else:
            path = [0, *self.topology.paths[first]]
            features, extra = self._leaf_features(
                first, prev_output_tokens, encoder_out=encoder_out
            )
        states = {
            (depth - 1, peer): state
            for depth, (peer, state) in enumerate(zip(path, extra["inner_states"], strict=True))
        }
        inputs = self._inputs(prev_output_tokens, encoder_out, states[-1, 0])

        def state_after(depth: int, peer: int) -> Tensor:
            if (depth, peer) not in states:
                parent = self.topology.parents[depth][peer]
                below = state_after(depth - 1, parent)
                want = nodes.of(depth, peer)
                state = nodes.take(below, nodes.of(depth - 1, parent), want, dim=1)
                states[depth, peer] = self._run_node(depth, peer, state, inputs, nodes)
            return states[depth, peer]

        outputs = tuple(
            features
            if leaf == first
            else self._finish(leaf, state_after(self.topology.depth - 1, leaf))
            for leaf in leaves
        )
        return outputs, states

    def _shared_layers(self) -> TransformerDecoderBase:
        """The stock decoder of the layers before the first split, without what follows them."""
        decoder = self.leaf_decoder(0)
        decoder.layers = self._in_a_row([self.layers[d] for d in range(self.topology.split)])
        decoder.layer_norm = decoder.project_out_dim = None
        return decoder

    def _inputs(
        self, prev_output_tokens: Tensor, encoder_out: EncoderOut, embedded: Tensor
    ) -> LayerInputs:
        """What every decoder layer is given beside its state."""
        padding = prev_output_tokens.eq(self.padding_idx)  # B x T, True at pads
        encoder_padding = encoder_out["encoder_padding_mask"]
        return LayerInputs(
            encoder_out["encoder_out"][0],
            encoder_padding[0] if encoder_padding else None,
            self.buffered_future_mask(embedded),
            padding if self.cross_self_attention or padding.any() else None,
        )

    def _run_node(
        self, depth: int, peer: int, state: Tensor, inputs: LayerInputs, nodes: NodeViews
    ) -> Tensor:
        if self.training and torch.rand(()) < self.decoder_layerdrop:
            return pass_on(state)[0]
        inputs = inputs.of(nodes, depth, peer)
        return self.node(depth, peer)(
            state,
            inputs.encoder_out,
            inputs.encoder_padding_mask,
            None,
            self_attn_mask=inputs.self_attn_mask,
            self_attn_padding_mask=inputs.self_attn_padding_mask,
        )[0]

    def _finish(self, leaf: int, state: Tensor) -> Tensor:
        """What the stock decoder does after its last layer: T x B x D to B x T x D."""
        norm = self.leaf_norm(leaf)
        features = (state if norm is None else norm(state)).transpose(0, 1)
        return features if self.project_out_dim is None else self.project_out_dim(features)

    def keep_inference_leaf(self) -> None:
        """Drop every other leaf, for good: what stays is a plain decoder."""
        decoder = self.leaf_decoder(self.inference_leaf)
        self.layers, self.layer_norm = decoder.layers, decoder.layer_norm
        self.peers, self.leaf_norms = nn.ModuleDict(), nn.ModuleDict()
        self.topology = Topology.of(Branch(self.num_layers))
        self.inference_leaf = 0
