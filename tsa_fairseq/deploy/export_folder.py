"""The folder that an export makes, ready to use: model, vocabularies, subword models, origin."""

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tsa_fairseq.deploy.ctranslate import write_ctranslate2
from tsa_fairseq.deploy.export import TreeCheckpoint
from tsa_fairseq.deploy.export_readme import readme
from tsa_fairseq.deploy.precision import cast
from tsa_fairseq.files.dictionaries import Dictionaries
from tsa_fairseq.files.names import MODEL, README
from tsa_fairseq.files.ownership import write_origin
from tsa_fairseq.files.task_dictionaries import arguments_for_export, task_name
from tsa_fairseq.files.text_settings import TextSettings
from tsa_fairseq.files.whole import save
from tsa_fairseq.version import __version__


@dataclass(frozen=True)
class ExportFolder:
    """What goes into every folder of an export.

    Args:
        to: one of :data:`tsa_fairseq.files.names.TARGETS`.
        quantization: of CTranslate2's weights; None for float32.
        dictionaries: of the tree.
        text: how text becomes words.
        dtype: of fairseq's parameters.
    """

    to: str
    quantization: str | None
    dictionaries: Dictionaries
    text: TextSettings
    dtype: torch.dtype = torch.float32

    def write(self, state: dict[str, Any], origin: dict[str, Any], folder: Path) -> None:
        """Fill a folder.

        Args:
            state: a checkpoint of fairseq's ``transformer``.
            origin: see :func:`origin`.
            folder: exists, and is empty.

        Raises:
            OSError: it cannot be written.
            UsageError: the target cannot represent the model.
        """
        task, languages = arguments_for_export(state["cfg"]["task"], self.dictionaries.folder)
        task["source_lang"] = self.dictionaries.source
        task["target_lang"] = self.dictionaries.target
        state["cfg"]["task"] = task
        origin["max_positions"] = positions(state)
        if self.to == "ctranslate2":
            write_ctranslate2(state, folder, self.dictionaries, self.quantization)
            origin["quantization"] = self.quantization or "float32"
        else:
            model = cast(state["model"], self.dtype)
            save({**state, "model": model}, folder / MODEL[self.to])
            self.dictionaries.copy_to(folder, languages)
        text, name = self.text.copy_to(folder), task_name(state)
        origin["text"] = text.as_json()
        (folder / README).write_text(readme(self.to, name, text, origin), encoding="utf-8")
        write_origin(folder, origin)


def command(folder: Path) -> str:
    """The command that translates standard input with a folder that was made."""
    return shlex.join(["tsa-fairseq", "translate", str(folder)])


def positions(state: dict[str, Any]) -> list[int]:
    """Of source and target: how many a model has."""
    model = state["cfg"]["model"]
    return [model.get(f"max_{side}_positions", 1024) for side in ("source", "target")]


def origin(checkpoint: TreeCheckpoint, leaf: int | str, **figures: Any) -> dict[str, Any]:
    """What ``export.json`` says: of which file and leaf a model is, and what is known of it."""
    return {
        "leaf": leaf,
        "tree": str(checkpoint.topology),
        "source": os.path.basename(checkpoint.path),
        "source_sha256": checkpoint.sha256,
        "updates": checkpoint.updates,
        **figures,
        "tsa_fairseq": __version__,
    }
