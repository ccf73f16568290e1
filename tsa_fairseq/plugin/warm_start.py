"""``--tree-init-from``: start a tree from a stock ``transformer`` checkpoint."""

import logging
import re
from typing import Any

import torch
from torch import Tensor

from tsa_fairseq.errors import UsageError
from tsa_fairseq.files.checkpoint import model_arguments, read_checkpoint
from tsa_fairseq.plugin.heads import HEADS_PREFIX
from tsa_fairseq.plugin.misfit import misfit

logger = logging.getLogger(__name__)

INIT_FROM = "--tree-init-from"

_SINUSOIDS = re.compile(r"\.embed_positions\.(_float_tensor|weights)$")
_BESIDE_LEAF_0 = ("decoder.peers.", "decoder.leaf_norms.")


def warm_start(model: Any, path: str) -> None:
    """Copy a stock checkpoint into the trunk and leaf 0; peers stay as they are.

    Args:
        model: the tree, just built.
        path: a checkpoint of fairseq's ``transformer`` with this model's sizes and dictionaries.

    Raises:
        UsageError: the file cannot be read, is a tree itself, or its parameters are not those of
            leaf 0.
    """
    state = read_checkpoint(path, INIT_FROM)
    # the learnable parts of an objective are no part of a leaf
    own = {n: t for n, t in model.state_dict().items() if not n.startswith(HEADS_PREFIX)}
    # older releases of fairseq stored sinusoidal positions, which are computed anyway
    loaded = {n: t for n, t in state["model"].items() if n in own or not _SINUSOIDS.search(n)}
    _check_plain(path, loaded)
    _check_format(path, loaded, model)
    _check_heads(path, state, model.args)
    model.upgrade_state_dict(loaded)
    _check_parameters(
        path, loaded, {n: t for n, t in own.items() if not n.startswith(_BESIDE_LEAF_0)}
    )
    _check_tied(path, loaded, own)
    model.load_state_dict({**own, **loaded})
    logger.info("%s: leaf 0 copied from %s", INIT_FROM, path)


def _check_plain(path: str, loaded: dict[str, Tensor]) -> None:
    """A tree of one leaf is plain; what others have beside leaf 0 would be a list of names."""
    if any(name.startswith((*_BESIDE_LEAF_0, HEADS_PREFIX)) for name in loaded):
        raise UsageError(
            f"{INIT_FROM}: '{path}' is a tree; expected a checkpoint of fairseq's transformer, "
            "which tsa-fairseq export makes of a leaf; to start from all leaves, give it to "
            "--finetune-from-model, with its --tree"
        )


def _check_format(path: str, loaded: dict[str, Tensor], model: Any) -> None:
    version = loaded.get("decoder.version")
    if model.decoder.layer_norm is not None and (
        version is None or version.numel() != 1 or version.item() < 3
    ):
        raise UsageError(
            f"{INIT_FROM}: '{path}' is a pre-norm model without a final norm, "
            "as early releases of fairseq made; expected one with decoder.version 3"
        )


def _check_heads(path: str, state: dict[str, Any], args: Any) -> None:
    """The number of heads shows in no parameter's shape."""
    stored = model_arguments(state)
    for name in ("encoder_attention_heads", "decoder_attention_heads"):
        theirs, ours = getattr(stored, name, None), getattr(args, name)
        if theirs is not None and theirs != ours:
            flag = "--" + name.replace("_", "-")
            raise UsageError(f"{INIT_FROM}: '{path}' has {flag} {theirs}, this model {ours}")


def _check_tied(path: str, loaded: dict[str, Tensor], own: dict[str, Tensor]) -> None:
    """What this model shares must be equal in the file, or the last one loaded would win."""
    first: dict[int, str] = {}
    for name, tensor in own.items():
        other = first.setdefault(tensor.data_ptr(), name) if tensor.numel() else name
        if name != other and not torch.equal(loaded[name], loaded[other]):
            raise UsageError(
                f"{INIT_FROM}: '{path}' does not fit leaf 0: this model shares {other} with "
                f"{name}, which differ in the file"
            )


def _check_parameters(path: str, loaded: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    problem = misfit(loaded, wanted)
    if problem is not None:
        raise UsageError(f"{INIT_FROM}: '{path}' does not fit leaf 0: {problem}")
