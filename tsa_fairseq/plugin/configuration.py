"""A model's configuration as fairseq-hydra-train has it, as the arguments that all else reads.

Of a model of this kind, fairseq knows arguments as its command line makes them. A YAML file has
them in a tree of its own: flat (``encoder_layers: 6``) or nested (``encoder: {layers: 6}``), beside
the criterion's and the training's.
"""

import difflib
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from omegaconf import OmegaConf, open_dict

from tsa_fairseq.errors import UsageError

NESTED = ("encoder", "decoder", "quant_noise")
# The sections whose fields the command line has among the model's arguments.
SECTIONS = (
    *("common", "distributed_training", "dataset", "optimization", "checkpoint", "task"),
    "criterion",
)
COMPLETE = "tree_complete"  # of a configuration that has been read before


@contextmanager
def arguments_of(config: Any, add_args: Callable[[ArgumentParser], None]) -> Iterator[Namespace]:
    """The arguments in a configuration; what is changed in them is changed in it at the end.

    Arguments of the command line are themselves. Those of a training that hydra starts are as the
    command line would have them, with the other sections' fields; a configuration from a checkpoint
    is the model's alone.

    Args:
        config: an ``argparse.Namespace`` or omegaconf's ``DictConfig``.
        add_args: adds the model's options to a parser, which tells what there may be.

    Raises:
        UsageError: there is no such option.
        SystemExit: instead of a UsageError in a training that hydra starts, which would print a
            traceback.
    """
    if not OmegaConf.is_config(config):
        yield config
        return
    begins = not config.get(COMPLETE, False)
    root, sections = config._get_root(), {}
    # what trains has been completed, but not built yet, the second time
    if (begins or config.get("tree_training")) and root.get("checkpoint") is not None:
        sections = {name: root[name] for name in SECTIONS if OmegaConf.is_config(root.get(name))}
    try:
        with _flat(config, sections, begins, add_args) as arguments:
            yield arguments
    except UsageError as error:
        if not sections:
            raise
        raise SystemExit(error.code) from None


@contextmanager
def _flat(
    config: Any, sections: dict[str, Any], begins: bool, add_args: Callable[[ArgumentParser], None]
) -> Iterator[Namespace]:
    mine = _unnested(config)
    outside = {
        key: value
        for section in sections.values()
        for key, value in section.items()
        if key != "_name"
    }
    if sections and begins:
        _check_options(mine, add_args)
        mine["arch"] = mine.pop("_name")
        for name in ("criterion", "task"):  # the command line has their names there
            outside[name] = sections[name]._name if name in sections else None
    arguments = Namespace(**{**outside, **mine})
    yield arguments
    found = vars(arguments)
    with open_dict(config):
        for key in list(config):
            if key not in found and key != "_name":
                del config[key]
        for key, value in found.items():
            if key not in outside or key in mine or key.startswith("kd_"):
                config[key] = value
        config[COMPLETE] = True
    for section in sections.values():
        with open_dict(section):
            for key in section:
                if key in found and key not in ("_name", *mine) and found[key] != section[key]:
                    section[key] = found[key]


def _unnested(config: Any) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    container: Any = OmegaConf.to_container(config, resolve=True)
    for key, value in container.items():
        if key in NESTED and isinstance(value, dict):
            flat.update({f"{key}_{name}": inner for name, inner in value.items()})
        else:
            flat[key] = value
    if isinstance(flat.get("tree"), int) and not isinstance(flat["tree"], bool):
        flat["tree"] = str(flat["tree"])  # as YAML has a tree of one leaf
    return flat


def _check_options(mine: dict[str, Any], add_args: Callable[[ArgumentParser], None]) -> None:
    """Refuse a name that no option has: fairseq would leave it out without a word."""
    parser = ArgumentParser(add_help=False)
    add_args(parser)
    known = {action.dest for action in parser._actions} | {"_name", "arch"}
    for key in mine.keys() - known:
        close = difflib.get_close_matches(key, known, n=1)
        hint = f"; expected {close[0]}?" if close else "; expected what fairseq-train has as a flag"
        raise UsageError(f"model.{key}: there is no option --{key.replace('_', '-')}{hint}")
