"""``export.json``: what an export says of itself, checked before anything of it is used."""

import json
from pathlib import Path
from typing import Any

from tsa_fairseq.errors import UsageError
from tsa_fairseq.files.names import ORIGIN
from tsa_fairseq.files.plain import is_plain_text

# Of its part "text": the fields of TextSettings, by their types; files are a list of names.
_TEXT: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("source", "target"), str),
    **dict.fromkeys(("subwords", "vocabulary"), list),
    "vocabulary_threshold": (int, type(None)),
    "tokenizer": (str, type(None)),
    **dict.fromkeys(("moses_no_dash_splits", "moses_no_escape", "lowercase"), bool),
}


def read_origin(folder: Path) -> dict[str, Any]:
    """What the JSON in an export's folder says; nothing if there is none.

    Raises:
        UsageError: it is not what an export writes: files outside of the folder among others.
    """
    file = folder / ORIGIN
    if not file.is_file():
        return {}
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
    except RecursionError:
        raise UsageError(f"path: '{file}' cannot be read: it is nested too deeply") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"path: '{file}' cannot be read: {str(error).splitlines()[0]}") from None
    problem = _problem(said)
    if problem is not None:
        raise UsageError(f"path: '{file}' is not what an export writes: {problem}")
    return said


def _problem(said: Any) -> str | None:
    if not isinstance(said, dict) or not isinstance(said.get("text", {}), dict):
        return "it is no object"
    positions = said.get("max_positions", [1, 1])
    if not (isinstance(positions, list) and len(positions) == 2 and all(map(_positive, positions))):
        return f"max_positions is {positions!r:.40}; expected two numbers"
    for name, value in said.items():  # they go into pages and cards
        if isinstance(value, str) and not is_plain_text(value):
            return f"its {ascii(name[:40])[1:-1]} is {value!r:.40}; expected a line of text"
    for name, value in said.get("text", {}).items():
        if name not in _TEXT:
            shown = ascii(name[:40])[1:-1]
            return f"its text has '{shown}', which this release does not know; take a newer one"
        # to Python, true is a whole number
        flag = isinstance(value, bool) and _TEXT[name] is not bool
        unfit = isinstance(value, str) and not is_plain_text(value)  # they go into cards, too
        if flag or unfit or not isinstance(value, _TEXT[name]):
            return f"its text's {name} is {value!r:.40}"
        if isinstance(value, list) and not (len(value) <= 2 and all(map(_plain_name, value))):
            return f"its text's {name} is {value!r}; expected up to two names of files beside it"
    return None


def _positive(number: Any) -> bool:
    return type(number) is int and number > 0


def _plain_name(name: Any) -> bool:
    return isinstance(name, str) and name not in ("", ".", "..") and Path(name).name == name
