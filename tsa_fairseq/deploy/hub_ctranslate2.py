"""A translator by CTranslate2, without torch or fairseq."""

import importlib.util
import json
import os
import re
import sys
from pathlib import Path
from typing import Any, ClassVar

from tsa_fairseq.deploy.search import MAX_LENGTH, Found, Search, Words, check_positive
from tsa_fairseq.deploy.translation import TextTranslator
from tsa_fairseq.errors import UsageError
from tsa_fairseq.files.origin import read_origin
from tsa_fairseq.files.text import Text

# The first that refuses a model whose parameters are more or less than it says.
_LEAST = (4, 8, 5)
# fairseq's names of what CTranslate2 can do, and its own.
_OPTIONS = {
    "lenpen": "length_penalty",
    "max_len_b": "max_decoding_length",
    "min_len": "min_decoding_length",
    "no_repeat_ngram_size": "no_repeat_ngram_size",
}


class CTranslate2Translator(TextTranslator):
    """A model that ``tsa-fairseq export --to ctranslate2`` made. Made by ``tsa_fairseq.load``.

    Args:
        folder: where it is.
        text: from text to words and back.
        threads: batches at a time; if not given, one a core, and one on a GPU.
        device: ``cpu`` or ``cuda``.

    Attributes:
        model: CTranslate2's own translator.

    Raises:
        UsageError: CTranslate2 is missing, or does not take the folder or the device.
    """

    known: ClassVar[tuple[str, ...]] = tuple(_OPTIONS)

    def __init__(
        self, folder: Path, text: Text, threads: int | None = None, device: str = "cpu"
    ) -> None:
        self.text = text
        self._folder, self._longest = folder, _longest(folder)
        self._threads = threads
        # on a CPU a thread a core, with a batch each: more to a batch slow small models down
        self._options: dict[str, Any] = {
            "inter_threads": threads or (1 if device == "cuda" else _cores()),
            "intra_threads": 1,
            "device": device,
        }
        self.model = self._open()

    def _open(self) -> Any:
        if importlib.util.find_spec("ctranslate2") is None:
            raise UsageError(
                f"path: '{self._folder}' takes CTranslate2, which is not installed: "
                "pip install ctranslate2"
            )
        import ctranslate2

        if tuple(map(int, re.findall(r"\d+", ctranslate2.__version__)[:3])) < _LEAST:
            raise UsageError(
                f"path: '{self._folder}' takes CTranslate2 {'.'.join(map(str, _LEAST))} or newer, "
                f"and this is {ctranslate2.__version__}: what a hostile model says of its size was "
                "believed"
            )
        for file in sorted(self._folder.iterdir()):
            if not (file.is_file() or file.is_dir()):  # one that is a pipe is waited for
                raise UsageError(f"path: '{file}' is no file; expected what an export made")
        if self._options["device"] == "cuda" and not ctranslate2.get_cuda_device_count():
            raise UsageError("device: got 'cuda'; CTranslate2 sees no GPU here; expected cpu")
        try:
            return ctranslate2.Translator(str(self._folder), **self._options)
        except (RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise UsageError(f"path: CTranslate2 refuses '{self._folder}': {reason}") from None

    def cuda(self) -> "CTranslate2Translator":
        """On a GPU from now on.

        Raises:
            UsageError: there is none.
        """
        return self._reopen(device="cuda", inter_threads=self._threads or 1)

    def half(self) -> "CTranslate2Translator":
        """In half precision from now on, whatever the weights are stored as.

        Raises:
            UsageError: the device has no such arithmetic.
        """
        return self._reopen(compute_type="float16")

    def _reopen(self, **options: Any) -> "CTranslate2Translator":
        before = self._options
        self._options = {**before, **options}
        try:
            self.model = self._open()
        except UsageError:
            self._options = before
            raise
        return self

    def longest(self) -> tuple[int, int]:
        """Positions that the model was trained with."""
        return self._longest

    def search(
        self, sources: list[Words], prefixes: list[Words] | None, search: Search
    ) -> list[list[Found]]:
        """The best translations; see :class:`TextTranslator`."""
        for name, value in search.options.items():
            if name != "lenpen" and not isinstance(value, int):
                raise UsageError(f"{name}: got {value!r}; expected a whole number")
        most = self._longest[1] - 1  # the last one is that of the sentence's end
        limit = min(search.options.get("max_len_b", MAX_LENGTH), most)
        check_positive("max_len_b", limit)
        least = search.options.get("min_len", 1)
        if not 1 <= least <= limit:
            raise UsageError(f"min_len: got {least}; expected 1 to {limit}")
        chosen = {_OPTIONS[name]: value for name, value in search.options.items()}
        chosen["max_decoding_length"] = limit
        if search.scores:
            chosen["return_scores"] = True
        if search.nbest > 1:
            chosen["num_hypotheses"] = search.nbest
        if prefixes is not None:
            chosen["target_prefix"] = prefixes
        found = self.model.translate_batch(
            sources,
            beam_size=search.beam,
            max_batch_size=search.batch,
            max_input_length=0,
            **chosen,
        )
        return [
            [
                Found(_visible(words), one.scores[number] if search.scores else 0.0)
                for number, words in enumerate(one.hypotheses)
            ]
            for one in found
        ]

    def force(self, sources: list[Words], targets: list[Words], batch: int) -> list[list[float]]:
        """Log probabilities of given translations; see :class:`TextTranslator`."""
        found = self.model.score_batch(sources, targets, max_batch_size=batch, max_input_length=0)
        return [list(one.log_probs) for one in found]


def _visible(words: Words) -> Words:
    """Without the symbols that fairseq does not show either."""
    return [word for word in words if word not in ("<s>", "</s>", "<blank>", "<pad>")]


def _cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def vocabularies(folder: Path) -> tuple[list[str], list[str]]:
    """The words of source and target of a model for CTranslate2.

    Raises:
        UsageError: a file is not what CTranslate2 writes.
    """

    def read(name: str) -> list[str] | None:
        for file in (folder / f"{name}_vocabulary.json", folder / f"{name}_vocabulary.txt"):
            if file.is_file():
                return _words(file)
        return None

    shared = read("shared")
    return read("source") or shared or [], read("target") or shared or []


def _words(file: Path) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8")
        words = json.loads(text) if file.suffix == ".json" else text.split("\n")
    except (OSError, ValueError, RecursionError):
        words = None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise UsageError(f"path: '{file}' is no list of words, as CTranslate2 writes it")
    return words


def _longest(folder: Path) -> tuple[int, int]:
    """Positions of source and target that the model was trained with; as ``export.json`` says."""
    source, target = read_origin(folder).get("max_positions", (sys.maxsize, sys.maxsize))
    return source, target
