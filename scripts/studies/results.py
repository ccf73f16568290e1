"""The rows of finished runs, appended to a CSV file and never rewritten; and files beside it."""

import csv
import fcntl
import gzip
import io
import os
from pathlib import Path

from studies.curve import Curve
from studies.errors import StudyError
from studies.listing import run_id

# Which model translates: the mean of the best checkpoints, the best one, and of a tree's mean also
# all leaves together, and the leaf with the least nll on the validation data.
SYSTEMS = ("average", "best", "ensemble", "leaf")
SUBSETS = ("valid", "test")
METRICS = ("bleu", "chrf")
SCORES = tuple(
    f"{m}_{system}_{subset}" for system in SYSTEMS for subset in SUBSETS for m in METRICS
)
# Whose translations are kept.
KEPT = {("average", "valid"), ("average", "test"), ("best", "test"), ("ensemble", "test")}
COLUMNS = (
    *("run", "protocol", "stage", "seed", "command", "commit", "versions", "device"),
    *("updates", "epochs", "ended_by", "best_nll", "best_epoch", "best_updates"),
    *("nll_ensemble", "disagreement", "pairwise_kl", "last_nll_ensemble", "last_disagreement"),
    *("best_leaf", "best_leaf_nll", "averaged"),
    *SCORES,
    *("bleu_signature", "chrf_signature", "madds_step", "madds_total"),
)
Row = dict[str, str]


def read(path: Path) -> list[Row]:
    """All rows; none if there is no file.

    Raises:
        StudyError: the file does not fit, or its last line is cut short.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"--results: {path} cannot be read: {error}") from None
    if not text:
        return []
    if not text.endswith("\n"):
        number = text.count("\n") + 1
        raise StudyError(
            f"--results: {path}, line {number}: cut short; remove that line, "
            "and its run is evaluated again"
        )
    lines = csv.reader(io.StringIO(text, newline=""))
    if tuple(next(lines)) != COLUMNS:
        raise StudyError(f"--results: {path} has other columns than this study's")
    rows: list[Row] = []
    for fields in lines:
        if len(fields) != len(COLUMNS):
            raise StudyError(
                f"--results: {path}, line {lines.line_num}: got {len(fields)} fields; "
                f"expected {len(COLUMNS)}"
            )
        rows.append(dict(zip(COLUMNS, fields, strict=True)))
    return rows


def append(path: Path, row: Row) -> None:
    """Add one row, which is on the disk when this returns; a full disk leaves the file as it was.

    Raises:
        StudyError: the file does not fit.
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        before = file.seek(0, os.SEEK_END)
        read(path)
        lines = io.StringIO(newline="")
        writer = csv.DictWriter(lines, COLUMNS, lineterminator="\n")
        if not before:
            writer.writeheader()
        writer.writerow(row)
        try:
            file.write(lines.getvalue().encode())
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            os.ftruncate(file.fileno(), before)
            raise


def id_of(row: Row) -> str:
    """The run and seed that a row is of, as its files are called."""
    return run_id(row["run"], int(row["seed"]))


def finished(rows: list[Row]) -> set[str]:
    """The ids of the runs that have a row."""
    return {id_of(row) for row in rows}


def write_whole(path: Path, content: bytes) -> None:
    """A file that is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def hypotheses_file(results: Path, run_id: str, system: str, subset: str) -> Path:
    """Where the translations of one system are kept."""
    return results.parent / "hypotheses" / f"{run_id}.{system}.{subset}.gz"


def write_hypotheses(path: Path, lines: list[str]) -> None:
    """Compressed, the same bytes for the same lines at any time."""
    text = "".join(f"{line}\n" for line in lines).encode()
    write_whole(path, gzip.compress(text, compresslevel=9, mtime=0))


def read_hypotheses(path: Path) -> list[str]:
    """What write_hypotheses wrote.

    Raises:
        StudyError: it cannot be read.
    """
    try:
        return gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")[:-1]
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise StudyError(f"{path} cannot be read: {error}") from None


def write_curve(results: Path, run_id: str, curve: Curve) -> None:
    """What was measured after every epoch."""
    names = list(dict.fromkeys(name for e in curve.validated for name in curve.epochs[e]))
    ours = [name for name in names if not name.startswith("train_")]
    ours += [name for name in names if name.startswith("train_")]
    lines = io.StringIO(newline="")
    writer = csv.DictWriter(lines, ["epoch", *ours], lineterminator="\n")
    writer.writeheader()
    for epoch in curve.validated:
        stats = {name: f"{value:g}" for name, value in curve.epochs[epoch].items()}
        writer.writerow({"epoch": epoch, **stats})
    write_whole(results.parent / "curves" / f"{run_id}.csv", lines.getvalue().encode())
