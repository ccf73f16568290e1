"""One leaf as a checkpoint of fairseq's own ``transformer``, which loads without the plugin."""

import copy
import json
import os
import re
import shutil
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from fairseq.data import Dictionary
from torch import Tensor

from tsa_fairseq.checkpoint import (
    checksum,
    count_parameters,
    model_arguments,
    read_checkpoint,
    stored_data,
)
from tsa_fairseq.errors import UsageError
from tsa_fairseq.heads import PREFIX
from tsa_fairseq.precision import widened
from tsa_fairseq.topology import Topology
from tsa_fairseq.version import __version__

CRITERION = "label_smoothed_cross_entropy"
# The names under which fairseq's hub interface looks for them.
MODEL, SUBWORDS = "model.pt", "sentencepiece.bpe.model"

_LAYER = re.compile(r"decoder\.layers\.(\d+)\.(.+)")
_NORM = re.compile(r"decoder\.layer_norm\.(.+)")
_NOT_STOCK = ("decoder.peers.", "decoder.leaf_norms.", PREFIX)


@dataclass(frozen=True)
class TreeCheckpoint:
    """A checkpoint of a tree, read.

    Raises:
        UsageError: the file cannot be read, or is no tree's.
    """

    path: str
    state: dict[str, Any]
    arguments: Namespace
    topology: Topology

    @classmethod
    def read(cls, path: str, flag: str = "CHECKPOINT") -> "TreeCheckpoint":
        """Read what ``flag`` named, without running code that it may contain."""
        state = read_checkpoint(path, flag)
        arguments = model_arguments(state)
        if not hasattr(arguments, "tree"):
            arch = getattr(arguments, "arch", None)
            raise UsageError(
                f"{flag}: '{path}' is a model of --arch {arch}; expected a tsa_transformer"
            )
        topology = Topology.parse(arguments.tree, arguments.decoder_layers)
        return cls(path, state, arguments, topology)

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
        return {
            "args": None,
            "cfg": self._configuration(),
            "model": parameters,
            "criterion": None,
            "optimizer_history": [self._history()],
            "task_state": {},
            # what fairseq's trainer reads of it when it starts from these parameters
            "extra_state": {"train_iterator": self.state["extra_state"]["train_iterator"]},
            "last_optimizer_state": None,
        }

    def _share(self, parameters: dict[str, Tensor]) -> None:
        """One tensor where the model has one; fairseq may have written copies of it."""
        tied = ["decoder.embed_tokens.weight", "decoder.output_projection.weight"]
        if getattr(self.arguments, "share_all_embeddings", False):
            tied.append("encoder.embed_tokens.weight")
        elif not getattr(self.arguments, "share_decoder_input_output_embed", False):
            return
        for name in tied[1:]:
            parameters[name] = parameters[tied[0]]

    def _configuration(self) -> dict[str, Any]:
        cfg = copy.deepcopy(self.state["cfg"])
        ours = ("tree", "kd_")
        kept = {n: v for n, v in vars(self.arguments).items() if not n.startswith(ours)}
        kept.update(arch="transformer", _name="transformer", criterion=CRITERION, user_dir=None)
        trained = cfg["criterion"]
        names = ("label_smoothing", "ignore_prefix_size", "sentence_avg")
        smoothed = {name: trained[name] for name in names if name in trained}
        # not a Namespace, which torch's safe loader refuses where no plugin vouches for it
        cfg["model"] = kept
        cfg["criterion"] = {"_name": CRITERION, **smoothed, "report_accuracy": False}
        cfg["common"]["user_dir"] = None
        return cfg

    def _history(self) -> dict[str, Any]:
        last = self.state["optimizer_history"][-1]
        return {**last, "criterion_name": "LabelSmoothedCrossEntropyCriterion"}


def _source(name: str, leaf: int, path: tuple[int, ...]) -> str:
    """Where a leaf's parameter of this stock name stands in the tree."""
    layer, norm = _LAYER.fullmatch(name), _NORM.fullmatch(name)
    if layer is not None and path[int(layer.group(1))] != 0:
        depth = int(layer.group(1))
        return f"decoder.peers.{depth}.{path[depth]}.{layer.group(2)}"
    if norm is not None and leaf != 0:
        return f"decoder.leaf_norms.{leaf}.{norm.group(1)}"
    return name


@dataclass(frozen=True)
class Dictionaries:
    """The languages of a model, and where their dictionaries are.

    Raises:
        UsageError: they are not to be found.
    """

    folder: str
    source: str
    target: str

    @classmethod
    def find(cls, checkpoint: TreeCheckpoint, data: str | None) -> "Dictionaries":
        """In ``--data``, or else in the data that the checkpoint names."""
        task = model_arguments(checkpoint.state, "task")
        stored = stored_data(checkpoint.state)
        folder = data or stored
        languages = [getattr(task, f"{side}_lang", None) for side in ("source", "target")]
        if None in languages:
            languages = _languages(folder)
        for language in languages:
            if language is None or not os.path.isfile(os.path.join(folder, f"dict.{language}.txt")):
                given = f"got '{data}', which" if data else f"not given, and '{stored}'"
                name = f"dict.{language}.txt" if language else "data of two languages"
                raise UsageError(
                    f"--data: {given} has no {name}; expected what fairseq-preprocess made"
                )
        found = cls(folder, *languages)
        found._check_sizes(checkpoint)
        return found

    def _check_sizes(self, checkpoint: TreeCheckpoint) -> None:
        for side, language in (("encoder", self.source), ("decoder", self.target)):
            file = os.path.join(self.folder, f"dict.{language}.txt")
            words = len(Dictionary.load(file))
            rows = checkpoint.state["model"][f"{side}.embed_tokens.weight"].size(0)
            if words != rows:
                raise UsageError(
                    f"--data: '{file}' has {words:,} words, the model {rows:,}; "
                    "expected the dictionary that it was trained with"
                )

    def copy_to(self, folder: Path) -> None:
        """Both files, as they are."""
        for language in (self.source, self.target):
            shutil.copyfile(
                os.path.join(self.folder, f"dict.{language}.txt"), folder / f"dict.{language}.txt"
            )


def _languages(folder: str) -> list[str | None]:
    """As fairseq infers them, from names such as ``train.de-en.de.idx``."""
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        found = re.fullmatch(r"\w+\.(\w+)-(\w+)\.\w+\.idx", name)
        if found is not None:
            return [found.group(1), found.group(2)]
    return [None, None]


def write_leaf(
    checkpoint: TreeCheckpoint,
    leaf: int,
    folder: Path,
    dictionaries: Dictionaries,
    subwords: str | None,
    metric: dict[str, float],
) -> int:
    """Fill a folder that is then ready to use: checkpoint, dictionaries, subword model, JSON.

    Args:
        checkpoint: of a tree.
        leaf: which.
        folder: exists, and is empty.
        dictionaries: of the model.
        subwords: a sentencepiece model to put beside it.
        metric: figures of the leaf's, for ``export.json``.

    Returns:
        The number of its parameters.
    """
    state = checkpoint.leaf(leaf)
    task = state["cfg"]["task"]
    task["source_lang"], task["target_lang"] = dictionaries.source, dictionaries.target
    torch.save(state, folder / MODEL)
    dictionaries.copy_to(folder)
    if subwords is not None:
        shutil.copyfile(subwords, folder / SUBWORDS)
    said = {
        "leaf": leaf,
        "tree": str(checkpoint.topology),
        "source": os.path.basename(checkpoint.path),
        "source_sha256": checksum(checkpoint.path, "CHECKPOINT"),
        "updates": state["optimizer_history"][-1].get("num_updates"),
        **metric,
        "tsa_fairseq": __version__,
    }
    (folder / "export.json").write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
    return count_parameters(state["model"])
