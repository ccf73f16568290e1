"""Joint subwords of subword-nmt: byte-pair encoding learned on both sides of a corpus."""

import contextlib
import io
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

from subword_nmt.apply_bpe import BPE  # type: ignore[import-untyped]
from subword_nmt.learn_bpe import learn_bpe  # type: ignore[import-untyped]

from recipe.parallel import count_lines, over_chunks
from recipe.progress import Progress


def learn(texts: list[Path], count: int, codes: Path, workers: int = 1) -> None:
    """Learn `count` merges on all texts.

    The same codes as `subword-nmt learn-bpe` on the texts one after the other: it, too, begins by
    counting words, which is what takes long, and is done on all cores here.
    """
    words: Counter[str] = Counter()
    progress = Progress("counting words", sum(map(count_lines, texts)))
    for counts in over_chunks(_counter, _lines(texts), workers, progress):
        words.update(counts)
    with tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n") as dictionary:
        dictionary.writelines(f"{word} {number}\n" for word, number in words.items())
        words.clear()
        dictionary.seek(0)
        with (
            codes.open("w", encoding="utf-8", newline="\n") as out,
            contextlib.redirect_stderr(io.StringIO()),  # its bar, which is not for logs
        ):
            learn_bpe(
                dictionary, _Told(out, Progress("merging", count, "merges")), count, is_dict=True
            )


class _Told:
    """A file that says how many merges were written to it."""

    def __init__(self, file: TextIO, progress: Progress) -> None:
        self._file, self._progress = file, progress

    def write(self, text: str) -> None:
        """A line: a merge."""
        self._file.write(text)
        self._progress.add(1)


def _lines(texts: list[Path]) -> Iterator[str]:
    for text in texts:
        with text.open(encoding="utf-8", newline="\n") as lines:
            yield from lines


def _counter() -> Callable[[list[str]], Counter[str]]:
    def count(lines: list[str]) -> Counter[str]:
        # split as subword-nmt does: other white space is part of a word
        words = (word for line in lines for word in line.strip("\r\n ").split(" "))
        return Counter(word for word in words if word)

    return count


class Cutter:
    """Makes, in any process, the function that cuts lines into subwords."""

    def __init__(self, codes: Path) -> None:
        self._codes = codes

    def __call__(self) -> Callable[[list[str]], list[str]]:
        """The function, with the codes loaded."""
        with self._codes.open(encoding="utf-8", newline="\n") as file:
            bpe = BPE(file)

        def cut(lines: list[str]) -> list[str]:
            return [bpe.process_line(line) for line in lines]

        return cut
