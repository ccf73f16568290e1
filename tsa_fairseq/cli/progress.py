"""What a subcommand says while it works, and when nobody listens any more."""

import os
import sys

from tsa_fairseq.errors import visible


def progress(text: str) -> None:
    """What is done now, on standard error."""
    print(visible(text), file=sys.stderr)


def nobody_reads() -> None:
    """Forget what is in the buffer of standard output, whose reader has gone: it must not be
    written at the end either.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
