"""Named files out of tar archives, and nothing else: no member decides where it is written."""

import gzip
import shutil
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from recipe.errors import RecipeError
from recipe.progress import Progress

BLOCK = 1 << 20


def unpack(archive: Path, wanted: Mapping[str, Path]) -> None:
    """Append members of a gzipped tar archive to files, in one pass over it.

    The pass goes to the end, where the checksum of gzip is.

    Args:
        archive: the file.
        wanted: by a member's name the file that its bytes are added to.

    Raises:
        RecipeError: a member is missing or no plain file, the archive is cut short or damaged, or
            one of its names leads out of a folder.
    """
    missing = dict(wanted)
    damaged = RecipeError(f"{archive}: not a gzipped tar archive, or one cut short or damaged")
    try:
        with archive.open("rb") as raw, gzip.open(raw) as unzipped:
            _unpack(archive, raw, unzipped, missing)
            while unzipped.read(BLOCK):
                pass
    except (tarfile.TarError, EOFError, zlib.error):
        raise damaged from None
    except OSError as error:
        if error.errno is not None:
            raise  # of the disk
        raise damaged from None  # of gzip
    if missing:
        raise RecipeError(f"{archive}: has no {min(missing)}")


def _unpack(
    archive: Path, raw: BinaryIO, unzipped: gzip.GzipFile, missing: dict[str, Path]
) -> None:
    """What is found is no longer missing; of two members with one name the first counts."""
    progress = Progress(f"unpacking {archive.name}", archive.stat().st_size, "bytes")
    seen = 0
    with tarfile.open(fileobj=unzipped, mode="r|") as tar:
        for member in tar:
            progress.add(raw.tell() - seen)
            seen = raw.tell()
            name = _inside(archive, member.name)
            if name not in missing:
                continue
            content = tar.extractfile(member) if member.isfile() else None
            if content is None:
                raise RecipeError(f"{archive}: {name} is no plain file in it")
            with missing.pop(name).open("ab") as file:
                shutil.copyfileobj(content, file, BLOCK)


def _inside(archive: Path, name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise RecipeError(
            f"{archive}: its member '{name}' leads out of the folder; "
            "it is no archive of this corpus"
        )
    return str(path)
