"""Texts in a checkpoint's configuration that fairseq evaluates as Python when it builds a model.

They are plain data to torch's safe loader. Such a text may be a literal, and nothing else.
"""

import ast
import json
from argparse import Namespace
from collections.abc import Iterator, Mapping
from typing import Any

from tsa_fairseq.errors import UsageError

# Of fairseq's models and tasks, those that it hands to eval().
_EVALUATED = {
    *("adaptive_softmax_cutoff", "adaptive_input_cutoff", "character_filters"),
    *("encoder_xformers_att_config", "decoder_xformers_att_config"),
    *("encoder_layers", "decoder_layers", "encoder_attention", "decoder_attention"),
    *("self_attention", "project_input", "gated_attention", "downsample", "pretrained"),
    *("conv_feature_layers", "conv_aggregator_layers", "decoder_zero_init"),
    *("left_pad_source", "left_pad_target", "pipeline_balance", "pipeline_devices"),
    *("pipeline_encoder_balance", "pipeline_encoder_devices"),
    *("pipeline_decoder_balance", "pipeline_decoder_devices"),
    *("adam_betas", "adamax_betas", "adafactor_eps", "lamb_betas", "wer_args", "update_freq"),
}


def check_evaluated(state: Mapping[str, Any], path: str, flag: str) -> None:
    """Refuse a checkpoint in which a text that fairseq evaluates is more than a literal.

    Args:
        state: the checkpoint, read.
        path: its file.
        flag: what named it.

    Raises:
        UsageError: it holds one; nothing of it was evaluated.
    """
    for name, text in _texts({"cfg": state.get("cfg"), "args": state.get("args")}):
        if name in _EVALUATED and not _is_literal(text):
            raise UsageError(
                f"{flag}: '{path}' is refused: its {name} is '{text:.40}', which fairseq would "
                "run as code; expected numbers or a list of them; nothing of it was run"
            )


def _texts(found: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """All texts in nested configurations, in JSON inside of a text too, with their names."""
    if isinstance(found, Namespace):
        found = vars(found)
    if isinstance(found, Mapping):
        for key, value in found.items():
            yield from _texts(value, str(key))
    elif isinstance(found, (list, tuple)):
        for value in found:
            yield from _texts(value, name)
    elif isinstance(found, str):
        yield name, found
        if found.lstrip().startswith("{"):
            try:
                yield from _texts(json.loads(found))
            except ValueError:
                return


def _is_literal(text: str) -> bool:
    if not text.strip():
        return True
    try:
        ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False
    return True
