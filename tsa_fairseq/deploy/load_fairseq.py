"""Loads a checkpoint into fairseq, with its dictionaries and its text, to translate with it."""

import os
from pathlib import Path
from typing import Any

import torch

from tsa_fairseq.deploy.build import build
from tsa_fairseq.deploy.device import choose_device
from tsa_fairseq.deploy.hub_fairseq import Translator
from tsa_fairseq.errors import UsageError
from tsa_fairseq.files.checkpoint import check_fits, model_arguments, read_checkpoint
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
    folder, file = (
        (place, place / MODEL["fairseq"]) if os.path.isdir(place) else (place.parent, place)
    )
    state = read_checkpoint(str(file), "path")
    check_fits(state, str(file), "path")
    overrides: dict[str, Any] = {}
    if inference is not None:
        if not hasattr(model_arguments(state), "tree"):
            raise UsageError(f"inference: got '{inference}'; '{place}' is no tree's checkpoint")
        overrides["tree_inference"] = inference
    dictionaries = Dictionaries.find(state, data, "data", str(folder), languages)
    settings = find_text(folder, dictionaries.source, dictionaries.target, given)
    text = Text(settings)
    text.check(dictionaries.source_words.symbols, dictionaries.target_words.symbols)
    model, cfg, task = build(state, str(file), "path", dictionaries.task_arguments(), overrides)
    if threads is not None:
        torch.set_num_threads(threads)
    translator = Translator(cfg, task, [model], text).eval()
    return translator.cuda() if device == "cuda" else translator
