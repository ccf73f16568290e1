"""Trainings that things happen to: on the digits of test_system.py."""

import shutil

import pytest
from test_system import data as digits  # noqa: F401 - a fixture
from test_system import train as train_stock


@pytest.fixture(scope="session")
def stock(digits, tmp_path_factory):  # noqa: F811
    """A plain Transformer's checkpoint, to be taught by."""
    save = tmp_path_factory.mktemp("stock")
    train_stock(
        digits, save, "--arch", "transformer", "--criterion", "label_smoothed_cross_entropy",
        "--max-update", "5", "--dropout", "0",
    )  # fmt: skip
    return shutil.copy(save / "checkpoint_last.pt", save / "teacher.pt")
