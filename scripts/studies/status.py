"""How far each run of a list has come, as a table."""

from studies import results
from studies.child import Lock
from studies.curve import Curve
from studies.errors import StudyError
from studies.listing import Run
from studies.place import head
from studies.queue import Queue

HEADINGS = ("run", "state", "epoch", "updates", "best nll", "words/s", "")


def status(queue: Queue) -> str:
    """One line a run, in the order in which they are worked off."""
    rows = {results.id_of(row): row for row in results.read(queue.rows)}
    try:
        commit = head()
    except StudyError:
        commit = ""
    table = [HEADINGS, *(_line(queue, run, rows, commit) for run in queue.chosen)]
    widths = [max(len(line[column]) for line in table) for column in range(len(HEADINGS))]
    lines = []
    for line in table:
        cells = [
            text.ljust(width) if column in (0, 1, len(HEADINGS) - 1) else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _line(
    queue: Queue, run: Run, rows: dict[str, results.Row], commit: str
) -> tuple[str, str, str, str, str, str, str]:
    if row := rows.get(run.id):
        score = f"BLEU {float(row['bleu_average_test']):.2f}"
        return run.id, "done", row["epochs"], row["updates"], row["best_nll"], "", score
    folder = queue.place.run(run.id)
    curve = Curve(run.protocol.patience, run.protocol.updates)
    curve.read(folder / "train.log")
    best = curve.best()
    figures = (
        str(max(curve.validated, default="")),
        str(curve.updates or ""),
        "" if best is None else f"{curve.nll(best):g}",
    )
    running = _locked(queue, run)
    words = f"{curve.words:,.0f}" if running and curve.words else ""
    obstacle = queue.obstacle(run, set(rows), commit)
    if running:
        return run.id, "running", *figures, words, ""
    if obstacle is not None and obstacle.startswith("failed: "):
        return run.id, "failed", *figures, words, obstacle.removeprefix("failed: ")
    return run.id, "queued", *figures, words, obstacle or ""


def _locked(queue: Queue, run: Run) -> bool:
    folder = queue.place.run(run.id)
    if not (folder / "lock").exists():
        return False
    lock = Lock(folder / "lock")
    free = lock.acquire()
    lock.release()
    return not free
