"""The dictionaries of a model, which fairseq keeps beside its data, not in its checkpoints."""

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fairseq.data import Dictionary

from tsa_fairseq.checkpoint import model_arguments, stored_data
from tsa_fairseq.errors import UsageError


@dataclass(frozen=True)
class Dictionaries:
    """The languages of a model, and where their dictionaries are."""

    folder: str
    source: str
    target: str

    @classmethod
    def find(cls, state: dict[str, Any], folder: str | None, flag: str) -> "Dictionaries":
        """In a folder, or else in the data that a checkpoint names.

        Args:
            state: a checkpoint.
            folder: where they are; None if the user did not say.
            flag: how the user says it, for the message.

        Raises:
            UsageError: they are not there, or are not those of the model.
        """
        stored = stored_data(state)
        place = folder or stored
        languages = _languages(state, place)
        names = [f"dict.{language}.txt" for language in languages] or ["data of two languages"]
        for name in names:
            if not languages or not os.path.isfile(os.path.join(place, name)):
                given = f"got '{folder}', which" if folder else f"not given, and '{stored}'"
                raise UsageError(
                    f"{flag}: {given} has no {name}; expected what fairseq-preprocess made"
                )
        found = cls(place, *languages)
        found._check_sizes(state, flag)
        return found

    def _files(self) -> Iterator[Path]:
        for language in (self.source, self.target):
            yield Path(self.folder) / f"dict.{language}.txt"

    def _check_sizes(self, state: dict[str, Any], flag: str) -> None:
        for side, file in zip(("encoder", "decoder"), self._files(), strict=True):
            words = len(Dictionary.load(str(file)))
            rows = state["model"][f"{side}.embed_tokens.weight"].size(0)
            if words != rows:
                raise UsageError(
                    f"{flag}: '{file}' has {words:,} words, the model {rows:,}; "
                    "expected the dictionary that it was trained with"
                )

    def copy_to(self, folder: Path) -> None:
        """Both files, as they are."""
        for file in self._files():
            shutil.copyfile(file, folder / file.name)

    def task(self) -> Any:
        """As much of fairseq's translation task as building a model takes."""
        source, target = (Dictionary.load(str(file)) for file in self._files())
        languages = SimpleNamespace(source_lang=self.source, target_lang=self.target)
        return SimpleNamespace(source_dictionary=source, target_dictionary=target, cfg=languages)


def _languages(state: dict[str, Any], folder: str) -> list[str]:
    """Source and target: what the checkpoint says, or else the data; empty if neither tells."""
    task = model_arguments(state, "task")
    stored = [getattr(task, f"{side}_lang", None) for side in ("source", "target")]
    if None not in stored:
        return [str(language) for language in stored]
    # as fairseq infers them, from names such as train.de-en.de.idx
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        found = re.fullmatch(r"\w+\.(\w+)-(\w+)\.\w+\.idx", name)
        if found is not None:
            return [found.group(1), found.group(2)]
    return []
