"""The dictionaries of a model, which fairseq keeps beside its data, not in its checkpoints."""

import os
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fairseq.data import Dictionary

from tsa_fairseq.errors import UsageError
from tsa_fairseq.files.checkpoint import model_arguments, stored_data
from tsa_fairseq.files.task_dictionaries import check_pair_chosen, extended_by_task, language_pairs


@dataclass(frozen=True)
class Dictionaries:
    """The languages of a model, where their dictionaries are, and what these hold."""

    folder: str
    source: str
    target: str
    source_words: Dictionary
    target_words: Dictionary

    @classmethod
    def find(
        cls,
        state: dict[str, Any],
        given: str | None,
        flag: str,
        beside: str = "",
        languages: Sequence[str | None] = (None, None),
    ) -> "Dictionaries":
        """In the folder that was given, or else beside the checkpoint or in the data that it names.

        Args:
            state: a checkpoint.
            given: a folder; None if the user did not say.
            flag: how the user says it, for the message.
            beside: the checkpoint's own folder, if they may lie there.
            languages: source and target, where the user chose them.

        Raises:
            UsageError: they are not there, are broken, or are not those of the model.
        """
        stored = stored_data(state)
        places = [given] if given else [place for place in (beside, stored) if place]
        for place in places:
            pair = _languages(state, place, languages)
            if pair and not _missing(place, pair):
                files = [_file(place, language) for language in pair]
                words = [read_dictionary(file, flag) for file in files]
                wrong = _wrong_size(state, files, words)
                if wrong is not None:
                    words = extended_by_task(state, place, *pair) or words
                    wrong = _wrong_size(state, files, words)
                if wrong is not None:
                    raise UsageError(f"{flag}: {wrong}")
                return cls(place, pair[0], pair[1], *words)
        last = given or stored
        pair = _languages(state, last, languages)
        if not pair:
            check_pair_chosen(state, flag)
        lacks = _missing(last, pair) or "data of two languages"
        said = f"got '{given}', which" if given else f"not given, and '{stored}'"
        raise UsageError(f"{flag}: {said} has no {lacks}; expected what fairseq-preprocess made")

    def copy_to(self, folder: Path, more: Iterable[str] = ()) -> None:
        """Both files, as they are, and those of more languages."""
        for language in {self.source, self.target, *more}:
            file = _file(self.folder, language)
            shutil.copyfile(file, folder / os.path.basename(file))

    def task_arguments(self) -> dict[str, Any]:
        """What fairseq's task must be told to find them."""
        return {"data": self.folder, "source_lang": self.source, "target_lang": self.target}

    def task(self) -> Any:
        """As much of fairseq's translation task as building a model takes."""
        return SimpleNamespace(
            source_dictionary=self.source_words,
            target_dictionary=self.target_words,
            cfg=SimpleNamespace(source_lang=self.source, target_lang=self.target),
        )


def _file(folder: str, language: str) -> str:
    return os.path.join(folder, f"dict.{language}.txt")


def _missing(folder: str, languages: list[str]) -> str | None:
    """The first dictionary that a folder does not have."""
    files = (_file(folder, language) for language in languages)
    return next((os.path.basename(file) for file in files if not os.path.isfile(file)), None)


def read_dictionary(file: str, flag: str) -> Dictionary:
    """fairseq's dictionary of a file.

    Raises:
        UsageError: it is none.
    """
    try:
        return Dictionary.load(file)
    except Exception as error:  # fairseq raises ValueError, RuntimeError or a bare Exception
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UsageError(f"{flag}: '{file}' is not a dictionary of fairseq's: {reason}") from None


def _wrong_size(
    state: dict[str, Any], files: list[str], dictionaries: Sequence[Dictionary]
) -> str | None:
    """What is wrong with the first dictionary that has not as many words as the model."""
    for side, file, words in zip(("encoder", "decoder"), files, dictionaries, strict=True):
        rows = state["model"][f"{side}.embed_tokens.weight"].size(0)
        if len(words) != rows:
            return (
                f"'{file}' has {len(words):,} words, the model {rows:,}; "
                "expected the dictionary that it was trained with"
            )
    return None


def _languages(
    state: dict[str, Any], folder: str, asked: Sequence[str | None] = (None, None)
) -> list[str]:
    """Source and target: as asked, or what the checkpoint says, or else the data; or none."""
    task = model_arguments(state, "task")
    stored = [getattr(task, f"{side}_lang", None) for side in ("source", "target")]
    pairs = language_pairs(state)
    if None in stored and len(pairs) == 1:
        stored = list(pairs[0])
    stored = [one or other for one, other in zip(asked, stored, strict=True)]
    if None not in stored:
        return [str(language) for language in stored]
    if len(pairs) > 1:
        return []
    # as fairseq infers them, from names such as train.de-en.de.idx
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        found = re.fullmatch(r"\w+\.(\w+)-(\w+)\.\w+\.idx", name)
        if found is not None:
            return [found.group(1), found.group(2)]
    return []
