"""Text files of one sentence a line, compressed or not."""

import gzip
import zlib
from pathlib import Path

from tsa_fairseq.errors import UsageError
from tsa_fairseq.files.names import check_exists

_GZIP = b"\x1f\x8b"


def read_lines(path: str, flag: str) -> list[str]:
    """The lines of a UTF-8 text, which only a newline ends; of a gzip file, what is in it.

    Raises:
        UsageError: there is no such file, it is empty, or it is no text.
    """
    check_exists(path, flag)
    text = decode(read_bytes(path, flag), path, flag)
    if not text.strip():
        raise UsageError(f"{flag}: '{path}' is empty; expected a sentence a line")
    return text.removesuffix("\n").replace("\r\n", "\n").split("\n")


def read_bytes(path: str, flag: str) -> bytes:
    """What is in a file, unpacked if it is compressed.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        content = Path(path).read_bytes()
        return gzip.decompress(content) if content.startswith(_GZIP) else content
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{flag}: '{path}' cannot be read: {error}") from None


def decode(content: bytes, path: str, flag: str) -> str:
    """A file's content as text.

    Raises:
        UsageError: it is not UTF-8, or has zero bytes, as only a binary file does.
    """
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UsageError(
            f"{flag}: '{path}' is no text: line {line} is not UTF-8: {error.reason}"
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise UsageError(f"{flag}: '{path}' is no text: line {line} has a zero byte")
    return text
