"""Registering with fairseq, which is done when it is there, or asked for when it is needed."""

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

INSTALL = "pip install 'fairseq-fixed==0.12.3.1'"


def is_possible() -> bool:
    """Whether fairseq and torch are installed; a CTranslate2 export needs neither."""
    return find_spec("fairseq") is not None and find_spec("torch") is not None


def register() -> None:
    """Tell fairseq of model and criterion, and torch's safe loader of what checkpoints hold.

    Raises:
        ModuleNotFoundError: fairseq is missing; it says what to install.
        ImportError: it is fairseq 0.12.2, or another that stands on an omegaconf as old.
    """
    try:
        import fairseq  # noqa: F401 - to say in one line what is missing
    except ModuleNotFoundError as error:
        if error.name != "fairseq":
            raise
        raise ModuleNotFoundError(
            f"tsa_fairseq needs fairseq, which is not installed: {INSTALL}", name="fairseq"
        ) from None
    _check_omegaconf()

    from tsa_fairseq.files.checkpoint import allow_fairseq_checkpoints
    from tsa_fairseq.plugin import architectures, criterion  # noqa: F401 - they register

    allow_fairseq_checkpoints()


def _check_omegaconf() -> None:
    """fairseq's own version does not tell: that of its main branch is its last release's."""
    try:
        found = version("omegaconf")
    except PackageNotFoundError:  # it was imported, from wherever it is
        return
    if found.startswith(("1.", "2.0.")):
        raise ImportError(
            f"tsa_fairseq: got omegaconf {found}, as of fairseq 0.12.2, which does not translate "
            f"with torch 2.4 or newer; expected omegaconf 2.1 or newer, in another environment: "
            f"{INSTALL}"
        )
