"""What others need to get the same: commands, versions, seeds, checksums."""

import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from tsa_fairseq.evidence.comparison import Comparison
from tsa_fairseq.evidence.formats import EMPTY, Cell, Table, words
from tsa_fairseq.evidence.systems import Seed, System
from tsa_fairseq.files.checksums import checksum
from tsa_fairseq.version import __version__

# By the names that pip knows; fairseq goes by two.
PACKAGES = ("torch", "fairseq", "fairseq-fixed", "sacrebleu", "numpy", "scipy", "matplotlib")
# What of fairseq-train's flags says most of a training.
FLAGS = (
    *("arch", "tree", "tree_peers", "tree_init_peers", "criterion", "kd_objective", "kd_alpha"),
    *("kd_views", "kd_views_leaves", "kd_view_cut", "kd_temperature", "kd_rampup_updates"),
    *("kd_detach_targets", "kd_teacher"),
    *("label_smoothing", "dropout", "optimizer", "lr", "warmup_updates", "clip_norm"),
    *("max_tokens", "update_freq", "max_update", "patience", "seed", "data"),
)


def versions() -> dict[str, str]:
    """Of what made the page."""
    found = {"tsa_fairseq": __version__, "Python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def files(systems: Sequence[System], found: Comparison | None) -> Table:
    """Every file that was read, with its SHA-256."""
    named: list[tuple[str, str]] = []
    for system in systems:
        for seed in system.seeds:
            label = _label(system, seed)
            run = seed.run
            candidates = [
                ("translations", seed.file),
                ("log", run.log.path if run is not None and run.log is not None else None),
                ("checkpoint", run.checkpoint if run is not None else None),
            ]
            named += [(f"{label}: {what}", path) for what, path in candidates if path]
    if found is not None:
        named += [(f"reference {n}", path) for n, path in enumerate(found.test.names, 1)]
    rows = tuple((words(label), words(path), words(_sum(path))) for label, path in named)
    return Table("files", "Files", ("what", "file", "SHA-256"), rows)


def recipes(systems: Sequence[System]) -> Table | None:
    """The flags of each training that its log has; None if none has."""
    named = [
        (_label(system, seed), seed.run.log.config)
        for system in systems
        for seed in system.seeds
        if seed.run is not None and seed.run.log is not None and seed.run.log.config
    ]
    if not named:
        return None
    flags = [flag for flag in FLAGS if any(c.get(flag) is not None for _, c in named)]
    rows = tuple(
        (words(f"--{flag.replace('_', '-')}"), *(_setting(c.get(flag)) for _, c in named))
        for flag in flags
    )
    return Table(
        "recipes", "How they were trained", ("flag", *(label for label, _ in named)), rows,
        "As each log has them; what was left to a default of the objective is not shown.",
    )  # fmt: skip


def _setting(value: object) -> Cell:
    if value is None:
        return words(EMPTY)
    if isinstance(value, list):
        return words(",".join(map(str, value)))
    return words(str(value))


def _label(system: System, seed: Seed) -> str:
    if len(system.seeds) == 1:
        return system.name
    return f"{system.name}, {system.seeds.index(seed) + 1}"


def _sum(path: str) -> str:
    try:
        return checksum(path, "RUN")
    except ValueError:  # a folder of events, or references that were printed
        return EMPTY
