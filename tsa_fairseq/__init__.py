"""Online-distilled machine translation: a fairseq plugin, for ``--user-dir``."""

from tsa_fairseq.version import __version__

try:
    import fairseq  # noqa: F401 - to say in one line what is missing
except ModuleNotFoundError as error:
    if error.name != "fairseq":
        raise
    raise ModuleNotFoundError(
        "tsa_fairseq needs fairseq, which is not installed: pip install 'fairseq-fixed==0.12.3.1'",
        name="fairseq",
    ) from None

from tsa_fairseq import criterion, model
from tsa_fairseq.checkpoint import allow_fairseq_checkpoints
from tsa_fairseq.hub import load

allow_fairseq_checkpoints()

__all__ = ["__version__", "criterion", "load", "model"]
