"""What shapes the function that a model is, and must be the same where a training goes on.

Some of it fairseq would find, in 200 lines, as parameters of another size. The rest it would not:
heads, norms, activations and a tree's parents have the same parameters, and compute something else.
"""

import logging
from argparse import Namespace
from typing import Any

from tsa_fairseq.errors import UsageError
from tsa_fairseq.files.checkpoint import architecture
from tsa_fairseq.tree.topology import Topology

logger = logging.getLogger(__name__)

_OF_A_SIDE = (
    *("layers", "embed_dim", "ffn_embed_dim", "attention_heads", "normalize_before"),
    "learned_pos",
)
SHAPE = (
    *(f"{side}_{name}" for side in ("encoder", "decoder") for name in _OF_A_SIDE),
    *("decoder_input_dim", "decoder_output_dim", "activation_fn", "no_decoder_final_norm"),
    *("share_decoder_input_output_embed", "share_all_embeddings", "merge_src_tgt_embed"),
    *("no_token_positional_embeddings", "no_scale_embedding", "layernorm_embedding"),
    *("no_cross_attention", "cross_self_attention", "adaptive_input", "char_inputs"),
)


def take_shape(args: Namespace, stored: Namespace, path: str) -> None:
    """Give the arguments that were not given what the checkpoint has, if it names the same --arch.

    A named architecture is itself given: another one brings its own sizes, which are compared.

    Args:
        args: as parsed, before an architecture fills in its defaults.
        stored: the model's arguments in the checkpoint.
        path: the checkpoint.
    """
    if getattr(args, "arch", None) != architecture(stored):
        return
    for name in SHAPE:
        if not hasattr(args, name) and hasattr(stored, name):
            setattr(args, name, getattr(stored, name))
    if getattr(args, "tree", None) is None and hasattr(stored, "tree"):
        args.tree = stored.tree
        logger.info("--tree: %s, as in %s", args.tree, path)


def check_shape(args: Namespace, stored: Namespace, path: str) -> None:
    """Refuse another function than the checkpoint's.

    Args:
        args: complete.
        stored: the model's arguments in the checkpoint; what it does not have is not compared.
        path: the checkpoint.

    Raises:
        UsageError: something differs.
    """
    for name in SHAPE:
        mine, theirs = getattr(args, name, None), getattr(stored, name, None)
        if None not in (mine, theirs) and mine != theirs:
            raise _differs(f"--{name.replace('_', '-')}", mine, theirs, path)
    mine = _tree(args)
    # a plain Transformer is a tree of one leaf
    theirs = _tree(stored) if hasattr(stored, "tree") else Topology.parse(
        str(args.decoder_layers), args.decoder_layers
    )  # fmt: skip
    if mine != theirs:
        raise _differs("--tree", mine, theirs, path)


def _tree(args: Namespace) -> Topology:
    """In its canonical form, which has every node's parent, however it was written."""
    return Topology.parse(args.tree, args.decoder_layers)


def _differs(flag: str, mine: Any, theirs: Any, path: str) -> UsageError:
    got, had = _said(mine), _said(theirs)
    return UsageError(
        f"{flag}: got {got}, but '{path}' was trained with {had}; expected {had}, "
        "or another --save-dir"
    )


def _said(value: Any) -> str:
    return f"'{value}'" if isinstance(value, (str, Topology)) else str(value)
