"""Lines of fairseq-train's log, in the formats simple, json and tqdm, as numbers by name."""

import ast
import json
import re
from typing import Any

# tqdm writes its bar to standard error: a line of the log may come after one, on the same line.
_RECORD = re.compile(r"\| INFO \| ([\w.-]+) \| (.*)$")
_INNER = re.compile(r"epoch (\d+):\s+\d+ / \d+ (.*)")
_BAR = re.compile(r"epoch (\d+):.*\|.*\d+/\d+ \[.*?[,\s](\w+=.*)\]")
_EPOCH = re.compile(r"epoch (\d+)")
_CONFIG = re.compile(r"\| INFO \| fairseq_cli\.train \| (\{'_name'.*)$")
_SETTING = re.compile(
    r"""(?:'(\w+)':\s|\b(\w+)=)('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|-?[\d.]+(?:e[+-]?\d+)?"""
    r"""|None|True|False|\[[^\]\[]*\])"""
)
Point = dict[str, float]


def record(line: str) -> tuple[str, Point] | None:
    """A line's tag (``train``, ``train_inner`` or a validation subset) and its figures.

    Among these is ``epoch``. None for any other line.
    """
    if match := _RECORD.search(line):
        tag, rest = match.groups()
        if rest.startswith("{"):
            return _from_json(tag, rest)
        if inner := _INNER.match(rest):
            return tag, _numbers(inner[1], _pairs(inner[2], ", ", "="))
        if (epoch := _EPOCH.match(rest)) and " | " in rest:
            return tag, _numbers(epoch[1], _pairs(rest, " | ", " "))
    elif match := _BAR.search(line):
        return "train_inner", _numbers(match[1], _pairs(match[2], ", ", "="))
    return None


def settings(line: str) -> dict[str, Any] | None:
    """What fairseq-train was told, flat and by its flags' names, if the line is its configuration.

    Of a name that stands in several of its parts, the first one that is not None.
    """
    match = _CONFIG.search(line)
    if match is None:
        return None
    found: dict[str, Any] = {}
    for quoted, plain, text in _SETTING.findall(match[1]):
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError):  # 5,000 digits, a list of names
            return None
        name = quoted or plain
        if found.get(name) is None:
            found[name] = value
    return found


def _from_json(tag: str, text: str) -> tuple[str, Point] | None:
    try:
        said = json.loads(text)
        epoch = str(int(said.pop("epoch")))
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    said.pop("update", None)
    return tag, _numbers(epoch, {key.removeprefix(f"{tag}_"): v for key, v in said.items()})


def _pairs(text: str, between: str, inside: str) -> dict[str, str]:
    parts = (part.strip().partition(inside) for part in text.split(between))
    return {name: value for name, mark, value in parts if mark}


def _numbers(epoch: str, said: dict[str, Any]) -> Point:
    found = {"epoch": float(epoch)}
    for name, value in said.items():
        try:
            found.setdefault(name, float(value))
        except (TypeError, ValueError, OverflowError):
            continue  # the words "valid on 'valid' subset", or a figure that is not there
    return found
