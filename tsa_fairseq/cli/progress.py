"""What a subcommand says while it works."""

import sys


def progress(text: str) -> None:
    """What is done now, on standard error."""
    print(text, file=sys.stderr)
