"""What --dry-run says: what would be downloaded, done and written, with time and disk."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass

from recipe.download import Archive, announce
from recipe.errors import existing, size
from recipe.job import Job
from recipe.progress import duration


@dataclass(frozen=True)
class Work:
    """A step.

    Args:
        name: of its folder.
        what: is done.
        seconds: it takes on one core; see the README for what was measured.
        parallel: whether more cores make it faster.
    """

    name: str
    what: str
    seconds: float
    parallel: bool


def describe(job: Job, archives: Sequence[Archive], works: Sequence[Work]) -> str:
    """The plan, as text."""
    lines = ["archives:"]
    for archive in archives:
        place = (job.copy or job.archives) / archive.name
        if place.is_file():
            lines.append(f"  {archive.name}: {place}, {size(place.stat().st_size)}")
        elif job.unpacked:
            lines.append(f"  {archive.name}: not needed: unpacked by an earlier run")
        elif job.copy is not None:
            lines.append(f"  {archive.name}: MISSING in {job.copy}")
        else:
            lines.append(f"  {archive.name}: {announce(archive)}")
    lines.append(f"steps ({job.workers} processes; estimated):")
    total = 0.0
    for work in works:
        seconds = work.seconds / (job.workers if work.parallel else 1)
        done = not job.anew and job.steps.path(work.name).is_dir()
        total += 0 if done else seconds
        left = "done by an earlier run" if done else duration(seconds)
        lines.append(f"  {work.name}: {work.what}: {left}")
    free = shutil.disk_usage(existing(job.work)).free
    packed = sum(map(job.size, archives))
    most = size(job.growth * packed)
    lines += [
        f"time: {duration(total)} beside downloads",
        f"disk: {size(packed)} of archives in {job.copy or job.archives}, about {most} beside them "
        f"at most; {size(free)} are free",
    ]
    return "\n".join(lines)
