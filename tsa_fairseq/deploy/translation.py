"""What all translators have in common: text in, text out, by the same rules and with one signature.

A backend translates words, and scores them; it may import torch or fairseq, this may not.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

from tsa_fairseq.deploy.search import (
    BATCH,
    BEAM,
    Found,
    Hypothesis,
    Scored,
    Search,
    Words,
    check_lengths,
    check_positive,
    check_search_numbers,
)
from tsa_fairseq.errors import UsageError
from tsa_fairseq.files.text import Text, check_sentences, sentence_splitter


class TextTranslator:
    """Translates text.

    Attributes:
        text: from text to words and back.
        known: names of the options that the backend takes.
    """

    text: Text
    known: ClassVar[tuple[str, ...]]

    def longest(self) -> tuple[int, int]:
        """Words that the model has positions for, an end included: of source and target."""
        raise NotImplementedError

    def search(
        self, sources: list[Words], prefixes: list[Words] | None, search: Search
    ) -> list[list[Found]]:
        """The best translations of sources that are not empty.

        Args:
            sources: words, without an end.
            prefixes: what the translations begin with, one a source; None for nothing.
            search: how.

        Raises:
            UsageError: options that are wrong, or that the backend cannot do.
        """
        raise NotImplementedError

    def force(self, sources: list[Words], targets: list[Words], batch: int) -> list[list[float]]:
        """The log probability of every word of given translations, and of their ends.

        Args:
            sources: words, without an end.
            targets: of the same number, without an end.
            batch: sentences at a time.

        Raises:
            UsageError: the backend cannot do it.
        """
        raise NotImplementedError

    def translate(
        self,
        sentences: str | Sequence[str],
        beam: int = BEAM,
        nbest: int = 1,
        scores: bool = False,
        prefix: str | Sequence[str] | None = None,
        split_sentences: bool = False,
        batch: int = BATCH,
        **options: Any,
    ) -> Any:
        """Translations of a sentence, or of several.

        What has nothing to be seen in it is translated by the empty string.

        Args:
            sentences: one, or several in a list. Without a subword model, words of the source
                dictionary separated by spaces.
            beam: hypotheses at a time.
            nbest: how many translations of each, best first: with 2 or more, a list of them stands
                where one would.
            scores: give each as a :class:`Hypothesis`, a pair of text and score.
            prefix: what the translations begin with, in whole words: one for all, or a list.
            split_sentences: cut texts at the ends of their sentences, and translate each by itself;
                the translations are joined by a space, whatever stood between.
            batch: sentences at a time.
            options: by fairseq-generate's names in Python: ``lenpen=0.6``, ``max_len_b=50``, ...
                A wrong one is answered with a list of all.

        Returns:
            A string for a string, a list for a list; see ``nbest`` and ``scores``.

        Raises:
            UsageError: an option that does not exist, or a sentence that is too long.
            TypeError: a sentence is no string.
        """
        items = check_sentences(sentences)
        self.check_search(Search(beam, nbest, batch, scores, options))
        if split_sentences:
            for name, value in (("nbest", nbest > 1), ("scores", scores), ("prefix", prefix)):
                if value:
                    raise UsageError(f"{name}: takes whole texts; expected no split_sentences")
            texts = self._by_sentence(items, Search(beam, 1, batch, False, options))
            return texts[0] if isinstance(sentences, str) else texts
        sources = [self.text.source_words(item) for item in items]
        prefixes = self.prefixes(prefix, len(items))
        check_lengths([len(source) + 1 for source in sources], self.longest()[0])
        found = self.hypotheses(sources, prefixes, Search(beam, nbest, batch, scores, options))
        shown = [[one if scores else one.text for one in best] for best in found]
        results = shown if nbest > 1 else [best[0] for best in shown]
        return results[0] if isinstance(sentences, str) else results

    def score(
        self, source: str | Sequence[str], target: str | Sequence[str], batch: int = BATCH
    ) -> Any:
        """How probable the model finds given translations, word by word.

        Args:
            source: a sentence, or several in a list.
            target: its translation, or theirs.
            batch: sentences at a time.

        Returns:
            A :class:`Scored` for a string, a list of them for a list. It is empty if either side
            is.

        Raises:
            UsageError: there are not as many translations as sentences, or one is too long.
            TypeError: one is no string.
        """
        sources = list(map(self.text.source_words, check_sentences(source, "source")))
        targets = list(map(self.text.target_words, check_sentences(target, "target")))
        if len(sources) != len(targets):
            raise UsageError(
                f"target: got {len(targets)} translations; expected {len(sources)}, one a sentence"
            )
        check_positive("batch", batch)
        for name, side, most in zip(
            ("source", "target"), (sources, targets), self.longest(), strict=True
        ):
            check_lengths([len(words) + 1 for words in side], most, name)
        there = [n for n, (s, t) in enumerate(zip(sources, targets, strict=True)) if s and t]
        results = [Scored([], []) for _ in sources]
        if there:
            found = self.force([sources[n] for n in there], [targets[n] for n in there], batch)
            for number, log_probs in zip(there, found, strict=True):
                results[number] = Scored([*targets[number], "</s>"], log_probs)
        return results[0] if isinstance(source, str) else results

    def hypotheses(
        self, sources: list[Words], prefixes: list[Words] | None, search: Search
    ) -> list[list[Hypothesis]]:
        """Translations of words, ``search.nbest`` of each; empty ones of no words."""
        there = [number for number, words in enumerate(sources) if words]
        results = [[Hypothesis("", 0.0)] * search.nbest for _ in sources]
        if there:
            chosen = None if prefixes is None else [prefixes[number] for number in there]
            found = self.search([sources[number] for number in there], chosen, search)
            for number, best in zip(there, found, strict=True):
                results[number] = [Hypothesis(self.text.sentence(w), s) for w, s in best]
        return results

    def prefixes(self, prefix: str | Sequence[str] | None, number: int) -> list[Words] | None:
        """The words that translations begin with; None if there are none.

        Raises:
            UsageError: there are not as many as sentences, or one is too long.
            TypeError: one is no string.
        """
        if prefix is None:
            return None
        given = check_sentences(prefix, "prefix")
        given = given * number if isinstance(prefix, str) else given
        if len(given) != number:
            raise UsageError(f"prefix: got {len(given)}; expected {number}, one a sentence")
        words = [self.text.target_words(text) for text in given]
        check_lengths([len(one) + 1 for one in words], self.longest()[1], "prefix")
        return words if any(words) else None

    def check_search(self, search: Search) -> None:
        """Refuse numbers that make no sense, and options that the backend does not know.

        Raises:
            UsageError: one of them.
        """
        for name in search.options:
            if name not in self.known:
                known = ", ".join(self.known)
                raise UsageError(f"{name}: no such option; expected some of {known}")
        check_search_numbers(search.beam, search.nbest, search.batch)

    def _by_sentence(self, texts: list[str], search: Search) -> list[str]:
        language = self.text.settings.source
        if not language:
            raise UsageError("split_sentences: got True; expected load(..., source_lang=...), too")
        split = sentence_splitter(language)
        parts = [split(text) for text in texts]
        sources = [self.text.source_words(part) for text in parts for part in text]
        check_lengths([len(source) + 1 for source in sources], self.longest()[0])
        found = iter(self.hypotheses(sources, None, search))
        return [" ".join(filter(None, [next(found)[0].text for _ in text])) for text in parts]
