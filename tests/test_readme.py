"""Every command that the documentation prints must be one that its program accepts."""

import argparse
import ast
import inspect
import itertools
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import fairseq
import pytest
import torch
from fairseq import options

import tsa_fairseq
from tsa_fairseq.cli.main import build_parser
from tsa_fairseq.deploy.hub_fairseq import OPTIONS

ROOT = Path(__file__).parent.parent
TRAINING = "docs/training.md"
# Not those that programs write: results of benchmarks.
DOCUMENTS = [
    str(path.relative_to(ROOT))
    for pattern in ("*.md", "docs/*.md", "docs/benchmark/*.md", "examples/**/README.md")
    for path in sorted(ROOT.glob(pattern))
    if path.name != "results.md"
]


def commands(document):
    """The commands in a document's bash blocks, as lists of words."""
    text = (ROOT / document).read_text(encoding="utf-8")
    found = []
    for block in re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words and (words[0] == "export" or re.match(r"[A-Z_]+=", words[0])):
                words = words[1:]  # settings of the environment
            for _, piped in itertools.groupby(words, lambda word: word == "|"):
                one = [*itertools.takewhile(lambda word: word not in "<>", piped)]
                if one and one != ["|"]:
                    found.append([one[0].removeprefix(".venv/bin/"), *one[1:]])
    return found


ALL = [(document, words) for document in DOCUMENTS for words in commands(document)]


def of(program):
    found = [words[1:] for _, words in ALL if words[0] == program]
    return pytest.mark.parametrize("argv", found, ids=[" ".join(argv)[:40] for argv in found])


def test_commands_are_found():
    programs = {words[0] for _, words in ALL}
    assert programs == {"bash", "echo", "pip", "python", "tsa-fairseq"} | {
        f"fairseq-{name}" for name in ("preprocess", "train", "generate", "hydra-train")
    }
    assert len(ALL) >= 40


@of("fairseq-train")
def test_fairseq_train(argv, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: "--fp16" in argv)
    args = options.parse_args_and_arch(options.get_training_parser(), plugin_loaded(argv))
    assert args.criterion == "tsa_online_kd"
    assert args.tree
    assert args.required_batch_size_multiple == 1


@of("fairseq-preprocess")
def test_fairseq_preprocess(argv):
    assert options.get_preprocessing_parser().parse_args(argv).destdir == "data-bin"


@of("fairseq-hydra-train")
def test_fairseq_hydra_train(argv):
    """What it makes of them is tested in faults/test_hydra.py."""
    folder = argv[argv.index("--config-dir") + 1].removeprefix("$PWD/")
    assert (ROOT / folder / f"{argv[argv.index('--config-name') + 1]}.yaml").is_file()


@of("fairseq-generate")
def test_fairseq_generate(argv):
    args = options.parse_args_and_arch(options.get_generation_parser(), plugin_loaded(argv))
    assert args.beam == 5
    assert args.required_batch_size_multiple == 1


EVERY_SENTENCE = re.compile("--required-batch-size-multiple[\"', ]+1\\b")
BATCHES = "fairseq-(?:train|generate|validate)"


def test_no_printed_command_leaves_sentences_out():
    """Within a sentence of a document; those in blocks are parsed above."""
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in DOCUMENTS]
    found = re.findall(rf"`({BATCHES} [^`-][^`]*)`", "".join(texts))
    assert found
    for command in found:
        assert EVERY_SENTENCE.search(command), command


def test_no_recipe_leaves_sentences_out():
    """Flags may stand in an array of the script's, or of one beside it."""
    found = []
    for script in sorted((ROOT / "examples").rglob("*.sh")):
        text = script.read_text(encoding="utf-8")
        beside = "".join(one.read_text(encoding="utf-8") for one in script.parent.glob("*.sh"))
        one = rf'^ *\w+=\({BATCHES} "[\s\S]*?\)$|^.*{BATCHES} ".*$'  # or an array that is one
        for command in re.findall(one, text.replace("\\\n", " "), re.MULTILINE):
            arrays = re.findall(r"\$\{(\w+)\[@\]\}", command)
            set_to = [re.findall(rf"^ *{name}=\((.*?)\)$", beside, re.M | re.S) for name in arrays]
            assert EVERY_SENTENCE.search(" ".join([command, *sum(set_to, [])])), command
            found.append((script.name, re.search(BATCHES, command).group()))
    assert found == [
        ("stages.sh", "fairseq-train"),
        ("stages.sh", "fairseq-generate"),
        ("train.sh", "fairseq-train"),
        # that of training.sh is parsed in test_recipe_train.py
        ("translating.sh", "fairseq-generate"),
    ]


def test_no_script_leaves_sentences_out():
    found = []
    for script in sorted((ROOT / "scripts").rglob("*.py")):
        text = script.read_text(encoding="utf-8")
        if re.search(r'"--(max-tokens|batch-size)"', text):
            assert EVERY_SENTENCE.search(text), script
            found.append(script.name)
    assert found == ["decode.py", "step.py", "command.py"]


def plugin_loaded(argv):
    """Without --user-dir, which is relative to the clone's root; the plugin is imported here."""
    where = argv.index("--user-dir")
    assert argv[where + 1] in ("tsa_fairseq", "$(tsa-fairseq path)")
    return argv[:where] + argv[where + 2 :]


@of("tsa-fairseq")
def test_tsa_fairseq(argv):
    assert build_parser(argv).parse_args(argv).run


@of("bash")
def test_scripts_exist_and_know_their_flags(argv):
    script, *flags = argv
    assert (ROOT / script).is_file()
    own = flags[: flags.index("--")] if "--" in flags else flags
    done = subprocess.run(
        ["bash", script, "--help"], capture_output=True, text=True, cwd=ROOT, check=True
    )
    for flag in own:
        if flag.startswith("--"):
            assert re.search(rf"{flag}\b", done.stdout)


@of("python")
def test_python_scripts_know_their_flags(argv):
    script, suite, *flags = argv
    done = subprocess.run(
        [sys.executable, script, suite, "--help"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0
    assert all(flag in done.stdout for flag in flags if flag.startswith("--"))


@of("pip")
def test_pip_installs_from_the_clone(argv):
    assert argv[0] == "install"
    extras = re.fullmatch(r"\.(\[(\w+)\])?", argv[-1])
    assert extras, argv
    if extras.group(2):
        assert f'"{extras.group(2)}"' in (ROOT / "setup.py").read_text(encoding="utf-8")


def test_python_calls_fit_the_functions():
    """Arguments of tsa_fairseq.load and of translate."""
    text = "".join((ROOT / name).read_text(encoding="utf-8") for name in DOCUMENTS)
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    trees = [ast.parse(block) for block in blocks]
    calls = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    checked = 0
    for call in calls:
        name = ast.unparse(call.func)
        keywords = {word.arg: ast.literal_eval(word.value) for word in call.keywords}
        if name == "tsa_fairseq.load":
            inspect.signature(tsa_fairseq.load).bind(*map(ast.literal_eval, call.args), **keywords)
        elif name.endswith(".translate"):
            own = {"beam", "nbest", "scores", "prefix", "split_sentences", "batch"}
            assert keywords.keys() <= {*own, *OPTIONS}
        elif name.endswith(".score"):
            assert len(call.args) == 2
        else:
            continue
        checked += 1
    assert checked >= 4


def test_printed_tree_is_what_the_command_prints(capsys):
    from tsa_fairseq.cli.main import main

    text = (ROOT / TRAINING).read_text(encoding="utf-8")
    (argv,) = [w[1:] for d, w in ALL if d == TRAINING and w[:2] == ["tsa-fairseq", "tree"]]
    assert main(argv) == 0
    assert f"```\n{capsys.readouterr().out}```" in text


def test_figures_that_the_log_shows_are_explained():
    text = (ROOT / TRAINING).read_text(encoding="utf-8")
    package = ROOT / "tsa_fairseq"
    files = [package / "plugin" / "criterion.py", *package.glob("objectives/*.py")]
    code = "".join(file.read_text(encoding="utf-8") for file in files)
    found = r'"((?:nll|kd|pairwise)_\w+|disagreement|diversity|loss|ppl)"'
    names = set(re.findall(found, code)) | {"nll_bridge"}
    names = {re.sub(r"nll_leaf\b", "nll_leaf0", name) for name in names}
    shown = {"loss", "nll_loss", "nll_ensemble", "kd_loss", "disagreement", "diversity"}
    assert shown | {"nll_gated", "nll_teacher"} <= names
    for name in names - {"kd_trunk_gradient"}:
        assert f"`{name}`" in text


@pytest.mark.parametrize("document", DOCUMENTS)
def test_nothing_is_left_to_fill_in(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    assert not re.findall(r"^(?:[A-Z_]{5,}|<!-- *TODO.*)$", text, re.MULTILINE)


def anchors(path):
    """What a link into a document may end with, as GitHub makes it of headings."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    headings = [line.lower() for line in re.findall(r"^#+ +(.*)$", text, re.MULTILINE)]
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    path = ROOT / document
    for link in re.findall(r"\]\((?!https?:)([^)]+)", path.read_text(encoding="utf-8")):
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_first_page_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200


def test_every_page_can_be_reached_from_the_first():
    reached, todo = set(), ["README.md"]
    while todo:
        document = todo.pop()
        reached.add(document)
        path = ROOT / document
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text(encoding="utf-8")):
            name = os.path.relpath((path.parent / link).resolve(), ROOT)
            if name in DOCUMENTS and name not in reached:
                todo.append(name)
    assert {name for name in DOCUMENTS if name.startswith("docs/")} <= reached


def test_flags_are_those_of_the_code():
    """``python scripts/flags.py > docs/flags.md`` makes the page."""
    done = subprocess.run(
        [sys.executable, "scripts/flags.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == (ROOT / "docs/flags.md").read_text(encoding="utf-8")


# In messages of Python's and the shell's, and what others fill in.
ELSEWHERE = {
    "argument --arch/-a",
    "GLOBAL argparse.Namespace",
    "NoneType",
    "object has no attribute",
    "command not found",
}
FIGURES = re.compile(r"^<!-- figures: ([^:]+): (.*) -->$", re.MULTILINE)


def test_figures_stand_in_files_that_commands_made():
    """A comment below a paragraph names the file, and what of it the paragraph repeats."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = FIGURES.findall(text)
    assert found
    for name, figures in found:
        source = (ROOT / name).read_text(encoding="utf-8")
        prose = FIGURES.sub("", text)
        for figure in figures.split(" | "):
            assert figure in source and figure in prose, figure
    part = text[text.index("## What it brings") : text.index("## From a clone")]
    traced = " ".join(figures for _, figures in found)
    for figure in re.findall(r"[+-]?\d+\.\d+", FIGURES.sub("", part)):
        assert figure in traced, figure


WAYS = {
    "scripts/setup.sh": "setup",
    "pip install '.[fairseq]'": "fairseq-fixed",
    "pip install .": "fairseq-0.12.2",
    "pip install '.[serve]'": "serve",
}


def rows_of(path, header):
    text = (
        (ROOT / path).read_text(encoding="utf-8").partition(f"{header}\n")[2].partition("\n\n")[0]
    )
    return [line.strip("| ").split(" | ") for line in text.splitlines()[1:]]


def test_what_is_said_to_work_was_tried():
    """The first page's table, against the rows that scripts/matrix.sh made."""
    header = "| Python | torch | fairseq | installed by | time, size | result |"
    tried = {
        (row[0].rpartition(".")[0], row[3].strip("`")): row[5].partition(":")[0]
        for row in rows_of("docs/tested.md", header)
    }
    said = set()
    for pythons, _, _, how, result in rows_of(
        "README.md", "| Python | torch | fairseq | installed by | |"
    ):
        numbers = [int(number) for number in re.findall(r"3\.(\d+)", pythons)]
        if " to " in pythons:
            numbers = range(numbers[0], numbers[1] + 1)
        for number in numbers:
            key = (f"3.{number}", WAYS[how.strip("`")])
            assert result.startswith(tried[key]), key
            said.add(key)
    assert {row for row in tried if tried[row] == "works"} <= said | {("3.12", "fairseq-fixed")}


def test_messages_are_quoted_as_they_are():
    """The headings of troubleshooting, in this package's code or in what it stands on."""
    text = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
    quoted = re.findall(r"`([^`]+)`", "".join(re.findall(r"^## .*$", text, re.MULTILINE)))
    places = [ROOT / "tsa_fairseq", *(Path(m.__file__).parent for m in (fairseq, argparse))]
    files = [*places[0].rglob("*.py"), *places[1].glob("**/*.py"), places[2] / "argparse.py"]
    code = "".join(file.read_text(encoding="utf-8") for file in files)
    for name in ("serialization.py", "_weights_only_unpickler.py"):
        code += (Path(torch.__file__).parent / name).read_text(encoding="utf-8")
    code = re.sub(r"['\"]\s*f?r?['\"]", "", re.sub(r"\{[^{}]*\}", "…", code))
    for message in quoted:
        for part in re.split(r"…|'|\(0\.0001\)|: ", message):
            assert part.strip(" ,") in ELSEWHERE or part.strip(" ,") in code, message
