"""fairseq's Transformer decoder with peers beside its last layers."""

import copy
from collections.abc import Sequence
from typing import Any, cast

import torch
from fairseq.models.transformer import TransformerDecoderBase
from fairseq.modules import LayerNorm
from torch import Tensor, nn

from tsa_fairseq.tree.layers import FirstLayers, Recorded, dropped_layer, with_layer_drop
from tsa_fairseq.tree.mixture import Mixture, mix
from tsa_fairseq.tree.outputs import TreeRun
from tsa_fairseq.tree.topology import Branch, Node, Topology
from tsa_fairseq.tree.trunk_gradient import average_at_splits, averaged_encoder_gradient
from tsa_fairseq.tree.views import ViewPlan, Views

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
        layers = [self.node(*node) for node in self.topology.nodes(leaf)]
        decoder.layers = with_layer_drop(layers, self.decoder_layerdrop, self.training)
        decoder.layer_norm = self.leaf_norm(leaf)
        del decoder.peers, decoder.leaf_norms
        return decoder

    def extract_features(self, *args: Any, **kwargs: Any) -> tuple[Tensor, dict[str, list[Any]]]:
        """fairseq's ``extract_features``, for the leaf that translates, or leaf 0 of a mixture."""
        leaf = self.inference if isinstance(self.inference, int) else 0
        if leaf == 0:
            return super().extract_features(*args, **kwargs)
        return self.leaf_decoder(leaf).extract_features(*args, **kwargs)

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
        plan = ViewPlan(self.topology, Views())
        leaves = range(self.topology.num_leaves)
        run, _ = self._walk(prev_output_tokens, encoder_out, leaves, plan, incremental_state)
        scores = None
        if self.inference == "gate":
            assert self.gate is not None
            scores = self.gate(run.shared)
        words = self.output_projection.weight.size(0)
        mixed = mix(run.features, self.output_layer, words, scores)
        return mixed, {"attn": [run.attention]}

    def set_gate(self, gate: nn.Module | None) -> None:
        """Note the gate, which belongs to the model: here it is no parameter of the decoder's."""
        object.__setattr__(self, "gate", gate)

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
        plan = ViewPlan(self.topology, views)
        if trunk_gradient == "sum":
            return self._walk(prev_output_tokens, encoder_out, leaves, plan)[0]
        with averaged_encoder_gradient(plan, self.node):
            run, states = self._walk(prev_output_tokens, encoder_out, leaves, plan)
        average_at_splits(plan, states)
        return run

    def _walk(
        self,
        prev_output_tokens: Tensor,
        encoder_out: EncoderOut,
        leaves: Sequence[int],
        plan: ViewPlan,
        incremental_state: dict[str, Any] | None = None,
    ) -> tuple[TreeRun, dict[Node, Tensor]]:
        """Compute some leaves, node by node, and return the state after each node, too.

        The stock decoder embeds the tokens and computes the layers that all leaves share; what
        follows is computed leaf by leaf, so that what leaf 0 draws for dropout and layer drop is
        what the plain model draws. With dealt-out views, which the plain model has not, every node
        beyond the first split draws for itself.
        """
        depth, split = self.topology.depth, self.topology.split
        row = self._shared_layers(plan)
        recorded = Recorded(row)
        trunk = self.leaf_decoder(0)
        trunk.layers, trunk.layer_norm, trunk.project_out_dim = recorded, None, None
        _, extra = trunk.extract_features(
            prev_output_tokens,
            encoder_out=encoder_out,
            incremental_state=incremental_state,
            alignment_layer=depth - 1,  # its number in a whole decoder
        )
        embedded, shared = extra["inner_states"][0], extra["inner_states"][-1]  # T x B x D
        states: dict[Node, Tensor] = {(-1, 0): embedded, (split - 1, 0): shared}
        attention = extra["attn"][0]
        # fairseq asks the last layer, and no other, for its attention to the source
        asked = None if plan.divided else (depth - 1, leaves[0])
        inputs = recorded.inputs
        assert inputs is not None
        for leaf in leaves:
            for node in self.topology.nodes(leaf)[split:]:
                if node not in states:
                    layer = dropped_layer if self._is_dropped(node, row, plan) else self.node(*node)
                    state = plan.from_parent(states[self.topology.parent_of(node)], *node)
                    states[node], found = inputs.of_node(plan, *node).run(
                        layer, state, need_attention=node == asked
                    )
                    attention = found if node == asked else attention
        features = {leaf: self._finish(leaf, states[depth - 1, leaf]) for leaf in leaves}
        members = plan.views.members(leaves)
        run = TreeRun(
            plan.views,
            tuple(members),
            tuple(plan.of_member(features[member.leaf], member) for member in members),
            shared.transpose(0, 1),
            attention,
        )
        return run, states

    def _shared_layers(self, plan: ViewPlan) -> nn.ModuleList:
        """The layers before the first split, as the stock decoder runs them."""
        drop, split = self.decoder_layerdrop, self.topology.split
        # by index: iterating over fairseq's list would drop layers now
        layers: list[nn.Module] = [self.layers[depth] for depth in range(self.topology.depth)]
        if drop == 0 or plan.divided:
            return with_layer_drop(layers[:split], drop, self.training)
        return FirstLayers(layers, drop, self.training, split)

    def _is_dropped(self, node: Node, shared: nn.ModuleList, plan: ViewPlan) -> bool:
        """Whether a node beyond the first split is left out this time.

        A draw is made even if the rate is 0: trainings repeat those of earlier releases.
        """
        if not self.training:
            return False
        if node[1] == 0 and not plan.divided:  # leaf 0's: drawn with the shared layers
            return isinstance(shared, FirstLayers) and self.node(*node) not in shared.kept
        return bool(torch.rand(()) < self.decoder_layerdrop)

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
