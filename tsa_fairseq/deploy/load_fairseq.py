"""Loads a checkpoint into fairseq, with its dictionaries and its text, to translate with it."""

from pathlib import Path
from typing import Any

import torch
from fairseq import checkpoint_utils
from fairseq.models import ARCH_MODEL_REGISTRY
from fairseq.models.transformer import TransformerModel
from omegaconf import open_dict

from tsa_fairseq.deploy.device import choose_device
from tsa_fairseq.deploy.hub_fairseq import Translator
from tsa_fairseq.errors import UsageError
from tsa_fairseq.files.checkpoint import architecture, model_arguments, read_checkpoint
from tsa_fairseq.files.dictionaries import Dictionaries
from tsa_fairseq.files.names import MODEL
from tsa_fairseq.files.text import Text
from tsa_fairseq.files.text_settings import find_text


def load_fairseq(
    place: Path,
    inference: str | None,
    data: str | None,
    languages: tuple[str | None, str | None],
    given: dict[str, Any],
    threads: int | None,
    device: str,
) -> Translator:
    """A translator of a checkpoint, or of a folder of an export to fairseq.

    For the arguments see :func:`tsa_fairseq.deploy.hub.load`; ``given`` are those of text.

    Raises:
        UsageError: a file is missing, broken or refused, or the model cannot do as asked.
    """
    choose_device(device, "device")  # refuses a GPU that is not there, before anything is read
    folder, file = (place, place / MODEL["fairseq"]) if place.is_dir() else (place.parent, place)
    state = read_checkpoint(str(file), "path", lazy=True)
    _check_architecture(state, file)
    overrides: dict[str, Any] = {}
    if inference is not None:
        if not hasattr(model_arguments(state), "tree"):
            raise UsageError(f"inference: got '{inference}'; '{place}' is no tree's checkpoint")
        overrides["tree_inference"] = inference
    dictionaries = Dictionaries.find(state, data, "data", str(folder), languages)
    settings = find_text(folder, dictionaries.source, dictionaries.target, given)
    text = Text(settings)
    text.check(dictionaries.source_words.symbols, dictionaries.target_words.symbols)
    overrides.update(
        dictionaries.task_arguments(),
        encoder_embed_path=None,
        decoder_embed_path=None,
    )
    models, cfg, task = checkpoint_utils.load_model_ensemble_and_task(
        [str(file)], arg_overrides=overrides
    )
    with open_dict(cfg):  # what they did is done by ours
        cfg.bpe = cfg.tokenizer = None
    if threads is not None:
        torch.set_num_threads(threads)
    translator = Translator(cfg, task, models, text).eval()
    return translator.cuda() if device == "cuda" else translator


def _check_architecture(state: dict[str, Any], file: Path) -> None:
    """Refuse what is no Transformer: who knows what else fairseq does to build it."""
    name = architecture(model_arguments(state))
    model = ARCH_MODEL_REGISTRY.get(name)
    if model is None or not issubclass(model, TransformerModel):
        raise UsageError(
            f"path: '{file}' is a model of --arch {name}; expected a tsa_transformer or fairseq's "
            "transformer"
        )
