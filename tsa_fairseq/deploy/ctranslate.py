"""A plain checkpoint for CTranslate2, by its own converter."""

import importlib.util
from argparse import Namespace
from pathlib import Path
from typing import Any

from tsa_fairseq.errors import UsageError, check_choice
from tsa_fairseq.files.building import reason
from tsa_fairseq.files.dictionaries import Dictionaries
from tsa_fairseq.files.whole import save

TO_FLAG = "--to"
# What it cannot do; of most of these, its converter takes no notice.
_IGNORED = (
    *("scale_attn", "scale_heads", "scale_fc", "scale_resids", "no_decoder_final_norm"),
    *("no_cross_attention", "cross_self_attention", "char_inputs", "adaptive_input"),
    *("quant_noise_pq", "no_token_positional_embeddings"),
)
# What the converter has a name for, of fairseq's that work.
_ACTIVATIONS = ("relu", "gelu", "gelu_fast", "gelu_accurate")
_EQUAL = ("normalize_before", "attention_heads")


def check_representable(arguments: Namespace, task: str, quantization: str | None) -> None:
    """Refuse what a CTranslate2 model cannot be, before any work is done.

    Args:
        arguments: of the plain model.
        task: its ``--task``.
        quantization: how the weights are to be stored.

    Raises:
        UsageError: CTranslate2 is missing, or an option that it cannot represent, by name.
    """
    if importlib.util.find_spec("ctranslate2") is None:
        raise UsageError(
            f"{TO_FLAG}: got 'ctranslate2', which is not installed: pip install ctranslate2"
        )
    from ctranslate2.specs.model_spec import ACCEPTED_MODEL_TYPES

    check_choice("--quantization", quantization, ACCEPTED_MODEL_TYPES)
    reasons = [] if task == "translation" else [f"--task is '{task}', not 'translation'"]
    for name in _EQUAL:
        ours, theirs = (getattr(arguments, f"{side}_{name}") for side in ("encoder", "decoder"))
        if ours != theirs:
            encoder, decoder = (f"--{side}-{_dashed(name)}" for side in ("encoder", "decoder"))
            reasons.append(f"{encoder} is {ours} and {decoder} is {theirs}, not the same")
    for name in _IGNORED:
        if getattr(arguments, name, False):
            reasons.append(f"--{_dashed(name)} is set")
    activation = getattr(arguments, "activation_fn", "relu")
    if activation not in _ACTIVATIONS:
        reasons.append(f"--activation-fn is {activation}, not one of {', '.join(_ACTIVATIONS)}")
    for name in ("decoder_input_dim", "decoder_output_dim"):
        found = getattr(arguments, name, arguments.decoder_embed_dim)
        if found != arguments.decoder_embed_dim:
            width = arguments.decoder_embed_dim
            reasons.append(f"--{_dashed(name)} is {found}, not --decoder-embed-dim, {width}")
    _refuse(reasons)


def write_ctranslate2(
    state: dict[str, Any], folder: Path, dictionaries: Dictionaries, quantization: str | None
) -> None:
    """Fill a folder with CTranslate2's model, its configuration and vocabularies.

    Args:
        state: a checkpoint of fairseq's ``transformer``.
        folder: exists, and is empty.
        dictionaries: of the model.
        quantization: how the weights are stored; None for float32.

    Raises:
        UsageError: the converter finds something that CTranslate2 cannot represent.
    """
    from ctranslate2.converters import FairseqConverter

    # The converter takes a file, and of its arguments what only a Namespace has. Reading that file
    # takes no leave from torch's safe loader beside what this package gives it on import; so the
    # option for unsafe reading, which not all versions have, is not needed.
    arguments = Namespace(**{**state["cfg"]["model"], "task": "translation"})
    source, made = folder / "model.pt", folder / "converted"
    save({**state, "args": arguments, "cfg": None}, source)
    converter = FairseqConverter(
        str(source),
        dictionaries.folder,
        source_lang=dictionaries.source,
        target_lang=dictionaries.target,
    )
    try:
        converter.convert(str(made), quantization=quantization)
    except ValueError as error:
        _refuse([line[2:] for line in str(error).splitlines() if line.startswith("- ")])
        raise _failed(error) from error
    except OSError:  # a full disk, which is said of the folder
        raise
    except Exception as error:  # it builds the model once more
        raise _failed(error) from error
    source.unlink()
    for path in made.iterdir():
        path.rename(folder / path.name)
    made.rmdir()


def _failed(error: Exception) -> UsageError:
    return UsageError(f"{TO_FLAG}: got 'ctranslate2', whose converter fails: {reason(error)}")


def _refuse(reasons: list[str]) -> None:
    if reasons:
        raise UsageError(
            f"{TO_FLAG}: got 'ctranslate2', which cannot represent this model: {'; '.join(reasons)}"
        )


def _dashed(name: str) -> str:
    return name.replace("_", "-")
