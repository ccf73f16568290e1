"""``tsa-fairseq path``: where the plugin is."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

import tsa_fairseq


def add_options(parser: ArgumentParser) -> None:
    """It has none."""
    parser.set_defaults(run=plugin_path)


def plugin_path(_: Namespace) -> str:
    """The directory to give to fairseq's ``--user-dir``."""
    return str(Path(tsa_fairseq.__file__).resolve().parent)
