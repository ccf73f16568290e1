"""A leaf, or SOKD's bridge, as a checkpoint of fairseq's own ``transformer``."""

import copy
import os
import re
from argparse import Namespace
from dataclasses import dataclass
from typing import Any

from fairseq.models import ARCH_CONFIG_REGISTRY
from torch import Tensor

from tsa_fairseq.errors import UsageError
from tsa_fairseq.files.building import in_one_line
from tsa_fairseq.files.checkpoint import (
    architecture,
    check_fits,
    model_arguments,
    read_checkpoint,
)
from tsa_fairseq.files.checksums import checksum
from tsa_fairseq.files.dictionaries import Dictionaries
from tsa_fairseq.files.names import check_exists
from tsa_fairseq.plugin.heads import HEADS_PREFIX, stored_bridge
from tsa_fairseq.plugin.teacher import Teacher
from tsa_fairseq.tree.outputs import widened
from tsa_fairseq.tree.topology import Topology

STOCK_CRITERION = "label_smoothed_cross_entropy"
EXPORT_TEACHER = "--teacher"

_LAYER = re.compile(r"decoder\.layers\.(\d+)\.(.+)")
_NORM = re.compile(r"decoder\.layer_norm\.(.+)")
_NOT_STOCK = ("decoder.peers.", "decoder.leaf_norms.", HEADS_PREFIX)
_SHARED = ("share_all_embeddings", "share_decoder_input_output_embed")


@dataclass(frozen=True)
class TreeCheckpoint:
    """A checkpoint of a tree, read."""

    path: str
    state: dict[str, Any]
    arguments: Namespace
    topology: Topology
    sha256: str

    @classmethod
    def read(cls, path: str, flag: str = "CHECKPOINT") -> "TreeCheckpoint":
        """Read what ``flag`` named, without running code that it may contain.

        Raises:
            UsageError: the file cannot be read, or is no tree's.
        """
        check_exists(path, flag)
        sha256 = checksum(path, flag)
        state = read_checkpoint(path, flag)
        arguments = model_arguments(state)
        if not hasattr(arguments, "tree"):
            arch = architecture(arguments)
            raise UsageError(
                f"{flag}: '{path}' is a model of --arch {arch}; expected a tsa_transformer"
            )
        check_fits(state, path, flag)
        lacks = _lacking(state, arguments)
        if lacks is None:
            # what one of an earlier release did not say is as its architecture has it
            ARCH_CONFIG_REGISTRY[architecture(arguments) or "tsa_transformer"](arguments)
            topology = Topology.parse(arguments.tree, arguments.decoder_layers)
            found = cls(path, state, arguments, topology, sha256)
            found.check_unchanged(flag)
            lacks = found._lacking_parameter()
        if lacks is not None:
            raise UsageError(f"{flag}: '{path}' is no complete checkpoint of a tree: no {lacks}")
        return found

    def check_unchanged(self, flag: str = "CHECKPOINT") -> None:
        """Refuse what was found out from the file since it was read, if it is another one now.

        Raises:
            UsageError: a training has replaced it.
        """
        if checksum(self.path, flag) != self.sha256:
            raise UsageError(
                f"{flag}: '{self.path}' was replaced while it was looked at; try again, or copy it "
                "first"
            )

    def _lacking_parameter(self) -> str | None:
        model = self.state["model"]
        names = (
            _source(name, leaf, path)
            for leaf, path in enumerate(self.topology.paths)
            for name in model
            if not name.startswith(_NOT_STOCK)
        )
        return next((f"parameter {name}" for name in names if name not in model), None)

    @property
    def task(self) -> dict[str, Any]:
        """The task's configuration."""
        return vars(model_arguments(self.state, "task"))

    @property
    def updates(self) -> int | None:
        """How long it was trained."""
        return self.state["optimizer_history"][-1].get("num_updates")

    def leaf(self, leaf: int) -> dict[str, Any]:
        """The checkpoint that training this leaf as a plain Transformer would have written.

        Half-precision parameters become float32, which is what fairseq loads them as.
        """
        path = self.topology.paths[leaf]
        model = self.state["model"]
        parameters = {
            name: widened(model[_source(name, leaf, path)])
            for name in model
            if not name.startswith(_NOT_STOCK)
        }
        self._share(parameters)
        return self._stock(parameters, self.arguments)

    def _share(self, parameters: dict[str, Tensor]) -> None:
        """One tensor where the model has one; fairseq may have written copies of it."""
        tied = ["decoder.embed_tokens.weight", "decoder.output_projection.weight"]
        if getattr(self.arguments, "share_all_embeddings", False):
            tied.append("encoder.embed_tokens.weight")
        elif not getattr(self.arguments, "share_decoder_input_output_embed", False):
            return
        for name in tied[1:]:
            parameters[name] = parameters[tied[0]]

    def check_bridge(self, teacher: str | None) -> str:
        """The teacher's file, from ``--teacher`` or the training.

        Raises:
            UsageError: the tree has no bridge, or the file is not the one it was trained on.
        """
        if not any(name.startswith(f"{HEADS_PREFIX}bridge.") for name in self.state["model"]):
            raise UsageError(
                f"--leaf: got 'bridge'; '{self.path}' has none, which --kd-objective sokd trains"
            )
        if not getattr(self.arguments, "kd_teacher_layout", None):
            raise UsageError(
                f"--leaf: got 'bridge'; '{self.path}' does not say how large its teacher is"
            )
        path = teacher or self.arguments.kd_teacher
        if not os.path.isfile(path):
            given = f"'{path}' does not exist"
            if teacher is None:
                given = f"not given, and '{path}', which the checkpoint names, is not there"
            raise UsageError(f"{EXPORT_TEACHER}: {given}; expected the bridge's teacher")
        if checksum(path, EXPORT_TEACHER) != self.arguments.kd_teacher_checksum:
            raise UsageError(
                f"{EXPORT_TEACHER}: '{path}' is not the file that the bridge was trained on: its "
                "SHA-256 differs; expected that file"
            )
        return path

    def bridge(self, teacher: str, dictionaries: Dictionaries) -> dict[str, Any]:
        """The teacher with the bridge for its top layers: a plain Transformer of its size.

        Args:
            teacher: of :meth:`check_bridge`.
            dictionaries: of the tree, which are the teacher's.
        """
        task = dictionaries.task()
        improved = Teacher(teacher, task)
        with in_one_line(self.path, "CHECKPOINT"):
            bridge = stored_bridge(self.arguments, self.state["model"], task)
        bridge.improve(improved)
        # The output matrix is the bridge's now. Encoder and decoder cannot share embeddings without
        # sharing it, too: each has its own.
        arguments = {**vars(improved.arguments), **dict.fromkeys(_SHARED, False)}
        parameters = {n: tensor.clone() for n, tensor in improved.model.state_dict().items()}
        return self._stock(parameters, Namespace(**arguments))

    def _stock(self, parameters: dict[str, Tensor], arguments: Namespace) -> dict[str, Any]:
        return {
            "args": None,
            "cfg": self._configuration(arguments),
            "model": parameters,
            "criterion": None,
            "optimizer_history": [self._history()],
            "task_state": {},
            # what fairseq's trainer reads of it when it starts from these parameters
            "extra_state": {"train_iterator": self.state["extra_state"]["train_iterator"]},
            "last_optimizer_state": None,
        }

    def _configuration(self, arguments: Namespace) -> dict[str, Any]:
        cfg = copy.deepcopy(self.state["cfg"])
        ours = ("tree", "kd_")
        kept = {n: v for n, v in vars(arguments).items() if not n.startswith(ours)}
        kept.update(
            arch="transformer", _name="transformer", criterion=STOCK_CRITERION, user_dir=None
        )
        # the embeddings are in the checkpoint: the file that they came from is not needed
        kept.update(encoder_embed_path=None, decoder_embed_path=None)
        trained = cfg["criterion"]
        names = ("label_smoothing", "ignore_prefix_size", "sentence_avg")
        smoothed = {name: trained[name] for name in names if name in trained}
        # not a Namespace, which torch's safe loader refuses where no plugin vouches for it
        cfg["model"] = kept
        cfg["criterion"] = {"_name": STOCK_CRITERION, **smoothed, "report_accuracy": False}
        cfg["common"]["user_dir"] = None
        cfg["task"] = self.task
        return cfg

    def _history(self) -> dict[str, Any]:
        last = self.state["optimizer_history"][-1]
        return {**last, "criterion_name": "LabelSmoothedCrossEntropyCriterion"}


def _lacking(state: dict[str, Any], arguments: Namespace) -> str | None:
    """What an export is made of beside the parameters, if a checkpoint does not have it."""
    cfg = state.get("cfg") or {}
    history, extra = state.get("optimizer_history"), state.get("extra_state") or {}
    present = {
        "'decoder_layers' among the model's arguments": hasattr(arguments, "decoder_layers"),
        **{f"'{part}' in its 'cfg'": part in cfg for part in ("task", "criterion", "common")},
        "'optimizer_history'": bool(history),
        "'train_iterator' in its 'extra_state'": "train_iterator" in extra,
    }
    return next((what for what, there in present.items() if not there), None)


def _source(name: str, leaf: int, path: tuple[int, ...]) -> str:
    """Where a leaf's parameter of this stock name stands in the tree."""
    layer, norm = _LAYER.fullmatch(name), _NORM.fullmatch(name)
    if layer is not None and path[int(layer.group(1))] != 0:
        depth = int(layer.group(1))
        return f"decoder.peers.{depth}.{path[depth]}.{layer.group(2)}"
    if norm is not None and leaf != 0:
        return f"decoder.leaf_norms.{leaf}.{norm.group(1)}"
    return name
