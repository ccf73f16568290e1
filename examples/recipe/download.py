"""Files from public addresses, or from a copy at hand, held to their checksums.

A download goes on where an earlier one stopped, and gets its name when it is whole and checked.
"""

import hashlib
import http.client
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from recipe.errors import FULL, RecipeError, check_space, say, size, warn
from recipe.progress import Progress, duration

BLOCK = 1 << 20
TIMEOUT = 60
# What a time is said for, before anything is known of the line.
ASSUMED_RATE = 10_000_000
SUMS = "SHA256SUMS"
# What can be done about a download that is not what it should be.
WAY_OUT = "; remove it to have it downloaded again, or give a good copy with --from"


@dataclass(frozen=True)
class Archive:
    """A file that a recipe takes.

    Args:
        name: what it is called here.
        address: where it is.
        size: bytes, if known.
        sums: checksums by algorithm, such as sha256; none if nobody published one.
    """

    name: str
    address: str
    size: int | None = None
    sums: dict[str, str] = field(default_factory=dict)


def announce(archive: Archive) -> str:
    """What a download is: its address, size, time and checksum."""
    if archive.size is None:
        what = "size unknown"
    else:
        what = (
            f"{size(archive.size)}, {duration(archive.size / ASSUMED_RATE)} at "
            f"{size(ASSUMED_RATE)}/s"
        )
    held = ", ".join(archive.sums) or "no checksum is published"
    return f"{archive.address} ({what}; {held})"


def read_sums(path: Path, flag: str = "--sums") -> dict[str, str]:
    """The sha256 of each file name, from a file in the format of `sha256sum`.

    Names without folders and the star of its option -b: under another name a sum is not found.
    """
    sums = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise RecipeError(f"{flag}: {path} cannot be read") from None
    for number, line in enumerate(lines, start=1):
        fields = line.split()
        if len(fields) != 2 or len(fields[0]) != 64:
            raise RecipeError(
                f"{flag}: {path}, line {number}: expected 'SHA256  NAME'; got '{line}'"
            )
        sums[Path(fields[1].removeprefix("*")).name] = fields[0].lower()
    return sums


def checksum(path: Path, algorithm: str = "sha256") -> str:
    """The checksum of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def check(path: Path, archive: Archive, origin: str = "") -> None:
    """Hold a file to the archive's checksums; one without any is let through.

    Raises:
        RecipeError: it is another file.
    """
    for algorithm, expected in archive.sums.items():
        found = checksum(path, algorithm)
        if found != expected:
            raise RecipeError(
                f"{origin or path}: wrong checksum: found {found}, expected {expected}"
            )


def fetch(archive: Archive, folder: Path, flag: str = "--archives") -> Path:
    """The archive in a folder of downloads, where it may be whole, in part, or not at all.

    Args:
        archive: what is wanted.
        folder: of downloads.
        flag: that says where it is.

    Raises:
        RecipeError: it cannot be had, or is another file.
    """
    path, part = folder / archive.name, folder / f"{archive.name}.part"
    if path.is_file():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    say(f"downloading {announce(archive)}")
    try:
        _download(archive, part, flag)
    except (OSError, http.client.HTTPException) as error:
        if getattr(error, "errno", None) in FULL:
            raise
        reason = str(error).removeprefix("<urlopen error ").removesuffix(">")
        raise RecipeError(
            f"cannot download {archive.address}: {reason}{_kept(part)}; "
            "with a copy at hand, use --from"
        ) from None
    try:
        check(part, archive, archive.address)
    except RecipeError:
        part.unlink()  # nothing of it can be gone on from
        raise
    part.rename(path)
    return path


def _download(archive: Archive, part: Path, flag: str) -> None:
    have = part.stat().st_size if part.exists() else 0
    if have and have == archive.size:
        return
    request = urllib.request.Request(archive.address)
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        opened = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if not have or error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        # what is here is the whole, or more than that
        if error.headers.get("Content-Range", "").rpartition("/")[2] != str(have):
            part.unlink()
            _download(archive, part, flag)
        return
    with opened as answer:
        if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
            have = 0  # this server knows no ranges
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else archive.size
        if total is not None:
            check_space(flag, part, total - have)
        if have:
            say(f"{size(have)} of it are here already")
        progress = Progress(f"downloading {archive.name}", total, "bytes", start=have)
        with part.open("ab" if have else "wb") as file:
            while block := answer.read(BLOCK):
                file.write(block)
                progress.add(len(block))
    if total is not None and progress.done != total:
        raise http.client.IncompleteRead(b"", total - progress.done)


def _kept(part: Path) -> str:
    if not part.exists() or not part.stat().st_size:
        return ""
    return f"; {size(part.stat().st_size)} are kept, and the same command goes on from there"


def find_copy(archive: Archive, directory: Path) -> Path:
    """The archive in a copy at hand.

    Raises:
        RecipeError: it is not there.
    """
    path = directory / archive.name
    if not path.is_file():
        raise RecipeError(f"--from: {directory} has no {archive.name}")
    return path


def obtain(archive: Archive, folder: Path, copy: Path | None) -> Path:
    """The archive, checked: from the copy at hand if there is one, else downloaded.

    Of what no checksum is published for, a difference to what :func:`record` wrote is warned of.

    Raises:
        RecipeError: it cannot be had, or is another file.
    """
    path = fetch(archive, folder) if copy is None else find_copy(archive, copy)
    if archive.sums:
        try:
            check(path, archive)
        except RecipeError as error:
            raise RecipeError(f"{error}{'' if copy is not None else WAY_OUT}") from None
        return path
    found = checksum(path)
    if archive.size not in (None, path.stat().st_size):
        warn(f"{path}: has {path.stat().st_size:,} bytes; {archive.size:,} were published in a log")
    earlier = _recorded(folder).get(archive.name, found)
    if earlier != found:
        warn(f"{path}: is not what it was: sha256 {found}, earlier {earlier}")
    say(f"{archive.name}: no checksum is known; sha256 {found}")
    return path


def record(archive: Archive, path: Path, folder: Path) -> None:
    """Write down beside the downloads what an archive without a published checksum has.

    Only once it was unpacked whole: of a file that is cut short every good one would differ.
    """
    if archive.sums or archive.name in _recorded(folder):
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / SUMS).open("a", encoding="utf-8") as file:
        file.write(f"{checksum(path)}  {archive.name}\n")


def _recorded(folder: Path) -> dict[str, str]:
    file = folder / SUMS
    return read_sums(file, SUMS) if file.exists() else {}
