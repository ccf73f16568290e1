"""The one exception this package raises for bad input."""


class UsageError(ValueError, SystemExit):
    """A flag, a file or a value that cannot be used, said in one line.

    A ``ValueError`` to Python callers. Uncaught in a command such as ``fairseq-train`` it ends
    the process as ``SystemExit`` does: the message alone on standard error, status 1, no traceback.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        # ValueError comes first in the MRO, so SystemExit's own initialiser, which would set the
        # code that the interpreter prints, never runs.
        self.code = f"error: {message}"
