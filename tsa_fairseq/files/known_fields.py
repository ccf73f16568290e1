"""Which fields a model, a task or a criterion of fairseq's has, and of which kind each is.

The class's own parser says so; what a parser cannot say stands in the tables here: how large a
number may be, which texts fairseq evaluates, and which fields it reads that no parser knows.
"""

import argparse
import dataclasses
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from fairseq.criterions import CRITERION_REGISTRY
from fairseq.models import ARCH_MODEL_NAME_REGISTRY, MODEL_REGISTRY
from fairseq.tasks import TASK_DATACLASS_REGISTRY, TASK_REGISTRY

from tsa_fairseq.files import kinds
from tsa_fairseq.files.kinds import Kind

# By their names in fairseq's registries: what is built from a file.
MODELS = ("tsa_transformer", "transformer")
TASKS = ("translation", "translation_multi_simple_epoch")
# What a checkpoint may say that it was trained by; nothing is built of it.
CRITERIONS = ("tsa_online_kd", "label_smoothed_cross_entropy", "cross_entropy")

_ANY_WHOLE = kinds.whole(-(2**63), 2**63 - 1)
_ANY_NUMBER = kinds.number(-1e30, 1e30)
_FRACTION = kinds.number(0, 1)
_WIDTH = kinds.whole(1, 2**16)

# Of a model: by the whole of its name, first match first.
_OF_MODEL = {
    r"decoder_(input|output)_dim": kinds.whole_text(1, 2**16),
    r"(encoder|decoder)_(embed|ffn_embed)_dim": _WIDTH,
    r"(encoder|decoder)_layers": kinds.whole(0, 1_024),
    r"(encoder|decoder)_attention_heads": kinds.whole(1, 2**16),
    r"max_(source|target)_positions": kinds.whole(1, 10_000_000),
    r"quant_noise_pq_block_size": _WIDTH,
    r"\w*(dropout|layerdrop)|quant_noise_(pq|scalar)": _FRACTION,
    r"base_(layers|sublayers|shuffle)": kinds.whole(0, 64),
    r"adaptive_softmax_factor": kinds.number(1e-3, 2**16),
    r"(encoder|decoder)_layers_to_keep": kinds.layer_numbers(),
    r"adaptive_softmax_cutoff": kinds.whole_numbers(1, 2**31),
    r"(encoder|decoder)_xformers_att_config": kinds.literal(),
    # the parameters are in the checkpoint, and nobody else's files are read
    r"(encoder|decoder)_embed_path|tree_init_from": kinds.nothing(),
    r"kd_detach_targets": kinds.yes_or_no(),
    r"kd_(bridge_layers|views)": kinds.whole(1, 10_000),
}
# Read by fairseq's layers, though no parser has them.
_OF_LAYERS = dict.fromkeys(
    ("scale_attn", "scale_heads", "scale_fc", "scale_resids"), kinds.boolean()
)
_OF_TASK = {
    r"left_pad_(source|target)": kinds.boolean_text(),
    r"eval_bleu(_detok)?_args": kinds.json_object(),
    r"eval_bleu_detok": kinds.choice(("space", "moses", "nltk")),
    r"max_(source|target)_positions": kinds.whole(1, 2**63 - 1),
    r"(source|target)_lang|langs|lang_pairs": kinds.languages(),
    r"langtoks": kinds.literal(),
    r"sampling_weights": kinds.literal(),
    # of more data to train on, and of how to draw from them
    r"extra_data|extra_lang_pairs|sampling_weights_from_file": kinds.nothing(),
}
# References to other sections in fairseq's dataclass, or read although no parser has them.
_BESIDE_TASK = {
    # not fasta, for which fairseq hands the file's name to a shell
    "dataset_impl": kinds.choice(("raw", "lazy", "cached", "mmap", "huffman")),
    "train_subset": kinds.text(),
    "required_seq_len_multiple": kinds.whole(1, 2**20),
    "seed": _ANY_WHOLE,
    "shuffle_instance": kinds.boolean(),
}
_BESIDE_CRITERION = {"sentence_avg": kinds.boolean()}


def architecture_of(name: Any) -> str | None:
    """The one of :data:`MODELS` that an ``--arch`` is of, if it is of one."""
    model = ARCH_MODEL_NAME_REGISTRY.get(name) if type(name) is str else None
    return model if model in MODELS else None


@lru_cache
def model_fields(model: str) -> Mapping[str, Kind]:
    """The fields of one of :data:`MODELS`; of a tree, with those of how it was trained."""
    found = _of_parser(MODEL_REGISTRY[model], _OF_MODEL)
    width = kinds.whole_text(1, 2**16)
    found.update({f"decoder_{side}_dim": width for side in ("input", "output")}, **_OF_LAYERS)
    if model == "tsa_transformer":
        ours = _of_parser(CRITERION_REGISTRY["tsa_online_kd"], _OF_MODEL)
        # None: not given, to the criterion's flags
        found.update(
            {
                name: dataclasses.replace(kind, optional=True)
                for name, kind in ours.items()
                if name.startswith("kd_")
            }
        )
        found["kd_teacher_checksum"] = kinds.text()
        found["tree_complete"] = kinds.boolean()  # of a training that fairseq-hydra-train began
        found["kd_teacher_layout"] = kinds.json_object(model_fields("transformer"))
    return found


@lru_cache
def task_fields(task: str) -> Mapping[str, Kind]:
    """The fields of one of :data:`TASKS`."""
    found = _of_parser(TASK_REGISTRY[task], _OF_TASK)
    if task not in TASK_DATACLASS_REGISTRY:  # which reads attributes, whether or not they are set
        found = {name: dataclasses.replace(kind, optional=True) for name, kind in found.items()}
    return {**found, **_BESIDE_TASK}


@lru_cache
def criterion_fields(criterion: str) -> Mapping[str, Kind]:
    """The fields of one of :data:`CRITERIONS`."""
    return {**_of_parser(CRITERION_REGISTRY[criterion], _OF_MODEL), **_BESIDE_CRITERION}


def _of_parser(registered: Any, named: Mapping[str, Kind]) -> dict[str, Kind]:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    registered.add_args(parser)
    return {action.dest: _kind(action, named) for action in parser._actions}


def _kind(action: argparse.Action, named: Mapping[str, Kind]) -> Kind:
    for pattern, kind in named.items():
        if re.fullmatch(pattern, action.dest):
            return kind
    if action.nargs == 0:
        return kinds.boolean()
    if action.choices is not None:
        return kinds.choice(list(action.choices))
    if action.type is int:
        return _ANY_WHOLE
    if action.type is float:
        return _ANY_NUMBER
    # a type of its own, or an action, is fairseq's for lists; what it makes of a text is no matter
    plain = action.type in (None, str) and type(action) is argparse._StoreAction
    return kinds.text() if plain else kinds.texts()
