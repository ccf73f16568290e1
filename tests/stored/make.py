"""Makes what later releases must still load and translate with: a checkpoint and exports of it.

    python tests/stored/make.py tests/stored/VERSION

trains a tiny tree on digits and their German words, and notes how it translates. Run it once a
release, before the release; never again for a release that is out.
"""

import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from fairseq import checkpoint_utils

import tsa_fairseq
from tsa_fairseq.cli.main import main as tsa_fairseq_command
from tsa_fairseq.deploy.averaging import average

WORDS = "null eins zwei drei vier fünf sechs sieben acht neun".split()
INFERENCE = ("leaf:0", "leaf:1", "leaf:2", "ensemble", "gate")
SENTENCES = ("7", "3 1", "4 0 4", "9 8 2 5", "6 6 6", "1 2 3 4 5")
FLAGS = [
    *("--arch", "tsa_transformer", "--tree", "1[2,1[1,1]]", "--seed", "1"),
    *("--encoder-layers", "1", "--encoder-embed-dim", "16", "--encoder-ffn-embed-dim", "24"),
    *("--decoder-layers", "3", "--decoder-embed-dim", "16", "--decoder-ffn-embed-dim", "24"),
    *("--encoder-attention-heads", "2", "--decoder-attention-heads", "2"),
    *("--encoder-normalize-before", "--decoder-normalize-before"),
    *("--share-decoder-input-output-embed", "--dropout", "0.1", "--cpu"),
    *("--max-source-positions", "64", "--max-target-positions", "64"),
    *("--criterion", "tsa_online_kd", "--kd-objective", "one", "--label-smoothing", "0.1"),
    *("--optimizer", "adam", "--lr", "0.01", "--lr-scheduler", "inverse_sqrt"),
    *("--warmup-updates", "20", "--max-tokens", "500", "--max-update", "600"),
    *("--num-workers", "0", "--data-buffer-size", "0", "--no-epoch-checkpoints"),
    *("--source-lang", "digits", "--target-lang", "words", "--disable-validation"),
]


def run(name: str, *flags: object) -> None:
    """One of fairseq's commands."""
    program = f"from fairseq_cli.{name} import cli_main; cli_main()"
    subprocess.run([sys.executable, "-c", program, *map(str, flags)], check=True)


def write_data(folder: Path) -> None:
    """Digits and words, and what fairseq-preprocess makes of them."""
    draw = random.Random(0)
    for split, count in (("train", 3000), ("valid", 20)):
        lines = [[draw.randrange(10) for _ in range(draw.randint(1, 5))] for _ in range(count)]
        for side, word in (("digits", str), ("words", WORDS.__getitem__)):
            text = "".join(" ".join(map(word, line)) + "\n" for line in lines)
            (folder / f"{split}.{side}").write_text(text, encoding="utf-8")
    prefixes = ["--trainpref", folder / "train", "--validpref", folder / "valid"]
    run("preprocess", "-s", "digits", "-t", "words", *prefixes, "--destdir", folder / "bin")


def translations(path: Path) -> dict[str, list[list[object]]]:
    """Words and score of the best hypothesis of every sentence, by way of translating.

    Through fairseq alone, so that the figures do not come from what is tested with them.
    """
    found = {}
    for inference in INFERENCE:
        models, cfg, task = checkpoint_utils.load_model_ensemble_and_task(
            [str(path)], arg_overrides={"tree_inference": inference, "data": str(path.parent)}
        )
        generator = task.build_generator(models, cfg.generation)
        found[inference] = []
        for sentence in SENTENCES:
            source = task.source_dictionary.encode_line(sentence, add_if_not_exist=False).long()
            lengths = torch.tensor([len(source)])
            sample = {"net_input": {"src_tokens": source[None], "src_lengths": lengths}}
            best = task.inference_step(generator, models, sample)[0][0]
            words = task.target_dictionary.string(best["tokens"])
            found[inference].append([words, round(best["score"].item(), 6)])
    return found


def main() -> None:
    """Train, strip, translate, write."""
    out = Path(sys.argv[1])
    out.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder)
        plugin = Path(tsa_fairseq.__file__).parent
        save = ["--save-dir", folder / "save"]
        run("train", folder / "bin", "--user-dir", plugin, *FLAGS, *save)
        state = average([str(folder / "save" / "checkpoint_last.pt")], print)
        # neither where it was made nor for how long
        state["cfg"]["task"]["data"] = state["cfg"]["model"].data = "data-bin"
        state["cfg"]["common"]["user_dir"] = state["cfg"]["model"].user_dir = "tsa_fairseq"
        state["cfg"]["checkpoint"]["save_dir"] = state["cfg"]["model"].save_dir = "checkpoints"
        torch.save(state, out / "tree.pt")
        for language in ("digits", "words"):
            file = f"dict.{language}.txt"
            (out / file).write_bytes((folder / "bin" / file).read_bytes())
    made = {"sentences": SENTENCES, "hypotheses": translations(out / "tree.pt")}
    text = json.dumps(made, indent=1, ensure_ascii=False)
    (out / "expected.json").write_text(text + "\n", encoding="utf-8")
    for to in ("fairseq", "ctranslate2"):
        folder = out / f"exported.{to}"
        export = ["export", out / "tree.pt", folder, "--data", out, "--leaf", "2", "--to", to]
        if tsa_fairseq_command(list(map(str, export))):
            raise SystemExit(1)


if __name__ == "__main__":
    main()
