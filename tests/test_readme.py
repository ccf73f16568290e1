"""Every command that the documentation prints must be one that its program accepts."""

import ast
import inspect
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from fairseq import options

import tsa_fairseq
from tsa_fairseq.cli.main import build_parser
from tsa_fairseq.deploy.hub_fairseq import OPTIONS

ROOT = Path(__file__).parent.parent
DOCUMENTS = [
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "docs/benchmark/README.md",
    "examples/demo/README.md",
    "examples/multi30k/README.md",
    "examples/iwslt14_de_en/README.md",
    "examples/wmt14_en_de/README.md",
    "docs/clusters.md",
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
            if words:
                found.append(words)
    return found


ALL = [(document, words) for document in DOCUMENTS for words in commands(document)]


def of(program):
    found = [words[1:] for _, words in ALL if words[0] == program]
    return pytest.mark.parametrize("argv", found, ids=[" ".join(argv)[:40] for argv in found])


def test_commands_are_found():
    programs = {words[0] for _, words in ALL}
    assert programs == {"bash", "pip", "python"} | {
        "fairseq-train",
        "fairseq-generate",
        "tsa-fairseq",
    }
    assert len(ALL) >= 10


@of("fairseq-train")
def test_fairseq_train(argv):
    args = options.parse_args_and_arch(options.get_training_parser(), plugin_loaded(argv))
    assert args.criterion == "tsa_online_kd"
    assert args.tree
    assert args.required_batch_size_multiple == 1


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
    """Flags may stand in an array of the script's."""
    found = []
    for script in sorted((ROOT / "examples").rglob("*.sh")):
        text = script.read_text(encoding="utf-8")
        for command in re.findall(rf'^.*{BATCHES} ".*$', text.replace("\\\n", " "), re.MULTILINE):
            arrays = re.findall(r"\$\{(\w+)\[@\]\}", command)
            set_to = [re.findall(rf"^ *{name}=\((.*?)\)$", text, re.M | re.S) for name in arrays]
            assert EVERY_SENTENCE.search(" ".join([command, *sum(set_to, [])])), command
            found.append((script.name, re.search(BATCHES, command).group()))
    assert found == [
        ("run.sh", "fairseq-train"),
        ("run.sh", "fairseq-generate"),
        ("evaluate.sh", "fairseq-generate"),
        ("train.sh", "fairseq-train"),
        # that of training.sh is parsed in test_recipe_train.py
        ("evaluating.sh", "fairseq-generate"),
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
    assert argv[where + 1] == "tsa_fairseq" and (ROOT / "tsa_fairseq").is_dir()
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
    text = (ROOT / "README.md").read_text(encoding="utf-8")
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

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (argv,) = [w[1:] for d, w in ALL if d == "README.md" and w[:2] == ["tsa-fairseq", "tree"]]
    assert main(argv) == 0
    assert f"```\n{capsys.readouterr().out}```" in text


def test_figures_that_the_log_shows_are_explained():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
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
    assert not re.findall(r"^(?:[A-Z_]{5,}|<!--.*)$", text, re.MULTILINE)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    path = ROOT / document
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text(encoding="utf-8")):
        assert (path.parent / link).exists(), link
