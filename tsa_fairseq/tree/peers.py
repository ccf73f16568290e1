"""``--tree-peers``: how the layers beside leaf 0 start.

Peers that are drawn one by one read the encoder through attentions that have nothing in common, and
may at first disagree about what the encoder should be; those that start with leaf 0's agree. What
comes of it is measured in examples/multi30k/study.
"""

from typing import Any, Literal, get_args

import torch

from tsa_fairseq.tree.decoder import TreeDecoder

PeerStart = Literal["fresh", "attention", "copy"]
PEER_STARTS: tuple[PeerStart, ...] = get_args(PeerStart)
DEFAULT_START: PeerStart = "attention"


@torch.no_grad()
def start_peers(decoder: TreeDecoder, start: PeerStart) -> None:
    """Give every peer what it starts with of leaf 0's layer at its depth.

    Nothing is drawn, and leaf 0 stays as it is.

    Args:
        decoder: its peers as they were drawn.
        start: ``fresh``: nothing. ``attention``: the attention to the encoder, with its norm.
            ``copy``: everything, and for a leaf the final norm: leaves differ by their dropout.
    """
    for depth, width in enumerate(decoder.topology.widths):
        for peer in range(1, width):
            first: Any = decoder.node(depth, 0)
            other: Any = decoder.node(depth, peer)
            if start == "copy":
                other.load_state_dict(first.state_dict())
            elif start == "attention":
                for name in ("encoder_attn", "encoder_attn_layer_norm"):
                    getattr(other, name).load_state_dict(getattr(first, name).state_dict())
    if start == "copy" and decoder.layer_norm is not None:
        for norm in decoder.leaf_norms.values():
            norm.load_state_dict(decoder.layer_norm.state_dict())
