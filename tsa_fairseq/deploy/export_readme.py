"""The short README.md of an export: what it is, and how it is used."""

import shlex
from typing import Any

from tsa_fairseq.files.names import CODES, MODEL, PIECES
from tsa_fairseq.files.text_settings import TextSettings

_NAME = {"fairseq": "fairseq", "ctranslate2": "CTranslate2"}
# The package's extra that brings what is needed.
_EXTRA = {"fairseq": "fairseq", "ctranslate2": "serve"}
_TEXT = """# {source} to {target}

A Transformer for {name}: {what} of `{file}`. It takes `tsa_fairseq[{extra}]`. In this folder:

```bash
tsa-fairseq translate . < in > out
```

From Python:

```python
import tsa_fairseq

translator = tsa_fairseq.load(".")
translator.translate(["..."], beam=5)
translator.score("...", "...")
```
{alone}
{carries} What it was made of, and how text becomes its words: `export.json`.
"""
_ALONE = """
With fairseq alone:

```bash
{command}
```
"""


def readme(to: str, task: str, text: TextSettings, origin: dict[str, Any]) -> str:
    """The text of it.

    Args:
        to: one of :data:`tsa_fairseq.files.names.TARGETS`.
        task: fairseq's name of the model's task.
        text: as stored in the folder.
        origin: what ``export.json`` says.
    """
    leaf = origin["leaf"]
    command = _interactive(text) if (to, task) == ("fairseq", "translation") else None
    return _TEXT.format(
        source=text.source,
        target=text.target,
        name=_NAME[to],
        what="the bridge" if leaf == "bridge" else f"leaf {leaf}",
        file=origin["source"],
        extra=_EXTRA[to],
        carries=_carried(text),
        alone="" if command is None else _ALONE.format(command=command),
    )


def _carried(text: TextSettings) -> str:
    files = [f"`{name}`" for name in (*text.subwords, *text.vocabulary)]
    before = ["tokenised by Moses"] if text.tokenizer == "moses" else []
    before += ["made lower-case"] if text.lowercase else []
    first = f"Text is {' and '.join(before)} first. " if before else ""
    if not files:
        return f"{first}It has no subword model: text is cut into words at spaces."
    return f"{first}Text is cut into words by {' and '.join(files)}."


def _interactive(text: TextSettings) -> str | None:
    """The command of fairseq's that does the same; None if fairseq cannot."""
    if text.lowercase or text.vocabulary or text.subwords not in ((), (PIECES,), (CODES,)):
        return None  # it has one model for both sides, and no vocabulary for it
    words = ["fairseq-interactive", ".", "--path", MODEL["fairseq"]]
    words += ["-s", text.source, "-t", text.target, "--beam", "5"]
    if text.tokenizer is not None:
        words += ["--tokenizer", text.tokenizer]
        words += ["--moses-no-dash-splits"] if text.moses_no_dash_splits else []
        words += ["--moses-no-escape"] if text.moses_no_escape else []
    if text.subwords == (PIECES,):
        words += ["--bpe", "sentencepiece", "--sentencepiece-model", PIECES]
    elif text.subwords == (CODES,):
        words += ["--bpe", "subword_nmt", "--bpe-codes", CODES]
    return shlex.join(words)
