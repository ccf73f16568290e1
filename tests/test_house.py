"""The rooms of the package: who imports whom. Nothing of it is imported here, only read."""

import ast
import shutil
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "tsa_fairseq"

# A room may use itself, those named here, and errors and version. Imports run downwards.
HOUSE = {
    "cli": {
        "__init__",
        "report",
        "evidence",
        "deploy",
        "plugin",
        "loss",
        "objectives",
        "tree",
        "files",
    },
    "__init__": {"deploy", "plugin", "files"},
    "report": {"evidence", "tree", "files"},
    "evidence": {"deploy", "tree", "files"},
    "deploy": {"plugin", "tree", "files"},
    "plugin": {"loss", "objectives", "tree", "files"},
    "loss": {"objectives", "tree"},
    "objectives": set(),
    "tree": set(),
    "files": set(),
    "errors": set(),
    "version": set(),
}
FOR_ALL = {"errors", "version"}
# Sub-folders of a --user-dir that fairseq imports by itself, in any order.
FAIRSEQ_IMPORTS = {"models", "tasks"}


def test_the_house_stands():
    found = problems(PACKAGE, HOUSE)
    assert not found, "\n".join(found)


def test_a_rule_broken_on_purpose(tmp_path):
    """In a copy, in which nodes write files."""
    copy = shutil.copytree(PACKAGE, tmp_path / PACKAGE.name)
    broken = copy / "tree" / "topology.py"
    lines = broken.read_text(encoding="utf-8").splitlines()
    lines += ["def save():", "    from tsa_fairseq.files.whole import save"]
    broken.write_text("\n".join(lines), encoding="utf-8")
    assert set(problems(copy, HOUSE)) - set(problems(PACKAGE, HOUSE)) == {
        f"tsa_fairseq/tree/topology.py:{len(lines)}: tree may not use files, but imports "
        "tsa_fairseq.files.whole"
    }


def problems(package, house):
    """What is wrong with a package whose rooms may use each other as ``house`` says, in lines."""
    modules = read_modules(package)
    imports = {
        name: list(dict.fromkeys(imported(name, path, modules))) for name, path in modules.items()
    }
    return [
        *wrong_folders(package, house),
        *wrong_imports(package, house, modules, imports),
        *cycles({name: {other for other, _ in found} for name, found in imports.items()}),
    ]


def read_modules(package):
    """Every module's file by its name; that of a folder is its ``__init__.py``."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def wrong_folders(package, house):
    folders = [path for path in sorted(package.rglob("*")) if path.is_dir()]
    for folder in folders:
        name, init = folder.relative_to(package.parent), folder / "__init__.py"
        if folder.name == "__pycache__":
            continue
        if folder.name in FAIRSEQ_IMPORTS:
            yield f"{name}: fairseq imports a folder of this name by itself"
        if not init.is_file():
            yield f"{name}: has no __init__.py"
        elif ast.get_docstring(ast.parse(init.read_text(encoding="utf-8"))) is None:
            yield f"{name}/__init__.py: has no docstring, which says what may be known here"
    rooms = {name.split(".")[1] for name in read_modules(package) if "." in name} | {"__init__"}
    for room in sorted(rooms ^ house.keys()):
        yield f"{package.name}: {room} is {'not in the table' if room in rooms else 'not there'}"


def wrong_imports(package, house, modules, imports):
    for name, found in imports.items():
        room = room_of(name)
        for other, line in found:
            if room_of(other) not in house.get(room, set()) | FOR_ALL | {room}:
                file = modules[name].relative_to(package.parent)
                yield f"{file}:{line}: {room} may not use {room_of(other)}, but imports {other}"


def room_of(module):
    return (module.split(".") + ["__init__"])[1]


def imported(name, path, modules):
    """The modules of the package that one of them imports anywhere in its text, with lines.

    Of ``from a import b``, that is ``a.b`` if it is a module, else ``a``.
    """
    here = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            wanted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = here[: len(here) - node.level + 1] if node.level else []
            base = ".".join(above + ([node.module] if node.module else []))
            wanted = [f"{base}.{alias.name}" for alias in node.names]
        else:
            continue
        for target in wanted:
            while target and target not in modules:
                target = target.rpartition(".")[0]
            if target:
                yield target, node.lineno


def cycles(imports):
    """Modules that import each other, directly or through others: for each the shortest way."""
    found = set()
    for start in imports:
        way = shortest_way_back(start, imports)
        first = way.index(min(way)) if way else 0
        found.add(tuple(way[first:] + way[:first]))  # the same circle, wherever one enters it
    for way in sorted(found - {()}):
        yield f"a circle of imports: {' -> '.join([*way, way[0]])}"


def shortest_way_back(start, imports):
    """The modules on it, ``start`` first; none if there is no way."""
    ways, seen = [[start]], set()
    for way in ways:
        for other in sorted(imports[way[-1]]):
            if other == start:
                return way
            if other not in seen:
                seen.add(other)
                ways.append([*way, other])
    return []


# ---- the checker itself, on small packages that break one rule each ------------------------------

SMALL = {"__init__": {"upper"}, "upper": {"lower"}, "lower": set(), "errors": set()}
SOUND = {
    "__init__.py": '"""A package."""\nfrom small.upper.hall import door',
    "errors.py": "",
    "upper/__init__.py": '"""Upstairs."""',
    "upper/hall.py": "import torch\nfrom small.lower.stairs import up\nimport small.errors",
    "upper/room.py": "import small.upper.hall",
    "lower/__init__.py": '"""Downstairs."""',
    "lower/stairs.py": "from . import cellar\nfrom ..errors import Error",
    "lower/cellar.py": "",
}


def build_small(folder, **changed):
    files = {**SOUND, **changed}
    for name, text in files.items():
        path = folder / "small" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text is not None:
            path.write_text(text, encoding="utf-8")
    return folder / "small"


def test_a_sound_package(tmp_path):
    assert problems(build_small(tmp_path), SMALL) == []


@pytest.mark.parametrize(
    ("statement", "line", "module"),
    [
        ("import small.upper.hall", 1, "upper.hall"),
        ("import os, small.upper.hall as hall", 1, "upper.hall"),
        ("from small.upper.hall import door", 1, "upper.hall"),
        ("from small.upper import hall", 1, "upper.hall"),
        ("from small import upper", 1, "upper"),
        ("from ..upper.hall import door", 1, "upper.hall"),
        ("from ..upper.hall import (\n    door,\n    window,\n)", 1, "upper.hall"),
        ("from small.upper import *", 1, "upper"),
        ("x = 1\ndef use():\n    from small.upper import hall", 3, "upper.hall"),
        ("if TYPE_CHECKING:\n    import small.upper.hall", 2, "upper.hall"),
        ("try:\n    pass\nexcept E:\n    import small.upper.no_such", 4, "upper"),
    ],
)
def test_an_import_that_runs_upwards(statement, line, module, tmp_path):
    package = build_small(tmp_path, **{"lower/well.py": statement})
    assert problems(package, SMALL) == [
        f"small/lower/well.py:{line}: lower may not use upper, but imports small.{module}"
    ]


def test_only_who_may_use_the_package_itself_does(tmp_path):
    text = "from small import door"
    package = build_small(tmp_path, **{"lower/cellar.py": text, "errors.py": "import small.lower"})
    assert problems(package, SMALL) == [
        "small/errors.py:1: errors may not use lower, but imports small.lower",
        "small/lower/cellar.py:1: lower may not use __init__, but imports small",
        "a circle of imports: small -> small.upper.hall -> small.lower.stairs -> "
        "small.lower.cellar -> small",
    ]


def test_modules_that_import_each_other(tmp_path):
    package = build_small(tmp_path, **{"upper/hall.py": "def door():\n    from . import room"})
    assert problems(package, SMALL) == [
        "a circle of imports: small.upper.hall -> small.upper.room -> small.upper.hall"
    ]


def test_a_longer_circle_and_one_of_its_own(tmp_path):
    files = {
        "lower/cellar.py": "from small.lower import cask",
        "lower/cask.py": "if TYPE_CHECKING:\n    from .stairs import up",
        "upper/room.py": "import small.upper.room",
    }
    assert problems(build_small(tmp_path, **files), SMALL) == [
        "a circle of imports: small.lower.cask -> small.lower.stairs -> small.lower.cellar -> "
        "small.lower.cask",
        "a circle of imports: small.upper.room -> small.upper.room",
    ]


def test_a_folder_says_what_it_is_for(tmp_path):
    files = {"upper/__init__.py": "x = 1\n'''Not at the beginning.'''", "lower/__init__.py": None}
    assert problems(build_small(tmp_path, **files), SMALL) == [
        "small/lower: has no __init__.py",
        "small/upper/__init__.py: has no docstring, which says what may be known here",
    ]


def test_names_that_fairseq_takes(tmp_path):
    package = build_small(tmp_path, **{"lower/tasks/__init__.py": '"""Chores."""'})
    assert problems(package, SMALL) == [
        "small/lower/tasks: fairseq imports a folder of this name by itself"
    ]


def test_the_table_names_the_rooms_that_there_are(tmp_path):
    package = build_small(tmp_path, **{"attic/__init__.py": '"""Dust."""', "shed.py": ""})
    assert problems(package, {**SMALL, "garage": set()}) == [
        "small: attic is not in the table",
        "small: garage is not there",
        "small: shed is not in the table",
    ]
