"""Translations that are not there yet, made with the run's own model."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tsa_fairseq.errors import UsageError, plural
from tsa_fairseq.evidence.runs import Run

_FLAGS = {"path": "SYSTEM", "subwords": "--subwords"}


def translate(
    run: Run,
    sources: Sequence[str],
    say: Callable[[str], None],
    options: Mapping[str, Any],
    inference: str | None = None,
) -> list[str]:
    """A line for every source line, with beam search as ``tsa-fairseq translate`` has it.

    Args:
        run: with a checkpoint, or an export.
        sources: raw text; without a subword model beside the checkpoint, its words.
        say: shows progress.
        options: of :func:`tsa_fairseq.load`, by name: how text becomes words.
        inference: ``leaf:N`` or ``ensemble``, of a tree's checkpoint.

    Raises:
        UsageError: the model cannot be loaded, or a sentence is too long for it.
    """
    from tsa_fairseq.deploy.hub import load

    path = run.path if run.is_export else run.checkpoint
    if path is None:
        raise UsageError(f"SYSTEM: '{run.path}' has no checkpoint to translate with")
    how = f" with {inference}" if inference else ""
    say(f"translating {plural(len(sources), 'sentence')} by {path}{how}")
    try:
        return list(load(path, inference, **options).translate(list(sources)))
    except UsageError as error:  # which names an argument of load's; here it was a flag
        name, _, rest = str(error).partition(":")
        raise UsageError(f"{_FLAGS.get(name, name)}:{rest}") from None
