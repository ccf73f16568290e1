"""The list of runs: a TOML file of protocols (data, flags, limits) and runs (flags, seeds)."""

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomllib

from studies.errors import StudyError

DEVICES = ("any", "cuda")
# What a protocol and a run may say, and the type of each; those with a default may be left out.
PROTOCOL = {"prepare": str, "train": str, "updates": int, "patience": int, "average": int}
PROTOCOL_DEFAULTS: dict[str, Any] = {"patience": 10, "average": 5, "device": "any"}
RUN = {"name": str, "protocol": str, "stage": int, "seeds": list, "flags": str}
RUN_DEFAULTS: dict[str, Any] = {"needs": "", "device": "any"}
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*")


@dataclass(frozen=True)
class Protocol:
    """What runs that are compared with each other have in common.

    Args:
        name: as the runs call it; the folder of its data.
        prepare: flags of prepare.sh.
        train: flags of fairseq-train.
        updates: the most that a run trains.
        patience: a run ends after so many epochs without a better nll of leaf 0.
        average: how many of its best checkpoints are averaged.
        device: ``cuda`` where a CPU would take too long.
    """

    name: str
    prepare: tuple[str, ...]
    train: tuple[str, ...]
    updates: int
    patience: int
    average: int
    device: str


@dataclass(frozen=True)
class Run:
    """One training with one seed.

    Args:
        name: of the line of the list; it stands for flags and protocol.
        stage: the queue's order, before the seed and the place in the list.
        flags: of fairseq-train, after the protocol's.
        needs: the name of a run whose last or best checkpoint this one uses; of the same seed.
    """

    name: str
    protocol: Protocol
    stage: int
    seed: int
    flags: tuple[str, ...]
    needs: str
    device: str

    @property
    def id(self) -> str:
        """The name of its folder and files."""
        return run_id(self.name, self.seed)


def run_id(name: str, seed: int) -> str:
    """What one training is called."""
    return f"{name}-s{seed}"


@dataclass(frozen=True)
class Listing:
    """The whole list, its runs in the order in which they are worked off."""

    protocols: dict[str, Protocol]
    runs: tuple[Run, ...]

    @property
    def names(self) -> list[str]:
        """Of all runs, each once."""
        return list(dict.fromkeys(run.name for run in self.runs))

    def choose(self, names: Iterable[str] | None, flag: str) -> list[Run]:
        """The runs of these names, or ids; all of them if none is given.

        Raises:
            StudyError: there is none of that name.
        """
        if names is None:
            return list(self.runs)
        for name in names:
            if not any(name in (run.name, run.id) for run in self.runs):
                raise StudyError(f"{flag}: got '{name}'; expected some of {', '.join(self.names)}")
        return [run for run in self.runs if {run.name, run.id} & set(names)]

    def needed(self) -> set[str]:
        """The ids of runs that others start from."""
        return {run_id(run.needs, run.seed) for run in self.runs if run.needs}


def read_listing(path: Path) -> Listing:
    """A list of runs.

    Raises:
        StudyError: it cannot be read, or says something that is not understood.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise StudyError(f"LIST: {path} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise StudyError(f"LIST: {path} is no TOML: {error}") from None
    for key in content.keys() - {"protocol", "run"}:
        raise StudyError(f"LIST: {path}: got '{key}'; expected [protocol.NAME] and [[run]]")
    protocols = {
        name: _protocol(path, name, table) for name, table in content.get("protocol", {}).items()
    }
    runs: list[Run] = []
    for number, table in enumerate(content.get("run", []), start=1):
        seeds = _runs(path, number, table, protocols)
        if any(run.name == seeds[0].name for run in runs):
            raise StudyError(f"LIST: {path}: two runs are called '{seeds[0].name}'")
        runs += seeds
    _check_needs(path, runs)
    places = {name: place for place, name in enumerate(dict.fromkeys(run.name for run in runs))}
    runs.sort(key=lambda run: (run.stage, run.seed, places[run.name]))
    return Listing(protocols, tuple(runs))


def _protocol(path: Path, name: str, table: dict[str, Any]) -> Protocol:
    where = f"LIST: {path}: protocol '{name}'"
    said = _checked(where, {**PROTOCOL_DEFAULTS, **table}, {**PROTOCOL, "device": str})
    _check_name(where, name)
    for key in ("updates", "patience", "average"):
        if said[key] < 1:
            raise StudyError(f"{where}: {key}: got {said[key]}; expected 1 or more")
    _check_device(where, said["device"])
    words = {key: _words(where, key, said[key]) for key in ("prepare", "train")}
    return Protocol(name, **{**said, **words})


def _runs(
    path: Path, number: int, table: dict[str, Any], protocols: dict[str, Protocol]
) -> list[Run]:
    where = f"LIST: {path}: run '{table.get('name', f'number {number}')}'"
    types = {**RUN, **dict.fromkeys(RUN_DEFAULTS, str)}
    said = _checked(where, {**RUN_DEFAULTS, **table}, types)
    _check_name(where, said["name"])
    if said["protocol"] not in protocols:
        known = ", ".join(protocols)
        raise StudyError(f"{where}: protocol: got '{said['protocol']}'; expected one of {known}")
    _check_device(where, said["device"])
    seeds = said["seeds"]
    good = bool(seeds) and all(type(seed) is int and seed >= 0 for seed in seeds)
    if not good or len(set(seeds)) < len(seeds):
        raise StudyError(f"{where}: seeds: got {seeds}; expected different whole numbers")
    protocol = protocols[said["protocol"]]
    device = "cuda" if "cuda" in (said["device"], protocol.device) else "any"
    return [
        Run(
            name=said["name"],
            protocol=protocol,
            stage=said["stage"],
            seed=seed,
            flags=_words(where, "flags", said["flags"].replace("{seed}", str(seed))),
            needs=said["needs"],
            device=device,
        )
        for seed in seeds
    ]


def _checked(where: str, said: dict[str, Any], types: dict[str, type]) -> dict[str, Any]:
    for key in said:
        if key not in types:
            raise StudyError(f"{where}: got '{key}'; expected {', '.join(types)}")
    for key, expected in types.items():
        if key not in said:
            raise StudyError(f"{where}: {key} is missing")
        if type(said[key]) is not expected:
            kind = {str: "text", int: "a whole number", list: "a list"}[expected]
            raise StudyError(f"{where}: {key}: got {said[key]!r}; expected {kind}")
    return said


def _words(where: str, key: str, text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise StudyError(f"{where}: {key}: {error}") from None


def _check_name(where: str, name: str) -> None:
    if not NAME.fullmatch(name):
        raise StudyError(f"{where}: expected a name of letters, digits, '.', '+' and '-'")


def _check_device(where: str, device: str) -> None:
    if device not in DEVICES:
        raise StudyError(f"{where}: device: got '{device}'; expected one of {', '.join(DEVICES)}")


def _check_needs(path: Path, runs: list[Run]) -> None:
    ids = {run.id for run in runs}
    for place, run in enumerate(runs):
        if run.needs and run_id(run.needs, run.seed) not in ids:
            raise StudyError(
                f"LIST: {path}: run '{run.name}': needs: there is no run "
                f"'{run.needs}' with seed {run.seed}"
            )
        if run.needs in {later.name for later in runs[place:]}:
            raise StudyError(
                f"LIST: {path}: run '{run.name}': needs: '{run.needs}' must stand before it"
            )
