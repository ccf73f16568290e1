"""How raw text becomes a model's words: a record that an export carries, with its files."""

import dataclasses
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tsa_fairseq.errors import UsageError, check_choice
from tsa_fairseq.files import names
from tsa_fairseq.files.origin import read_origin
from tsa_fairseq.files.subwords import read_subwords

TOKENIZERS = ("moses",)


@dataclass(frozen=True)
class TextSettings:
    """What is done to text. In an export's JSON, files have names in its folder.

    Args:
        source: language of the source, by which Moses and the end of a sentence are told.
        target: of the target.
        subwords: files of subword models, one for both sides or one each; none for whole words.
        vocabulary: of subword-nmt: words that may be made, one file or one a side, or none.
        vocabulary_threshold: the least count of such a word.
        tokenizer: one of :data:`TOKENIZERS`, or None.
        moses_no_dash_splits: leave hyphens inside a word alone.
        moses_no_escape: leave ``&``, quotes and brackets as they are.
        lowercase: after the tokenizer, all becomes lower case.
    """

    source: str = ""
    target: str = ""
    subwords: tuple[str, ...] = ()
    vocabulary: tuple[str, ...] = ()
    vocabulary_threshold: int | None = None
    tokenizer: str | None = None
    moses_no_dash_splits: bool = False
    moses_no_escape: bool = False
    lowercase: bool = False

    def subwords_of(self, side: str) -> str | None:
        """The file of a side's subword model."""
        return _of(self.subwords, side)

    def vocabulary_of(self, side: str) -> str | None:
        """The file of the words that may be made for a side."""
        return _of(self.vocabulary, side)

    def copy_to(self, folder: Path) -> "TextSettings":
        """All files under the names that are looked for, and the settings with these names."""
        subwords = self._names(self.subwords)
        vocabulary = [names.VOCABULARY_OF[side] for side, _ in _sides(self.vocabulary)]
        pairs = [*zip(self.subwords, subwords, strict=True)]
        pairs += zip(self.vocabulary, vocabulary, strict=True)
        for path, name in pairs:
            shutil.copyfile(path, folder / name)
        return dataclasses.replace(self, subwords=tuple(subwords), vocabulary=tuple(vocabulary))

    def _names(self, files: Sequence[str]) -> list[str]:
        kinds = {path: read_subwords(path, "subwords").kind for path in files}
        of_both = {"sentencepiece": names.PIECES, "subword_nmt": names.CODES}
        of_side = {"sentencepiece": names.PIECES_OF, "subword_nmt": names.CODES_OF}
        if len(files) == 1:
            return [of_both[kinds[files[0]]]]
        return [of_side[kinds[path]][side] for side, path in _sides(files)]

    def as_json(self) -> dict[str, Any]:
        """For a JSON file."""
        return dataclasses.asdict(self)


def find_text(
    folder: Path, source: str, target: str, given: dict[str, Any], flag: str = ""
) -> TextSettings:
    """What was given; what was not, as the folder's JSON says or by the files that lie there.

    Args:
        folder: of the model.
        source: language of the source; empty if only the folder knows.
        target: of the target.
        given: fields of :class:`TextSettings` by name; None for what was not given.
        flag: ``--`` if messages are to name flags.

    Raises:
        UsageError: too many files, an unknown tokenizer, options that belong to another one.
    """
    chosen = {name: value for name, value in given.items() if value is not None}
    for name in ("subwords", "vocabulary"):
        if name in chosen:
            chosen[name] = _files(chosen[name], f"{flag}{name}")
    found = _stored(folder)
    if "subwords" in chosen:
        for name in ("vocabulary", "vocabulary_threshold"):  # of other ones
            found.pop(name, None)
    languages = {"source": source, "target": target}
    chosen.update({side: language for side, language in languages.items() if language})
    settings = TextSettings(**{**found, **chosen})
    _check(settings, flag)
    return settings


def _check(settings: TextSettings, flag: str) -> None:
    check_choice(f"{flag}tokenizer", settings.tokenizer, TOKENIZERS)
    if settings.tokenizer is not None and not (settings.source and settings.target):
        raise UsageError(
            f"{flag}tokenizer: got '{settings.tokenizer}'; expected the languages of source and "
            "target, too"
        )
    for name in ("moses_no_dash_splits", "moses_no_escape"):
        if getattr(settings, name) and settings.tokenizer != "moses":
            shown = name.replace("_", "-") if flag else name
            raise UsageError(f"{flag}{shown}: got True; expected moses for a tokenizer, too")
    if settings.vocabulary_threshold is not None and not settings.vocabulary:
        shown = "vocabulary-threshold" if flag else "vocabulary_threshold"
        raise UsageError(
            f"{flag}{shown}: got {settings.vocabulary_threshold}; expected a vocabulary, too"
        )
    if settings.vocabulary and not settings.subwords:
        raise UsageError(
            f"{flag}vocabulary: got '{settings.vocabulary[0]}'; expected codes of subword-nmt, too"
        )


def _files(given: Any, flag: str) -> tuple[str, ...]:
    files = (given,) if isinstance(given, (str, Path)) else tuple(given)
    if not 1 <= len(files) <= 2:
        raise UsageError(
            f"{flag}: got {len(files)} files; expected one, or one for the source and one for the "
            "target"
        )
    files = tuple(map(str, files))
    for path in files:
        names.check_exists(path, flag)
    return files[:1] if len({_content(path) for path in files}) == 1 else files


def _content(path: str) -> bytes:
    return Path(path).read_bytes()


def _stored(folder: Path) -> dict[str, Any]:
    """As the JSON of an export says; of an old export, or beside a checkpoint, by files' names."""
    found: dict[str, Any] = dict(read_origin(folder).get("text", {}))
    if not found:
        for both, each in ((names.PIECES, names.PIECES_OF), (names.CODES, names.CODES_OF)):
            places = [(both,), tuple(each.values())]
            found["subwords"] = next(
                (p for p in places if all((folder / name).is_file() for name in p)), ()
            )
            if found["subwords"]:
                break
    for name in ("subwords", "vocabulary"):
        found[name] = tuple(str(folder / file) for file in found.get(name, ()))
    return found


def _of(files: Sequence[str], side: str) -> str | None:
    """Of one file for both sides, or one each."""
    if not files:
        return None
    return files[0 if side == "source" else -1]


def _sides(files: Sequence[str]) -> list[tuple[str, str]]:
    return list(zip(("source", "target"), files, strict=False))
