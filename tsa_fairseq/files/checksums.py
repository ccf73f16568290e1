"""Checksums of files; without torch or fairseq."""

import hashlib

from tsa_fairseq.errors import UsageError


def checksum(path: str, flag: str) -> str:
    """SHA-256 of a file that ``flag`` named.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        found = hashlib.sha256()
        with open(path, "rb") as file:
            while block := file.read(2**20):
                found.update(block)
        return found.hexdigest()
    except OSError as error:
        raise UsageError(f"{flag}: '{path}' cannot be read: {error.strerror}") from None
