"""Builds a checkpoint's model by fairseq, of what was read and checked: it opens no file itself."""

import copy
import dataclasses
from argparse import Namespace
from typing import Any

from fairseq import checkpoint_utils, tasks
from fairseq.dataclass.configs import CommonConfig, DatasetConfig, GenerationConfig
from omegaconf import OmegaConf

from tsa_fairseq.files.building import check_outline, in_one_line
from tsa_fairseq.files.checkpoint import model_arguments
from tsa_fairseq.files.task_dictionaries import with_task_files

# A head for which a tree translates; all others are for training, and are not built.
_GATED = "one"
# Whatever the file says: how it was validated, which takes tokenizers and their options.
_NOT_FOLLOWED = {"eval_bleu": False, "eval_bleu_args": "{}", "eval_bleu_detok_args": "{}"}


def build(
    state: dict[str, Any], path: str, flag: str, task: dict[str, Any], model: dict[str, Any]
) -> tuple[Any, Any, Any]:
    """The model, fairseq's configuration, in which nothing else is the file's, and its task.

    Args:
        state: of :func:`tsa_fairseq.files.checkpoint.read_checkpoint`.
        path: its file, for messages.
        flag: the option that named it.
        task: arguments of the task in place of the file's, ``data`` among them.
        model: of the model.

    Raises:
        UsageError: fairseq cannot build it.
    """
    arguments = {**vars(model_arguments(state)), **model}
    arguments.update(encoder_embed_path=None, decoder_embed_path=None)
    if arguments.get("kd_objective") != _GATED and "tree" in arguments:
        arguments["kd_objective"] = None
    tasked = {**vars(model_arguments(state, "task")), **task}
    tasked = with_task_files(tasked, str(tasked.get("data") or ""))
    tasked.update({name: value for name, value in _NOT_FOLLOWED.items() if name in tasked})
    tasked.setdefault("_name", tasked.get("task", "translation"))
    legacy = "task" in tasked  # fairseq reads attributes of it
    sections = {
        "common": CommonConfig(),
        "dataset": DatasetConfig(),
        "generation": GenerationConfig(),
    }
    cfg: dict[str, Any] = {name: dataclasses.asdict(one) for name, one in sections.items()}
    cfg["dataset"].update(state["cfg"].get("dataset") or {})
    cfg.update(bpe=None, tokenizer=None, model=Namespace(**arguments))
    cfg["task"] = Namespace(**tasked) if legacy else tasked
    made = OmegaConf.create(cfg, flags={"allow_objects": True})
    checked = {
        "args": None,
        "cfg": made,
        "model": state["model"],
        "optimizer_history": state.get("optimizer_history") or [],
    }
    with in_one_line(path, flag):
        of_fairseq = tasks.setup_task(made.task)
        outlined = copy.copy(made.model)  # fairseq notes in it that layers are left out
        check_outline(
            lambda: of_fairseq.build_model(outlined), checked["model"], model_cfg=outlined
        )
        models, _ = checkpoint_utils.load_model_ensemble([path], task=of_fairseq, state=checked)
    return models[0], made, of_fairseq
