"""What an objective learns beside the leaves: a gate, an attention among peers, a bridge.

They belong to the model, because fairseq loses parameters of a criterion when it loads one, and
they are built for the objective that needs them only. Under ``heads`` in a checkpoint.
"""

import json
import logging
from argparse import Namespace
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from fairseq.models.transformer import TransformerConfig
from fairseq.modules import LayerNorm
from fairseq.modules.transformer_layer import TransformerDecoderLayerBase
from torch import Tensor, nn

from tsa_fairseq.errors import UsageError
from tsa_fairseq.files.building import check_outline
from tsa_fairseq.objectives import OBJECTIVES
from tsa_fairseq.plugin.teacher import Teacher, TeacherOutput
from tsa_fairseq.tree.decoder import TreeDecoder
from tsa_fairseq.tree.outputs import Prediction, TreeRun, widened

logger = logging.getLogger(__name__)

# of their parameters' names in the model
HEADS_PREFIX = "heads."
BRIDGE_STARTS = ("teacher", "random")
DEFAULT_BRIDGE_LAYERS = 2


class Gate(nn.Module):
    """ONE's gate: ReLU(Norm(W h)) of the state that all leaves share, whose softmax weighs them.

    Source: Lan, Zhu, Gong, NeurIPS 2018, section 3.1, where Norm is a batch norm. Here it divides
    by the root mean square, then scales and shifts every leaf's score: in a batch norm a token's
    loss would depend on the rest of the batch, and a layer norm turns two scores into -1 and 1
    whatever they are.

    Args:
        width: D.
        leaves: L.
    """

    def __init__(self, width: int, leaves: int) -> None:
        super().__init__()
        self.project = nn.Linear(width, leaves, bias=False)
        self.scale = nn.Parameter(torch.ones(leaves))
        self.shift = nn.Parameter(torch.zeros(leaves))

    def forward(self, state: Tensor) -> Tensor:
        """Scores, ... x L, from states, ... x D."""
        scores = widened(self.project(state))
        normed = scores * torch.rsqrt(scores.pow(2).mean(dim=-1, keepdim=True) + 1e-6)
        return torch.relu(self.scale * normed + self.shift)


class PeerAttention(nn.Module):
    """OKDDip's attention of peers to peers: (W_q h_a) · (W_k h_b), D to D/8, without 1/√d.

    Source: Chen et al., AAAI 2020, equation 4. Features are detached: what peers compute is not to
    be bent towards being attended to.

    Args:
        width: D.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        narrow = max(1, width // 8)
        self.query = nn.Linear(width, narrow, bias=False)
        self.key = nn.Linear(width, narrow, bias=False)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Scores of every pair of P peers, B x T x P x P, from their features, B x T x D each."""
        stacked = torch.stack(list(features), dim=2).detach()  # B x T x P x D
        query, key = widened(self.query(stacked)), widened(self.key(stacked))
        with torch.autocast(query.device.type, enabled=False):
            return query @ key.mT


class Bridge(nn.Module):
    """SOKD's bridge: the teacher's top layers and output matrix, trained on its lower state.

    Args:
        layout: the teacher's sizes, see :attr:`Teacher.layout`.
        layers: how many layers.
        words: size of the target dictionary, V.
    """

    def __init__(self, layout: Namespace, layers: int, words: int) -> None:
        super().__init__()
        cfg = TransformerConfig.from_namespace(layout)
        width = cfg.decoder.embed_dim
        self.layers = nn.ModuleList(
            TransformerDecoderLayerBase(cfg, no_encoder_attn=cfg.no_cross_attention)
            for _ in range(layers)
        )
        normed = cfg.decoder.normalize_before and not cfg.no_decoder_final_norm
        self.layer_norm = LayerNorm(width) if normed else None
        self.output_projection = nn.Linear(width, words, bias=False)
        nn.init.normal_(self.output_projection.weight, mean=0, std=width**-0.5)

    @property
    def below(self) -> int:
        """How many layers down from its top the teacher's state is read."""
        return len(self.layers)

    @torch.no_grad()
    def start_from(self, teacher: Teacher) -> None:
        """Copy the teacher's top layers, final norm and output matrix."""
        for mine, theirs in self._pairs(teacher):
            mine.load_state_dict(theirs.state_dict())

    @torch.no_grad()
    def improve(self, teacher: Teacher) -> None:
        """The way back: the teacher's top layers become the bridge's, which makes it a better one.

        If the teacher shares its output matrix with its embeddings, they are shared no more.
        """
        output = teacher.model.decoder.output_projection
        output.weight = nn.Parameter(output.weight.clone(), requires_grad=False)
        for mine, theirs in self._pairs(teacher):
            theirs.load_state_dict(mine.state_dict())

    def _pairs(self, teacher: Teacher) -> list[tuple[nn.Module, nn.Module]]:
        """Modules of the bridge, and the teacher's that they stand for."""
        stock, first = teacher.model.decoder, teacher.num_layers - len(self.layers)
        # by index: fairseq's list for layer drop cannot be sliced
        pairs = [(layer, stock.layers[first + n]) for n, layer in enumerate(self.layers)]
        if self.layer_norm is not None:
            pairs.append((self.layer_norm, stock.layer_norm))
        return [*pairs, (self.output_projection, stock.output_projection)]

    def forward(self, teacher: TeacherOutput) -> Prediction:
        """Features, B x T x D', and output matrix, from what the teacher computed."""
        state = teacher.state
        for layer in self.layers:
            state, _ = teacher.inputs.run(layer, state)
        features = (state if self.layer_norm is None else self.layer_norm(state)).transpose(0, 1)
        matrix = self.output_projection.weight
        # a view, as of the leaves' matrix: DistributedDataParallel must see it as an output
        return Prediction(features, matrix.view_as(matrix))


def build_heads(args: Namespace, decoder: TreeDecoder, task: Any) -> nn.ModuleDict:
    """The head that ``--kd-objective`` needs, by the name that the objective has for it.

    Args:
        args: the model's arguments. What must be known of the teacher to build a bridge without
            its file is noted in ``kd_teacher_layout``.
        decoder: the tree.
        task: has the target dictionary.

    Raises:
        UsageError: a teacher that cannot be read, or that no bridge can be made of.
    """
    objective = OBJECTIVES.get(getattr(args, "kd_objective", None) or "")
    heads = nn.ModuleDict()
    if objective is None or objective.head is None:
        return heads
    if objective.head == "gate":
        heads["gate"] = Gate(decoder.embed_dim, decoder.topology.num_leaves)
    elif objective.head == "peer_attention":
        heads["peer_attention"] = PeerAttention(decoder.output_projection.weight.size(1))
    else:
        heads["bridge"] = _build_bridge(args, task)
    return heads


def fitting_heads(heads: nn.ModuleDict, state: Mapping[str, Any]) -> dict[str, Any]:
    """A model's state in which every head is the state's own if it is the same, else the model's.

    A head is taken as a whole: a bridge of three layers is not one of two with one more.
    """
    taken = {name: tensor for name, tensor in state.items() if not name.startswith(HEADS_PREFIX)}
    for name, head in heads.items():
        lead = f"{HEADS_PREFIX}{name}."
        own = {lead + n: tensor for n, tensor in head.state_dict().items()}
        theirs = {n: tensor for n, tensor in state.items() if n.startswith(lead)}
        same = {n: t.shape for n, t in own.items()} == {n: t.shape for n, t in theirs.items()}
        if not same:
            logger.warning("the checkpoint has no %s like this model's, which starts afresh", name)
        taken.update(theirs if same else own)
    return taken


def bridge_layers(args: Namespace, most: int) -> int:
    """How many layers the bridge has, of a teacher that has ``most``.

    Raises:
        UsageError: more than the teacher's.
    """
    if args.kd_bridge_layers is None:
        return min(DEFAULT_BRIDGE_LAYERS, most)
    if args.kd_bridge_layers > most:
        raise UsageError(
            f"--kd-bridge-layers: got {args.kd_bridge_layers}; "
            f"'{args.kd_teacher}' has {most} decoder layers: expected 1 to {most}"
        )
    return args.kd_bridge_layers


def stored_bridge(args: Namespace, state: Mapping[str, Tensor], task: Any) -> Bridge:
    """The bridge of a checkpoint, from the model's arguments and its state.

    Raises: as :func:`tsa_fairseq.files.building.check_outline` does.
    """
    lead = f"{HEADS_PREFIX}bridge."
    parameters = {n.removeprefix(lead): state[n] for n in state if n.startswith(lead)}
    check_outline(lambda: _build_bridge(args, task), parameters)
    bridge = _build_bridge(args, task)
    bridge.load_state_dict(parameters)
    return bridge


def _build_bridge(args: Namespace, task: Any) -> Bridge:
    stored = getattr(args, "kd_teacher_layout", None)
    teacher = None if stored else Teacher(args.kd_teacher, task)
    if teacher is not None:
        args.kd_bridge_layers = bridge_layers(args, teacher.num_layers)
        if teacher.model.decoder.project_out_dim is not None:
            raise UsageError(
                f"--kd-teacher: '{args.kd_teacher}' has a --decoder-output-dim of its own, "
                "which a bridge cannot have; expected that of its layers"
            )
        args.kd_teacher_layout = json.dumps(teacher.layout)
    layout = Namespace(**json.loads(args.kd_teacher_layout))
    bridge = Bridge(layout, args.kd_bridge_layers, len(task.target_dictionary))
    if teacher is not None and args.kd_bridge_init != "random":
        bridge.start_from(teacher)
    return bridge


def run_heads(
    heads: nn.ModuleDict, run: TreeRun, teacher: TeacherOutput | None
) -> tuple[dict[str, Tensor], dict[str, Prediction]]:
    """What the heads compute for a batch: heads' outputs, B x T x ..., and who else predicts.

    Args:
        heads: of :func:`build_heads`.
        run: what the tree computed.
        teacher: what the teacher did; it predicts, and the bridge starts from it.
    """
    outputs: dict[str, Tensor] = {}
    others: dict[str, Prediction] = {}
    if "gate" in heads:
        scores = heads["gate"](run.shared)  # V · B x T x L
        by_member = [run.views.of(scores, view)[..., leaf] for view, leaf in run.members]
        outputs["gate"] = torch.stack(by_member, dim=-1)
    if "peer_attention" in heads:
        peers = [f for f, member in zip(run.features, run.members, strict=True) if member.leaf != 0]
        outputs["peer_attention"] = heads["peer_attention"](peers)
    if teacher is not None:
        others["teacher"] = teacher.prediction
        if "bridge" in heads:
            others["bridge"] = heads["bridge"](teacher)
    return outputs, others
