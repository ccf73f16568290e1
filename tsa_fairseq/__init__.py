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

from tsa_fairseq.deploy.hub import load
from tsa_fairseq.files.checkpoint import allow_fairseq_checkpoints
from tsa_fairseq.plugin import criterion, model

allow_fairseq_checkpoints()

__all__ = ["__version__", "criterion", "load", "model"]
