"""A checkpoint's parameters: tensors that hold as many numbers as they say, and fit its sizes.

What fairseq builds of the arguments is thereby never much larger than the file.
"""

import json
import math
import re
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from tsa_fairseq.files.refused import Refused, shown

_DTYPES = (
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
    *(torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool),
)
_SIDES = ("encoder", "decoder")
# Numbers in a table of sinusoids, which is computed and stands in no file: 1 GiB.
_TABLE = 2**28
# Where a size shows: by an argument's name, a parameter and its dimension.
_SHOWN = {
    "{side}_embed_dim": ("{side}.embed_tokens.weight", 1),
    "{side}_ffn_embed_dim": ("{side}.layers.0.fc1.weight", 0),
    "{side}_output_dim": ("{side}.output_projection.weight", 1),
}


def checked_parameters(given: Mapping[Any, Any]) -> dict[str, Tensor]:
    """A checkpoint's ``model``: parameters by their names.

    Raises:
        Refused: one is no tensor, or claims more numbers than the file holds.
    """
    for name, tensor in given.items():
        _check_tensor(name, tensor)
    return {str(name): Tensor.detach(tensor) for name, tensor in given.items()}


def check_sizes(model: Mapping[str, Tensor], arguments: Namespace) -> None:
    """Refuse parameters of which the arguments do not make a model.

    Args:
        model: of :func:`checked_parameters`.
        arguments: of the model, checked.

    Raises:
        Refused: embeddings are missing, or something is not of the size that the arguments say.
    """
    for side in _SIDES:
        words = model.get(f"{side}.embed_tokens.weight")
        if words is None or words.dim() != 2:
            what = "no" if words is None else "no matrix for"
            raise Refused(f"is no complete checkpoint: it has {what} {side}.embed_tokens.weight")
        _check_layers(side, model, arguments)
        _check_widths(side, model, arguments)
        _check_positions(side, words.size(1), arguments)
    _check_bridge(model, arguments)
    cutoffs = getattr(arguments, "adaptive_softmax_cutoff", None) or [0]
    if max(cutoffs) > model["decoder.embed_tokens.weight"].size(0):
        raise Refused(
            f"does not fit its own arguments: its adaptive_softmax_cutoff is {max(cutoffs):,}, "
            "more than it has words"
        )


def own_copy(model: Mapping[str, Tensor], size: int) -> dict[str, Tensor]:
    """The same parameters in memory of their own, one where they share it.

    Args:
        model: windows on a file.
        size: its bytes.

    Raises:
        Refused: they would take more than what they are windows on, or that more than the file:
            torch takes a storage to be as long as the pickle says.
    """
    places = {_place(tensor): tensor for tensor in model.values()}
    storages = {tensor.untyped_storage().data_ptr(): tensor for tensor in places.values()}
    held = sum(tensor.untyped_storage().nbytes() for tensor in storages.values())
    taken = sum(tensor.numel() * tensor.element_size() for tensor in places.values())
    if taken > held or held > size:
        raise Refused("is refused: its parameters lie in each other, more than the file holds")
    copies = {place: tensor.clone() for place, tensor in places.items()}
    return {name: copies[_place(tensor)] for name, tensor in model.items()}


def _place(tensor: Tensor) -> Any:
    return tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()


def _check_tensor(name: Any, tensor: Any) -> None:
    if type(name) is not str or not name.isprintable() or len(name) > 255:
        raise Refused(f"is not a fairseq checkpoint: it has a parameter named {shown(name)}")
    if type(tensor) not in (Tensor, Parameter):
        raise Refused(
            f"is not a fairseq checkpoint: its parameter {name} is {shown(tensor)}; expected a "
            "tensor"
        )
    tensor = Tensor.detach(tensor)  # nothing that a file has put on it answers for it
    plain = tensor.layout == torch.strided and tensor.device.type == "cpu" and not tensor.is_nested
    if not plain or tensor.dtype not in _DTYPES:
        raise Refused(
            f"is not a fairseq checkpoint: its parameter {name} is a tensor of {tensor.dtype} that "
            "no Transformer of fairseq's has"
        )
    held = tensor.untyped_storage().nbytes() // tensor.element_size()
    if tensor.numel() > held:
        raise Refused(
            f"is refused: its parameter {name} claims {tensor.numel():,} numbers and holds {held:,}"
        )


def _check_bridge(model: Mapping[str, Tensor], arguments: Namespace) -> None:
    """Of SOKD's bridge, which is built of what the checkpoint says of its teacher."""
    layers = _number_of_layers("heads.bridge", model)
    given = getattr(arguments, "kd_bridge_layers", None)
    if layers and given not in (None, layers):
        raise Refused(
            f"does not fit its own arguments: its kd_bridge_layers is {given:,}, and it has "
            f"parameters of {layers:,}"
        )
    layout = json.loads(getattr(arguments, "kd_teacher_layout", None) or "{}")
    for name, parameter, dimension in (
        ("decoder_embed_dim", "output_projection.weight", 1),
        ("decoder_ffn_embed_dim", "layers.0.fc1.weight", 0),
    ):
        tensor = model.get(f"heads.bridge.{parameter}")
        given = layout.get(name)
        if (
            tensor is not None
            and given is not None
            and tensor.shape[dimension : dimension + 1] != (given,)
        ):
            raise Refused(
                f"does not fit its own arguments: its teacher's {name} is {given:,}, and its "
                f"heads.bridge.{parameter} is {tuple(tensor.shape)}"
            )


def _number_of_layers(where: str, model: Mapping[str, Tensor]) -> int:
    pattern = re.compile(rf"{re.escape(where)}\.layers\.([^.]+)\.")
    found = {match.group(1) for match in map(pattern.match, model) if match is not None}
    if found != set(map(str, range(len(found)))):
        raise Refused(
            f"does not fit its own arguments: its {where} has parameters of layers that are not "
            f"called 0 to {len(found) - 1}"
        )
    return len(found)


def _check_layers(side: str, model: Mapping[str, Tensor], arguments: Namespace) -> None:
    layers = _number_of_layers(side, model)
    given = getattr(arguments, f"{side}_layers", None)
    keep = getattr(arguments, f"{side}_layers_to_keep", None)
    fits = given in (None, layers)
    if keep:  # all that are named are built, the others not
        given = keep.count(",") + 1
        fits = given <= layers
    if not fits:
        raise Refused(
            f"does not fit its own arguments: its {side} has {given:,} layers by these, and "
            f"parameters of {layers:,}"
        )


def _check_widths(side: str, model: Mapping[str, Tensor], arguments: Namespace) -> None:
    for size, (parameter, dimension) in _SHOWN.items():
        tensor = model.get(parameter.format(side=side))
        given = getattr(arguments, size.format(side=side), None)
        if tensor is None or given is None:
            continue
        if tensor.dim() != 2 or tensor.size(dimension) != given:
            raise Refused(
                f"does not fit its own arguments: its {size.format(side=side)} is {given:,}, and "
                f"its {parameter.format(side=side)} is {tuple(tensor.shape)}"
            )


def _check_positions(side: str, width: int, arguments: Namespace) -> None:
    name = "max_source_positions" if side == "encoder" else "max_target_positions"
    given = getattr(arguments, name, None) or 1
    if math.prod((given, width)) > _TABLE:
        raise Refused(
            f"is refused: its {name} is {given:,}, and a table of so many positions of {width:,} "
            f"numbers each is more than {_TABLE:,}"
        )
