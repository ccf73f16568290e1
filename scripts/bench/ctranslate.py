"""Translation by CTranslate2."""

import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fairseq.data import Dictionary
from fairseq.data.data_utils import load_indexed_dataset

from bench.measure import Case, Work, WorkerError
from tsa_fairseq.files.dictionaries import Dictionaries

# Sentences of a batch. A thread has a batch to itself: on a model this small, two to a batch
# make int8 much slower.
BATCH = 32
MAX_LENGTH = 200  # fairseq's own limit
# The model that the command translates with, and CTranslate2's own loop beside it.
SERVED = "leaf 0, CTranslate2 int8"
COMMAND, LOOP = f"{SERVED}, tsa-fairseq translate", f"{SERVED}, one limit for all"


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
    made = [
        Case(name, prepare, Translation(model, text, words, beam, limit, threads))
        for name, model in models.items()
    ]
    # the command has one limit for all sentences: it is compared with a loop that has the same
    served = Translation(
        models[SERVED], text, words, beam, (0, _longest_of_all(text, words, limit)), threads
    )
    return [*made, Case(LOOP, prepare, served), Case(COMMAND, prepare_command, served)]


def _longest_of_all(text: str, words: str, limit: tuple[int, int] | None) -> int:
    if limit is None:
        return MAX_LENGTH
    sentences = _read(text, words)
    a, b = limit
    return a * round(sum(map(len, sentences)) / len(sentences)) + b


def _read(source: str, dictionary: str) -> list[list[str]]:
    """The sentences of a binarised text, without their ends."""
    logging.getLogger("fairseq").setLevel(logging.WARNING)
    words = Dictionary.load(dictionary)
    return [
        [words[word] for word in row.tolist()[:-1]] for row in load_indexed_dataset(source, words)
    ]


def prepare_command(translation: Translation) -> Callable[[], Work]:
    """The time of ``tsa-fairseq translate`` on all lines, less that on none: without loading."""
    sentences = _read(translation.source, translation.dictionary)
    text = "".join(f"{' '.join(words)}\n" for words in sentences)
    assert translation.limit is not None
    argv = [sys.executable, "-m", "tsa_fairseq.cli.main", "translate", translation.model]
    argv += ["--beam", str(translation.beam), "--batch", str(BATCH)]
    argv += ["--threads", str(translation.threads), "--max-length", str(translation.limit[1])]

    def seconds(text: str) -> float:
        with tempfile.TemporaryFile() as lines, tempfile.TemporaryFile() as found:
            lines.write(text.encode())
            lines.seek(0)
            begun = time.perf_counter()
            done = subprocess.run(argv, stdin=lines, stdout=found, stderr=subprocess.PIPE)
            taken = time.perf_counter() - begun
            found.seek(0)
            if done.returncode or len(found.readlines()) != text.count("\n"):
                raise WorkerError(f"tsa-fairseq translate: {done.stderr.decode()}")
            return taken

    def work() -> Work:
        start_up = seconds("")
        return Work(len(sentences), seconds(text) - start_up)

    return work


def prepare(translation: Translation) -> Callable[[], Work]:
    """The time of translating, without loading."""
    import ctranslate2

    sentences = _read(translation.source, translation.dictionary)
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
