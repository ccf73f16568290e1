"""Texts that say of themselves that this program wrote them, and whether they are as it did."""

import hashlib
import os
import re
import stat

# The last line, a comment in HTML and in Markdown.
_LAST = re.compile(r"(.*\n)<!-- tsa-fairseq ([0-9a-f]{64}) -->\n", re.DOTALL)


def signed(text: str) -> str:
    """A text, which ends with a line, and the checksum of it in a last one."""
    return f"{text}<!-- tsa-fairseq {_checksum(text)} -->\n"


def is_signed(path: str) -> bool:
    """Whether a file is such a text, and has not been changed since."""
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return False
        with open(path, encoding="utf-8", newline="") as file:
            found = _LAST.fullmatch(file.read())
    except (OSError, UnicodeDecodeError):
        return False
    return found is not None and found[2] == _checksum(found[1])


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
