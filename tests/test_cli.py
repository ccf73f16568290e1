import os
import subprocess
import sys
from pathlib import Path

import pytest

import tsa_fairseq
from tsa_fairseq.cli.main import SUBCOMMANDS, build_parser, main
from tsa_fairseq.plugin import registration

PACKAGE = Path(tsa_fairseq.__file__).parent
STORED = Path(__file__).parent / "stored" / "0.2.0"
# What pip writes for an entry point.
SCRIPT = """import sys
from tsa_fairseq.cli.main import main
if __name__ == "__main__":
    sys.argv[0] = sys.argv[0].removesuffix(".exe")
    sys.exit(main())
"""
MISSING = "tsa_fairseq needs fairseq, which is not installed: pip install 'fairseq-fixed==0.12.3.1'"


def output(capsys, *argv):
    assert main(argv) == 0
    return capsys.readouterr().out


def test_path(capsys):
    assert output(capsys, "path") == f"{PACKAGE.resolve()}\n"


def test_path_is_what_user_dir_takes():
    """Installed and given as a path, the plugin must be one module."""
    check = (
        "import sys, argparse, tsa_fairseq; from fairseq import utils;"
        "utils.import_user_module(argparse.Namespace(user_dir=sys.argv[1]));"
        "from fairseq.models import ARCH_MODEL_REGISTRY as a; print('tsa_transformer' in a)"
    )
    path = python("-m", "tsa_fairseq.cli.main", "path").stdout.strip()
    assert python("-c", check, path).stdout == "True\n"


def test_tree(capsys):
    argv = ["1,1,2,4", "--arch", "tsa_transformer_multi30k", "--vocabulary", "9712"]
    assert output(capsys, "tree", *argv) == (
        "layers 1-2\n"
        "├─ layer 3\n"
        "│  ├─ layer 4 ── leaf 0\n"
        "│  └─ layer 4 ── leaf 1\n"
        "└─ layer 3\n"
        "   ├─ layer 4 ── leaf 2\n"
        "   └─ layer 4 ── leaf 3\n"
        "\n"
        "tree                     2[1[1,1],1[1,1]] (nodes at each layer: 1,1,2,4)\n"
        "architecture             tsa_transformer_multi30k, 9,712 words, joined vocabulary, "
        "shared embeddings\n"
        "parameters, training     3,363,328\n"
        "parameters, inference    2,568,192 (the plain model's)\n"
        "training multiply-adds   2.77 x the plain model's\n"
    )


def test_parameters_of_the_plain_transformer(capsys):
    """Embeddings V·d; layers 4d² + 4d an attention, 2df + d + f a feed-forward, 2d a norm."""
    d, f, v, layers = 128, 256, 9_712, 4
    attention, ffn, norm = 4 * d * d + 4 * d, 2 * d * f + d + f, 2 * d
    count = (
        v * d + layers * (attention + ffn + 2 * norm) + layers * (2 * attention + ffn + 3 * norm)
    )
    argv = ["4", "--arch", "tsa_transformer_multi30k", "--vocabulary", str(v)]
    lines = output(capsys, "tree", *argv).splitlines()
    assert lines[0] == "layers 1-4 ── leaf 0"
    assert f"parameters, training     {count:,}" in lines
    assert f"parameters, inference    {count:,} (the plain model's)" in lines
    assert lines[-1] == "training multiply-adds   1.00 x the plain model's"


def test_tree_of_an_architecture_and_depth(capsys):
    assert "0[3,3] (nodes at each layer: 2,2,2)" in output(
        capsys, "tree", "0[3,3]", "--decoder-layers", "3"
    )
    default = output(capsys, "tree", "--arch", "tsa_transformer_iwslt_de_en")
    assert "4[1[1,1],1[1,1]]" in default and "1.76 x" in default


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["4[2,1]"],
            "--tree: '4[2,1]' has paths of 6 and 5 layers; every path must have "
            "--decoder-layers = 6",
        ),
        (["6", "--decoder-layers", "0"], "--decoder-layers: got 0; expected 1 to 1,024"),
        (
            ["6", "--vocabulary", "4"],
            "--vocabulary: got 4; expected 5 or more, four are fairseq's symbols",
        ),
        (
            ["6", "--arch", "transformer"],
            "--arch: got 'transformer'; expected one of tsa_transformer, "
            "tsa_transformer_iwslt_de_en, tsa_transformer_multi30k, tsa_transformer_wmt_en_de, "
            "tsa_transformer_wmt_en_de_big",
        ),
    ],
)
def test_bad_input(argv, message, capsys):
    assert main(["tree", *argv]) == 1
    captured = capsys.readouterr()
    assert captured.err == f"tsa-fairseq: error: {message}\n"
    assert captured.out == ""


@pytest.fixture
def program(request, tmp_path):
    """What Python is called with to run the command, as pip installs it unless said otherwise."""
    name = getattr(request, "param", "tsa-fairseq")
    if name == "-m":
        return ["-m", "tsa_fairseq.cli.main"]
    script = tmp_path / name
    script.write_text(SCRIPT)
    return [script]


def python(*argv):
    env = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    argv = [sys.executable, *map(str, argv)]
    return subprocess.run(argv, capture_output=True, text=True, env=env)


@pytest.mark.parametrize(
    "program", ["tsa-fairseq", "tsa-fairseq.exe", "-m"], indirect=True, ids=["pip", "Windows", "-m"]
)
@pytest.mark.parametrize(
    "argv",
    [
        ["path"],
        ["--help"],
        ["--version"],
        ["tree"],
        ["tree", "--help"],
        ["compare", "--help"],
        ["report", "--help"],
        ["tree", "0[3,3]", "--arch", "tsa_transformer_multi30k", "--decoder-layers", "3",
         "--vocabulary", "9712"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_it_starts_at_once(program, argv):
    """Importing torch or fairseq takes seconds, and every training command asks for the path.

    Nothing is imported beside Python's own library, and what every Python of this environment is.
    """

    def imported(*argv):
        done = python("-X", "importtime", *argv)
        assert done.returncode == 0
        names = {line.split("|")[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
        return names, done.stdout

    names, shown = imported(*program, *argv)
    assert shown and "tsa_fairseq" in names
    always, _ = imported("-c", "pass")
    jython = {"org"}  # which the library's copy looks for, and does not find
    assert names - always - jython <= sys.stdlib_module_names | {"tsa_fairseq"}


def test_what_needs_fairseq_has_it(program, tmp_path):
    out = tmp_path / "out"
    done = python(*program, "export", STORED / "tree.pt", out, "--data", STORED)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"leaf 0 -> {out}: ")


@pytest.mark.parametrize(
    ("argv", "is_command"),
    [
        (["/usr/bin/tsa-fairseq", "path"], True),
        (["tsa-fairseq.exe"], True),
        (["/usr/bin/fairseq-train", "--user-dir", "tsa-fairseq"], False),
        (["tsa-fairseq/train.py"], False),
        (["-c"], False),
        (["-m"], False),  # of another module
        ([""], False),
        ([], False),
    ],
)
def test_only_the_command_waits_with_registering(argv, is_command, monkeypatch):
    monkeypatch.setattr(sys, "argv", argv)
    assert tsa_fairseq._is_command() == is_command


def test_a_reader_that_has_gone(program):
    argv = [sys.executable, *map(str, program), "tree", "6"]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with subprocess.Popen(
        argv, env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)}, **pipes
    ) as run:
        run.stdout.close()
        assert (run.wait(), run.stderr.read()) == (0, "")


def test_help_names_every_subcommand(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert tsa_fairseq.__doc__ in shown
    for name, subcommand in SUBCOMMANDS.items():
        assert f" {name} {subcommand.help}" in shown


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_every_subcommand_has_its_options(name, capsys):
    with pytest.raises(SystemExit) as end:
        build_parser([name]).parse_args([name, "--help"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: tsa-fairseq {name} [-h]")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["average", "mean.pt"], "the following arguments are required: INPUT"),
        (["tree", "6", "7"], "unrecognized arguments: 7"),
        (["tree", "--leaf", "6"], "unrecognized arguments: --leaf"),
        (["--force", "path"], "unrecognized arguments: --force"),
    ],
)
def test_bad_command_line(argv, message, capsys):
    with pytest.raises(SystemExit) as end:
        main(argv)
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_unknown_subcommand(capsys):
    with pytest.raises(SystemExit):
        main(["tre", "6"])
    error = capsys.readouterr().err
    assert "argument COMMAND: invalid choice: 'tre'" in error
    assert all(name in error for name in SUBCOMMANDS)


def test_version(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"{tsa_fairseq.__version__}\n"


def test_what_the_package_offers():
    assert {"load", "register", "__version__"} <= set(dir(tsa_fairseq))
    assert tsa_fairseq.load.__module__ == "tsa_fairseq.deploy.hub"
    with pytest.raises(AttributeError, match="^module 'tsa_fairseq' has no attribute 'laod'$"):
        tsa_fairseq.laod  # noqa: B018


def test_a_training_imports_nothing_of_deploy():
    done = python("-c", "import sys, tsa_fairseq; print(*sys.modules)")
    assert "tsa_fairseq.plugin.model" in done.stdout
    assert "tsa_fairseq.deploy" not in done.stdout


@pytest.mark.parametrize("call", ["register()", f"load({str(STORED / 'tree.pt')!r})"])
def test_without_fairseq_what_needs_it_says_what_to_install(call):
    """The import itself goes well: an export to CTranslate2 needs no fairseq."""
    program = (
        "import sys; sys.modules['fairseq'] = None\n"
        "import tsa_fairseq\n"
        f"try:\n    tsa_fairseq.{call}\n"
        "except ModuleNotFoundError as error:\n    print(error)"
    )
    assert python("-c", program).stdout == f"{MISSING}\n"


@pytest.mark.parametrize("found", ["2.0.6", "2.1.0", "2.3.0"])
def test_fairseq_0_12_2_is_refused(found, monkeypatch):
    monkeypatch.setattr(registration, "version", lambda package: found)
    if found != "2.0.6":
        registration.register()
        return
    with pytest.raises(ImportError) as error:
        registration.register()
    assert str(error.value) == (
        "tsa_fairseq: got omegaconf 2.0.6, as of fairseq 0.12.2, which does not translate with "
        "torch 2.4 or newer; expected omegaconf 2.1 or newer, in another environment: "
        "pip install 'fairseq-fixed==0.12.3.1'"
    )


@pytest.mark.parametrize(
    "argv",
    [["path"], ["tree", "6"], ["export", "a", "b"], ["translate", STORED / "tree.pt"]],
    ids=lambda argv: argv[0],
)
def test_without_fairseq_the_command_does_what_it_can(argv):
    words = ["tsa-fairseq", *map(str, argv)]
    program = (
        f"import sys; sys.modules['fairseq'] = None; sys.argv = {words}\n"
        "from tsa_fairseq.cli.main import main; sys.exit(main())"
    )
    done = python("-c", program)
    if argv[0] in ("export", "translate"):
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"tsa-fairseq: error: {MISSING}\n"
    else:
        assert done.returncode == 0 and done.stderr == ""
