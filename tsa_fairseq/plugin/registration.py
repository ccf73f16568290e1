"""Registering with fairseq, which is done when it is there, or asked for when it is needed."""

from importlib.util import find_spec


def is_possible() -> bool:
    """Whether fairseq and torch are installed; a CTranslate2 export needs neither."""
    return find_spec("fairseq") is not None and find_spec("torch") is not None


def register() -> None:
    """Tell fairseq of model and criterion, and torch's safe loader of what checkpoints hold.

    Raises:
        ModuleNotFoundError: fairseq is missing; it says what to install.
    """
    try:
        import fairseq  # noqa: F401 - to say in one line what is missing
    except ModuleNotFoundError as error:
        if error.name != "fairseq":
            raise
        raise ModuleNotFoundError(
            "tsa_fairseq needs fairseq, which is not installed: "
            "pip install 'fairseq-fixed==0.12.3.1'",
            name="fairseq",
        ) from None

    from tsa_fairseq.files.checkpoint import allow_fairseq_checkpoints
    from tsa_fairseq.plugin import criterion, model  # noqa: F401 - they register themselves

    allow_fairseq_checkpoints()
