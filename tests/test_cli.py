import subprocess
import sys
from pathlib import Path

import pytest

import tsa_fairseq
from tsa_fairseq.cli.main import main

PACKAGE = Path(tsa_fairseq.__file__).parent


def output(capsys, *argv):
    assert main(argv) == 0
    return capsys.readouterr().out


def test_path(capsys):
    assert output(capsys, "path") == f"{PACKAGE.resolve()}\n"


def test_path_is_what_user_dir_takes(tmp_path):
    """Installed and given as a path, the plugin must be one module."""
    check = (
        "import sys, argparse, tsa_fairseq; from fairseq import utils;"
        "utils.import_user_module(argparse.Namespace(user_dir=sys.argv[1]));"
        "from fairseq.models import ARCH_MODEL_REGISTRY as a; print('tsa_transformer' in a)"
    )
    path = subprocess.run(
        [sys.executable, "-m", "tsa_fairseq.cli.main", "path"],
        capture_output=True, text=True, check=True, cwd=PACKAGE.parent,
    ).stdout.strip()  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", check, path],
        capture_output=True, text=True, check=True, cwd=PACKAGE.parent,
    )  # fmt: skip
    assert done.stdout.strip() == "True"


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
        (["6", "--decoder-layers", "0"], "--decoder-layers: got 0; expected 1 or more"),
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


def test_without_fairseq_the_import_says_what_to_install(tmp_path):
    program = (
        "import sys; sys.modules['fairseq'] = None\n"
        "try:\n    import tsa_fairseq\n"
        "except ModuleNotFoundError as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=PACKAGE.parent
    )
    assert done.stdout == (
        "tsa_fairseq needs fairseq, which is not installed: pip install 'fairseq-fixed==0.12.3.1'\n"
    )
