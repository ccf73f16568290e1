"""Works off the queue: so many runs at a time, for so many hours, each to its row."""

import errno
import shlex
import shutil
import signal
import time
from pathlib import Path
from types import FrameType

from studies import checkpoints, command, paired, place, results, scores
from studies.child import Child, Lock
from studies.errors import RunFailed, StudyError
from studies.job import Job, tidy
from studies.listing import Protocol, Run
from studies.queue import Queue
from studies.records import Begun, Failure

POLL_SECONDS = 2.0
LOCK_TRIES = 50
# A training writes a checkpoint beside those that it replaces.
LEAST_FREE_BYTES = 500 * 2**20


class Runner:
    """One call of ``study.py run``.

    Args:
        queue: what is to be done.
        jobs: at a time.
        hours: after which it stops; what is not done goes on at the next call.
        corpus: a copy of Multi30k at hand; None to download it.
        poll: seconds between two looks at what is going on.
    """

    def __init__(
        self,
        queue: Queue,
        jobs: int,
        hours: float,
        corpus: Path | None,
        poll: float = POLL_SECONDS,
    ) -> None:
        self.queue, self.jobs, self.corpus, self.poll = queue, jobs, corpus, poll
        self.deadline = time.monotonic() + hours * 3600
        self.place = queue.place
        self.active: dict[str, Job] = {}
        self.told: dict[str, tuple[str, int]] = {}
        self.prepared: set[str] = set()
        self.device = queue.device

    def work(self) -> str:
        """Until all is done, nothing more can begin, or the hours are over; says which.

        Raises:
            StudyError: nothing can go on: no corpus, a full disk, a file of results that does not
                fit, another call at work in the same folder.
        """
        self.place.folder.mkdir(parents=True, exist_ok=True)
        lock = Lock(self.place.folder / "lock")
        if not lock.acquire():
            raise StudyError(f"--out: {self.place.folder} is in use by another call")
        before = signal.signal(signal.SIGTERM, _interrupt)
        try:
            self.queue.check()
            self.device = place.device_name(self.queue.device)
            self._tidy()
            return self._loop()
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            raise StudyError(self._full()) from None
        finally:
            for job in self.active.values():
                job.stop()
            signal.signal(signal.SIGTERM, before)
            lock.release()

    def _loop(self) -> str:
        while time.monotonic() < self.deadline:
            self._fill()
            if not self.active:
                return "nothing is left that can begin now"
            for run_id, job in list(self.active.items()):
                self._look_at(run_id, job)
            time.sleep(self.poll)
        going_on = ", ".join(self.active)
        return f"the hours are over; the next call goes on with {going_on}"

    def _fill(self) -> None:
        """Begin what there is room for."""
        while len(self.active) < self.jobs:
            commit = place.head()
            run = self.queue.next(set(self.active), commit)
            if run is None:
                return
            if shutil.disk_usage(self.place.folder).free < LEAST_FREE_BYTES:
                raise StudyError(self._full())
            self._begin(run, commit)

    def _begin(self, run: Run, commit: str) -> None:
        folder = self.place.run(run.id)
        folder.mkdir(parents=True, exist_ok=True)
        lock = Lock(folder / "lock")
        if not _acquire(lock):
            raise StudyError(f"--out: {folder} is in use by a process of another call")
        begun = Begun.read(folder)
        if begun is None or not self.queue.has_trained(run):
            # Nothing is lost, and its commit or flags may be old.
            _empty(folder)
            words = command.train(run, self.queue.device)
            begun = Begun(shlex.join(words), commit, self.device)
            begun.write(folder)
        (folder / Failure.FILE).unlink(missing_ok=True)
        self.queue.retry.discard(run.id)
        kept = run.id in self.queue.listing.needed()
        job = Job(run, begun, self.place, self.queue.rows, lock, kept)
        self.active[run.id] = job  # from now on it is stopped with the others
        self._prepare(run.protocol, job.code)
        say(f"{run.id}: begins, commit {begun.commit[:10]}")

    def _look_at(self, run_id: str, job: Job) -> None:
        try:
            going_on = job.advance()
        except RunFailed as error:
            self._full_or(job, str(error))
            return
        self._tell(run_id, job)
        if not going_on:
            job.lock.release()
            del self.active[run_id]
            best = job.curve.best()
            assert best is not None
            say(f"{run_id}: done; best nll {job.curve.nll(best):g} at epoch {best}; row added")

    def _full_or(self, job: Job, message: str) -> None:
        """A run failed: by itself, or as any would because the disk is full."""
        free = shutil.disk_usage(self.place.folder).free
        if free < LEAST_FREE_BYTES or "No space left on device" in message:
            raise StudyError(self._full())
        job.stop()
        del self.active[job.run.id]
        Failure(message, place.head()).write(job.folder)
        say(f"{job.run.id}: failed: {message}")

    def _full(self) -> str:
        free = shutil.disk_usage(self.place.folder).free // 2**20
        return (
            f"--out: the disk of {self.place.folder} is full ({free} MiB are free, "
            f"{LEAST_FREE_BYTES // 2**20} wanted); nothing is lost: free some of it, and call again"
        )

    def _tell(self, run_id: str, job: Job) -> None:
        """A line for the newest epoch, and for every other thing that is begun."""
        curve, best = job.curve, job.curve.best()
        epoch = max(curve.validated, default=0)
        doing_before, epoch_before = self.told.get(run_id, ("training", 0))
        self.told[run_id] = (job.doing, epoch)
        if best is not None and epoch != epoch_before:
            say(
                f"{run_id}: epoch {epoch}, {curve.updates_of(epoch)} updates, "
                f"nll {curve.nll(epoch):g} (best {curve.nll(best):g} at {best}), "
                f"{curve.words:,.0f} words/s"
            )
        if job.doing != doing_before:
            say(f"{run_id}: {job.doing}")

    def _prepare(self, protocol: Protocol, code: Path) -> None:
        """The protocol's data, by the snapshot's prepare.sh."""
        if protocol.name in self.prepared:
            return
        say(f"preparing the data of protocol {protocol.name}")
        words = ["bash", "examples/multi30k/prepare.sh", "--out", command.data(protocol)]
        words += [*protocol.prepare, *(["--from", str(self.corpus)] if self.corpus else [])]
        log = self.place.folder / "prepare.log"
        log.unlink(missing_ok=True)
        lock = Lock(self.place.folder / "prepare.lock")
        lock.acquire()
        child = Child(words, code, place.environment(code), log, lock)
        try:
            while not child.ended():
                time.sleep(0.1)
        finally:
            child.stop()
            lock.release()
        if child.status:
            said = log.read_text(encoding="utf-8", errors="replace").strip().split("\n")[-1]
            raise StudyError(f"protocol '{protocol.name}': {said.removeprefix('error: ')}")
        self.prepared.add(protocol.name)

    def _tidy(self) -> None:
        """Of finished runs: checkpoints that a killed call left, counts that are missing."""
        rows = self.queue.rows
        done = results.finished(results.read(rows))
        for run in (run for run in self.queue.listing.runs if run.id in done):
            folder, data = self.place.run(run.id), self.place.data(run.protocol.name)
            if folder.exists() and checkpoints.by_epoch(folder):
                tidy(folder, run.id in self.queue.listing.needed())
            reference = scores.reference_file(data, "test")
            translated = results.hypotheses_file(rows, run.id, "average", "test")
            if not paired.statistics_file(rows, run.id).exists() and reference.exists():
                lines = results.read_hypotheses(translated)
                counts = paired.count(lines, scores.recipe().read_lines(reference))
                paired.write_statistics(rows, run.id, counts)


def say(text: str) -> None:
    """A line of progress, with the time."""
    print(f"{time.strftime('%d %H:%M:%S')}  {text}", flush=True)


def _empty(folder: Path) -> None:
    """Of everything but the lock, which is held."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "lock":
            path.unlink()


def _acquire(lock: Lock) -> bool:
    """With some patience: a killed call's process takes a moment to die, and status looks in."""
    for _ in range(LOCK_TRIES):
        if lock.acquire():
            return True
        time.sleep(0.1)
    return False


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
