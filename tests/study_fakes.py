"""A repository and commands that stand in for fairseq and the plugin: the same files, no training.

What validation gives after every epoch is read from the file ``nll`` in the study's folder; the
file ``accident`` there says, for once, where a training breaks off as if it were killed.
"""

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]

TRAIN = r"""
import json, os, signal, sys, zipfile
from pathlib import Path

def flag(name):
    return sys.argv[sys.argv.index(name) + 1]

study = Path.cwd().parents[1]
save = Path(flag("--save-dir"))
save.mkdir(exist_ok=True)
nlls = [float(word) for word in (study / "nll").read_text().split()]
limit, patience = int(flag("--max-update")), int(flag("--patience"))
tree = "--tree" in sys.argv
if "--broken" in sys.argv:
    sys.exit("fairseq-train: error: unrecognized arguments: --broken")

def accident(what, epoch):
    path = study / "accident"
    if path.exists() and path.read_text() == f"{what} {epoch}":
        path.unlink()
        os.kill(os.getpid(), signal.SIGKILL)

def log(tag, stats):
    print("2025-01-01 00:00:00 | INFO |", tag, "|", json.dumps(stats), flush=True)

def store(path, epoch):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("epoch", f"{epoch}")

def copy(source, target, epoch):
    content = source.read_bytes()
    target.write_bytes(content[: len(content) // 2])
    accident(f"copy {target.name}", epoch)
    target.write_bytes(content)

def restored():
    with zipfile.ZipFile(save / "checkpoint_last.pt") as file:
        return int(file.read("epoch"))

epoch = restored() if (save / "checkpoint_last.pt").exists() else 0
best, since, without = min(nlls[:epoch], default=9e9), 9e9, 0
while True:
    epoch += 1
    updates = min(10 * epoch, limit)
    nll = nlls[epoch - 1]
    log("train_inner", {"epoch": epoch, "num_updates": str(updates), "wps": "100"})
    accident("training", epoch)
    stats = {"epoch": epoch, "valid_nll_loss": str(nll), "valid_num_updates": str(updates),
             "valid_wps": "3", "valid_loss": str(nll + 1)}
    if tree:
        stats |= {"valid_nll_leaf0": str(nll), "valid_nll_leaf1": str(nll - 0.1),
                  "valid_nll_ensemble": str(nll - 0.2), "valid_disagreement": "0.25",
                  "valid_pairwise_kl": "0.125"}
    log("valid", stats)
    accident("validated", epoch)
    whole = updates == 10 * epoch
    name = f"checkpoint{epoch}.pt" if whole else f"checkpoint_{epoch}_{updates}.pt"
    store(save / f"{name}.tmp", epoch)
    (save / f"{name}.tmp").rename(save / name)
    if nll <= best:
        best = nll
        copy(save / name, save / "checkpoint_best.pt", epoch)
    copy(save / name, save / "checkpoint_last.pt", epoch)
    accident("saved", epoch)
    stats = {"train_nll_loss": str(nll + 2), "train_num_updates": str(updates)}
    log("train", {"epoch": epoch, **stats})
    since, without = (nll, 0) if nll < since else (since, without + 1)
    if updates >= limit or without >= patience:
        print("| INFO | fairseq_cli.train | done training in 1.0 seconds", flush=True)
        break
"""

GENERATE = r"""
import sys, zipfile
from pathlib import Path

def flag(name):
    return sys.argv[sys.argv.index(name) + 1]

with zipfile.ZipFile(flag("--path")) as file:
    epochs = file.read("epoch").decode()
part = {"valid": "val", "test": "test_2016_flickr"}[flag("--gen-subset")]
lines = (Path(sys.argv[1]).parent / "corpus" / f"{part}.de").read_text().splitlines()
for number, line in reversed(list(enumerate(lines))):
    words = line.split()
    if number % 2:
        words = words[:-1] + ["falsch"]
    if "ensemble" in " ".join(sys.argv):
        words = line.split()
    print(f"H-{number}\t-0.5\t{' '.join(words)}")
(Path(flag("--path")).parent / "translated").open("a").write(f"{epochs}\n")
"""

COMMAND = r"""
import re, sys, zipfile
from pathlib import Path

def epoch(path):
    with zipfile.ZipFile(path) as file:
        return int(file.read("epoch"))

def main():
    if sys.argv[1] == "tree":
        print("training multiply-adds   1.25 x the plain model's")
        return
    out, folder, number = Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[5])
    nlls = [float(word) for word in (Path.cwd().parents[1] / "nll").read_text().split()]
    names = [p for p in folder.iterdir() if re.fullmatch(r"checkpoint(\d+|_\d+_\d+).pt", p.name)]
    if len(names) < number:
        sys.exit("tsa-fairseq: error: too few")
    chosen = sorted(names, key=lambda p: (-nlls[epoch(p) - 1], str(p)))[-number:]
    with zipfile.ZipFile(out, "w") as file:
        file.writestr("epoch", " ".join(str(epoch(p)) for p in chosen))
"""

PREPARE = r"""
set -e
out=$2
if [ "${5-}" = --from ] && [ ! -e "${6-}/train" ]; then
    echo "error: --from: $6 has no train" >&2
    exit 1
fi
mkdir -p "$out/corpus"
cd "$out"
printf '%s\n' 'ein hund schläft hier .' 'zwei hunde bellen hier .' > corpus/val.de
printf '%s\n' 'eine katze schläft dort heute .' 'zwei katzen schlafen dort heute .' \
    > corpus/test_2016_flickr.de
printf '%s\n' protocol=tokenised types=100 > preparation.txt
"""


def make_repository(folder: Path) -> None:
    """What the queue takes from a clone, committed."""
    files = {
        "setup.py": 'entry_points={"console_scripts": ["tsa-fairseq = tsa_fairseq.command:main"]}',
        "tsa_fairseq/__init__.py": "",
        "tsa_fairseq/command.py": COMMAND,
        "examples/multi30k/prepare.sh": PREPARE,
        "examples/multi30k/score.py": (ROOT / "examples/multi30k/score.py").read_text(),
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    git(folder, "init", "-q")
    commit(folder)


def make_commands(folder: Path) -> None:
    """fairseq-train and fairseq-generate."""
    folder.mkdir()
    (folder / "fairseq-train").write_text(TRAIN, encoding="utf-8")
    (folder / "fairseq-generate").write_text(GENERATE, encoding="utf-8")


def commit(folder: Path) -> str:
    """All that is there; returns the commit."""
    git(folder, "add", "-A")
    who = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    git(folder, *who, "commit", "-q", "--allow-empty", "-m", "test")
    return git(folder, "rev-parse", "HEAD")


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
