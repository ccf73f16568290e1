"""Texts for tests of compare and report: the study's translations, and ones made worse of them."""

import gzip
import random
from pathlib import Path

STUDY = Path(__file__).parents[1] / "examples" / "multi30k" / "study" / "hypotheses"


def lines_of(name, number=None):
    """Translations of the study."""
    content = gzip.decompress((STUDY / f"{name}.gz").read_bytes()).decode("utf-8")
    return content.split("\n")[:-1][:number]


def worse(lines, seed, share):
    """Lines in which a share of the words is another word of the line, or is missing."""
    drawn = random.Random(seed)

    def word(one, words):
        if drawn.random() >= share:
            return one
        return drawn.choice([*words, ""])

    return [" ".join(filter(None, (word(w, line.split()) for w in line.split()))) for line in lines]


def write(path, lines):
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def generated(path, hypotheses, references, sources, log=""):
    """What fairseq-generate prints, longest sentence first as it batches them."""
    order = sorted(range(len(hypotheses)), key=lambda n: -len(sources[n].split()))
    text = []
    for n in order:
        text += [f"S-{n}\t{sources[n]}", f"T-{n}\t{references[n]}", f"H-{n}\t-0.5\t{hypotheses[n]}"]
        text += [f"D-{n}\t-0.5\t{hypotheses[n]}", f"P-{n}\t-0.5 -0.5"]
    return write(path, [*text, *filter(None, [log])])


SPEED = (
    "2026-01-01 00:00:00 | INFO | fairseq_cli.generate | Translated 4 sentences (32 tokens) in 0.1s"
    " (40.25 sentences/s, 300.00 tokens/s)"
)
CONFIG = (
    "2026-01-01 00:00:00 | INFO | fairseq_cli.train | {{'_name': None, 'common': {{'_name': None, "
    "'seed': {seed}, 'log_format': '{form}'}}, 'optimization': {{'max_update': 40, 'lr': [0.01], "
    "'update_freq': [1]}}, 'checkpoint': {{'best_checkpoint_metric': 'nll_loss'}}, 'model': "
    "Namespace(arch='{arch}', encoder_layers=2, encoder_embed_dim=8, encoder_ffn_embed_dim=16, "
    "decoder_layers=2, decoder_embed_dim=8, decoder_ffn_embed_dim=16, kd_objective={objective}, "
    "kd_views=None, tree={tree}, data='data/bin')}}"
)
HEAD = [
    "2026-01-01 00:00:00 | INFO | fairseq.tasks.translation | [en] dictionary: 100 types",
    "2026-01-01 00:00:00 | INFO | fairseq.tasks.translation | [de] dictionary: 100 types",
    "2026-01-01 00:00:01 | INFO | fairseq_cli.train | num. shared model params: {params} (num. "
    "trained: {params})",
]
DONE = "2026-01-01 00:00:09 | INFO | fairseq_cli.train | done training in 8.5 seconds"
CRASH = [
    "Traceback (most recent call last):",
    '  File "train.py", line 1, in <module>',
    "    loss.backward()",
    "RuntimeError: no memory left",
]


def training(path, nll, leaves=0, end=DONE, seed=1, form="simple"):
    """A log of fairseq-train: an epoch of 10 updates for each value of the nll of leaf 0."""
    tree = "'1,2'" if leaves else "None"
    arch, objective = ("tsa_transformer", "'tsa'") if leaves else ("transformer", "None")
    config = CONFIG.format(seed=seed, form=form, arch=arch, objective=objective, tree=tree)
    lines = [config, *(line.format(params="3,000") for line in HEAD)]
    for epoch, value in enumerate(nll, 1):
        figures = {"loss": value + 1, "nll_loss": value}
        if leaves:
            figures |= {f"nll_leaf{k}": round(value + 0.25 * k, 3) for k in range(leaves)}
            figures |= {"nll_ensemble": value - 0.5, "kd_loss": 0.125, "kd_weight": 0.5}
            figures |= {"disagreement": 0.25, "pairwise_kl": 0.375}
        stats = figures | {"wpb": 100, "num_updates": 10 * epoch}
        tag = "2026-01-01 00:00:02 | INFO |"
        pipes = " | ".join(f"{name} {number}" for name, number in stats.items())
        inner = ", ".join(f"{name}={number}" for name, number in {**figures, "wps": 5000}.items())
        inner = f"{inner}, num_updates={10 * epoch}"
        if form == "json":
            import json

            for name in ("train_inner", "valid", "train"):
                mark = "" if name == "train_inner" else f"{name}_"
                said = {"epoch": epoch} | {f"{mark}{k}": str(v) for k, v in stats.items()}
                lines.append(f"{tag} {name} | {json.dumps(said)}")
            continue
        bar = f"epoch {epoch:03d}:  50%|#####     | 5/10 [00:01<00:01,  5.0it/s, {inner}]"
        simple = f"{tag} train_inner | epoch {epoch:03d}:     10 / 10 {inner}"
        lines.append(f"\r{bar}\r{bar}" if form == "tqdm" else simple)
        valid = f"{tag} valid | epoch {epoch:03d} | valid on 'valid' subset | {pipes}"
        # a bar stands before what is logged, where both go into one file
        lines.append(f"{bar}{valid}" if form == "tqdm" else valid)
        lines.append(f"{tag} train | epoch {epoch:03d} | {pipes}")
    end = [end] if isinstance(end, str) else end
    return write(path, [*lines, *end])
