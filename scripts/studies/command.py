"""The commands of a run, as anyone can paste them into a clone: all paths are relative."""

from studies.listing import Protocol, Run

PLUGIN = "tsa_fairseq"
SUBSETS = ("valid", "test")


def data(protocol: Protocol) -> str:
    """The folder that prepare.sh makes."""
    return f"data/{protocol.name}"


def save_dir(run: Run) -> str:
    """The folder of a run's checkpoints."""
    return f"runs/{run.id}"


def train(run: Run, device: str) -> list[str]:
    """fairseq-train, with everything that decides what comes out.

    Every epoch's checkpoint is kept: --keep-best-checkpoints gives two of the same nll one name if
    their random digit is the same, and a kill amid its copies leaves half a file. The last one has
    a name of its own too if it falls within an epoch (--save-interval-updates).
    """
    protocol = run.protocol
    updates = str(protocol.updates)
    if "--max-update" in run.flags:
        updates = run.flags[run.flags.index("--max-update") + 1]
    return [
        *("fairseq-train", f"{data(protocol)}/data-bin", "--user-dir", PLUGIN),
        *("--task", "translation", "--source-lang", "en", "--target-lang", "de"),
        *protocol.train,
        *("--required-batch-size-multiple", "1", "--update-epoch-batch-itr", "True"),
        *("--num-workers", "0", "--distributed-world-size", "1"),
        *("--max-update", updates, "--save-interval-updates", updates),
        *("--best-checkpoint-metric", "nll_loss", "--patience", str(protocol.patience)),
        *("--log-format", "json", "--log-interval", "50"),
        *run.flags,
        *("--seed", str(run.seed), "--save-dir", save_dir(run)),
        *_device(device),
    ]


def average(run: Run, number: int) -> list[str]:
    """tsa-fairseq average, of the best checkpoints."""
    folder = save_dir(run)
    return ["tsa-fairseq", "average", f"{folder}/average.pt", folder, "--best", str(number)]


def generate(run: Run, checkpoint: str, subset: str, inference: str, device: str) -> list[str]:
    """fairseq-generate for every sentence of a subset.

    Args:
        checkpoint: a file in the run's folder.
        inference: what a tree translates with, as --tree-inference; empty for its leaf 0.
    """
    overrides = ["--model-overrides", f"{{'tree_inference': '{inference}'}}"] if inference else []
    return [
        *("fairseq-generate", f"{data(run.protocol)}/data-bin", "--user-dir", PLUGIN),
        *("--task", "translation", "--source-lang", "en", "--target-lang", "de"),
        *("--path", f"{save_dir(run)}/{checkpoint}", "--gen-subset", subset, *overrides),
        *("--beam", "5", "--lenpen", "1", "--batch-size", "128"),
        *("--required-batch-size-multiple", "1", "--num-workers", "0", "--remove-bpe"),
        *_device(device),
    ]


def value(run: Run, flag: str) -> str | None:
    """What a flag is set to in the end; None if it is not given."""
    found = None
    words = (*run.protocol.train, *run.flags)
    for word, following in zip(words, (*words[1:], ""), strict=True):
        if word == flag:
            found = following
        elif word.startswith(f"{flag}="):
            found = word.removeprefix(f"{flag}=")
    return found


def _device(device: str) -> list[str]:
    return ["--cpu"] if device == "cpu" else []
