"""fairseq's Transformer decoder with peers beside its last layers."""

import copy
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from fairseq.models.transformer import TransformerDecoderBase
from fairseq.modules import LayerDropModuleList, LayerNorm
from torch import Tensor, nn

from tsa_fairseq.errors import UsageError
from tsa_fairseq.grammar import Branch
from tsa_fairseq.topology import Topology
from tsa_fairseq.trunk_gradient import average_at_splits, averaged_encoder_gradient

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
        row = _LayerDropInPlace(self.decoder_layerdrop, layers)
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
    ) -> tuple[Tensor, ...]:
        """Features of several leaves for whole target sentences; shared layers run once.

        Args:
            prev_output_tokens: the target, shifted right; B x T.
            encoder_out: what the encoder returned.
            leaves: the leaves wanted.
            trunk_gradient: ``sum`` leaves gradients as they are; ``mean`` is for all leaves
                together, see :mod:`tsa_fairseq.trunk_gradient`.

        Returns:
            B x T x D for every leaf wanted, before the output projection.

        Raises:
            UsageError: a leaf is out of range.
        """
        for leaf in leaves:
            self.check_leaf(leaf)
        if trunk_gradient == "sum":
            return self._run_tree(prev_output_tokens, encoder_out, leaves)[0]
        with averaged_encoder_gradient(self.topology, self.node):
            outputs, states = self._run_tree(prev_output_tokens, encoder_out, leaves)
        average_at_splits(self.topology, states)
        return outputs

    def _run_tree(
        self, prev_output_tokens: Tensor, encoder_out: EncoderOut, leaves: Sequence[int]
    ) -> tuple[tuple[Tensor, ...], dict[tuple[int, int], Tensor]]:
        """The features of the leaves, and the output of every node by depth and peer."""
        first = leaves[0]
        # The stock decoder computes the first leaf and tells what went into each of its layers
        # (T x B x D), which is where the others branch off.
        features, extra = self._leaf_features(first, prev_output_tokens, encoder_out=encoder_out)
        path = [0, *self.topology.paths[first]]
        states = {
            (depth - 1, peer): state
            for depth, (peer, state) in enumerate(zip(path, extra["inner_states"], strict=True))
        }
        masks = self._masks(prev_output_tokens, encoder_out, states[-1, 0])

        def state_after(depth: int, peer: int) -> Tensor:
            if (depth, peer) not in states:
                below = state_after(depth - 1, self.topology.parents[depth][peer])
                states[depth, peer] = self._run_node(depth, peer, below, masks)
            return states[depth, peer]

        outputs = tuple(
            features
            if leaf == first
            else self._finish(leaf, state_after(self.topology.depth - 1, leaf))
            for leaf in leaves
        )
        return outputs, states

    def _masks(
        self, prev_output_tokens: Tensor, encoder_out: EncoderOut, embedded: Tensor
    ) -> dict[str, Tensor | None]:
        """What every decoder layer is given beside its input, in fairseq's order."""
        padding = prev_output_tokens.eq(self.padding_idx)  # B x T, True at pads
        encoder_padding = encoder_out["encoder_padding_mask"]
        return {
            "encoder_out": encoder_out["encoder_out"][0],  # S x B x D
            "encoder_padding_mask": encoder_padding[0] if encoder_padding else None,  # B x S
            "self_attn_mask": self.buffered_future_mask(embedded),  # T x T, -inf above the diagonal
            "self_attn_padding_mask": (
                padding if self.cross_self_attention or padding.any() else None
            ),
        }

    def _run_node(
        self, depth: int, peer: int, state: Tensor, masks: dict[str, Tensor | None]
    ) -> Tensor:
        if self.training and torch.rand(()) < self.decoder_layerdrop:
            return _pass_on(state)[0]
        return self.node(depth, peer)(
            state,
            masks["encoder_out"],
            masks["encoder_padding_mask"],
            None,
            self_attn_mask=masks["self_attn_mask"],
            self_attn_padding_mask=masks["self_attn_padding_mask"],
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


class _LayerDropInPlace(LayerDropModuleList):
    """fairseq's layer drop, with the same draws, but a dropped layer passes its input on.

    The stock list leaves dropped layers out, after which nobody could say which of the decoder's
    inner states went into which layer.
    """

    def __iter__(self) -> Iterator[Any]:
        kept = set(super().__iter__())
        for index in range(len(self)):
            yield self[index] if self[index] in kept else _pass_on


def _pass_on(state: Tensor, *_: Any, **__: Any) -> tuple[Tensor, None, None]:
    """A dropped layer. The view keeps its output apart from its input, for gradient hooks."""
    return state.view_as(state), None, None
