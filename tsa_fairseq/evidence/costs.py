"""What a system costs: parameters, multiply-adds and time of its training, speed, size."""

import os
from dataclasses import dataclass, fields
from typing import Any

from tsa_fairseq.evidence.logs import Log
from tsa_fairseq.evidence.systems import Seed
from tsa_fairseq.tree.cost import Dimensions, multiply_adds, parameters
from tsa_fairseq.tree.topology import Branch, Topology

# A backward pass is two products for each of the forward pass.
_PASSES = 3
# Objectives that compute every sentence twice unless told otherwise.
_TWO_VIEWS = ("rdrop", "simcut")
# Objectives whose models have learnable parts beside the tree, which are not counted here.
_HEADS = ("okddip", "one", "sokd")


@dataclass(frozen=True)
class Cost:
    """None for what is not known.

    Args:
        training_parameters: of all leaves.
        parameters: of the model that translates.
        ratio: multiply-adds of a training step over the plain model's.
        multiply_adds: of the whole training, in matrix products with parameters.
        seconds: of the training, as its log says.
        speed: sentences a second when the test set was translated.
        size: of the file of the model, in bytes; a training's holds what it takes to go on, too.
    """

    training_parameters: int | None = None
    parameters: int | None = None
    ratio: float | None = None
    multiply_adds: float | None = None
    seconds: float | None = None
    speed: float | None = None
    size: int | None = None


def cost(seed: Seed) -> Cost:
    """Of one training, from its log, its files and what was printed when it translated."""
    run = seed.run
    speed = seed.generated.speed if seed.generated is not None else None
    if run is None:
        return Cost(speed=speed)
    size = os.path.getsize(run.checkpoint) if run.checkpoint else None
    log = run.log
    if log is None:
        return Cost(speed=speed, size=size, parameters=_stored_parameters(run.checkpoint))
    dims, topology = dimensions(log), topology_of(log)
    if dims is None or topology is None:
        return Cost(log.parameters, None, None, None, log.seconds, speed, size)
    ratio = training_ratio(log, topology, dims)
    plain = Topology.of(Branch(topology.depth))
    step = ratio * multiply_adds(plain, dims)
    kept = None
    if log.parameters is not None and log.config.get("kd_objective") not in _HEADS:
        # before its output, every leaf of a pre-norm decoder has a norm of its own
        norm = 2 * dims.decoder_embed_dim * bool(log.config.get("decoder_normalize_before"))
        dropped = parameters(topology, dims) - parameters(plain, dims)
        kept = log.parameters - dropped - norm * (topology.num_leaves - 1)
    return Cost(log.parameters, kept, ratio, _total(log, step), log.seconds, speed, size)


def is_known(found: Cost) -> bool:
    """Whether there is anything to show."""
    return found != Cost()


def topology_of(log: Log) -> Topology | None:
    """The tree that was trained; None if the log does not say."""
    layers = log.config.get("decoder_layers")
    if not layers:
        return None
    spec = log.config.get("tree") if is_tree(log) else None
    try:
        return Topology.parse(str(spec or layers), int(layers))
    except (ValueError, TypeError):  # a UsageError is one; a log may say anything
        return None


def is_tree(log: Log) -> bool:
    """Whether the plugin's model was trained, perhaps with one leaf."""
    return str(log.config.get("arch") or "").startswith("tsa_")


def dimensions(log: Log) -> Dimensions | None:
    """Sizes of the model; None if the log does not say all of them."""
    config = log.config
    names = [field.name for field in fields(Dimensions) if field.name != "vocabulary"]
    if log.types is None or not all(type(config.get(name)) is int for name in names):
        return None
    return Dimensions(**{name: config[name] for name in names}, vocabulary=log.types)


def training_ratio(log: Log, topology: Topology, dims: Dimensions) -> float:
    """A step's multiply-adds over the plain model's: every view is a tree of its own.

    With dealt views a view is read by some leaves alone, and nodes that none of them needs are not
    computed in it.
    """
    config = log.config
    plain = multiply_adds(Topology.of(Branch(topology.depth)), dims)
    views = config.get("kd_views") or (2 if config.get("kd_objective") in _TWO_VIEWS else 1)
    views = int(views) if is_tree(log) else 1
    whole = multiply_adds(topology, dims)
    if config.get("kd_views_leaves") != "deal" or views == 1:
        return views * whole / plain
    left_out = 0.0
    for view in range(views):
        leaves = [leaf for leaf in range(topology.num_leaves) if leaf % views == view]
        nodes = {node for leaf in leaves for node in topology.nodes(leaf)}
        left_out += (topology.num_nodes - len(nodes)) * _node(dims)
        left_out += (topology.num_leaves - len(leaves)) * dims.decoder_embed_dim * dims.vocabulary
    return (views * whole - left_out) / plain


def _node(dims: Dimensions) -> int:
    """Multiply-adds of one decoder layer: what one more costs."""
    one, two = (Topology.of(Branch(layers)) for layers in (1, 2))
    return multiply_adds(two, dims) - multiply_adds(one, dims)


def _total(log: Log, step: float) -> float | None:
    """Of as many target tokens as were trained on."""
    tokens: list[Any] = [point["wpb"] for point in (log.train or log.inner) if point.get("wpb")]
    if not tokens or not log.updates:
        return None
    return _PASSES * step * log.updates * sum(tokens) / len(tokens)


def _stored_parameters(path: str | None) -> int | None:
    """Of an export, which has no log."""
    if path is None or not path.endswith(".pt"):
        return None
    from tsa_fairseq.files.checkpoint import count_parameters, read_checkpoint

    return count_parameters(read_checkpoint(path, "SYSTEM", lazy=True)["model"])
