"""fairseq's Transformer decoder with peers beside its last layers."""

import copy
from collections.abc import Sequence
from typing import Any, cast

import torch
from fairseq.models.transformer import TransformerDecoderBase
from fairseq.modules import LayerNorm
from torch import Tensor, nn

from tsa_fairseq.tree.layer_drop import in_a_row, pass_on
from tsa_fairseq.tree.layer_inputs import LayerInputs
from tsa_fairseq.tree.mixture import Mixture, mix
from tsa_fairseq.tree.outputs import TreeRun
from tsa_fairseq.tree.topology import Branch, Topology
from tsa_fairseq.tree.trunk_gradient import average_at_splits, averaged_encoder_gradient
from tsa_fairseq.tree.views import NodeViews, Views

EncoderOut = dict[str, list[Tensor]]


class TreeDecoder(TransformerDecoderBase):
    """A decoder whose layers branch as a topology says.

    Leaf 0 is the stock decoder itself, under fairseq's parameter names. Every other node is
    ``peers.<depth>.<peer>``; a pre-norm tree has ``leaf_norms.<leaf>`` for every leaf but 0. All
    leaves share embeddings, ``project_out_dim`` and output projection.

    Args:
        cfg: fairseq's ``TransformerConfig``.
        dictionary: the target dictionary.
        embed_tokens: the target embeddings.
        topology: the tree; its depth is ``cfg.decoder.layers``.
        inference: the leaf that translates, or how all of them do together.
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
        inference: int | Mixture = 0,
        no_encoder_attn: bool = False,
    ) -> None:
        super().__init__(cfg, dictionary, embed_tokens, no_encoder_attn=no_encoder_attn)
        self.topology = topology
        self.inference = inference
        self.gate: nn.Module | None = None
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
        return in_a_row(layers, self.decoder_layerdrop, self.training)

    def leaf_norm(self, leaf: int) -> nn.Module | None:
        """The final norm of one leaf; None for a post-norm tree."""
        if self.layer_norm is None or leaf == 0:
            return self.layer_norm
        return self.leaf_norms[str(leaf)]

    def leaf_decoder(self, leaf: int) -> TransformerDecoderBase:
        """The stock decoder that one leaf is. It shares its modules with the tree.

        Raises:
            UsageError: ``leaf`` is out of range.
        """
        self.topology.check_leaf(leaf)
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
        """fairseq's ``extract_features``, for the leaf that translates, or leaf 0 of a mixture."""
        leaf = self.inference if isinstance(self.inference, int) else 0
        return self._leaf_features(leaf, *args, **kwargs)

    def forward(
        self,
        prev_output_tokens: Tensor,
        encoder_out: EncoderOut | None = None,
        incremental_state: dict[str, Any] | None = None,
        features_only: bool = False,
        **kwargs: Any,
    ) -> tuple[Tensor, dict[str, Any]]:
        """fairseq's ``forward``; of a mixture it returns log probabilities, B x T x V."""
        if isinstance(self.inference, int) or features_only:
            return super().forward(
                prev_output_tokens, encoder_out, incremental_state, features_only, **kwargs
            )
        assert encoder_out is not None
        run = self._run_tree(
            prev_output_tokens,
            encoder_out,
            range(self.topology.num_leaves),
            NodeViews(self.topology, Views()),
            incremental_state,
        )
        scores = None
        if self.inference == "gate":
            assert self.gate is not None
            scores = self.gate(run.shared)
        words = self.output_projection.weight.size(0)
        return mix(run.features, self.output_layer, words, scores), run.extra

    def mix_by(self, gate: nn.Module | None) -> None:
        """Note the gate, which belongs to the model: here it is no parameter of the decoder's."""
        object.__setattr__(self, "gate", gate)

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
    ) -> TreeRun:
        """Features of several leaves for whole target sentences; shared layers run once.

        Args:
            prev_output_tokens: the target, shifted right; B x T, B counting every view's sentences.
            encoder_out: what the encoder returned.
            leaves: the leaves wanted.
            trunk_gradient: ``sum`` leaves gradients as they are; ``mean`` is for all leaves
                together, see :mod:`tsa_fairseq.tree.trunk_gradient`.
            views: which leaf reads which view.

        Raises:
            UsageError: a leaf is out of range.
        """
        for leaf in leaves:
            self.topology.check_leaf(leaf)
        nodes = NodeViews(self.topology, views)
        if trunk_gradient == "sum":
            return self._run_tree(prev_output_tokens, encoder_out, leaves, nodes)
        with averaged_encoder_gradient(nodes, self.node):
            run = self._run_tree(prev_output_tokens, encoder_out, leaves, nodes)
        average_at_splits(nodes, run.states)
        return run

    def _run_tree(
        self,
        prev_output_tokens: Tensor,
        encoder_out: EncoderOut,
        leaves: Sequence[int],
        nodes: NodeViews,
        incremental_state: dict[str, Any] | None = None,
    ) -> TreeRun:
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
                first,
                prev_output_tokens,
                encoder_out=encoder_out,
                incremental_state=incremental_state,
            )
        states = {
            (depth - 1, peer): state
            for depth, (peer, state) in enumerate(zip(path, extra["inner_states"], strict=True))
        }
        inputs = LayerInputs.of_batch(
            self, prev_output_tokens, encoder_out, states[-1, 0], incremental_state
        )

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
        shared = states[self.topology.split - 1, 0].transpose(0, 1)
        return TreeRun(outputs, shared, states, extra)

    def _shared_layers(self) -> TransformerDecoderBase:
        """The stock decoder of the layers before the first split, without what follows them."""
        decoder = self.leaf_decoder(0)
        decoder.layers = self._in_a_row([self.layers[d] for d in range(self.topology.split)])
        decoder.layer_norm = decoder.project_out_dim = None
        return decoder

    def _run_node(
        self, depth: int, peer: int, state: Tensor, inputs: LayerInputs, nodes: NodeViews
    ) -> Tensor:
        if self.training and torch.rand(()) < self.decoder_layerdrop:
            return pass_on(state)[0]
        return inputs.of(nodes, depth, peer).run(self.node(depth, peer), state)

    def _finish(self, leaf: int, state: Tensor) -> Tensor:
        """What the stock decoder does after its last layer: T x B x D to B x T x D."""
        norm = self.leaf_norm(leaf)
        features = (state if norm is None else norm(state)).transpose(0, 1)
        return features if self.project_out_dim is None else self.project_out_dim(features)

    def keep_inference_leaf(self) -> None:
        """Drop every other leaf, for good: what stays is a plain decoder. A mixture needs all."""
        if not isinstance(self.inference, int):
            return
        decoder = self.leaf_decoder(self.inference)
        self.layers, self.layer_norm = decoder.layers, decoder.layer_norm
        self.peers, self.leaf_norms = nn.ModuleDict(), nn.ModuleDict()
        self.topology = Topology.of(Branch(self.num_layers))
        self.inference = 0
