"""A CTranslate2 model with the interface of fairseq's hub."""

import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

from tsa_fairseq.deploy.ctranslate import BATCH, MAX_LENGTH
from tsa_fairseq.errors import UsageError
from tsa_fairseq.files.folders import ORIGIN
from tsa_fairseq.files.subwords import read_pieces

# fairseq's names of what CTranslate2 can do, and its own.
_OPTIONS = {
    "lenpen": "length_penalty",
    "max_len_b": "max_decoding_length",
    "min_len": "min_decoding_length",
    "no_repeat_ngram_size": "no_repeat_ngram_size",
}


class CTranslate2Translator:
    """A model that ``tsa-fairseq export --to ctranslate2`` made. Made by ``tsa_fairseq.load``.

    Args:
        folder: where it is.
        subwords: a sentencepiece model; None for text in the words of the dictionary.

    Attributes:
        model: CTranslate2's own translator.

    Raises:
        UsageError: CTranslate2 is missing, or does not take the folder.
    """

    def __init__(self, folder: Path, subwords: str | None) -> None:
        if importlib.util.find_spec("ctranslate2") is None:
            raise UsageError(
                f"path: '{folder}' takes CTranslate2, which is not installed: "
                "pip install ctranslate2"
            )
        import ctranslate2

        self.pieces = None if subwords is None else read_pieces(subwords, "subwords")
        self.longest = _longest(folder)
        try:
            # a thread a core, with a batch each: more to a batch slow small models down
            self.model = ctranslate2.Translator(
                str(folder), inter_threads=os.cpu_count() or 1, intra_threads=1
            )
        except (RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise UsageError(f"path: CTranslate2 refuses '{folder}': {reason}") from None

    @overload
    def translate(self, sentences: str, beam: int = ..., **options: Any) -> str: ...
    @overload
    def translate(self, sentences: Sequence[str], beam: int = ..., **options: Any) -> list[str]: ...

    def translate(
        self, sentences: str | Sequence[str], beam: int = 5, **options: Any
    ) -> str | list[str]:
        """The best hypothesis for every sentence.

        Args:
            sentences: one, or several in a list.
            beam: hypotheses at a time.
            options: by fairseq's names: ``lenpen``, ``max_len_b``, ``min_len`` and
                ``no_repeat_ngram_size``.

        Raises:
            UsageError: another option, or a sentence that is too long.
        """
        if isinstance(sentences, str):
            return self.translate([sentences], beam, **options)[0]
        most_source, most_target = self.longest
        check_options(options, list(_OPTIONS))
        check_beam(beam)
        limit = min(options.get("max_len_b", MAX_LENGTH), most_target)
        if limit < 1:
            raise UsageError(f"max_len_b: got {limit}; expected 1 or more")
        least = options.get("min_len", 1)
        if not 1 <= least <= limit:
            raise UsageError(f"min_len: got {least}; expected 1 to {limit}")
        chosen = {_OPTIONS[name]: value for name, value in options.items()}
        chosen["max_decoding_length"] = limit
        sources = [self._encode(sentence) for sentence in sentences]
        check_lengths([len(source) + 1 for source in sources], most_source)
        found = self.model.translate_batch(
            sources,
            beam_size=beam,
            max_batch_size=BATCH,
            max_input_length=0,
            **chosen,
        )
        return [self._decode(one.hypotheses[0]) for one in found]

    def _encode(self, sentence: str) -> list[str]:
        if self.pieces is None:
            return sentence.split()
        return self.pieces.encode(sentence, out_type=str)

    def _decode(self, words: list[str]) -> str:
        return " ".join(words) if self.pieces is None else self.pieces.decode(words)


def _longest(folder: Path) -> tuple[int, int]:
    """Positions of source and target that the model was trained with; as ``export.json`` says."""
    file = folder / ORIGIN
    said = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    source, target = said.get("max_positions", (sys.maxsize, sys.maxsize))
    return source, target - 1  # the last one is that of the sentence's end


def check_beam(beam: int) -> None:
    """Refuse no hypotheses.

    Raises:
        UsageError: it is less than 1.
    """
    if beam < 1:
        raise UsageError(f"beam: got {beam}; expected 1 or more")


def check_lengths(lengths: Sequence[int], most: int) -> None:
    """Refuse what the model has no positions for.

    Raises:
        UsageError: a sentence is longer.
    """
    for number, length in enumerate(lengths):
        if length > most:
            raise UsageError(
                f"sentences: number {number} has {length} words or pieces, its end included; "
                f"expected at most {most}"
            )


def check_options(given: dict[str, Any], known: Sequence[str]) -> None:
    """Refuse a misspelt option, which fairseq would not notice.

    Raises:
        UsageError: one that is not known.
    """
    for name in given:
        if name not in known:
            raise UsageError(f"{name}: no such option; expected some of {', '.join(known)}")
