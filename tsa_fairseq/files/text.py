"""From raw text to the words of a model's dictionaries, and back: the same for every door."""

import unicodedata
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Any

from tsa_fairseq.errors import warn
from tsa_fairseq.files.subwords import Subwords, check_fit, kind_of, needed, read_subwords
from tsa_fairseq.files.text_settings import TextSettings

# Characters that nobody sees: controls, formats such as a zero-width space, and white space.
_UNSEEN = {"Cc", "Cf", "Zs", "Zl", "Zp"}


class Text:
    """Cuts sentences into words, and joins words to sentences, as :class:`TextSettings` say.

    On the way in Moses splits off punctuation first, then upper case goes, then words are cut into
    subwords, in the order of fairseq's own recipes.

    Args:
        settings: what is to be done, and the files for it.
        flag: the name of subwords in a message.

    Raises:
        UsageError: a file is missing or none of its kind, or what reads it is not installed.
    """

    def __init__(self, settings: TextSettings, flag: str = "subwords") -> None:
        self.settings = settings
        models: dict[Any, Subwords] = {}

        def model(side: str) -> Subwords | None:
            path, vocabulary = settings.subwords_of(side), settings.vocabulary_of(side)
            if path is None:
                return None
            key = path, vocabulary
            if key not in models:
                models[key] = read_subwords(path, flag, vocabulary, settings.vocabulary_threshold)
            return models[key]

        self.models = {side: model(side) for side in ("source", "target")}
        self._flag = flag
        self._split: dict[str, Callable[[str], str]] = {}
        if settings.tokenizer == "moses":
            moses = needed("sacremoses", "sacremoses", "tokenizer: 'moses'")
            for side, language in (("source", settings.source), ("target", settings.target)):
                self._split[side] = _splitter(moses, language, settings)
            self._detokenizer = moses.MosesDetokenizer(lang=settings.target)

    def check(self, source: Sequence[str], target: Sequence[str]) -> None:
        """Refuse models of subwords that the dictionaries were not made with.

        Without any, warn if the dictionaries consist of subwords.

        Args:
            source: words of the source's dictionary.
            target: words of the target's.

        Raises:
            UsageError: a model makes too few of them.
        """
        models = {
            side: {str(self.settings.subwords_of(side)): model}
            for side, model in self.models.items()
            if model is not None
        }
        if source == target and models:
            models = {"source": {**models["source"], **models["target"]}}
        for side, symbols in (("source", source), ("target", target)):
            if side in models:
                check_fit(models[side], self._flag, symbols, side)
            elif not self.settings.subwords and (kind := kind_of(symbols)) is not None:
                warn(
                    f"{self._flag}: not given, but the {side} dictionary consists of subwords "
                    f"({kind}): text must be cut into them, and comes out so"
                )

    def source_words(self, sentence: str) -> list[str]:
        """The words of a sentence to translate; none if there is nothing to see in it."""
        return self._words(sentence, "source")

    def target_words(self, sentence: str) -> list[str]:
        """The words of a translation, or of its beginning."""
        return self._words(sentence, "target")

    def _words(self, sentence: str, side: str) -> list[str]:
        if is_empty(sentence):
            return []
        text = sentence.strip()
        if side in self._split:
            text = self._split[side](text)
        if self.settings.lowercase:
            text = text.lower()
        model = self.models[side]
        # as fairseq splits lines: no word has white space in it
        words = " ".join([text] if model is None else model.cut(text)).split()
        return [] if all(map(is_empty, words)) else words

    def sentence(self, words: Sequence[str]) -> str:
        """The text of a translation, in one line; a word that is unknown is ``<unk>``."""
        model = self.models["target"]
        text = " ".join(words) if model is None else model.join(words)
        if "target" in self._split:
            text = self._detokenizer.detokenize(text.split())
        return " ".join(text.splitlines())


def is_empty(text: str) -> bool:
    """Whether there is nothing to be seen: no characters, or white space and what has no width.

    A ▁ is sentencepiece's space.
    """
    return all(char == "▁" or unicodedata.category(char) in _UNSEEN for char in text)


def check_sentences(sentences: Any, name: str = "sentences") -> list[str]:
    """A list of sentences, or of one.

    Raises:
        TypeError: an item is no string; it says which.
    """
    if isinstance(sentences, str):
        return [sentences]
    unordered = isinstance(sentences, (bytes, bytearray, Set, Mapping))
    if unordered or not hasattr(sentences, "__iter__"):
        kind = type(sentences).__name__
        raise TypeError(f"{name}: got {kind}; expected a string, or a list of strings")
    items = list(sentences)
    for number, item in enumerate(items):
        if not isinstance(item, str):
            kind = type(item).__name__
            raise TypeError(f"{name}: number {number} is {kind}, {item!r:.40}; expected a string")
    return items


def sentence_splitter(language: str) -> Callable[[str], list[str]]:
    """Cuts a text at the ends of its sentences.

    Raises:
        UsageError: sentencex, which does it, is not installed.
    """
    sentencex = needed("sentencex", "sentencex", "split_sentences: got True, which")

    def split(text: str) -> list[str]:
        parts = [part.strip() for part in sentencex.segment(language, text)]
        return [part for part in parts if part]

    return split


def _splitter(moses: Any, language: str, settings: TextSettings) -> Callable[[str], str]:
    tokenizer = moses.MosesTokenizer(lang=language)

    def split(text: str) -> str:
        return tokenizer.tokenize(
            text,
            aggressive_dash_splits=not settings.moses_no_dash_splits,
            return_str=True,
            escape=not settings.moses_no_escape,
        )

    return split
