"""``tsa_fairseq.load``: translate from Python, with a model of any kind.

Neither torch nor fairseq is imported for an export to CTranslate2.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

from tsa_fairseq.errors import UsageError, check_choice
from tsa_fairseq.files.names import MODEL
from tsa_fairseq.files.text import Text
from tsa_fairseq.files.text_settings import find_text
from tsa_fairseq.plugin.registration import register

if TYPE_CHECKING:
    from tsa_fairseq.deploy.hub_ctranslate2 import CTranslate2Translator
    from tsa_fairseq.deploy.hub_fairseq import Translator

DEVICES = ("cpu", "cuda")


def load(
    path: str | os.PathLike[str],
    inference: str | None = None,
    data: str | None = None,
    subwords: str | Sequence[str] | None = None,
    *,
    vocabulary: str | Sequence[str] | None = None,
    vocabulary_threshold: int | None = None,
    tokenizer: str | None = None,
    moses_no_dash_splits: bool | None = None,
    moses_no_escape: bool | None = None,
    lowercase: bool | None = None,
    source_lang: str | None = None,
    target_lang: str | None = None,
    threads: int | None = None,
    device: str = "cpu",
) -> Union["Translator", "CTranslate2Translator"]:
    """Load a checkpoint, or the folder of an export, to translate with it.

    Nothing that a file contains is run.

    Args:
        path: a checkpoint of a tree or of fairseq's ``transformer``, or a folder that
            ``tsa-fairseq export`` made, for fairseq or for CTranslate2.
        inference: of a tree, what translates: ``"leaf:2"``, ``"ensemble"`` or ``"gate"``; what the
            checkpoint says if not given.
        data: where the dictionaries are; not needed if they lie beside the checkpoint, or in the
            data folder that it names.
        subwords: a sentencepiece model or codes of subword-nmt; or two, of source and target. Not
            needed for an export that carries them, or if they lie beside the checkpoint under its
            names for them, such as ``sentencepiece.bpe.model``. Without any, ``translate`` takes
            and gives text in the words of the dictionary.
        vocabulary: of subword-nmt, the words that it may make, with their counts; or two of them.
        vocabulary_threshold: the least count of such a word.
        tokenizer: ``"moses"`` if the text was tokenised so before it was cut into subwords.
        moses_no_dash_splits: that left hyphens inside words alone.
        moses_no_escape: that escaped no quotes and brackets.
        lowercase: the text was lower-cased then.
        source_lang: of a task of many languages, those to translate between.
        target_lang: the other one.
        threads: of CTranslate2, batches at a time (as many as there are cores if not given); of
            fairseq, those of torch, for the whole process.
        device: ``cpu`` or ``cuda``.

    Raises:
        UsageError: a file is missing, broken or refused, or the model cannot do as asked.
        ModuleNotFoundError: fairseq is needed, and not installed.
    """
    check_choice("device", device, DEVICES)
    if threads is not None and threads < 1:
        raise UsageError(f"threads: got {threads}; expected 1 or more")
    given: dict[str, Any] = {
        "subwords": subwords,
        "vocabulary": vocabulary,
        "vocabulary_threshold": vocabulary_threshold,
        "tokenizer": tokenizer,
        "moses_no_dash_splits": moses_no_dash_splits,
        "moses_no_escape": moses_no_escape,
        "lowercase": lowercase,
    }
    place = Path(path)
    languages = (source_lang, target_lang)
    if is_ctranslate2(place):
        for name, value in (("inference", inference), ("data", data)):
            if value is not None:
                raise UsageError(f"{name}: got '{value}'; '{path}' is a model for CTranslate2")
        return _load_ctranslate2(place, languages, given, threads, device)
    _check_no_part(place)
    register()
    from tsa_fairseq.deploy.load_fairseq import load_fairseq

    return load_fairseq(place, inference, data, languages, given, threads, device)


def is_ctranslate2(place: Path) -> bool:
    """Whether a path is a folder with a model for CTranslate2."""
    return os.path.isdir(place) and (place / MODEL["ctranslate2"]).is_file()


def _check_no_part(place: Path) -> None:
    """Refuse a folder of something else, and a file that is a model only with those beside it."""
    if os.path.isdir(place) and not (place / MODEL["fairseq"]).exists():
        raise UsageError(
            f"path: '{place}' is a folder without {MODEL['fairseq']} and {MODEL['ctranslate2']}; "
            "expected a checkpoint, or the folder of an export"
        )
    if place.name == MODEL["ctranslate2"] and is_ctranslate2(place.parent):
        raise UsageError(
            f"path: '{place}' is a part of a model for CTranslate2; "
            f"expected its folder, '{place.parent}'"
        )


def _load_ctranslate2(
    folder: Path,
    languages: tuple[str | None, str | None],
    given: dict[str, Any],
    threads: int | None,
    device: str,
) -> "CTranslate2Translator":
    from tsa_fairseq.deploy.hub_ctranslate2 import CTranslate2Translator, vocabularies

    source, target = (language or "" for language in languages)
    text = Text(find_text(folder, source, target, given))
    translator = CTranslate2Translator(folder, text, threads, device)
    text.check(*vocabularies(folder))
    return translator
