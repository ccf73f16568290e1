"""Whole training steps by fairseq's own trainer: forward, backward, clipping, Adam."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import tsa_fairseq
from bench.measure import Case, Work
from bench.operations import Started
from tsa_fairseq.objectives import OBJECTIVES
from tsa_fairseq.tree.cost import Dimensions, multiply_adds
from tsa_fairseq.tree.topology import Topology

PLUGIN = str(Path(tsa_fairseq.__file__).parent)
# In both models fairseq's names for the sizes; written out for the stock model, which has no
# architecture of that name.
MODELS = {
    "multi30k": Dimensions(4, 128, 256, 128, 256, 0),
    "iwslt_de_en": Dimensions(6, 512, 1024, 512, 1024, 0),
}
TREES = {
    "multi30k": {"1 leaf": "4", "2 leaves": "1,1,1,2", "4 leaves": "1,1,2,4"},
    "iwslt_de_en": {"1 leaf": "6", "2 leaves": "1,1,1,1,1,2", "4 leaves": "1,1,1,1,2,4"},
}
STOCK, RDROP = "stock fairseq", "stock fairseq, R-Drop"
STOCK_FLAGS = ["--arch", "transformer", "--criterion", "label_smoothed_cross_entropy"]


@dataclass(frozen=True)
class Training:
    """What a worker needs to know to train."""

    argv: tuple[str, ...]
    steps: int


def cases(
    data: Path,
    model: str,
    vocabulary: int,
    steps: int,
    device: str,
    fp16: bool,
    flags: list[str],
) -> list[Case]:
    """The stock model, trees of 1, 2 and 4 leaves, and R-Drop where fairseq has it.

    Args:
        data: what ``write_corpus`` returned.
        model: a key of ``MODELS``.
        vocabulary: of the corpus.
        steps: of one round.
        device: ``cpu`` or ``cuda``.
        fp16: train in half precision.
        flags: more flags for the trees, such as ``--kd-loss dense``.
    """
    from fairseq.criterions import CRITERION_REGISTRY

    found = {STOCK: (STOCK_FLAGS, _cost(str(MODELS[model].encoder_layers), model, vocabulary))}
    for name, tree in TREES[model].items():
        argv = ["--user-dir", PLUGIN, "--arch", "tsa_transformer", "--tree", tree]
        argv += ["--criterion", "tsa_online_kd", *flags]
        found[f"tree, {name}"] = (argv, _cost(tree, model, vocabulary))
    rdrop = f"{STOCK_FLAGS[-1]}_with_rdrop"
    if rdrop in CRITERION_REGISTRY:
        argv = ["--arch", "transformer", "--criterion", rdrop, "--rdrop-alpha", "5"]
        found[RDROP] = (argv, 2 * found[STOCK][1])
    return _made(found, _common(data, model, device, fp16), steps, device)


def objective_cases(
    data: Path, model: str, vocabulary: int, steps: int, device: str, fp16: bool, folder: Path
) -> list[Case]:
    """The stock model, every objective on the tree of 4 leaves, R-Drop and SimCut on the plain one.

    Args:
        data, model, vocabulary, steps, device, fp16: see :func:`cases`.
        folder: where a teacher is written, of the stock model's size and untrained.
    """
    common = _common(data, model, device, fp16)
    plain, tree = str(MODELS[model].encoder_layers), TREES[model]["4 leaves"]
    teacher = folder / "teacher.pt"
    _write_teacher((*common, *STOCK_FLAGS), teacher)
    found = {STOCK: (STOCK_FLAGS, _cost(plain, model, vocabulary))}
    for name, objective in OBJECTIVES.items():
        shape = plain if objective.views > 1 else tree
        argv = ["--user-dir", PLUGIN, "--arch", "tsa_transformer", "--tree", shape]
        argv += ["--criterion", "tsa_online_kd", "--kd-objective", name]
        cost = _cost(shape, model, vocabulary) * objective.views
        if objective.needs_teacher:
            argv += ["--kd-teacher", str(teacher)]
            cost = 0  # the teacher's and the bridge's are not counted
        found[name] = (argv, cost)
    return _made(found, common, steps, device)


def _made(
    found: dict[str, tuple[list[str], int]], common: list[str], steps: int, device: str
) -> list[Case]:
    """Cases, from the flags and the multiply-adds of each."""
    return [
        Case(name, prepare, Training((*common, *argv), steps), cost, device)
        for name, (argv, cost) in found.items()
    ]


def _cost(tree: str, model: str, vocabulary: int) -> int:
    sizes = MODELS[model]
    dims = Dimensions(**{**vars(sizes), "vocabulary": vocabulary})
    return multiply_adds(Topology.parse(tree, sizes.encoder_layers), dims)


def _configuration(argv: Sequence[str]) -> Any:
    """What fairseq-train makes of its command line."""
    from fairseq import options
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf

    parser = options.get_training_parser()
    return convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, list(argv)))


def _write_teacher(argv: Sequence[str], path: Path) -> None:
    from fairseq import tasks

    config = _configuration(argv)
    model = tasks.setup_task(config.task).build_model(config.model)
    cfg = {"model": config.model, "task": {"data": config.task.data}}
    torch.save({"cfg": cfg, "model": model.state_dict()}, path)


def _common(data: Path, model: str, device: str, fp16: bool) -> list[str]:
    sizes, heads = MODELS[model], "4"
    common = [str(data), "--share-all-embeddings", "--dropout", "0.3"]
    common += ["--label-smoothing", "0.1", "--max-tokens", "4096", "--seed", "1", "--lr", "1e-4"]
    common += ["--optimizer", "adam", "--clip-norm", "25", "--no-save", "--num-workers", "0"]
    common += ["--data-buffer-size", "0", "--log-format", "none", "--max-update", "1000000"]
    common += ["--required-batch-size-multiple", "1"]
    for side in ("encoder", "decoder"):
        common += [f"--{side}-layers", str(sizes.encoder_layers)]
        common += [f"--{side}-embed-dim", str(sizes.encoder_embed_dim)]
        common += [f"--{side}-ffn-embed-dim", str(sizes.encoder_ffn_embed_dim)]
        common += [f"--{side}-attention-heads", heads]
    common += ["--cpu"] if device == "cpu" else []
    return common + (["--fp16", "--fp16-init-scale", "8"] if fp16 else [])


def prepare(training: Training) -> Callable[[], Work]:
    """Build what fairseq-train builds, and return its step over the next batches."""
    from fairseq import tasks
    from fairseq.data import iterators
    from fairseq.logging import metrics
    from fairseq.trainer import Trainer

    config = _configuration(training.argv)
    logging.disable(logging.INFO)
    task = tasks.setup_task(config.task)
    model, criterion = task.build_model(config.model), task.build_criterion(config.criterion)
    task.load_dataset("train")
    trainer = Trainer(config, task, model, criterion)
    epochs = trainer.get_train_iterator(epoch=1, load_dataset=False)

    def batches():
        while True:
            yield from iterators.GroupedIterator(epochs.next_epoch_itr(shuffle=True), 1)

    ahead = batches()
    counted = False

    def work() -> Work:
        nonlocal counted
        tokens = 0
        for _ in range(training.steps):
            samples = next(ahead)
            tokens += sum(sample["ntokens"] for sample in samples)
            with metrics.aggregate("train_inner"):
                trainer.train_step(samples)
        operations = 0
        if not counted:  # once, after the step that makes the optimizer's state
            counted = True
            with metrics.aggregate("train_inner"), Started() as counter:
                trainer.train_step(next(ahead))
            operations = counter.started
        return Work(tokens, operations=operations)

    return work
