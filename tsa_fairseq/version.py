"""The one place the version is written; setup.py and the package read it from here."""

__version__ = "1.0.0"
