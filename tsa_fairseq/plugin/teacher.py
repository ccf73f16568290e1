"""``--kd-teacher``: a frozen stock checkpoint that predicts beside the leaves.

It is no part of the model, so that it never enters a checkpoint, an optimizer or the buckets of
DistributedDataParallel.
"""

import copy
import logging
import os
from argparse import Namespace
from dataclasses import dataclass
from typing import Any

import torch
from fairseq.data import Dictionary
from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_REGISTRY
from fairseq.models.transformer import TransformerModel
from torch import Tensor

from tsa_fairseq.errors import UsageError
from tsa_fairseq.files.building import check_outline, in_one_line
from tsa_fairseq.files.checkpoint import (
    architecture,
    check_fits,
    model_arguments,
    read_checkpoint,
    stored_data,
)
from tsa_fairseq.files.dictionaries import read_dictionary
from tsa_fairseq.tree.layers import LayerInputs, Recorded
from tsa_fairseq.tree.outputs import Prediction

logger = logging.getLogger(__name__)

KD_TEACHER = "--kd-teacher"
# What of a model's arguments its decoder's layers and final norm are built from.
_MAKES_LAYERS = {
    *("encoder_embed_dim", "decoder_embed_dim", "decoder_ffn_embed_dim"),
    *("decoder_attention_heads", "decoder_normalize_before", "no_decoder_final_norm"),
    *("dropout", "attention_dropout", "activation_dropout", "relu_dropout", "activation_fn"),
    *("no_cross_attention", "cross_self_attention", "char_inputs", "adaptive_input"),
    *("decoder_output_dim", "decoder_input_dim", "export", "scale_attn", "scale_heads"),
    *("scale_fc", "scale_resids", "decoder_xformers_att_config"),
    *("quant_noise_pq", "quant_noise_pq_block_size"),
}


@dataclass(frozen=True)
class TeacherOutput:
    """What a teacher computed for one batch, without a graph.

    Args:
        prediction: features, B x T x D', and output matrix, V x D'.
        state: what goes into the layers that the bridge replaces, T x B x D'.
        inputs: what these layers are given beside it.
    """

    prediction: Prediction
    state: Tensor
    inputs: LayerInputs


class Teacher:
    """A checkpoint of fairseq's ``transformer``, in evaluation mode and without gradients.

    Args:
        path: the file.
        task: has the dictionaries that it must have been trained with.

    Raises:
        UsageError: the file cannot be read, is of another architecture or other dictionaries.
    """

    def __init__(self, path: str, task: Any) -> None:
        state, args = read_teacher(path)
        check_fits(state, path, KD_TEACHER)
        _check_dictionaries(path, state, task)
        # the parameters are in the file: nothing else is read
        args.encoder_embed_path = args.decoder_embed_path = None
        with in_one_line(path, KD_TEACHER):
            check_outline(lambda: TransformerModel.build_model(args, task), state["model"])
            with torch.random.fork_rng(devices=[]):  # what is drawn here is overwritten
                model = TransformerModel.build_model(args, task)
            model.load_state_dict(state["model"], strict=True)
        self.model = model.eval().requires_grad_(False)
        # a shallow copy, with the model's modules: that has its layers under fairseq's names
        self.decoder = copy.copy(self.model.decoder)
        self.recorded = Recorded(self.model.decoder.layers)
        self.decoder._modules = {**self.model.decoder._modules, "layers": self.recorded}
        self.arguments = args
        self.layout = _layout(args)
        logger.info("%s: %s, %s", KD_TEACHER, path, args.arch)

    @property
    def output_matrix(self) -> Tensor:
        """V x D'."""
        return self.model.decoder.output_projection.weight

    @property
    def num_layers(self) -> int:
        """Layers of its decoder."""
        return len(self.model.decoder.layers)

    @torch.no_grad()
    def __call__(self, net_input: dict[str, Tensor], like: Tensor, below: int) -> TeacherOutput:
        """What it computes for one batch.

        Args:
            net_input: of fairseq's sample.
            like: a parameter of the student, whose device and type the teacher takes.
            below: how many layers down from the top its state is returned.
        """
        if self.output_matrix.device != like.device or self.output_matrix.dtype != like.dtype:
            self.model.to(like)
        encoded = self.model.encoder(net_input["src_tokens"], net_input["src_lengths"])
        target = net_input["prev_output_tokens"]
        features, extra = self.decoder.extract_features(target, encoder_out=encoded)
        state = extra["inner_states"][self.num_layers - below]
        inputs = self.recorded.inputs
        assert inputs is not None
        return TeacherOutput(Prediction(features, self.output_matrix), state, inputs)


def read_teacher(path: str, lazy: bool = False) -> tuple[dict[str, Any], Namespace]:
    """A checkpoint that can be a teacher, and its model's arguments, complete.

    ``lazy``: see :func:`tsa_fairseq.files.checkpoint.read_checkpoint`.

    Raises:
        UsageError: the file cannot be read, or is of another architecture.
    """
    state = read_checkpoint(path, KD_TEACHER, lazy)
    args = model_arguments(state)
    args.arch = architecture(args)
    if ARCH_MODEL_REGISTRY.get(args.arch) is not TransformerModel:
        raise UsageError(
            f"{KD_TEACHER}: '{path}' is a model of --arch {args.arch}; expected fairseq's "
            "transformer, any size"
        )
    if getattr(args, "adaptive_softmax_cutoff", None):
        raise UsageError(
            f"{KD_TEACHER}: '{path}' has an adaptive softmax; expected predictions over the "
            "whole vocabulary"
        )
    ARCH_CONFIG_REGISTRY[args.arch](args)
    return state, args


def _layout(args: Namespace) -> dict[str, Any]:
    """The arguments that make its layers, for who builds some of them without the file."""
    plain = {n: v for n, v in vars(args).items() if isinstance(v, (bool, int, float, str))}
    return {name: value for name, value in plain.items() if name in _MAKES_LAYERS}


def _check_dictionaries(path: str, state: dict[str, Any], task: Any) -> None:
    """By size, and word for word where the teacher's dictionaries can be found."""
    for side, dictionary, weight in (
        ("source", task.source_dictionary, "encoder.embed_tokens.weight"),
        ("target", task.target_dictionary, "decoder.output_projection.weight"),
    ):
        matrix = state["model"].get(weight, state["model"].get("decoder.embed_tokens.weight"))
        words = 0 if matrix is None else matrix.size(0)
        theirs = _stored_dictionary(path, state, f"{side}_lang", task)
        if theirs is not None and theirs[1] != dictionary:
            _refuse_dictionary(path, side, *theirs, dictionary)
        if words != len(dictionary):
            raise UsageError(
                f"{KD_TEACHER}: '{path}' was trained with a {side} dictionary of {words:,} "
                f"words, this data has one of {len(dictionary):,}; expected the same"
            )


def _refuse_dictionary(
    path: str, side: str, file: str, theirs: Dictionary, ours: Dictionary
) -> None:
    special = ours.nspecial
    common = set(theirs.symbols[special:]) & set(ours.symbols[special:])
    if not common:
        raise UsageError(
            f"{KD_TEACHER}: '{path}' has no word of its {side} dictionary, '{file}', in common "
            "with this data; expected the same dictionary"
        )
    place = next(
        (i for i, (a, b) in enumerate(zip(theirs.symbols, ours.symbols, strict=False)) if a != b),
        min(len(theirs), len(ours)),
    )
    a, b = (f"'{d[place]}'" if place < len(d) else "nothing" for d in (theirs, ours))
    raise UsageError(
        f"{KD_TEACHER}: '{path}' was trained with another {side} dictionary, '{file}': word "
        f"{place} is {a} there and {b} here; expected the same dictionary"
    )


def _stored_dictionary(
    path: str, state: dict[str, Any], side: str, task: Any
) -> tuple[str, Dictionary] | None:
    """The file and what it says, if there is one.

    fairseq's checkpoints hold no dictionary, but name the data they were trained on. They do not
    name the languages if those were inferred from the data.
    """
    stored = model_arguments(state, "task")
    language = getattr(stored, side, None) or getattr(getattr(task, "cfg", None), side, None)
    for folder in (os.path.dirname(path), stored_data(state)):
        file = os.path.join(folder, f"dict.{language}.txt")
        if language is not None and folder and os.path.isfile(file):
            return file, read_dictionary(file, KD_TEACHER)
    logger.warning(
        "%s: no %s beside %s or in its data: only the number of words is compared",
        *(KD_TEACHER, "dictionary" if language is None else f"dict.{language}.txt", path),
    )
    return None
