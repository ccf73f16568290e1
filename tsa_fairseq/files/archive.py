"""Whether a checkpoint's archive is whole: torch does not verify the checksums that it writes."""

import zipfile
import zlib

_BLOCK = 2**20
# How torch tells an archive of its own from a file of its early releases.
_BEGINS = b"PK\x03\x04"
# The record that says what the others are.
_CONTENTS = "/data.pkl"


class Damaged(ValueError):
    """What is wrong with an archive, in words that go on after its name."""


def is_archive(path: str) -> bool:
    """Whether a file is such an archive, whole or not.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        return file.read(len(_BEGINS)) == _BEGINS


def check_archive(path: str, contents_only: bool = False) -> None:
    """Compare what an archive holds with the checksums in it.

    Args:
        path: the file; of :func:`is_archive`.
        contents_only: leave the parameters' own numbers out, for who does not read them.

    Raises:
        Damaged: a record has another checksum, is compressed, which torch's are not, or is there
            twice; or the file ends too early.
        OSError: it cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            names = [record.filename for record in records]
            if len(set(names)) < len(names):
                raise Damaged("is damaged: its archive has two records of one name")
            for record in records:
                # what is small in the file and large in memory is not looked into
                if record.compress_type != zipfile.ZIP_STORED:
                    raise Damaged(f"is refused: its record {_short(record)} is compressed")
                if not contents_only or record.filename.endswith(_CONTENTS):
                    _check_record(archive, record)
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        if isinstance(error, Damaged):
            raise
        raise Damaged("is damaged: its archive is not whole, or not of torch's kind") from error


def _check_record(archive: zipfile.ZipFile, record: zipfile.ZipInfo) -> None:
    try:
        with archive.open(record) as file:  # compares the checksum at the end
            while file.read(_BLOCK):
                pass
    except (zipfile.BadZipFile, EOFError, zlib.error) as error:
        raise Damaged(
            f"is damaged: its record {_short(record)} does not have the checksum that was written "
            "with it"
        ) from error


def _short(record: zipfile.ZipInfo) -> str:
    """A record's name without the folder that all are in."""
    name = record.filename.partition("/")[2] or record.filename
    return f"'{ascii(name[:60])[1:-1]}'"
