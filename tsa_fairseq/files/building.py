"""What fairseq says of a checkpoint that it cannot build, in one line."""

from collections.abc import Iterator
from contextlib import contextmanager

from tsa_fairseq.errors import UsageError

_LONGEST = 200


@contextmanager
def in_one_line(path: str, flag: str) -> Iterator[None]:
    """Whatever goes wrong while a checkpoint's model is built is said of the checkpoint.

    fairseq asserts and indexes: of a file that contradicts itself nearly any exception may come.

    Args:
        path: the checkpoint's file.
        flag: the option that named it.

    Raises:
        UsageError: something went wrong.
    """
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        raise UsageError(
            f"{flag}: '{path}' does not fit its own arguments: {reason(error)}"
        ) from error


def reason(error: Exception) -> str:
    """The last line of what an exception says, which of torch's and fairseq's tells most."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    last = "".join(c for c in lines[-1] if c.isprintable()) if lines else ""
    if len(last) > _LONGEST:
        last = f"{last[:_LONGEST]} ..."
    known = isinstance(error, (RuntimeError, ValueError, OSError))
    return last if known and last else f"{type(error).__name__}{f': {last}' if last else ''}"
