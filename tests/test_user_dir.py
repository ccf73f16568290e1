"""``--user-dir tsa_fairseq`` from the clone's root, as fairseq-train takes it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# What fairseq-train does with its command line, in a Python that sees sys.argv[1:] and no clone.
PROGRAM = """
import importlib.util, site, sys
site.sethelper()  # fairseq looks up help(), which -S leaves out
sys.path += sys.argv[1:]
found = importlib.util.find_spec("tsa_fairseq")
print(found and found.origin)
sys.argv = ["fairseq-train", "data-bin", "--user-dir", "tsa_fairseq", "--arch", "tsa_transformer",
            "--criterion", "tsa_online_kd"]
from fairseq import options
args = options.parse_args_and_arch(options.get_training_parser())
print(sys.modules["tsa_fairseq"].__file__, args.tree, args.kd_objective)
"""


def installed_packages():
    """Where this Python has its packages, without the clone."""
    places = [Path(place).resolve() for place in sys.path if place]
    return [place for place in places if place not in (ROOT, ROOT / "tests")]


@pytest.fixture
def elsewhere(tmp_path):
    """Where a copy of the package is, as pip installs one."""
    shutil.copytree(ROOT / "tsa_fairseq", tmp_path / "tsa_fairseq")
    return tmp_path


def fairseq_train(*argv):
    """What is seen of the package beforehand, and what fairseq imports; in the clone's root."""
    # -I: neither the working directory nor PYTHONPATH
    argv = [sys.executable, "-I", *map(str, argv)]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[:2]


PLUGIN = f"{ROOT / 'tsa_fairseq' / '__init__.py'} 4[1[1,1],1[1,1]] tsa"


def test_as_it_is_installed_here():
    assert fairseq_train("-c", PROGRAM)[1] == PLUGIN


def test_installed_elsewhere(elsewhere):
    """The clone's is taken, not the copy's."""
    found = fairseq_train("-S", "-c", PROGRAM, elsewhere, *installed_packages())
    assert found == [str(elsewhere / "tsa_fairseq" / "__init__.py"), PLUGIN]


def test_not_installed():
    """Without site's .pth files, through which an editable installation is found."""
    found = fairseq_train("-S", "-c", PROGRAM, *installed_packages())
    assert found == ["None", PLUGIN]
