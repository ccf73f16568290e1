"""One run from its first update to its row: train, average, translate, score, tidy up."""

import shlex
from collections.abc import Generator, Iterator
from pathlib import Path

from studies import checkpoints, command, cost, paired, results, scores
from studies.child import Child, Lock, last_line
from studies.curve import RESUMED, Curve
from studies.errors import RunFailed
from studies.listing import Run, run_id
from studies.place import Place, environment, executable
from studies.records import Begun

AVERAGE = "average.pt"


class Job:
    """A run that is being worked off.

    Args:
        run: what to train.
        begun: its command, commit and device.
        place: the study's folder.
        rows: the file of results.
        lock: of its folder, which its commands hold too.
        kept: whether other runs need its last or its best checkpoint.
    """

    def __init__(
        self, run: Run, begun: Begun, place: Place, rows: Path, lock: Lock, kept: bool
    ) -> None:
        self.run, self.begun, self.place, self.rows, self.kept = run, begun, place, rows, kept
        self.lock = lock
        self.folder = place.run(run.id)
        self.data = place.data(run.protocol.name)
        self.code = place.code(begun.commit)
        words = shlex.split(begun.command)
        updates = int(words[len(words) - words[::-1].index("--max-update")])
        self.curve = Curve(run.protocol.patience, updates)
        self.child: Child | None = None
        self.doing = "training"
        self.last_epoch = 0
        self.work = self._work()

    def advance(self) -> bool:
        """Look at what is going on, and begin what comes next; False when all is done.

        Raises:
            RunFailed: a command failed; the message is what it said last.
        """
        if self.child is not None and not self.child.ended():
            if self.doing == "training":
                self._watch()
            return True
        self.child = next(self.work, None)
        return self.child is not None

    def stop(self) -> None:
        """End what is going on; it goes on from there at another time."""
        if self.child is not None:
            self.child.stop()
        self.lock.release()

    def _work(self) -> Iterator[Child]:
        yield from self._train()
        averaged = min(self.run.protocol.average, len(checkpoints.by_epoch(self.folder)))
        if not (self.folder / AVERAGE).exists():
            yield from self._do("averaging", command.average(self.run, averaged))
        ratio = yield from self._count()
        row = self._facts() | {"averaged": str(averaged), "madds_step": f"{ratio:.2f}"}
        row["madds_total"] = f"{ratio * int(row['updates']) + self._before():.0f}"
        for system in self._systems(row):
            for subset in results.SUBSETS:
                yield from self._translate(system, subset, row)
        results.write_curve(self.rows, self.run.id, self.curve)
        results.append(self.rows, row)
        tidy(self.folder, self.kept)

    def _do(self, what: str, words: list[str], log: Path | None = None) -> Iterator[Child]:
        """A command, to its end."""
        self.doing = what
        log = log or self.folder / "log"
        child = Child(
            executable(words, self.code), self.code, environment(self.code), log, self.lock
        )
        yield child
        if child.status:
            raise RunFailed(_ending(child, log))

    def _train(self) -> Iterator[Child]:
        log = self.folder / "train.log"
        self.curve.read(log)
        while True:
            end = self._end()
            if end is not None:
                break
            last = checkpoints.recover(self.folder, self.curve, self.run.protocol.average)
            with open(log, "a", encoding="utf-8") as file:  # the line before may be torn
                file.write(f"\n{RESUMED}{last}\n")
            self.curve.read(log)
            self.last_epoch = last
            self.doing = "training"
            words = executable(shlex.split(self.begun.command), self.code)
            child = Child(words, self.code, environment(self.code), log, self.lock)
            yield child
            self.curve.read(log)
            if child.status and self._end() is None:
                raise RunFailed(_ending(child, log))
            if not child.status and self._end() is None:
                raise RunFailed(f"it ended without a validation to end at: {last_line(log)}")
        checkpoints.settle(self.folder, self.curve, end)
        checkpoints.prune(self.folder, self.curve, self.run.protocol.average)

    def _end(self) -> int | None:
        """The epoch at which the training ended, once its checkpoint is there."""
        end = self.curve.end()
        if end is None and self.curve.done:
            end = max(self.curve.validated, default=None)
        names = checkpoints.by_epoch(self.folder)
        whole = end in names and checkpoints.readable(self.folder / names[end])
        return end if whole else None

    def _watch(self) -> None:
        """Read the log; end a training that would go on only because it was once interrupted."""
        self.curve.read(self.folder / "train.log")
        newest = max(self.curve.validated, default=0)
        if newest > self.last_epoch:
            self.last_epoch = newest
            checkpoints.prune(self.folder, self.curve, self.run.protocol.average)
        end = self.curve.end()
        # The training's figures of an epoch come after its checkpoint, and last.
        if end is not None and "train_nll_loss" in self.curve.epochs[end] and self.child:
            self.child.stop()

    def _facts(self) -> results.Row:
        curve, best = self.curve, self.curve.best()
        assert best is not None
        end = curve.validated[-1]
        at_best, at_end = curve.epochs[best], curve.epochs[end]
        row = dict.fromkeys(results.COLUMNS, "") | {
            "run": self.run.name,
            "protocol": self.run.protocol.name,
            "stage": str(self.run.stage),
            "seed": str(self.run.seed),
            "command": self.begun.command,
            "commit": self.begun.commit,
            "versions": scores.versions(),
            "device": self.begun.device,
            "updates": str(curve.updates_of(end)),
            "epochs": str(end),
            "ended_by": "limit" if curve.updates_of(end) >= curve.limit else "patience",
            "best_nll": f"{curve.nll(best):g}",
            "best_epoch": str(best),
            "best_updates": str(curve.updates_of(best)),
        }
        for name in ("nll_ensemble", "disagreement", "pairwise_kl"):
            row[name] = _text(at_best.get(name))
        for name in ("nll_ensemble", "disagreement"):
            row[f"last_{name}"] = _text(at_end.get(name))
        leaves = {n: at_best[f"nll_leaf{n}"] for n in range(64) if f"nll_leaf{n}" in at_best}
        if len(leaves) > 1:
            row["best_leaf"] = str(min(leaves, key=lambda leaf: leaves[leaf]))
            row["best_leaf_nll"] = _text(min(leaves.values()))
        return row

    def _systems(self, row: results.Row) -> dict[str, tuple[str, str]]:
        """The checkpoint that each translates with, and how."""
        systems = {"average": (AVERAGE, ""), "best": (checkpoints.BEST, "")}
        if row["best_leaf"]:
            systems["ensemble"] = (AVERAGE, "ensemble")
            systems["leaf"] = (AVERAGE, f"leaf:{row['best_leaf']}")
        return systems

    def _count(self) -> Generator[Child, None, float]:
        """What a step costs beside the plain model's."""
        said = []
        for number, words in enumerate(cost.commands(self.run, self._types())):
            log = self._empty(f"tree.{number}.log")
            yield from self._do("counting", words, log)
            said.append(log.read_text(encoding="utf-8"))
        return cost.ratio(said)

    def _types(self) -> int:
        """Words in the joined dictionary."""
        text = (self.data / "preparation.txt").read_text(encoding="utf-8")
        return int(next(line[6:] for line in text.split("\n") if line.startswith("types=")))

    def _before(self) -> float:
        """What the training cost that this one started from."""
        if not self.run.needs:
            return 0.0
        before = run_id(self.run.needs, self.run.seed)
        rows = {results.id_of(row): row for row in results.read(self.rows)}
        return float(rows[before]["madds_total"])

    def _translate(self, system: str, subset: str, row: results.Row) -> Iterator[Child]:
        checkpoint, inference = self._systems(row)[system]
        if inference == "leaf:0":  # what was translated already
            system_log, inference = "average", ""
        else:
            system_log = system
        log = self.folder / "evaluation" / f"{system_log}.{subset}.log"
        if not log.exists():
            words = command.generate(self.run, checkpoint, subset, inference, self.begun.device)
            partial = self._empty(f"{system}.{subset}.partial")
            yield from self._do(f"translating {subset}, {system}", words, partial)
            partial.rename(log)
        reference = scores.reference_file(self.data, subset)
        lines = scores.hypotheses(log, reference)
        found, signatures = scores.score(lines, reference)
        for metric in results.METRICS:
            row[f"{metric}_{system}_{subset}"] = f"{found[metric]:.4f}"
            row[f"{metric}_signature"] = signatures[metric]
        if (system, subset) in results.KEPT:
            path = results.hypotheses_file(self.rows, self.run.id, system, subset)
            results.write_hypotheses(path, lines)
        if (system, subset) == ("average", "test"):
            counts = paired.count(lines, scores.recipe().read_lines(reference))
            paired.write_statistics(self.rows, self.run.id, counts)

    def _empty(self, name: str) -> Path:
        """A file of the evaluation, without what an interrupted one left in it."""
        path = self.folder / "evaluation" / name
        path.parent.mkdir(exist_ok=True)
        path.unlink(missing_ok=True)
        return path


def tidy(folder: Path, kept: bool) -> None:
    """Free the disk of a finished run's checkpoints, but for their average."""
    checkpoints.keep_only(folder, {checkpoints.LAST, checkpoints.BEST} if kept else set())


def _ending(child: Child, log: Path) -> str:
    said = last_line(log)
    return said if child.status > 0 else f"killed by signal {-child.status}; before: {said}"


def _text(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
