"""Figures of a suite as rows: CSV, a Markdown table, a plot."""

import contextlib
import csv
import datetime
import importlib.metadata
import logging
import os
import platform
import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

import tsa_fairseq
from bench.measure import Measured

MIB = 2**20


@dataclass(frozen=True)
class Row:
    """One variant of one suite; memory is the peak above the loaded model."""

    suite: str
    setting: str
    variant: str
    seconds: float
    seconds_min: float
    seconds_max: float
    rate: float
    rate_unit: str
    time_ratio: float
    time_ratio_min: float
    time_ratio_max: float
    peak_mib: float | None
    peak_ratio: float | None
    multiply_adds: int
    operations: int
    rounds: int
    device: str
    threads: int
    precision: str
    environment: str
    versions: str
    date: str


def device_name(device: str) -> str:
    """The processor's or the GPU's own name."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def rows(
    suite: str,
    setting: str,
    measured: list[Measured],
    device: str,
    fp16: bool,
    unit: str = "tokens/s",
) -> list[Row]:
    """The figures of every variant, beside those of the first."""
    try:
        fairseq = "fairseq-fixed " + importlib.metadata.version("fairseq-fixed")
    except importlib.metadata.PackageNotFoundError:
        fairseq = "fairseq " + importlib.metadata.version("fairseq")
    settings = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GLIBC_TUNABLES")
    found = []
    for result in measured:
        ratios = result.ratios(measured[0])
        found.append(
            Row(
                suite,
                setting,
                result.case.name,
                round(result.median, 4),
                round(min(result.seconds), 4),
                round(max(result.seconds), 4),
                round(result.rate, 1),
                unit,
                round(statistics.median(ratios), 3),
                round(min(ratios), 3),
                round(max(ratios), 3),
                round(result.peak_bytes / MIB, 1) if result.peak_bytes else None,
                _ratio(result.peak_bytes, measured[0].peak_bytes),
                result.case.multiply_adds,
                result.operations,
                len(result.seconds),
                device_name(device),
                torch.get_num_threads(),
                "fp16" if fp16 else "fp32",
                " ".join(f"{name}={os.environ[name]}" for name in settings if name in os.environ),
                f"Python {platform.python_version()}, torch {torch.__version__}, {fairseq}, "
                f"tsa_fairseq {tsa_fairseq.__version__}",
                datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"),
            )
        )
    return found


def _ratio(part: int, whole: int) -> float | None:
    return round(part / whole, 3) if part and whole else None


def write(folder: Path, found: list[Row]) -> None:
    """Write results.csv, results.md and results.svg, each under a temporary name until complete."""
    with _complete(folder / "results.csv") as path, path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(asdict(found[0])), lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(row) for row in found)
    with _complete(folder / "results.md") as path:
        path.write_text(markdown(found), encoding="utf-8")
    with _complete(folder / "results.svg") as path:
        _plot(path, found)


@contextlib.contextmanager
def _complete(path: Path) -> Iterator[Path]:
    partial = path.with_name(path.name + ".partial")
    yield partial
    partial.replace(path)


def markdown(found: list[Row]) -> str:
    """A table a suite and setting."""
    parts = []
    for suite, setting in dict.fromkeys((row.suite, row.setting) for row in found):
        some = [row for row in found if (row.suite, row.setting) == (suite, setting)]
        base, unit = some[0], some[0].rate_unit
        lines = [
            f"**{suite}**: {setting}",
            "",
            f"| variant | seconds: median (min to max) | {unit} | time / {base.variant} "
            "| peak memory above the loaded model | memory ratio | multiply-adds | operations |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for row in some:
            memory = "– | –"
            if row.peak_mib and row.peak_ratio:
                memory = f"{row.peak_mib:,.0f} MiB | {row.peak_ratio:.2f}"
            cost = row.multiply_adds / base.multiply_adds if base.multiply_adds else 0
            started = f"{row.operations:,}" if row.operations else "–"
            lines.append(
                f"| {row.variant} | {row.seconds:.2f} ({row.seconds_min:.2f} to "
                f"{row.seconds_max:.2f}) | {row.rate:,.0f} | {row.time_ratio:.2f} "
                f"({row.time_ratio_min:.2f} to {row.time_ratio_max:.2f}) | {memory} "
                f"| {f'{cost:.2f} x' if cost else '–'} | {started} |"
            )
        settings = f"; {base.environment}" if base.environment else ""
        lines += [
            "",
            f"{base.rounds} rounds in turn; {base.device}, {base.threads} threads, "
            f"{base.precision}; {base.versions}{settings}; {base.date}. A ratio of times is the "
            "median of the rounds' ratios; peak memory is the largest of all rounds.",
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _plot(path: Path, found: list[Row]) -> None:
    """Time and memory of every variant, as ratios to the first of its suite."""
    import matplotlib

    logging.getLogger("matplotlib").setLevel(logging.WARNING)  # fairseq makes all loggers verbose
    matplotlib.use("Agg")
    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "tsa_fairseq"})
    from matplotlib import pyplot

    groups = list(dict.fromkeys((row.suite, row.setting) for row in found))
    figure, axes = pyplot.subplots(
        len(groups), 1, figsize=(8, 1 + 2.1 * len(groups)), squeeze=False, layout="constrained"
    )
    for axis, group in zip(axes[:, 0], groups, strict=True):
        some = [row for row in found if (row.suite, row.setting) == group]
        places = range(len(some))
        times = [row.time_ratio for row in some]
        spread = [
            [row.time_ratio - row.time_ratio_min for row in some],
            [row.time_ratio_max - row.time_ratio for row in some],
        ]
        axis.barh(
            [p - 0.2 for p in places], times, 0.38, xerr=spread, label="time", color="#33658a"
        )
        if any(row.peak_mib for row in some):
            memory = [row.peak_ratio or 0.0 for row in some]
            axis.barh([p + 0.2 for p in places], memory, 0.38, label="peak memory", color="#f6ae2d")
        axis.set_yticks(list(places), [row.variant for row in some])
        axis.invert_yaxis()
        axis.axvline(1, color="black", linewidth=0.8)
        axis.set_title(f"{group[0]}: {group[1]}", fontsize=9, loc="left")
        axis.set_xlabel(f"relative to {some[0].variant}", fontsize=8)
        axis.legend(fontsize=8)
    figure.savefig(path, format="svg", metadata={"Date": None})
    pyplot.close(figure)
