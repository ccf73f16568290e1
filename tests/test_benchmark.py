"""scripts/benchmark.py runs, and refuses what it cannot measure. No test looks at a time."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "benchmark.py"
SMALL = ["--rounds", "2", "--vocabulary", "64", "--leaves", "2", "--tokens", "16", "--width", "8"]


def benchmark(*argv):
    return subprocess.run([sys.executable, SCRIPT, *argv], capture_output=True, text=True)


def test_loss_suite(tmp_path):
    done = benchmark("loss", *SMALL, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "out" / "results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["variant"] for row in rows] == ["dense", "fused"]
    for row in rows:
        assert row["setting"] == "K = 2, N = 16, V = 64, D = 8"
        assert float(row["seconds_min"]) <= float(row["seconds"]) <= float(row["seconds_max"])
        assert row["rounds"] == "2" and row["multiply_adds"] == str(2 * 64 * 8)
    assert rows[0]["time_ratio"] == rows[0]["peak_ratio"] == "1.0"
    table = (tmp_path / "out" / "results.md").read_text()
    assert table.startswith("**loss**: K = 2, N = 16, V = 64, D = 8") and "| fused |" in table
    assert table in done.stdout
    assert (tmp_path / "out" / "results.svg").read_text().rstrip().endswith("</svg>")


@pytest.mark.slow
def test_step_and_decode_suites(tmp_path):
    flags = ["--rounds", "1", "--vocabulary", "64"]
    for suite, first, last in [
        ("step", "stock fairseq", "stock fairseq, R-Drop"),
        ("decode", "plain transformer", "leaf 0 of the tree"),
    ]:
        done = benchmark(suite, *flags, "--out", tmp_path / suite)
        assert done.returncode == 0, done.stderr
        with open(tmp_path / suite / "results.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert (rows[0]["variant"], rows[-1]["variant"]) == (first, last)
        assert all(float(row["rate"]) > 0 for row in rows)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["speed"], "SUITE: got 'speed'; expected one of loss, step, decode, all"),
        (["loss", "--rounds", "0"], "--rounds: got 0; expected 1 or more"),
        (
            ["loss", "--vocabulary", "100"],
            "--vocabulary: got 100; expected multiples of 8, from 16",
        ),
        (["step", "--model", "x"], "--model: got 'x'; expected one of multi30k, iwslt_de_en"),
        (["step", "--device", "tpu"], "--device: got 'tpu'; expected one of cpu, cuda"),
        (["step", "--fp16"], "--fp16: takes --device cuda"),
        (["decode", "--data", "x"], "--data and --checkpoint: expected both or neither"),
        (
            ["step", "--only", "tree"],
            "--only: got 'tree'; expected some of: stock fairseq; tree, 1 leaf; tree, 2 leaves; "
            "tree, 4 leaves; stock fairseq, R-Drop",
        ),
    ],
)
def test_refusals(argv, message, tmp_path):
    done = benchmark(*argv, "--out", tmp_path / "out")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [f"error: {message}"]
    assert not (tmp_path / "out").exists()
