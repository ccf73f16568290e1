"""Tasks that put words of their own into a dictionary, such as the names of languages."""

import logging
import os
from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any

from fairseq import tasks
from fairseq.data import Dictionary

from tsa_fairseq.errors import UsageError
from tsa_fairseq.files.checkpoint import model_arguments
from tsa_fairseq.files.kinds import languages

PLAIN = "translation"
# Of such a task, files that are no folder's dict.LANGUAGE.txt.
_ELSEWHERE = ("source_dict", "target_dict", "fixed_dictionary")
_LANGUAGES = "lang_dict"
# Bytes of any of them: a file of the system that never ends has 0.
_LARGEST = 2**28


def task_name(state: dict[str, Any]) -> str:
    """What a checkpoint's task is called."""
    task = model_arguments(state, "task")
    return getattr(task, "_name", None) or getattr(task, "task", None) or PLAIN


def language_pairs(state: dict[str, Any]) -> list[tuple[str, str]]:
    """Those that a task of many languages was trained on."""
    pairs = getattr(model_arguments(state, "task"), "lang_pairs", None) or []
    pairs = pairs.split(",") if isinstance(pairs, str) else pairs
    return [(pair.partition("-")[0], pair.partition("-")[2]) for pair in pairs]


def check_pair_chosen(state: dict[str, Any], flag: str) -> None:
    """Refuse to guess which of several pairs of languages is meant.

    Args:
        state: a checkpoint.
        flag: how the user says where the data are, which tells how languages are said.

    Raises:
        UsageError: there are several.
    """
    pairs = language_pairs(state)
    if len(pairs) > 1:
        named = ", ".join("-".join(pair) for pair in pairs)
        said = "--source-lang, --target-lang" if flag == "--data" else "source_lang, target_lang"
        raise UsageError(
            f"{said}: not given; expected a pair of languages that the model was trained on: "
            f"{named}"
        )


def extended_by_task(
    state: dict[str, Any], folder: str, source: str, target: str
) -> list[Dictionary] | None:
    """The dictionaries of source and target as the checkpoint's own task makes them.

    None if it is the plain one, or cannot make them of this folder.

    Raises:
        UsageError: a file that the task needs cannot be read.
    """
    name = task_name(state)
    if name == PLAIN:
        return None
    task_arguments = with_task_files(vars(model_arguments(state, "task")), folder)
    languages = {"data": folder, "source_lang": source, "target_lang": target}
    arguments = Namespace(**{**task_arguments, "task": name, **languages})
    logger = logging.getLogger("fairseq")
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)
        task = tasks.setup_task(arguments)
    except OSError as error:
        raise UsageError(
            f"CHECKPOINT: its --task {name} takes '{error.filename}', which cannot be read: "
            f"{error.strerror}"
        ) from None
    except (AssertionError, AttributeError, KeyError, ValueError):
        return None
    finally:
        logger.setLevel(level)
    return [task.source_dictionary, task.target_dictionary]


def with_task_files(task: Mapping[str, Any], folder: str) -> dict[str, Any]:
    """A task's arguments with the files that it reads in the folder of its dictionaries.

    A checkpoint may name any file of this machine, whose words would go into what is passed on: the
    names alone are taken, and looked for where the user keeps this model's dictionaries.

    Args:
        task: arguments of a checkpoint.
        folder: in which the dictionaries were found.

    Raises:
        UsageError: there is no such file there, it is none that ends, or no list of languages.
    """
    found = dict(task)
    for name in (_LANGUAGES, *_ELSEWHERE):
        if not task.get(name):
            continue
        path = found[name] = os.path.join(folder, os.path.basename(task[name]))
        takes = f"CHECKPOINT: its --task {task.get('_name') or task.get('task')} takes"
        if not os.path.isfile(path):
            raise UsageError(
                f"{takes} '{task[name]}', and a file that a checkpoint names is not followed; "
                f"expected '{os.path.basename(task[name])}' beside the dictionaries in '{folder}'"
            )
        if not 0 < os.path.getsize(path) <= _LARGEST:
            raise UsageError(
                f"{takes} '{path}', which has {os.path.getsize(path):,} bytes; "
                f"expected 1 to {_LARGEST:,}"
            )
    if found.get(_LANGUAGES):
        _languages(found[_LANGUAGES])
    return found


def _languages(path: str) -> list[str]:
    """The names of languages in a file, one a line: they go into dictionaries and exports.

    Raises:
        UsageError: a line is none, and is not shown.
    """
    try:
        with open(path, encoding="utf-8") as file:
            found = [line.strip() for line in file if line.strip()]
        languages().read(found)
    except ValueError:
        raise UsageError(
            f"CHECKPOINT: its task takes '{path}' for a list of languages; expected a name such as "
            "de or zh-Hans in every line"
        ) from None
    return found


def arguments_for_export(task: dict[str, Any], folder: str) -> tuple[dict[str, Any], Sequence[str]]:
    """A task's arguments without files that an export does not carry, and its languages.

    What fairseq makes of the pairs of languages is written down: all of them, in alphabetic order.

    Args:
        task: arguments of a checkpoint.
        folder: in which its dictionaries were found.

    Raises:
        UsageError: its dictionaries are none of a language's, or see :func:`with_task_files`.
        OSError: its list of languages cannot be read, which it could a moment before.
    """
    pairs = language_pairs({"cfg": {"task": task}})
    for name in _ELSEWHERE:
        if task.get(name):
            raise UsageError(
                f"CHECKPOINT: was trained with --{name.replace('_', '-')} '{task[name]}', which an "
                "export cannot carry; expected a dict.LANGUAGE.txt of every language"
            )
    task = with_task_files(task, folder)
    if task.get(_LANGUAGES):
        task = {**task, _LANGUAGES: None, "langs": _languages(task[_LANGUAGES])}
    known = sorted({language for pair in pairs for language in pair})
    if known and not task.get("langs"):
        task = {**task, "langs": known}
    return task, known
