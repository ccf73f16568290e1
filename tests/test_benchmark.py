"""scripts/benchmark.py runs, and refuses what it cannot measure. No test looks at a time."""

import csv
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fairseq.data.indexed_dataset import make_builder

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))
from bench import ctranslate, decode, loss, report, step
from bench.measure import Case, Measured, Work, WorkerError, measure

import tsa_fairseq.loss.dense
import tsa_fairseq.loss.fused
from tsa_fairseq.errors import UsageError

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


def test_refuses_to_overwrite(tmp_path):
    (tmp_path / "results.md").write_text("mine")
    done = benchmark("loss", *SMALL, "--out", tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"error: --out: '{tmp_path}' has a results.md; expected --force to replace it"
    ]
    assert (tmp_path / "results.md").read_text() == "mine"


def measured(name, seconds, amounts, peak):
    return Measured(Case(name, None, None, 100 if name == "a" else 250), seconds, amounts, peak)


def test_rows_and_table():
    found = report.rows(
        "step",
        "made up",
        [
            measured("a", [1.0, 2.0, 4.0], [10, 10, 10], 400 * 2**20),
            measured("b", [3.0, 2.0, 8.0], [10, 10, 10], 100 * 2**20),
        ],
        "cpu",
        False,
    )
    b = found[1]
    assert (b.seconds, b.seconds_min, b.seconds_max) == (3.0, 2.0, 8.0)
    assert (b.time_ratio, b.time_ratio_min, b.time_ratio_max) == (2.0, 1.0, 3.0)
    assert (b.rate, b.peak_mib, b.peak_ratio) == (round(30 / 13, 1), 100.0, 0.25)
    assert (
        "| b | 3.00 (2.00 to 8.00) | 2 | 2.00 (1.00 to 3.00) | 100 MiB | 0.25 | 2.50 x | – |"
        in report.markdown(found).splitlines()
    )


def test_memory_that_was_not_measured_is_left_out():
    (row,) = report.rows("decode", "made up", [measured("a", [1.0], [1], 0)], "cpu", False)
    assert row.peak_mib is None and row.peak_ratio is None
    assert "| – | – | 1.00 x |" in report.markdown([row])


def holds(mebibytes):
    """Work that needs memory, which it frees again; loading held as much before."""
    torch.ones(mebibytes * 2**18)

    def work():
        torch.ones(mebibytes * 2**18)
        return Work(1)

    return work


def dies(_):
    return lambda: os.kill(os.getpid(), signal.SIGKILL)


def fails(_):
    raise ValueError("no such thing")


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
def test_peak_memory_is_what_was_held():
    found = measure([Case("small", holds, 16), Case("large", holds, 128)], 1, lambda _: None)
    for result, expected in zip(found, (16, 128), strict=True):
        assert result.peak_bytes / 2**20 == pytest.approx(expected, abs=6)
        assert len(result.seconds) == 1


def test_a_process_that_is_killed_ends_the_benchmark():
    cases = [Case("victim", dies, None), Case("other", holds, 1)]
    message = "victim: its process ended with status -9, killed: was there enough memory\\?"
    with pytest.raises(WorkerError, match=f"^{message}$"):
        measure(cases, 1, lambda _: None)


def test_a_process_that_fails_says_why():
    with pytest.raises(WorkerError, match="no such thing"):
        measure([Case("bad", fails, None)], 1, lambda _: None)


def test_dense_and_fused_cases_are_what_they_say(monkeypatch):
    called = []
    dense, fused = tsa_fairseq.loss.dense.dense_loss, tsa_fairseq.loss.fused.FusedLoss
    monkeypatch.setattr(
        tsa_fairseq.loss.dense, "dense_loss", lambda *a: (called.append("dense"), dense(*a))[1]
    )
    monkeypatch.setattr(
        tsa_fairseq.loss.fused, "FusedLoss", lambda *a: (called.append("fused"), fused(*a))[1]
    )
    for case in loss.cases(2, 16, 64, 8, "cpu", False):
        called.clear()
        assert case.prepare(case.argument)().amount == 16
        assert called == [case.name]


def test_cases_of_a_step(tmp_path):
    cases = {c.name: c for c in step.cases(tmp_path, "multi30k", 9712, 1, "cpu", False, [])}
    plain = cases["stock fairseq"]
    assert "--user-dir" not in plain.argument.argv
    assert plain.multiply_adds == 4 * 131072 + 4 * 196608 + 128 * 9712
    assert cases["stock fairseq, R-Drop"].multiply_adds == 2 * plain.multiply_adds
    assert cases["tree, 1 leaf"].multiply_adds == plain.multiply_adds
    assert cases["tree, 4 leaves"].multiply_adds / plain.multiply_adds == pytest.approx(2.77, 1e-2)


def test_time_of_a_translation():
    line = (
        "| Translated 1,000 sentences (23,456 tokens) in 12.3s (81.23 sentences/s, 1905 tokens/s)"
    )
    assert decode.TRANSLATED.search(line).groups() == ("1,000", "81.23")


def test_models_that_translate_differently_are_not_compared(tmp_path):
    def case(name, text):
        path = tmp_path / name
        path.write_text(text)
        return Case(name, None, decode.Generation((), str(path)))

    together = [case(name, "same") for name in decode.ENSEMBLES]
    alike = [case(name, "x") for name in (decode.PLAIN, decode.LEAF, decode.EXPORTED)]
    decode.check_same([*alike, *together])
    with pytest.raises(UsageError) as error:
        decode.check_same([*alike[:2], case(decode.EXPORTED, "y"), *together])
    assert str(error.value) == (
        "plain transformer, leaf 0 of the tree, leaf 0, exported: they translate differently; "
        "their times say nothing"
    )


def test_the_command_beside_a_loop(made_up, tmp_path):
    """Both translate all sentences; the command's time is that without loading."""
    source = tmp_path / "test.de-sr.de"
    builder = make_builder(f"{source}.bin", "mmap", len(made_up.words[0]))
    for number in range(40):
        builder.add_item(torch.tensor([4 + number % 9, 5, 2]))
    builder.finalize(f"{source}.idx")
    dictionary = str(made_up.data / "dict.de.txt")
    assert ctranslate._longest_of_all(str(source), dictionary, (2, 3)) == 7
    assert ctranslate._longest_of_all(str(source), dictionary, None) == 200
    # whole words, as in this suite
    served = shutil.copytree(made_up.ctranslate2, tmp_path / "served")
    (served / "export.json").unlink()
    for file in served.glob("sentencepiece.*"):
        file.unlink()
    given = ctranslate.Translation(str(served), str(source), dictionary, 2, (0, 4), 1)
    for prepare in (ctranslate.prepare, ctranslate.prepare_command):
        assert prepare(given)().amount == 40
    with pytest.raises(WorkerError, match="^tsa-fairseq translate: tsa-fairseq: error: MODEL: "):
        ctranslate.prepare_command(dataclasses.replace(given, model="no"))()


@pytest.mark.slow
def test_step_and_decode_suites(tmp_path):
    flags = ["--rounds", "1", "--vocabulary", "64"]
    for suite, first, last in [
        ("step", "stock fairseq", "stock fairseq, R-Drop"),
        ("decode", "plain transformer", "the tree's ensemble"),
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
        (
            ["speed"],
            "SUITE: got 'speed'; expected one of loss, step, decode, objectives, kernel, all",
        ),
        (["loss", "--rounds", "0"], "--rounds: got 0; expected 1 or more"),
        (
            ["loss", "--vocabulary", "100"],
            "--vocabulary: got 100; expected multiples of 8, from 16",
        ),
        (["step", "--model", "x"], "--model: got 'x'; expected one of multi30k, iwslt_de_en"),
        (["step", "--device", "tpu"], "--device: got 'tpu'; expected one of cpu, cuda"),
        (["step", "--fp16"], "--fp16: takes --device cuda"),
        (["kernel"], "SUITE: kernel takes --device cuda"),
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
