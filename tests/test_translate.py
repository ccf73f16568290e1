"""The command tsa-fairseq translate: lines in, lines out."""

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import translate_lines
from made_up import PAIRS, SOURCES, TARGETS

import tsa_fairseq
from tsa_fairseq.cli.translate import _shown
from tsa_fairseq.deploy.search import Hypothesis

STORED = Path(__file__).parent / "stored" / "0.2.0"
PACKAGE = Path(tsa_fairseq.__file__).parent
BLOCKED = "import sys; sys.modules.update(torch=None, fairseq=None); "
COMMAND = "sys.argv[0] = 'tsa-fairseq'; from tsa_fairseq.cli.main import main; sys.exit(main())"


@pytest.fixture(params=["fairseq", "ctranslate2"])
def model(request, made_up):
    return getattr(made_up, request.param)


@pytest.fixture
def translate(tmp_path, capsys, monkeypatch):
    def run(text, *argv):
        return translate_lines(capsys, monkeypatch, tmp_path, text, *argv)

    return run


def start(*argv, program="import sys; " + COMMAND, **streams):
    env = {**os.environ, "PYTHONPATH": f"{PACKAGE.parent}:{os.environ.get('PYTHONPATH', '')}"}
    env.pop("PYTHONUNBUFFERED", None)  # which would flush what the command does not
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE) | streams
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, argv)],
        env=env,
        # Ctrl-C is ignored by what a shell starts in the background, and by its children
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **streams,
    )


def test_lines_in_equal_lines_out(model, translate):
    text = f"{SOURCES[1]}\n\n  \n\u200b\n▁\n{SOURCES[0]}\r\n{SOURCES[2]}"
    expected = [TARGETS[1], "", "", "", "", TARGETS[0], TARGETS[2]]
    assert translate(text, model) == (0, "".join(f"{line}\n" for line in expected), "")
    assert translate("", model) == (0, "", "")
    assert translate("\n", model) == (0, "\n", "")


def test_many_lines_in_small_batches(model, translate):
    lines = [PAIRS[number % 3] for number in range(70 * 2)]
    text = "".join(f"{source}\n" for source, _ in lines)
    expected = "".join(f"{target}\n" for _, target in lines)
    assert translate(text, model, "--batch", 1, "--threads", 1) == (0, expected, "")


def test_the_best_and_their_scores(model, translate):
    """N lines for every one, for an empty one too; scores before a tab."""
    flags = ["--nbest", 3, "--beam", 4, "--max-length", 8]
    expected = tsa_fairseq.load(model).translate(SOURCES[:2], nbest=3, beam=4, max_len_b=8)
    assert [best[0] for best in expected] == TARGETS[:2]
    text = f"{SOURCES[0]}\n\n{SOURCES[1]}\n"
    status, plain, _ = translate(text, model, *flags)
    assert (status, plain.split("\n")) == (0, [*expected[0], "", "", "", *expected[1], ""])
    status, scored, _ = translate(text, model, *flags, "--scores")
    rows = [line.split("\t") for line in scored.splitlines()]
    assert [text for _, text in rows] == plain.splitlines()
    scores = [float(score) for score, _ in rows]
    assert scores[0] > -0.05 and scores[0] > scores[1] > scores[2]
    assert scores[3:6] == [0, 0, 0]  # of an empty line


def test_translations_that_there_are_not_are_the_worst():
    best = [Hypothesis("das", -0.5)]
    assert _shown(best, 3, scores=True) == "-0.5000\tdas\n-inf\t\n-inf\t\n"
    assert _shown(best, 3, scores=False) == "das\n\n\n"


def test_a_prefix(model, translate):
    status, out, _ = translate("das haus\n", model, "--prefix", "старо", "--max-length", "6")
    assert status == 0 and out.startswith("старо ")


def test_a_tree_and_what_lies_elsewhere(made_up, translate):
    flags = [made_up.path, "--data", made_up.data, "--subwords", *made_up.files]
    assert translate(SOURCES[0], *flags) == (0, f"{TARGETS[0]}\n", "")
    other = ["--inference", "leaf:2", "--max-length", 6]
    status, out, _ = translate(SOURCES[0], *flags, *other)
    assert status == 0 and out != f"{TARGETS[0]}\n", "which has learnt nothing"


def test_a_long_line_is_cut_off(translate, tmp_path, capsys, caplog):
    """Longer than the model's 64 positions; the others are translated all the same."""
    text = "3 1 4\n" + "7 " * 80 + "\n7\n"
    status, out, _ = translate(text, STORED / "tree.pt", "--batch", 2)
    first, _, last = out.splitlines()
    assert (status, first, last) == (0, "drei eins vier", "sieben")
    assert [record.message for record in caplog.records] == [
        "warning: line 2 has 81 words or pieces, and is cut off after 64"
    ]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--beam", "0"], "--beam: got 0; expected 1 or more"),
        (["--nbest", "6"], "--nbest: got 6; expected 1 to 5, the beam"),
        (["--nbest", "0"], "--nbest: got 0; expected 1 to 5, the beam"),
        (["--batch", "0"], "--batch: got 0; expected 1 or more"),
        (["--threads", "0"], "--threads: got 0; expected 1 or more"),
        (["--max-length", "0"], "--max-length: got 0; expected 1 or more"),
        (["--device", "tpu"], "--device: got 'tpu'; expected one of cpu, cuda"),
        (["--tokenizer", "nltk"], "--tokenizer: got 'nltk'; expected one of moses"),
        (["--subwords", "no"], "--subwords: 'no' does not exist or is not a file"),
        (
            ["--subwords", "a", "b", "c"],
            "--subwords: got 3 files; expected one, or one for the source and one for the target",
        ),
        (["--moses-no-escape"],
         "--moses-no-escape: got True; expected moses for a tokenizer, too"),
        (["--vocabulary-threshold", "5"],
         "--vocabulary-threshold: got 5; expected a vocabulary, too"),
        (["--inference", "gate"],
         "--inference: got 'gate'; '{model}' is a model for CTranslate2"),
        (["--data", "x"], "--data: got 'x'; '{model}' is a model for CTranslate2"),
    ],
)  # fmt: skip
def test_bad_flags(flags, message, made_up, translate):
    said = message.format(model=made_up.ctranslate2)
    done = translate("das haus\n", made_up.ctranslate2, *flags)
    assert done == (1, "", f"tsa-fairseq: error: {said}\n")


def test_no_model(translate):
    message = "MODEL: 'no.pt' does not exist or is not a file"
    assert translate("", "no.pt") == (1, "", f"tsa-fairseq: error: {message}\n")


def test_no_gpu(made_up, translate):
    for model, who in ((made_up.fairseq, "torch"), (made_up.ctranslate2, "CTranslate2")):
        message = f"--device: got 'cuda'; {who} sees no GPU here; expected cpu"
        assert translate("", model, "--device", "cuda") == (
            1, "", f"tsa-fairseq: error: {message}\n",
        )  # fmt: skip


def test_text_that_is_not_utf_8(made_up, translate):
    done = translate(f"{SOURCES[0]}\n".encode() + b"\xff\n", made_up.ctranslate2)
    message = "standard input: line 2 is not UTF-8: invalid start byte"
    # what comes before it is translated
    assert done == (1, f"{TARGETS[0]}\n", f"tsa-fairseq: error: {message}\n")


# ---- in a process of its own -------------------------------------------------------------------


def test_ctranslate2_needs_neither_torch_nor_fairseq(made_up):
    """The command, and from Python, where these cannot be imported."""
    done = start(made_up.ctranslate2, program=BLOCKED + (
        "sys.argv.insert(1, 'translate'); " + COMMAND)
    )  # fmt: skip
    out, err = done.communicate(SOURCES[1].encode())
    assert (done.returncode, out.decode(), err.decode()) == (0, f"{TARGETS[1]}\n", "")
    program = BLOCKED + (
        "import tsa_fairseq; model = tsa_fairseq.load(sys.argv[1]); "
        "print(model.translate('das kleine haus')); "
        "print(len(model.score('das kleine haus', 'мало куче').log_probs))"
    )
    out, err = start(made_up.ctranslate2, program=program).communicate()
    assert (out.decode(), err.decode()) == (f"{TARGETS[1]}\n3\n", "")


def test_nor_does_it_import_them_where_they_are(made_up):
    program = (
        "import sys; sys.argv[0] = 'tsa-fairseq'; sys.argv.insert(1, 'translate')\n"
        "from tsa_fairseq.cli.main import main\nmain()\n"
        "print([name for name in ('torch', 'fairseq') if name in sys.modules])"
    )
    out, err = start(made_up.ctranslate2, program=program).communicate(b"das kleine haus\n")
    assert (out.decode(), err.decode()) == (f"{TARGETS[1]}\n[]\n", "")


def test_a_line_is_answered_before_the_next_one_comes(model):
    running = start("translate", model)
    for source, target in PAIRS[:3]:
        running.stdin.write(f"{source}\n".encode())
        running.stdin.flush()
        assert running.stdout.readline().decode() == f"{target}\n"
    assert running.communicate() == (b"", b"")
    assert running.returncode == 0


def test_nobody_reads_on(made_up):
    """As when it is piped into head."""
    running = start("translate", made_up.ctranslate2)
    running.stdin.write(f"{SOURCES[1]}\n".encode())
    running.stdin.flush()
    assert running.stdout.readline().decode() == f"{TARGETS[1]}\n"
    running.stdout.close()
    running.stdin.write(f"{SOURCES[1]}\n".encode())
    running.stdin.close()
    assert running.stderr.read() == b""
    assert running.wait() == 0


def test_interrupted(made_up):
    running = start("translate", made_up.ctranslate2)
    running.stdin.write(f"{SOURCES[1]}\n".encode())
    running.stdin.flush()
    running.stdout.readline()
    running.send_signal(signal.SIGINT)
    assert running.stderr.read() == b""
    assert running.wait() == 130


def test_progress_on_a_terminal(made_up):
    ours, theirs = pty.openpty()
    running = start("translate", made_up.ctranslate2, stderr=theirs)
    os.close(theirs)
    out, _ = running.communicate(f"{SOURCES[1]}\n".encode() * 3)
    assert out.decode() == f"{TARGETS[1]}\n" * 3
    deadline, shown = time.monotonic() + 10, b""
    while not shown.endswith(b"a second\r\n") and time.monotonic() < deadline:
        shown += os.read(ours, 1000)
    os.close(ours)
    assert shown.startswith(b"\r3 lines, ")
