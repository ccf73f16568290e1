"""The models of the study that the repository keeps."""

from pathlib import Path

import pytest

from tsa_fairseq import load

MODELS = Path(__file__).parents[1] / "examples" / "multi30k" / "study" / "models"
SENTENCES = [
    "a man is sleeping on a green sofa .",
    "two girls are playing football in the park .",
]
SOFA = "ein mann schläft auf einem grünen sofa ."


@pytest.mark.parametrize(
    ("name", "football"),
    [
        ("M-plain-s1", "zwei mädchen spielen fußball im park ."),
        ("M-rdrop-s1", "zwei mädchen spielen im park fußball ."),
        ("M-deal-rdrop-s1", "zwei mädchen spielen im park fußball ."),
    ],
)
def test_stored_models_translate(name, football):
    assert load(MODELS / name).translate(SENTENCES, beam=5) == [SOFA, football]


def test_stored_models_are_small_and_listed():
    page = (MODELS.parent / "README.md").read_text(encoding="utf-8")
    for folder in MODELS.iterdir():
        assert sum(file.stat().st_size for file in folder.iterdir()) <= 4_000_000
        assert f"`{folder.name}`" in page
