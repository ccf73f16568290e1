"""Packaging of tsa_fairseq. The configuration of the tools is in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def version() -> str:
    """The version, read as text: importing the package would need torch and fairseq."""
    text = (ROOT / "tsa_fairseq" / "version.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE)
    if found is None:
        raise SystemExit('tsa_fairseq/version.py: has no line __version__ = "X.Y.Z"')
    return found.group(1)


# Older ones, which write beyond the memory of a hostile model's parameters, are refused.
CTRANSLATE2 = ["ctranslate2>=4.8.5"]
# A model file corrupts the memory of older ones (CVE-2026-1260).
SENTENCEPIECE = "sentencepiece>=0.2.1"
# What translates with an export to CTranslate2 needs: neither torch nor fairseq.
SERVE = [*CTRANSLATE2, SENTENCEPIECE, "subword-nmt", "sacremoses"]
TRAIN = ["torch>=2.4", "numpy", "sacrebleu", SENTENCEPIECE]
DEMO = ["Babel", "num2words", *CTRANSLATE2]
MULTI30K = ["subword-nmt", SENTENCEPIECE]
# IWSLT and WMT: text is prepared and scored with these.
RECIPES = [*MULTI30K, "sacremoses", "sacrebleu", "regex"]
BENCHMARK = ["matplotlib"]
# What compare and report take beside Python; of text files and logs, neither torch nor fairseq.
REPORT = ["numpy", "sacrebleu", "scipy", "matplotlib"]

setup(
    name="tsa_fairseq",
    version=version(),
    description="Tree-structured auxiliary online knowledge distillation for fairseq's Transformer",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE"],
    packages=find_packages(include=["tsa_fairseq", "tsa_fairseq.*"]),
    package_data={"tsa_fairseq": ["py.typed", "report/page.css", "report/card.md"]},
    python_requires=">=3.10",
    # None that all need. An environment with fairseq has what training needs.
    install_requires=[],
    extras_require={
        # An extra, not a requirement: fairseq 0.12.2 and a fairseq from source have the same
        # module name, and pip would put this one's files over theirs.
        "fairseq": ["fairseq-fixed==0.12.3.1", *TRAIN, "subword-nmt", "sacremoses"],
        "train": TRAIN,
        "serve": SERVE,
        # sentences of a long text: translate(..., split_sentences=True)
        "split": ["sentencex"],
        "ctranslate2": CTRANSLATE2,
        "demo": DEMO,
        "multi30k": MULTI30K,
        "recipes": RECIPES,
        "benchmark": BENCHMARK,
        "report": REPORT,
        "dev": ["pytest", "ruff", "mypy", "tensorboardX", "sentencex", *TRAIN, *SERVE, *DEMO]
        + [*RECIPES, *BENCHMARK, *REPORT],
    },
    entry_points={"console_scripts": ["tsa-fairseq = tsa_fairseq.cli.main:main"]},
    classifiers=[
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
