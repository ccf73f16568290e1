"""Named files out of tar archives, and nothing else: no member decides where it is written."""

import tarfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO

from recipe.errors import RecipeError
from recipe.progress import Progress

BLOCK = 1 << 20


def unpack(archive: Path, wanted: Mapping[str, Path]) -> None:
    """Append members of a gzipped tar archive to files, in one pass over it.

    Args:
        archive: the file.
        wanted: by a member's name the file that its bytes are added to.

    Raises:
        RecipeError: a member is missing or no plain file, the archive is cut short or damaged, or
            one of its names leads out of a folder.
    """
    missing = set(wanted)
    for name, stream in _members(archive, set(wanted)):
        missing.remove(name)
        with wanted[name].open("ab") as file:
            while block := stream.read(BLOCK):
                file.write(block)
        if not missing:
            return
    if missing:
        raise RecipeError(f"{archive}: has no {min(missing)}")


def _members(archive: Path, names: set[str]) -> Iterator[tuple[str, IO[bytes]]]:
    """Name and content of the members that are wanted, each once."""
    progress = Progress(f"unpacking {archive.name}", archive.stat().st_size, "bytes")
    damaged = RecipeError(f"{archive}: not a gzipped tar archive, or one cut short or damaged")
    try:
        with archive.open("rb") as raw, tarfile.open(fileobj=raw, mode="r|gz") as tar:
            seen = 0
            for member in tar:
                progress.add(raw.tell() - seen)
                seen = raw.tell()
                name = _inside(archive, member.name)
                if name not in names:
                    continue
                content = tar.extractfile(member) if member.isfile() else None
                if content is None:
                    raise RecipeError(f"{archive}: {name} is no plain file in it")
                names.remove(name)  # of two with one name the first
                yield name, content
    except (tarfile.TarError, EOFError, zlib.error):
        raise damaged from None
    except OSError as error:
        if error.errno is not None:
            raise  # of the disk
        raise damaged from None  # of gzip


def _inside(archive: Path, name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise RecipeError(
            f"{archive}: its member '{name}' leads out of the folder; "
            "it is no archive of this corpus"
        )
    return str(path)
