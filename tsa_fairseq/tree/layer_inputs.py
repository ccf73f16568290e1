"""What every decoder layer is given beside its state."""

from typing import Any, NamedTuple

from fairseq.models.transformer import TransformerDecoderBase
from torch import Tensor, nn

from tsa_fairseq.tree.views import NodeViews


class LayerInputs(NamedTuple):
    """What every decoder layer is given beside its state."""

    encoder_out: Tensor  # S x B x D
    encoder_padding_mask: Tensor | None  # B x S, True at pads
    self_attn_mask: Tensor | None  # T x T, -inf above the diagonal; None step by step
    self_attn_padding_mask: Tensor | None  # B x T, True at pads
    incremental_state: dict[str, Any] | None  # of fairseq's, step by step

    @classmethod
    def of_batch(
        cls,
        decoder: TransformerDecoderBase,
        prev_output_tokens: Tensor,
        encoder_out: dict[str, list[Tensor]],
        embedded: Tensor,
        incremental_state: dict[str, Any] | None = None,
    ) -> "LayerInputs":
        """As fairseq's decoder makes them.

        Args:
            decoder: whose layers they are for.
            prev_output_tokens: the target, shifted right; B x T.
            encoder_out: what the encoder returned.
            embedded: the first layer's state, T x B x D.
            incremental_state: given, only the last position is computed.
        """
        step_by_step = incremental_state is not None
        if step_by_step:
            prev_output_tokens = prev_output_tokens[:, -1:]
        padding = prev_output_tokens.eq(decoder.padding_idx)
        encoder_padding = encoder_out["encoder_padding_mask"]
        return cls(
            encoder_out["encoder_out"][0],
            encoder_padding[0] if encoder_padding else None,
            None if step_by_step else decoder.buffered_future_mask(embedded),
            padding if decoder.cross_self_attention or padding.any() else None,
            incremental_state,
        )

    def run(self, layer: nn.Module, state: Tensor) -> Tensor:
        """What a decoder layer makes of its state, T x B x D."""
        return layer(
            state,
            self.encoder_out,
            self.encoder_padding_mask,
            self.incremental_state,
            self_attn_mask=self.self_attn_mask,
            self_attn_padding_mask=self.self_attn_padding_mask,
        )[0]

    def of(self, nodes: NodeViews, depth: int, peer: int) -> "LayerInputs":
        """For the views that one node computes."""
        everything, views = tuple(range(nodes.views.count)), nodes.of(depth, peer)

        def rows(tensor: Tensor | None, dim: int) -> Tensor | None:
            return None if tensor is None else nodes.take(tensor, everything, views, dim)

        return self._replace(
            encoder_out=nodes.take(self.encoder_out, everything, views, 1),
            encoder_padding_mask=rows(self.encoder_padding_mask, 0),
            self_attn_padding_mask=rows(self.self_attn_padding_mask, 0),
        )
