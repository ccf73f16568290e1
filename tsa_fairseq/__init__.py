"""Online-distilled machine translation: a fairseq plugin, for ``--user-dir``."""

import os
import sys
from typing import TYPE_CHECKING

from tsa_fairseq.plugin.registration import is_possible, register
from tsa_fairseq.version import __version__

__all__ = ["__version__", "load", "register"]


def _is_command() -> bool:
    """Whether this process is the command ``tsa-fairseq``, under any system, or its module.

    It answers ``tsa-fairseq path`` and the like before torch is imported, which takes seconds, and
    registers what the other subcommands need (:mod:`tsa_fairseq.cli.main`). Taken for another
    program it would only be slow.
    """
    program = sys.argv[0] if sys.argv else ""
    if program == "-m":  # while Python looks for the module that it is to run
        return "tsa_fairseq.cli.main" in sys.orig_argv
    return os.path.splitext(os.path.basename(program))[0] == "tsa-fairseq"


if TYPE_CHECKING:
    from tsa_fairseq.deploy.hub import load
else:  # hidden from the type checker, for which any name would exist otherwise

    def __getattr__(name: str) -> object:
        """``load``, imported when somebody asks for it: a training does not."""
        if name != "load":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from tsa_fairseq.deploy.hub import load

        return load

    def __dir__() -> list[str]:
        """With what is not there yet."""
        return sorted({*globals(), *__all__})


# without fairseq, exports to CTranslate2 translate all the same
if not _is_command() and is_possible():
    register()
