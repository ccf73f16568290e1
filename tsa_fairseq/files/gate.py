"""The one gate that what a checkpoint says passes before fairseq, or anything else, sees it.

A new state is made of what is known and checked; nothing is copied. Left behind are unknown fields,
the optimizer, how text was cut into words, and every section of the configuration that nothing is
built from, but for its numbers.
"""

import dataclasses
import os
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from fairseq.dataclass.configs import (
    CheckpointConfig,
    CommonConfig,
    DatasetConfig,
    GenerationConfig,
    OptimizationConfig,
)
from omegaconf import DictConfig, OmegaConf

from tsa_fairseq.files import kinds, known_fields
from tsa_fairseq.files.kinds import Kind
from tsa_fairseq.files.plain import is_plain_text
from tsa_fairseq.files.refused import Refused, shown

# Of the configuration, beside model, task and criterion: their numbers are kept.
_SECTIONS: dict[str, type[Any]] = {
    "common": CommonConfig,
    "dataset": DatasetConfig,
    "optimization": OptimizationConfig,
    "checkpoint": CheckpointConfig,
    "generation": GenerationConfig,
}
_NESTED = ("encoder", "decoder", "quant_noise")
_NUMBER = kinds.number(-1e30, 1e30)
_COUNT = kinds.whole(0, 2**63 - 1)


def checked_state(state: Any) -> dict[str, Any]:
    """A checkpoint's content without its parameters' own check, made anew of what may be in it.

    Args:
        state: what the safe loader gave.

    Raises:
        Refused: something in it is not what fairseq writes; nothing of it was run.
    """
    # not any mapping: a configuration's references would be followed
    if type(state) is not dict or not isinstance(state.get("model"), dict):
        raise Refused("is not a fairseq checkpoint: it holds no 'model'")
    found: dict[str, Any] = {"args": None, "cfg": _configuration(state), "task_state": {}}
    found["model"] = dict(state["model"])
    history = _history(state)
    if history is not None:
        found["optimizer_history"] = history
    extra = _extra(state)
    if extra is not None:
        found["extra_state"] = extra
    # whether there is one is all that anyone asks
    found["last_optimizer_state"] = None if state.get("last_optimizer_state") is None else {}
    return found


def _configuration(state: Mapping[str, Any]) -> dict[str, Any]:
    old = state.get("args")
    if old is not None:
        old = _mapping(old, "args")
        return {"model": _model(_old_positions(old), Namespace), "task": _task(old, dict)}
    cfg = _mapping(_first(state, "cfg", default={}), "cfg")
    # parameters alone are enough to start from
    model = _first(cfg, "model", default=Namespace())
    found: dict[str, Any] = {"model": _model(_mapping(model, "cfg's model"), _like(model))}
    if cfg.get("task") is not None:
        found["task"] = _task(_mapping(cfg["task"], "cfg's task"), _like(cfg["task"]))
    if cfg.get("criterion") is not None:
        found["criterion"] = _criterion(cfg["criterion"])
    for name in _SECTIONS:
        if cfg.get(name) is not None:
            found[name] = _numbers(name, _mapping(cfg[name], f"cfg's {name}"))
    # what they did is done by ours, and what they name is not fetched
    return {**found, "bpe": None, "tokenizer": None}


def _first(given: Mapping[str, Any], *names: str, default: Any) -> Any:
    """The first that is there; whether it is true is not asked, which a tensor does not say."""
    return next((given[name] for name in names if given.get(name) is not None), default)


def _mapping(given: Any, what: str) -> dict[str, Any]:
    """The fields of any layout, read one by one; a reference to elsewhere stays a text."""
    if isinstance(given, DictConfig):
        try:
            given = OmegaConf.to_container(given, resolve=False, throw_on_missing=False)
        except Exception as error:  # its inside may be anything
            raise Refused(f"is not a fairseq checkpoint: its {what} is broken") from error
    if isinstance(given, Namespace):
        given = vars(given)
    if not isinstance(given, Mapping):
        raise Refused(
            f"is not a fairseq checkpoint: its {what} is {shown(given)}; expected named values"
        )
    return {name: value for name, value in given.items() if type(name) is str}


def _like(given: Any) -> type:
    return Namespace if isinstance(given, Namespace) else dict


def _old_positions(old: dict[str, Any]) -> dict[str, Any]:
    """As fairseq upgrades what its first releases wrote."""
    both = old.get("max_positions")
    sides = {f"max_{side}_positions": both for side in ("source", "target")}
    return old if both is None else {**sides, **old}


def _model(given: dict[str, Any], layout: type) -> Any:
    # --arch of a training from the command line; _name of one from configuration files
    kept = {name: given[name] for name in ("arch", "_name") if given.get(name) is not None}
    models = {known_fields.architecture_of(name) for name in kept.values()}
    if None in models or len(models) > 1:
        name = next(iter(kept.values()))
        raise Refused(
            f"is a model of --arch {name if is_plain_text(name) else shown(name)}; expected "
            "a tsa_transformer or fairseq's transformer"
        )
    ours = any(name.startswith(("tree", "kd_")) for name in given)
    fields = known_fields.model_fields(
        next(iter(models), None) or known_fields.MODELS[0 if ours else 1]
    )
    kept.update(_fields(_flat(given), fields))
    return layout(**kept)


def _flat(given: dict[str, Any]) -> dict[str, Any]:
    """With ``encoder: {layers: 3}`` of a configuration file as ``encoder_layers``."""
    flat = {name: value for name, value in given.items() if name not in _NESTED}
    for part in _NESTED:
        if given.get(part) is not None:
            inside = _mapping(given[part], f"model's {part}")
            flat.update({f"{part}_{name}": value for name, value in inside.items()})
    return flat


def _task(given: dict[str, Any], layout: type) -> Any:
    name = _first(given, "_name", "task", default="translation")
    if type(name) is not str or name not in known_fields.TASKS:
        raise Refused(
            f"is of --task {name if is_plain_text(name) else shown(name)}; expected "
            f"{' or '.join(known_fields.TASKS)}"
        )
    data = given.get("data")
    if type(data) is list and data:  # as fairseq's first releases wrote it
        data = data[0]
    if type(data) is str:  # one of many parts has the dictionaries
        given = {**given, "data": data.partition(os.pathsep)[0]}
    kept = {key: name for key in ("_name", "task") if given.get(key) is not None}
    return layout(**(kept or {"_name": name}), **_fields(given, known_fields.task_fields(name)))


def _criterion(given: Any) -> dict[str, Any] | None:
    fields = _mapping(given, "cfg's criterion")
    name = _first(fields, "_name", "criterion", default=None)
    if type(name) is not str or name not in known_fields.CRITERIONS:
        return None
    return {"_name": name, **_fields(fields, known_fields.criterion_fields(name))}


def _fields(given: Mapping[str, Any], known: Mapping[str, Kind]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, kind in known.items():
        if name not in given:
            continue
        value = given[name]
        if value is None:
            found.update({name: None} if kind.optional else {})
            continue
        try:
            found[name] = kind.read(value)
        except kinds.Unfit as inner:
            raise _unfit(inner.name, inner.value, inner.kind) from None
        except (ValueError, OverflowError):
            raise _unfit(name, value, kind) from None
    return found


def _unfit(name: str, value: Any, kind: Kind) -> Refused:
    code = kind.evaluated and type(value) is str
    run = ", which fairseq would run as code" if code else ""
    return Refused(
        f"is refused: its {name} is {shown(value)}{run}; expected {kind.expected}; "
        "nothing of it was run"
    )


def _numbers(section: str, given: dict[str, Any]) -> dict[str, Any]:
    """fairseq's own section, with the numbers and truth values of this one."""
    found: dict[str, Any] = dataclasses.asdict(_SECTIONS[section]())
    for name in found:
        value = given.get(name)
        if type(value) is bool or _fits(_NUMBER, value):
            found[name] = value
    return found


def _history(state: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """The last entry, which is all that is read of it."""
    given = state.get("optimizer_history")
    if given is None:
        return None
    if type(given) is not list or not all(type(one) is dict for one in given):
        raise Refused(
            "is not a fairseq checkpoint: its optimizer_history is "
            f"{shown(given)}; expected a list of what was trained before"
        )
    if not given:
        return []
    last, found = given[-1], {}
    for name in ("criterion_name", "optimizer_name"):
        if is_plain_text(last.get(name)) and last[name].isidentifier():
            found[name] = last[name]
    if "lr_scheduler_state" in last:
        found["lr_scheduler_state"] = _only_numbers(last["lr_scheduler_state"])
    if "num_updates" in last:
        if not _fits(_COUNT, last["num_updates"]):
            raise Refused(
                f"is not a fairseq checkpoint: its num_updates is {shown(last['num_updates'])}; "
                f"expected {_COUNT.expected}"
            )
        found["num_updates"] = int(last["num_updates"])
    return [found]


def _extra(state: Mapping[str, Any]) -> dict[str, Any] | None:
    """How far a training had come."""
    given = state.get("extra_state")
    if given is None:
        return None
    given = _mapping(given, "extra_state")
    found: dict[str, Any] = {}
    if "train_iterator" in given:
        found["train_iterator"] = _only_numbers(given["train_iterator"])
    for name in ("val_loss", "best", "previous_training_time"):
        if name in given:
            found[name] = float(given[name]) if _fits(_NUMBER, given[name]) else None
    return found


def _only_numbers(given: Any) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        return {}
    return {
        name: value
        for name, value in _mapping(given, "history").items()
        if is_plain_text(name) and (type(value) is bool or _fits(_NUMBER, value))
    }


def _fits(kind: Kind, value: Any) -> bool:
    try:
        kind.read(value)
    except (ValueError, OverflowError):
        return False
    return True
