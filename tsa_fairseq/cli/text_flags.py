"""Flags that say how raw text becomes the words of a model, of ``export`` and ``translate``."""

from argparse import ArgumentParser, Namespace
from typing import Any

from tsa_fairseq.files.text_settings import TOKENIZERS

_NAMES = ("subwords", "vocabulary", "vocabulary_threshold", "tokenizer")
_SWITCHES = ("moses_no_dash_splits", "moses_no_escape", "lowercase")


def add_text_flags(parser: ArgumentParser) -> None:
    """All of them, and the languages."""
    parser.add_argument(
        "--subwords",
        metavar="FILE",
        nargs="+",
        help="a sentencepiece model or codes of subword-nmt; or two, of source and target",
    )
    parser.add_argument(
        "--vocabulary",
        metavar="FILE",
        nargs="+",
        help="of subword-nmt, the words that it may make, with their counts; or two of them",
    )
    parser.add_argument(
        "--vocabulary-threshold", metavar="N", type=int, help="the least count of such a word"
    )
    parser.add_argument(
        "--tokenizer", metavar="|".join(TOKENIZERS), help="text is tokenised before that"
    )
    parser.add_argument(
        "--moses-no-dash-splits", action="store_true", help="hyphens inside words are left alone"
    )
    parser.add_argument(
        "--moses-no-escape", action="store_true", help="quotes and brackets are not escaped"
    )
    parser.add_argument(
        "--lowercase", action="store_true", help="text is lower-cased before it is cut"
    )
    parser.add_argument("-s", "--source-lang", metavar="LANGUAGE", help="of several, this one")
    parser.add_argument("-t", "--target-lang", metavar="LANGUAGE", help="of several, this one")


def text_options(args: Namespace) -> dict[str, Any]:
    """What was given of them, without the languages; None for what was not."""
    given = {name: getattr(args, name) for name in _NAMES}
    return {**given, **{name: getattr(args, name) or None for name in _SWITCHES}}
