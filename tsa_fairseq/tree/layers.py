"""Running decoder layers: what each is given beside its state, and layers dropped in training."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from fairseq.modules import LayerDropModuleList
from torch import Tensor, nn

from tsa_fairseq.tree.views import ViewPlan


class LayerInputs(NamedTuple):
    """What every decoder layer is given beside its state, as fairseq's decoder makes it."""

    encoder_out: Tensor  # S x B x D
    encoder_padding_mask: Tensor | None  # B x S, True at pads
    incremental_state: dict[str, Any] | None  # of fairseq's, step by step
    self_attn_mask: Tensor | None  # T x T, -inf above the diagonal; None step by step
    self_attn_padding_mask: Tensor | None  # B x T, True at pads

    def run(
        self, layer: Callable[..., Any], state: Tensor, need_attention: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """What a decoder layer makes of its state, T x B x D.

        Returns:
            The next state, and if asked for the attention to the source, B x T x S, the mean over
            heads as fairseq returns it; None where there is none.
        """
        state, attention, *_ = layer(
            state,
            self.encoder_out,
            self.encoder_padding_mask,
            self.incremental_state,
            self_attn_mask=self.self_attn_mask,
            self_attn_padding_mask=self.self_attn_padding_mask,
            need_attn=need_attention,
            need_head_weights=need_attention,
        )
        if not need_attention or attention is None:
            return state, None
        return state, attention.float().to(state).mean(dim=0)

    def of_node(self, plan: ViewPlan, depth: int, peer: int) -> "LayerInputs":
        """For the views that one node computes."""

        def rows(mask: Tensor | None) -> Tensor | None:
            return None if mask is None else plan.from_everything(mask, depth, peer, dim=0)

        return self._replace(
            encoder_out=plan.from_everything(self.encoder_out, depth, peer, dim=1),
            encoder_padding_mask=rows(self.encoder_padding_mask),
            self_attn_padding_mask=rows(self.self_attn_padding_mask),
        )


def with_layer_drop(layers: list[nn.Module], drop: float, training: bool) -> nn.ModuleList:
    """A decoder's layers as fairseq lists them: its forward pass iterates over this."""
    row = nn.ModuleList(layers) if drop == 0 else LayerDropModuleList(drop, layers)
    row.training = training
    return row


class FirstLayers(LayerDropModuleList):
    """fairseq's layer drop over a decoder's layers, of which only the first are run here.

    The draws are those of the whole decoder, all at once as fairseq makes them. What became of the
    layers that are run elsewhere is noted.

    Args:
        layers: of the whole decoder.
        drop: share of them that are dropped in training.
        training: whether this is training.
        first: how many are run.
    """

    def __init__(self, layers: list[nn.Module], drop: float, training: bool, first: int) -> None:
        super().__init__(drop, layers)
        self.training = training
        self.first = first
        self.kept: set[nn.Module] = set()

    def __iter__(self) -> Iterator[Any]:
        self.kept = set(super().__iter__())
        for index in range(self.first):
            if self[index] in self.kept:
                yield self[index]


def dropped_layer(state: Tensor, *_: Any, **__: Any) -> tuple[Tensor, None, None]:
    """What stands in for a node that is dropped: the identity.

    The view keeps its output apart from its input, for gradient hooks.
    """
    return state.view_as(state), None, None


class Recorded(nn.ModuleList):
    """A decoder's layers, and a last one that only notes what layers are given.

    Whether there are pads at all, fairseq's decoder asks the tensor, for which a GPU has to be
    waited for. Here it has asked already.

    Args:
        layers: run as they are.
    """

    def __init__(self, layers: nn.ModuleList) -> None:
        super().__init__()
        self.row = layers
        self.inputs: LayerInputs | None = None

    def __iter__(self) -> Iterator[Any]:
        yield from self.row
        yield self._note

    def _note(
        self,
        state: Tensor,
        encoder_out: Tensor,
        encoder_padding_mask: Tensor | None,
        incremental_state: dict[str, Any] | None,
        self_attn_mask: Tensor | None,
        self_attn_padding_mask: Tensor | None,
        **_: Any,
    ) -> tuple[Tensor, None, None]:
        self.inputs = LayerInputs(
            encoder_out,
            encoder_padding_mask,
            incremental_state,
            self_attn_mask,
            self_attn_padding_mask,
        )
        return state, None, None
