"""Whether a checkpoint's archive is whole: torch does not verify the checksums that it writes."""

import os
import struct
import zipfile
import zlib

_BLOCK = 2**20
# How torch tells an archive of its own from a file of its early releases.
_BEGINS = b"PK\x03\x04"
# How a file of torch before 1.6 begins: its first pickle is this number.
_BEGAN = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
# The record that says what the others are.
_CONTENTS = "/data.pkl"
# The end of an archive, that of a large one, and what says where the latter is.
_END, _END64 = struct.Struct("<4s4H2LH"), struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")


class Damaged(ValueError):
    """What is wrong with an archive, in words that go on after its name."""


def is_archive(path: str) -> bool:
    """Whether a file is such an archive, whole or not.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        return file.read(len(_BEGINS)) == _BEGINS


def check_not_early(path: str) -> None:
    """Refuse the format of torch before 1.6: what it says of its tensors stands nowhere else.

    Raises:
        Damaged: it is that.
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        if file.read(len(_BEGAN)) == _BEGAN:
            raise Damaged(
                "is in the format of torch before 1.6, which cannot be verified; expected it saved "
                "again by a newer torch, where it is trusted"
            )


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
    _check_end(path)
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            names = [record.filename for record in records]
            if len(set(names)) < len(names):
                raise Damaged("is damaged: its archive has two records of one name")
            for record in records:
                if _is_program(record.filename):
                    raise Damaged("is refused: it is a program of TorchScript's, no checkpoint")
                # what is small in the file and large in memory is not looked into
                if record.compress_type != zipfile.ZIP_STORED:
                    raise Damaged(f"is refused: its record {_short(record)} is compressed")
            if sum(record.file_size for record in records) > os.path.getsize(path):
                raise Damaged("is refused: its archive has records that lie in each other")
            for record in records:
                if not contents_only or record.filename.endswith(_CONTENTS):
                    _check_record(archive, record)
    except (zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        if isinstance(error, Damaged):
            raise
        raise Damaged("is damaged: its archive is not whole, or not of torch's kind") from error


def _check_end(path: str) -> None:
    """Refuse an archive whose table of contents can be looked for in two places.

    Python's reader takes what stands right before the end, torch's what the end refers to: by two
    tables, one archive would be verified and another one read.
    """
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _END64.size - _LOCATOR.size - _END.size))
        end = file.read()
    if len(end) < _END.size or not end.startswith(b"PK\5\6", len(end) - _END.size):
        raise Damaged("is damaged: its archive is not whole, or not of torch's kind")
    _, *disks, records_here, records, length, offset, comment = _END.unpack(end[-_END.size :])
    begins = size - _END.size
    locator = end[-_END.size - _LOCATOR.size : -_END.size]
    if locator.startswith(b"PK\6\7"):
        begins -= _LOCATOR.size + _END64.size
        large = end[: _END64.size]
        if _LOCATOR.unpack(locator)[2] != begins or not large.startswith(b"PK\6\6"):
            raise Damaged("is refused: its archive has two tables of contents")
        found = _END64.unpack(large)[-2:]
        # of a small archive both say the same; of a large one the older record says nothing
        small = [(length, found[0]), (offset, found[1])]
        if any(old not in (new, 2**32 - 1) for old, new in small):
            raise Damaged("is refused: its archive has two tables of contents")
        length, offset = found
    if offset + length != begins or comment or any(disks) or records_here != records:
        raise Damaged("is refused: its archive has two tables of contents")


def _is_program(name: str) -> bool:
    """Whether torch before 2.6 would run an archive for this record, however it is read."""
    inside = name.partition("/")[2]
    return inside == "constants.pkl" or inside.startswith("code/")


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
