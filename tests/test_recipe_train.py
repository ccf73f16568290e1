"""train.sh and evaluate.sh of IWSLT'14 and WMT: commands, refusals, and (slow) runs on the CPU."""

import fcntl
import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
from functools import partial

import pytest
import recipe_fixtures as fixtures
from fairseq import options
from recipe_fixtures import EXAMPLES, ROOT, refuse, succeed

import tsa_fairseq  # noqa: F401 - registers the architectures

FOLDERS = {"iwslt14": "iwslt14_de_en", "wmt14": "wmt14_en_de", "wmt17": "wmt14_en_de"}
TINY = [
    word
    for side in ("encoder", "decoder")
    for flag, value in (("embed-dim", 16), ("ffn-embed-dim", 16), ("attention-heads", 2))
    for word in (f"--{side}-{flag}", str(value))
]


def made(folder, corpus="iwslt14", protocol="tokenised", dictionaries="separate"):
    """As much of a preparation as the scripts look at before they begin."""
    folder.mkdir()
    pair = ("de", "en") if corpus == "iwslt14" else ("en", "de")
    (folder / "preparation.txt").write_text(
        f"corpus={corpus}\nprotocol={protocol}\nsource={pair[0]}\ntarget={pair[1]}\n"
        f"subwords=60\ndictionaries={dictionaries}\ntypes=70\ntokens=100000\n"
    )
    return folder


def trained(run, data, *settings):
    """As much of a training on such a preparation as evaluate.sh looks at before it begins."""
    run.mkdir(parents=True, exist_ok=True)
    of_data = (data / "preparation.txt").read_text().partition("types=")[0]
    (run / "training.txt").write_text("".join(f"{one}\n" for one in settings) + of_data)
    return run


@pytest.fixture
def iwslt(tmp_path):
    return made(tmp_path / "iwslt")


@pytest.fixture
def wmt(tmp_path):
    return made(tmp_path / "wmt", "wmt14", dictionaries="joined")


def dry(script, data, save, *more):
    """Comments and words of the command that --dry-run prints."""
    said = succeed(script, "--data", data, "--save", save, "--dry-run", *more)
    comments = [line for line in said.splitlines() if line.startswith("#")]
    return comments, words_of(said)


def words_of(said):
    """As a shell takes them."""
    return shlex.split(said.replace("\\\n", " "), comments=True)


def parsed(words):
    """The command line as fairseq-train reads it; the plugin is loaded here."""
    start = words.index("-m") + 2 if words[0] == "torchrun" else 1
    argv = words[start:]
    where = argv.index("--user-dir")
    assert argv[where + 1] == str(ROOT / "tsa_fairseq")
    argv = argv[:where] + argv[where + 2 :]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.cuda.is_available", lambda: True)  # where it is meant for
        if words[0] == "torchrun":
            world = argv[argv.index("--distributed-world-size") + 1]
            launched = {"RANK": "0", "WORLD_SIZE": world, "MASTER_ADDR": "x", "MASTER_PORT": "1"}
            for name, value in launched.items():
                patch.setenv(name, value)
        return options.parse_args_and_arch(options.get_training_parser(), argv)


def test_whole_command_for_one_gpu(iwslt, tmp_path):
    said = succeed(
        "iwslt14_de_en/train.sh", "--data", iwslt, "--save", tmp_path / "run", "--dry-run",
        "--", "--kd-alpha", "0.2", "--user", "it's",
    )  # fmt: skip
    assert said == (
        "# 1 processes x 4096 tokens x update-freq 1 = 4096 tokens an update\n"
        "# 100000 tokens of training text: 25 updates an epoch, or some more\n"
        f"fairseq-train {iwslt}/data-bin \\\n"
        "    --task translation \\\n"
        "    --source-lang de \\\n"
        "    --target-lang en \\\n"
        f"    --user-dir {ROOT}/tsa_fairseq \\\n"
        "    --share-decoder-input-output-embed \\\n"
        "    --arch tsa_transformer_iwslt_de_en \\\n"
        "    --tree 1,1,1,1,2,4 \\\n"
        "    --criterion tsa_online_kd \\\n"
        "    --kd-objective tsa \\\n"
        "    --optimizer adam \\\n"
        "    --adam-betas '(0.9, 0.98)' \\\n"
        "    --clip-norm 0 \\\n"
        "    --lr 5e-4 \\\n"
        "    --lr-scheduler inverse_sqrt \\\n"
        "    --warmup-updates 4000 \\\n"
        "    --dropout 0.3 \\\n"
        "    --weight-decay 0.0001 \\\n"
        "    --label-smoothing 0.1 \\\n"
        "    --keep-last-epochs 10 \\\n"
        "    --keep-best-checkpoints 5 \\\n"
        "    --max-tokens 4096 \\\n"
        "    --update-freq 1 \\\n"
        "    --required-batch-size-multiple 1 \\\n"
        "    --distributed-world-size 1 \\\n"
        "    --max-update 50000 \\\n"
        "    --seed 1 \\\n"
        f"    --save-dir {tmp_path}/run \\\n"
        "    --log-format simple \\\n"
        "    --log-interval 100 \\\n"
        "    --fp16 \\\n"
        "    --kd-alpha 0.2 \\\n"
        "    --user 'it'\\''s'\n"
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("given", "tokens", "frequency", "processes"),
    [
        ("", 4096, 8, 1),
        ("--gpus 8", 4096, 1, 8),
        ("--gpus 16", 2048, 1, 16),
        ("--gpus 4 --nodes 2 --rendezvous host:29500", 4096, 1, 8),
        ("--gpus 8 --max-tokens 1024", 1024, 4, 8),
        ("--size big", 3584, 128, 1),
        ("--size big --gpus 8", 3584, 16, 8),
        ("--size big --gpus 8 --nodes 16 --rendezvous host:29500", 3584, 1, 128),
    ],
)
def test_batch_stays_the_recipes(given, tokens, frequency, processes, wmt, tmp_path):
    _, words = dry("wmt14_en_de/train.sh", wmt, tmp_path / "run", *given.split())
    args = parsed(words)
    assert (args.max_tokens, args.update_freq) == (tokens, [frequency])
    assert args.distributed_world_size == processes
    assert args.required_batch_size_multiple == 1
    assert tokens * frequency * processes == (458_752 if "big" in given else 32_768)
    # fairseq-train itself would start as many as SLURM has, whatever it is told
    assert (words[0] == "torchrun") == (processes > 1)
    assert ("--standalone" in words) == (processes > 1 and "--nodes" not in given)


def test_plain_and_tree_have_the_same_settings(wmt, tmp_path):
    """All of fairseq's that both have, with the models' own defaults filled in."""
    for size in ("base", "big"):
        both = []
        for model in ("plain", "tree"):
            given = ("--size", size, "--model", model)
            both.append(vars(parsed(dry("wmt14_en_de/train.sh", wmt, tmp_path / "run", *given)[1])))
        plain, tree = both
        other = {key for key in plain.keys() & tree.keys() if plain[key] != tree[key]}
        assert other == {"arch", "criterion"}
        assert plain["share_all_embeddings"] and plain["fp16"]
        assert plain["attention_dropout"] == 0 and plain["lr"] == [7e-4 if size == "base" else 1e-3]
        assert plain["dropout"] == (0.1 if size == "base" else 0.3)


def test_several_machines(wmt, tmp_path):
    given = "--nodes 4 --gpus 8 --rendezvous node1:29500 --bf16 --objective rdrop".split()
    comments, words = dry("wmt14_en_de/train.sh", wmt, tmp_path / "run", *given)
    assert comments == [
        "# 32 processes x 1024 tokens x update-freq 1 = 32768 tokens an update",
        "# 100000 tokens of training text: 4 updates an epoch, or some more",
        "# on each of the 4 machines:",
    ]
    launcher = "torchrun --nnodes 4 --nproc-per-node 8 --rdzv-backend c10d --rdzv-id run"
    launcher += " --rdzv-endpoint node1:29500 -m fairseq_cli.train"
    assert words[:14] == [*launcher.split(), f"{wmt}/data-bin"]
    args = parsed(words)
    assert args.bf16 and not args.fp16 and not args.tpu
    assert args.tree == "6" and args.kd_objective == "rdrop"  # which branches nowhere by default


def test_a_plain_model_in_bfloat16(wmt, tmp_path):
    """Of fairseq's own architectures that would be a training on a TPU."""
    given = ("--model", "plain", "--bf16", "--size", "big")
    args = parsed(dry("wmt14_en_de/train.sh", wmt, tmp_path / "run", *given)[1])
    assert args.bf16 and not args.tpu
    assert (args.arch, args.tree) == ("tsa_transformer_wmt_en_de_big", "6")
    assert (args.kd_objective, args.kd_loss) == ("none", "dense")


def test_objectives_and_dictionaries(tmp_path):
    data = made(tmp_path / "data", dictionaries="joined")
    given = ("--objective", "dml", "--tree", "4[2,2]", "--cpu", "--gpus", "2")
    args = parsed(dry("iwslt14_de_en/train.sh", data, tmp_path / "run", *given)[1])
    assert args.share_all_embeddings and args.kd_objective == "dml" and args.tree == "4[2,2]"
    assert args.cpu and not args.fp16 and args.ddp_backend == "legacy_ddp"


BOTH = [
    ("", "--data: missing; give the directory that prepare.sh made"),
    (
        "--data {tmp}",
        "--data: {tmp} is no finished preparation; run prepare.sh --out {tmp} first",
    ),
    (
        "--data {other} --save {new}",
        "--data: {other} is a preparation of {other_corpus}; expected one of: {corpora}",
    ),
    (
        "--data {m30k} --save {new}",
        "--data: {m30k} is a preparation of another recipe; expected one of: {corpora}",
    ),
    ("--data {data}", "--save: missing; say where checkpoints go"),
    ("--data {data} --save {new} --model big", "--model: got 'big'; expected one of: tree plain"),
    (
        "--data {data} --save {new} --model plain --objective dml",
        "--objective: got 'dml' with --model plain, which has none; expected --model tree",
    ),
    (
        "--data {data} --save {new} --model plain --tree 6",
        "--tree: got '6' with --model plain, which has none; expected --model tree",
    ),
    (
        "--data {data} --save {new} --objective tas",
        "--objective: got 'tas'; expected one of: tsa dml ensemble okddip one cl-ilr kdcl-naive "
        "kdcl-minlogit kd sokd rdrop simcut none",
    ),
    (
        "--data {data} --save {new} --objective kd",
        "--objective: got 'kd', which needs a teacher; "
        "expected -- --kd-teacher CHECKPOINT at the end of the command",
    ),
    (
        "--data {data} --save {new} --objective sokd -- --kd-alpha 0.5",
        "--objective: got 'sokd', which needs a teacher; "
        "expected -- --kd-teacher CHECKPOINT at the end of the command",
    ),
    (
        "--data {data} --save {new} --tree 1,2",
        "--tree: '1,2' has a path of 2 layers; every path must have --decoder-layers = 6",
    ),
    ("--data {data} --save {new} --gpus 0", "--gpus: got '0'; expected a whole number, 1 or more"),
    (
        "--data {data} --save {new} --gpus 3",
        "--gpus, --nodes: 3 processes do not divide the recipe's batch of {batch} tokens; "
        "expected one of: {fitting}",
    ),
    (
        "--data {data} --save {new} --gpus 3 --max-tokens 1024",
        "--gpus, --nodes: 3 processes of --max-tokens 1024 do not divide the recipe's batch of "
        "{batch} tokens; expected one of: {fitting_1024}",
    ),
    (
        "--data {data} --save {new} --gpus 3 --max-tokens 1000",
        "--max-tokens: got '1000', which does not divide the recipe's batch of {batch} tokens; "
        "expected a number that does, such as: 512 1024 2048 4096",
    ),
    (
        "--data {data} --save {new} --gpus 5000",
        "--gpus, --nodes: got 5000 processes; expected at most {most}, each with 512 of the "
        "recipe's {batch} tokens or more",
    ),
    (
        "--data {data} --save {new} --max-tokens 1e4",
        "--max-tokens: got '1e4'; expected a whole number, 1 or more",
    ),
    (
        "--data {data} --save {new} --nodes 2",
        "--rendezvous: missing; with --nodes 2 the machines meet at HOST:PORT of one of them",
    ),
    (
        "--data {data} --save {new} --nodes 2 --rendezvous host",
        "--rendezvous: got 'host'; expected HOST:PORT",
    ),
    (
        "--data {data} --save {new} --rendezvous h:1",
        "--rendezvous: got 'h:1' with one machine; expected --nodes 2 or more",
    ),
    (
        "--data {data} --save {new} --bf16 --fp32",
        "--bf16: got --fp32, too; expected one of them",
    ),
    (
        "--data {data} --save {new} --bf16 --cpu",
        "--bf16: got --cpu, too, where training is in fp32; expected one of them",
    ),
    (
        "--data {data} --save {new} --cpu --gpus 2 --model plain",
        "--gpus: got 2 processes with --cpu and --model plain, which fairseq alone cannot start; "
        "expected 1, or --model tree --objective none --tree 6, which is the same model",
    ),
    (
        "--data {data} --save {new} --lr 1",
        "unknown argument '--lr'; see train.sh --help (flags of fairseq-train go after --)",
    ),
    (
        "--data {data} --save {tmp}/file",
        "--save: {tmp}/file exists and holds no run of this script; choose another directory",
    ),
    (
        "--data {data} --save {data}",
        "--save: {data} exists and holds no run of this script; choose another directory",
    ),
    (
        "--data {data} --save {tmp}/run --seed 2",
        "--save: {tmp}/run holds a run with other settings (arch=x seed=1); "
        "give the same ones or choose another directory",
    ),
]
CASES = [("iwslt14", *case) for case in BOTH] + [
    *(("wmt14", *case) for case in BOTH if re.search("{other|{batch", case[1])),
    (
        "wmt14",
        "--data {data} --save {new} --size huge",
        "--size: got 'huge'; expected one of: base big",
    ),
]


@pytest.mark.parametrize(("corpus", "given", "message"), CASES)
def test_train_refuses(corpus, given, message, iwslt, wmt, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "training.txt").write_text("arch=x\nseed=1\n")
    (tmp_path / "run" / "checkpoint_last.pt").touch()
    (tmp_path / "m30k").mkdir()
    (tmp_path / "m30k" / "preparation.txt").write_text("protocol=raw\nsource=en\ntarget=de\n")
    of_iwslt = corpus == "iwslt14"
    fill = partial(
        str.format,
        data=iwslt if of_iwslt else wmt,
        other=wmt if of_iwslt else iwslt,
        other_corpus="wmt14" if of_iwslt else "iwslt14",
        corpora="iwslt14" if of_iwslt else "wmt14 wmt17",
        batch=4096 if of_iwslt else 32768,
        fitting="1 2 4 8" if of_iwslt else "1 2 4 8 16 32 64",
        fitting_1024="1 2 4" if of_iwslt else "1 2 4 8 16 32",
        most=8 if of_iwslt else 64,
        m30k=tmp_path / "m30k",
        new=tmp_path / "new",
        tmp=tmp_path,
    )
    assert refuse(f"{FOLDERS[corpus]}/train.sh", *fill(given).split()) == fill(message)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "--data: missing; give the directory that prepare.sh made"),
        ("--data {data}", "--model: missing; give the directory that train.sh made"),
        (
            "--data {data} --model {tmp}",
            "--model: {tmp} is no directory that train.sh made",
        ),
        (
            "--data {data} --model {run} --last 5 --best 5",
            "--best: got --last, too; expected one of them",
        ),
        (
            "--data {data} --model {run} --last 0",
            "--last: got '0'; expected a whole number, 1 or more",
        ),
        (
            "--data {data} --model {run} --checkpoint best.pt",
            "--checkpoint: {run} has no best.pt",
        ),
        (
            "--data {data} --model {run} --checkpoint training.txt",
            "--checkpoint: '{run}/training.txt' cannot be loaded as a checkpoint: it is damaged, "
            "no file of torch's, or holds more than fairseq stores; nothing of it was run",
        ),
        (
            "--data {data} --model {run}",
            "--last: got 5, but {run} holds 2 checkpoints of the last epochs; expected as many "
            "or fewer, or --checkpoint (training keeps the best 5 and the last epochs)",
        ),
        (
            "--data {data} --model {run} --last 3",
            "--last: got 3, but {run} holds 2 checkpoints of the last epochs; expected as many "
            "or fewer, or --checkpoint (training keeps the best 5 and the last epochs)",
        ),
        (
            "--data {data} --model {run} --best 5",
            "--best: got 5, but {run} holds 4 checkpoints; expected as many or fewer, or "
            "--checkpoint (training keeps the best 5 and the last epochs)",
        ),
        (
            "--data {data} --model {run} --beam five",
            "--beam: got 'five'; expected a whole number, 1 or more",
        ),
        (
            "--data {data} --model {run} --lenpen -1",
            "--lenpen: got '-1'; expected a number, 0 or more",
        ),
        ("--data {data} --model {run} --x", "unknown argument '--x'; see evaluate.sh --help"),
        (
            "--data {data} --model {run} --out {tmp}",
            "--out: {tmp} exists and is no evaluation of this script; choose another directory",
        ),
        (
            "--data {data} --model {run} --out {run}/done",
            "--out: {run}/done holds an evaluation; "
            "choose another directory, or give --force to replace it",
        ),
        (
            "--data {data} --model {run} --out {run}/done --dry-run",
            "--out: {run}/done holds an evaluation; "
            "choose another directory, or give --force to replace it",
        ),
    ],
)
def test_evaluate_refuses(given, message, iwslt, tmp_path):
    run = tmp_path / "run"
    (run / "done").mkdir(parents=True)
    (run / "done" / "scores.json").touch()
    for name in ("1", "2", "_last", "_best", ".best_loss_4.1230", ".best_loss_4.5671"):
        (run / f"checkpoint{name}.pt").touch()
    trained(run, iwslt, "model=tree", "tree=4[2,2]")
    fill = partial(str.format, data=iwslt, run=run, tmp=tmp_path)
    assert refuse("iwslt14_de_en/evaluate.sh", *fill(given).split()) == fill(message)
    assert sorted(os.listdir(run))[-2:] == ["done", "training.txt"] and len(os.listdir(run)) == 8


@pytest.mark.parametrize("protocol", ["tokenised", "raw"])
def test_evaluate_refuses_other_data(protocol, iwslt, tmp_path):
    """Its dictionaries may have as many words, and no message would tell."""
    run = trained(tmp_path / "run", iwslt, "model=tree", "tree=4[2,2]")
    data = made(tmp_path / "data", protocol=protocol, dictionaries="joined")
    assert refuse("iwslt14_de_en/evaluate.sh", "--data", data, "--model", run) == (
        f"--data: {data} is prepared as (corpus=iwslt14 protocol={protocol} source=de target=en "
        f"subwords=60 dictionaries=joined), which {run} was not trained on; expected the data of "
        "its training"
    )


def test_evaluations_commands_where_names_are_odd(wmt, tmp_path):
    run = trained(tmp_path / "R&D|x y", wmt, "model=plain")
    given = ("--data", wmt, "--model", run, "--dry-run")
    said = succeed("wmt14_en_de/evaluate.sh", *given)
    assert f" >'{run}/evaluation/last5-beam4-lenpen0.6/plain.log' 2>&1\n" in said


def test_evaluations_commands(wmt, tmp_path):
    """Average, leaf 0, the best leaf, the ensemble, scores."""
    run = trained(tmp_path / "run", wmt, "model=tree", "tree=1,1,1,1,2,4")
    given = ("--data", wmt, "--model", run, "--dry-run")
    said = succeed("wmt14_en_de/evaluate.sh", *given)
    words = words_of(said)
    out = f"{run}/evaluation/last5-beam4-lenpen0.6"
    assert said.startswith(f"mkdir -p {out}\ntsa-fairseq average {out}/average.pt {run} \\\n")
    assert [words[i + 1] for i, word in enumerate(words) if word == "--model-overrides"] == [
        "{'tree_inference': 'leaf:$K'}",
        "{'tree_inference': 'ensemble'}",
    ]
    assert said.count("    --required-batch-size-multiple 1 \\\n    '--remove-bpe=@@ '") == 3
    assert "--compound" in words and "--lower" not in words
    assert not (run / "evaluation").exists()
    trained(run, wmt, "model=tree", "objective=none", "tree=6")  # one leaf is all there is
    said = succeed("wmt14_en_de/evaluate.sh", *given)
    assert said.count("fairseq-generate") == 1 and f"--row leaf0 {out}/leaf0.log" in said
    trained(run, wmt, "model=plain")
    (run / "checkpoint_best.pt").touch()
    said = succeed("wmt14_en_de/evaluate.sh", *given, "--checkpoint", "checkpoint_best.pt")
    assert said.count("fairseq-generate") == 1 and "average" not in said
    assert f"--row plain {run}/evaluation/checkpoint_best-beam4-lenpen0.6/plain.log" in said


TOOLS = {
    "fairseq-train": """case "$*" in *--fail*) echo "no such flag"; exit 1 ;; esac
while [ $# -gt 0 ]; do [ "$1" != --save-dir ] || : >"$2/checkpoint_last.pt"; shift; done""",
    "fairseq-generate": r"printf 'H-1\t-1\teine Katze\nH-0\t-1\tein Hund hier .\n'",
    "tsa-fairseq": """case $1 in
    path) echo /plugin ;;
    average) : >"$2" ;;
    export) mkdir "$3" && echo "{\\"leaf\\": $LEAF}" >"$3/export.json" ;;
esac""",
}


@pytest.fixture
def pretended(tmp_path):
    """pretended(script, *arguments, **variables): a script with tools that take no time."""
    shutil.copytree(EXAMPLES, tmp_path / "clone" / "examples")
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in TOOLS.items():
        (tools / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
        (tools / name).chmod(0o755)

    def run(script, *arguments, **variables):
        environment = fixtures.environment(**variables)
        environment["PATH"] = f"{tools}{os.pathsep}{environment['PATH']}"
        script = tmp_path / "clone" / "examples" / script
        return subprocess.run(
            list(map(str, ["bash", script, *arguments])),
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=environment,
        )

    return run


@pytest.mark.parametrize("recipe", ["iwslt14_de_en", "multi30k"])
def test_settings_are_those_of_the_start_that_left_a_checkpoint(recipe, pretended, iwslt, tmp_path):
    run = tmp_path / "run"
    script = f"{recipe}/train.sh"
    given = ("--data", iwslt, "--save", run, "--model", "plain", "--cpu")
    failed = pretended(script, *given, "--", "--fail")
    assert failed.stderr == (
        "error: fairseq-train failed; its output stands above and in " + f"{run}/train.log\n"
    )
    assert "extra=--fail\n" in (run / "training.txt").read_text()

    done = pretended(script, *given)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"==> starting again in {run}, where no checkpoint was written\n" in done.stdout
    settings = (run / "training.txt").read_text()
    assert "extra=\n" in settings
    assert sorted(os.listdir(run)) == ["checkpoint_last.pt", "train.log", "training.txt"]

    other = pretended(script, *given, "--seed", 2)
    assert other.stderr == (
        f"error: --save: {run} holds a run with other settings "
        f"({' '.join(settings.splitlines())}); "
        "give the same ones or choose another directory\n"
    )
    for known in (settings, f"updates=5\n{settings}"):  # as releases before this one wrote it
        (run / "training.txt").write_text(known)
        longer = pretended(script, *given, "--updates", 90000)
        assert f"==> going on with the run in {run}\n" in longer.stdout, longer.stderr
        assert ", 90000 updates" in longer.stdout


def test_settings_of_a_training_at_work_stay(pretended, iwslt, tmp_path):
    """Before it has a checkpoint."""
    run = trained(tmp_path / "run", iwslt, "seed=7")
    given = ("--data", iwslt, "--save", run, "--model", "plain", "--cpu")
    before = (run / "training.txt").read_text()
    held = os.open(run, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_SH)
    refused = pretended("iwslt14_de_en/train.sh", *given)
    assert refused.stderr == (
        f"error: --save: a training with other settings is at work in {run}; "
        "choose another directory, or end that one\n"
    )
    assert (run / "training.txt").read_text() == before
    os.close(held)
    assert pretended("iwslt14_de_en/train.sh", *given).returncode == 0
    assert (run / "training.txt").read_text() != before


def test_one_training_at_a_time(pretended, iwslt, tmp_path):
    """Each would overwrite the other's checkpoints; machines of one training share a directory."""
    run = tmp_path / "run"
    run.mkdir()  # an empty one is as good as none
    alone = ("--data", iwslt, "--save", run, "--model", "plain")
    shared = (*alone, "--nodes", 2, "--rendezvous", "host:29500")
    sees_a_gpu = tmp_path / "tools" / "python3"
    sees_a_gpu.write_text("#!/usr/bin/env bash\necho 1\n")
    sees_a_gpu.chmod(0o755)
    (tmp_path / "tools" / "torchrun").symlink_to("fairseq-train")
    assert pretended("iwslt14_de_en/train.sh", *alone).returncode == 0
    held = os.open(run, os.O_RDONLY)
    for how, given, message in (
        (fcntl.LOCK_SH, alone, "a training is"),
        (fcntl.LOCK_EX, alone, "a training is"),
        (fcntl.LOCK_SH, shared, None),
        (fcntl.LOCK_EX, shared, "a training on one machine is"),
    ):
        fcntl.flock(held, how)
        done = pretended("iwslt14_de_en/train.sh", *given)
        expected = f"error: --save: {message} at work in {run}; "
        expected += "choose another directory, or end that one\n"
        assert done.stderr == (expected if message else ""), done.stdout
    os.close(held)
    assert pretended("iwslt14_de_en/train.sh", *alone).returncode == 0


@pytest.mark.parametrize(
    ("python", "message"),
    [
        (
            None,
            "--gpus: got 4, but torch sees no GPU on this machine; "
            "expected --cpu, or a machine that has one",
        ),
        ("echo 2", "--gpus: got 4, but torch sees 2 on this machine; expected 2 or fewer"),
    ],
)
def test_too_few_gpus(python, message, pretended, iwslt, tmp_path):
    if python:
        (tmp_path / "tools" / "python3").write_text(f"#!/usr/bin/env bash\n{python}\n")
        (tmp_path / "tools" / "python3").chmod(0o755)
    given = ("--data", iwslt, "--save", tmp_path / "run", "--model", "plain", "--gpus", 4)
    done = pretended("iwslt14_de_en/train.sh", *given, CUDA_VISIBLE_DEVICES="")
    assert (done.returncode, done.stderr) == (1, f"error: {message}\n")
    assert not (tmp_path / "run").exists()
    assert pretended("iwslt14_de_en/train.sh", *given, "--dry-run").returncode == 0


@pytest.mark.parametrize("teacher", ["--kd-teacher big.pt", "--kd-teacher=big.pt"])
def test_teacher_is_given_after_the_flags(teacher, wmt, tmp_path):
    given = ("--objective", "sokd", "--", *teacher.split())
    _, words = dry("wmt14_en_de/train.sh", wmt, tmp_path / "run", *given)
    assert words[words.index("--kd-objective") + 1] == "sokd"
    assert " ".join(words).endswith(f" {teacher}")


def test_commands_that_are_printed_may_be_pasted_anywhere(pretended, iwslt, tmp_path):
    """Relative paths are those of where the script was called."""
    trained(tmp_path / "run", iwslt, "model=tree", "tree=4[2,2]")
    given = ("--data", "iwslt", "--cpu", "--dry-run")
    command = pretended("iwslt14_de_en/train.sh", *given, "--save", "new", "--model", "plain")
    words = words_of(command.stdout)
    assert words[1] == f"{iwslt}/data-bin"
    assert words[words.index("--save-dir") + 1] == f"{tmp_path}/new"
    said = pretended("iwslt14_de_en/evaluate.sh", *given, "--model", "run").stdout
    paths = {word for word in words_of(said) if "/" in word}
    assert all(
        re.match(rf"(leaf=|PYTHONPATH=|>|K=\$\(|BEST=\(|)?{tmp_path}|/plugin", p) for p in paths
    )
    assert f"{iwslt}/data-bin" in paths and f"{tmp_path}/run" in paths


@pytest.mark.parametrize("leaf", [0, 2])
def test_evaluations_commands_pasted(leaf, pretended, iwslt, tmp_path):
    """With the best leaf that only they find out; a table is what comes out."""
    for name in ("corpus", "reference"):
        (iwslt / name).mkdir()
        (iwslt / name / "test.en").write_text("ein Hund hier .\neine Katze\n")
    run = trained(tmp_path / "a run", iwslt, "model=tree", "tree=4[2,2]")
    given = ("--data", iwslt, "--model", run, "--dry-run")
    said = pretended("iwslt14_de_en/evaluate.sh", *given).stdout
    (tmp_path / "elsewhere").mkdir()
    environment = fixtures.environment(LEAF=str(leaf))
    environment["PATH"] = f"{tmp_path / 'tools'}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        ["bash", "-eu"], input=said, capture_output=True, text=True, env=environment,
        cwd=tmp_path / "elsewhere",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    best = [f"leaf{leaf}-best"] if leaf else []
    assert done.stdout.split("\n")[0].split() == ["leaf0", "ensemble", *best]
    out = run / "evaluation" / "last5-beam5-lenpen1"
    assert list(json.loads((out / "scores.json").read_text())["scores"]) == [
        "leaf0", "ensemble", *best,
    ]  # fmt: skip
    assert sorted(path.name for path in out.glob("leaf*.log")) == sorted(
        ["leaf0.log", *(f"{name}.log" for name in best)]
    )


# --- runs ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """data(corpus, protocol): a preparation, made once."""
    found = {}

    def prepare(corpus, protocol):
        if (corpus, protocol) not in found:
            folder = tmp_path_factory.mktemp(f"{corpus}-{protocol}")
            copy = (fixtures.iwslt if corpus == "iwslt14" else fixtures.wmt)(folder / "copy")
            given = ["--out", folder / "out", "--from", copy, "--sums", copy / "SHA256SUMS"]
            given += ["--protocol", protocol, "--subwords", 60, "--workers", 1]
            given += [] if corpus == "iwslt14" else ["--corpus", corpus]
            succeed(f"{FOLDERS[corpus]}/prepare.sh", *given)
            found[corpus, protocol] = folder / "out"
        return found[corpus, protocol]

    return prepare


def train(corpus, data, save, updates, *more, extra=()):
    return succeed(
        f"{FOLDERS[corpus]}/train.sh", "--data", data, "--save", save, "--cpu",
        "--updates", updates, *more, "--", *TINY, "--lr", "0.01", "--warmup-updates", "2",
        "--log-interval", "1", *extra,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("corpus", "protocol", "model"),
    [
        ("iwslt14", "tokenised", "tree"),
        ("iwslt14", "raw", "plain"),
        ("wmt14", "tokenised", "plain"),
        ("wmt17", "raw", "tree"),
    ],
)
def test_prepare_train_evaluate(corpus, protocol, model, data, tmp_path):
    """From archives to a table of scores, with a training that is stopped and goes on."""
    folder = data(corpus, protocol)
    run = tmp_path / "run"
    given = ("--model", model)
    # (a batch is an epoch here, so that there are checkpoints to average)
    command = [
        "bash", str(EXAMPLES / FOLDERS[corpus] / "train.sh"), "--data", folder, "--save", run,
        "--cpu", "--updates", "6", *given, "--", *TINY, "--lr", "0.01", "--warmup-updates", "2",
        "--log-interval", "1",
    ]  # fmt: skip
    running = subprocess.Popen(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=fixtures.environment(),
        start_new_session=True,
    )
    for line in running.stdout:
        if "Saved checkpoint" in line:
            break
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    said = train(corpus, folder, run, 6, *given)
    assert f"==> going on with the run in {run}\n" in said
    assert re.search(r"Loaded checkpoint .*checkpoint_last.pt", said)
    assert "num_updates: 6 >= max_update: 6" in said

    script = f"{FOLDERS[corpus]}/evaluate.sh"
    # (of WMT fairseq has thrown away the first epoch by now; the best ones are kept)
    chosen = ("--last", 2) if corpus == "iwslt14" else ("--best", 5)
    assert list(run.glob("checkpoint.best_*.pt"))
    said = succeed(script, "--data", folder, "--model", run, *chosen, "--cpu")
    beam = "beam5-lenpen1" if corpus == "iwslt14" else "beam4-lenpen0.6"
    out = run / "evaluation" / f"{chosen[0].strip('-')}{chosen[1]}-{beam}"
    report = json.loads((out / "scores.json").read_text())
    test = (folder / "reference" / ("test.en" if corpus == "iwslt14" else "test.de")).read_text()
    assert report["sentences"] == test.count("\n")
    rows = list(report["scores"])
    if model == "plain":
        assert rows == ["plain"]
    else:
        best = json.loads((out / "exported" / "export.json").read_text())["leaf"]
        assert rows == ["leaf0", *([f"leaf{best}-best"] if best else []), "ensemble"]
    names = {"tokenised", "detokenised", "chrf"} | ({"compound"} if corpus != "iwslt14" else set())
    assert all(scores.keys() == names for scores in report["scores"].values())
    case = "lc" if (corpus, protocol) == ("iwslt14", "tokenised") else "mixed"
    assert f"case:{case}|eff:no|tok:13a" in report["signatures"]["detokenised"]
    assert said.endswith((out / "scores.txt").read_text())
    assert [path.name for path in out.parent.iterdir()] == [out.name]


@pytest.mark.slow
def test_evaluation_is_stopped_and_started_again(data, tmp_path):
    folder, run = data("iwslt14", "tokenised"), tmp_path / "run"
    train("iwslt14", folder, run, 2)
    given = ["--data", folder, "--model", run, "--checkpoint", "checkpoint_best.pt", "--cpu"]
    running = subprocess.Popen(
        ["bash", str(EXAMPLES / "iwslt14_de_en" / "evaluate.sh"), *map(str, given)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=fixtures.environment(),
        start_new_session=True,
    )
    assert "translating the test set: leaf0" in running.stdout.readline()
    os.killpg(running.pid, signal.SIGTERM)
    running.communicate()
    assert list((run / "evaluation").iterdir()) == []
    succeed("iwslt14_de_en/evaluate.sh", *given)
    assert os.listdir(run / "evaluation") == ["checkpoint_best-beam5-lenpen1"]


def losses(log):
    """Of every update, all figures that are sums over the batch."""
    found = []
    for line in re.findall(r"train_inner \| (.*)", log):
        figures = dict(re.findall(r"(\w+)=([\d.e-]+)", line))
        found.append({k: float(v) for k, v in figures.items() if "loss" in k or "nll" in k})
    return found


def by_hand(words):
    """Two processes of a command for torchrun, as fairseq starts them on other machines."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["fairseq-train", *words[words.index("-m") + 2 :]]
    command += ["--distributed-init-method", f"tcp://127.0.0.1:{port}", "--distributed-no-spawn"]
    processes = [
        subprocess.Popen(
            [*command, "--distributed-rank", str(rank)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=fixtures.environment(),
        )
        for rank in range(2)
    ]
    said = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    return said[0]


needs_adapter = pytest.mark.skipif(
    importlib.util.find_spec("tsa_fairseq.plugin.processes") is None,
    reason="waits for the plugin to run under torchrun on a CPU",
)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["by hand", pytest.param("torchrun", marks=needs_adapter)])
def test_two_processes_are_one_with_twice_the_update_freq(launcher, data, tmp_path):
    folder = data("iwslt14", "tokenised")
    given = ("--max-tokens", 512)
    alone = train("iwslt14", folder, tmp_path / "one", 4, *given, extra=["--dropout", "0"])
    if launcher == "torchrun":
        two = train(
            "iwslt14", folder, tmp_path / "two", 4, *given, "--gpus", 2, extra=["--dropout", "0"]
        )
    else:
        more = ("--cpu", "--gpus", 2, "--updates", 4, *given, "--", *TINY, "--lr", "0.01")
        more += ("--warmup-updates", 2, "--log-interval", 1, "--dropout", 0)
        _, words = dry("iwslt14_de_en/train.sh", folder, tmp_path / "two", *more)
        assert words[:5] == "torchrun --standalone --nproc-per-node 2 -m".split()
        two = by_hand(words)
    assert len(losses(alone)) == 4 and len(losses(alone)[0]) >= 7
    assert losses(two) == losses(alone)
    assert "max_update: 4" in two and "--update-freq" not in two


@pytest.mark.parametrize("nodes", [1, 4])
def test_slurm_script(nodes, wmt, tmp_path):
    """Its last line, with an srun that runs a task here and a scontrol that knows four names."""
    text = (EXAMPLES / "recipe" / "train.sbatch").read_text()
    text = text.replace("DATA=data/wmt14 ", f"DATA={wmt} ")
    text = text.replace("SAVE=runs/wmt-tree ", f"SAVE={tmp_path}/run ")
    (tmp_path / "train.sbatch").write_text(text.replace("--size base)", "--size big --dry-run)"))
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, line in (("srun", 'shift; exec "$@"'), ("scontrol", "printf 'n%s\\n' 7 8 9 10")):
        (tools / name).write_text(f"#!/bin/sh\n{line}\n")
        (tools / name).chmod(0o755)
    slurm = {"NODES": nodes, "NODELIST": "n[7-10]", "ID": 1234567, "NUM_NODES": nodes}
    variables = {f"SLURM_JOB_{name}": str(value) for name, value in slurm.items()}
    variables |= {"SLURM_SUBMIT_DIR": str(ROOT), "SLURM_GPUS_ON_NODE": "8"}
    variables["SLURM_CPUS_PER_TASK"] = "32"
    environment = fixtures.environment(**variables)
    environment["PATH"] = f"{tools}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        ["bash", tmp_path / "train.sbatch"], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    words = words_of(done.stdout)
    args = parsed(words)
    assert args.distributed_world_size == 8 * nodes and args.update_freq == [16 // nodes]
    assert words[0] == "torchrun" and ("--standalone" in words) == (nodes == 1)
    assert nodes == 1 or words[words.index("--rdzv-endpoint") + 1] == "n7:34567"
