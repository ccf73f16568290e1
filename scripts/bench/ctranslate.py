"""Translation by CTranslate2."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fairseq.data import Dictionary
from fairseq.data.data_utils import load_indexed_dataset

from bench.measure import Case, Work
from tsa_fairseq.files.dictionaries import Dictionaries

# Sentences of a batch. A thread has a batch to itself: on a model this small, two to a batch
# make int8 much slower.
BATCH = 32
MAX_LENGTH = 200  # fairseq's own limit


@dataclass(frozen=True)
class Translation:
    """A model and the sentences.

    Args:
        model: the folder.
        source: the test set's source, as in ``data-bin/test.de-en.de``.
        dictionary: of the source.
        beam: hypotheses at a time.
        limit: a and b of a longest translation of a · source + b words; None for a trained model.
        threads: how many batches at a time.
    """

    model: str
    source: str
    dictionary: str
    beam: int
    limit: tuple[int, int] | None
    threads: int


def cases(
    models: dict[str, str],
    dictionaries: Dictionaries,
    beam: int,
    limit: tuple[int, int] | None,
    threads: int,
) -> list[Case]:
    """One for every model, by name; see :class:`Translation`."""
    data, source = Path(dictionaries.folder), dictionaries.source
    text = str(data / f"test.{source}-{dictionaries.target}.{source}")
    words = str(data / f"dict.{source}.txt")
    return [
        Case(name, prepare, Translation(model, text, words, beam, limit, threads))
        for name, model in models.items()
    ]


def prepare(translation: Translation) -> Callable[[], Work]:
    """The time of translating, without loading."""
    import ctranslate2

    logging.getLogger("fairseq").setLevel(logging.WARNING)
    words = Dictionary.load(translation.dictionary)
    rows = load_indexed_dataset(translation.source, words)
    sentences = [[words[word] for word in row.tolist()[:-1]] for row in rows]
    sentences.sort(key=len)
    batches = [sentences[n : n + BATCH] for n in range(0, len(sentences), BATCH)]
    model = ctranslate2.Translator(
        translation.model, inter_threads=translation.threads, intra_threads=1
    )

    def longest(batch: list[list[str]]) -> int:
        if translation.limit is None:
            return MAX_LENGTH
        a, b = translation.limit
        return a * (len(batch[-1]) + 1) + b  # fairseq counts the source's end

    def work() -> Work:
        begun = time.perf_counter()
        running = [
            model.translate_batch(
                batch,
                beam_size=translation.beam,
                max_decoding_length=longest(batch),
                asynchronous=True,
            )
            for batch in batches
        ]
        for batch in running:
            for sentence in batch:
                sentence.result()
        return Work(len(sentences), time.perf_counter() - begun)

    return work
