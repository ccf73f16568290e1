"""Serving: an environment with ``tsa_fairseq[serve]`` alone, without torch and fairseq."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from made_up import SOURCES, TARGETS

ROOT = Path(__file__).parents[1]
# What a CTranslate2 folder is translated with, by the command and by load().
ROOMS = [
    *("__init__", "errors", "version", "plugin/__init__", "plugin/registration"),
    *("cli/__init__", "cli/main", "cli/translate", "cli/text_flags"),
    *("deploy/__init__", "deploy/hub", "deploy/hub_ctranslate2", "deploy/translation"),
    *("deploy/search", "files/__init__", "files/text", "files/text_settings", "files/subwords"),
    *("files/names", "files/origin"),
]


def test_what_it_imports_at_once_is_pythons_own():
    """All else is imported when it is needed, and its absence said in one line."""
    found = set()
    for room in ROOMS:
        tree = ast.parse((ROOT / "tsa_fairseq" / f"{room}.py").read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add(str(node.module).split(".")[0])
    assert "tsa_fairseq" in found
    assert found <= sys.stdlib_module_names | {"tsa_fairseq"}


@pytest.mark.slow
def test_an_environment_for_serving_translates(made_up, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    programs = tmp_path / "venv" / "bin"
    install = [programs / "pip", "install", "--quiet", f"{ROOT}[serve]"]
    subprocess.run(install, check=True, cwd=tmp_path)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

    def run(*argv, text=""):
        done = subprocess.run([*map(str, argv)], input=text, capture_output=True, text=True,
                              cwd=tmp_path, env=clean)  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    find = "import importlib.util as u; print(*(n for n in ('torch', 'fairseq') if u.find_spec(n)))"
    assert run(programs / "python", "-c", find) == (0, "\n", "")
    lines = "".join(f"{line}\n" for line in SOURCES)
    expected = "".join(f"{line}\n" for line in TARGETS)
    assert run(programs / "tsa-fairseq", "translate", made_up.ctranslate2, text=lines) == (
        *(0, expected, ""),
    )
    program = (
        f"import tsa_fairseq; print(*tsa_fairseq.load({str(made_up.ctranslate2)!r})"
        f".translate({SOURCES}), sep='\\n')"
    )
    assert run(programs / "python", "-c", program) == (0, expected, "")
    status, _, said = run(programs / "tsa-fairseq", "translate", made_up.path, text=lines)
    assert status == 1 and said.startswith("tsa-fairseq: error: tsa_fairseq needs fairseq, which")
