"""Checksums of files; without torch or fairseq."""

import hashlib
import os

from tsa_fairseq.errors import UsageError


def checksum(path: str, flag: str) -> str:
    """SHA-256 of a file that ``flag`` named.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        found = hashlib.sha256()
        with open(path, "rb") as file:
            # of a file of the system that never ends, what it says to be its size
            left = os.fstat(file.fileno()).st_size
            while block := file.read(min(2**20, left)):
                found.update(block)
                left -= len(block)
        return found.hexdigest()
    except OSError as error:
        raise UsageError(f"{flag}: '{path}' cannot be read: {error.strerror}") from None
