"""Writes docs/flags.md: every flag of the plugin and of tsa-fairseq, as the code says them.

python scripts/flags.py > docs/flags.md
"""

import argparse
import inspect
from collections.abc import Iterable, Iterator

import tsa_fairseq
from tsa_fairseq.cli.main import SUBCOMMANDS, build_parser

HEAD = """\
# Flags

What `--help` says, in one place; made by `python scripts/flags.py > docs/flags.md`. The methods
are in [methods.md](methods.md), what to choose in [training.md](training.md).
"""


def main() -> None:
    """Print the page."""
    print(page())


def page() -> str:
    """The whole page, without the last end of line."""
    tsa_fairseq.register()
    parts = [HEAD, *_architectures(), *_criterion(), *_commands()]
    return "\n".join(parts).rstrip()


def _architectures() -> Iterator[str]:
    from fairseq.models import ARCH_CONFIG_REGISTRY, ARCH_MODEL_NAME_REGISTRY, MODEL_REGISTRY

    stock = {action.dest for action in _actions(MODEL_REGISTRY["transformer"])}
    model = MODEL_REGISTRY["tsa_transformer"]
    yield "## `--arch tsa_transformer`\n\nAll flags of fairseq's `transformer`, and:\n"
    yield _table(action for action in _actions(model) if action.dest not in stock)
    yield "\n| architecture | |\n|---|---|"
    for name, of in ARCH_MODEL_NAME_REGISTRY.items():
        if of == "tsa_transformer":
            said = inspect.getdoc(ARCH_CONFIG_REGISTRY[name]) or ""
            yield f"| `{name}` | {_cell(said.replace('``', '`'))} |"


def _criterion() -> Iterator[str]:
    from fairseq.criterions import CRITERION_REGISTRY

    yield "\n## `--criterion tsa_online_kd`\n"
    yield _table(_actions(CRITERION_REGISTRY["tsa_online_kd"]))


def _commands() -> Iterator[str]:
    for name, subcommand in SUBCOMMANDS.items():
        parser = build_parser([name])
        (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
        actions = [a for a in commands.choices[name]._actions if a.dest != "help"]
        yield f"\n## `tsa-fairseq {name}`\n\n{_sentence(subcommand.help)}\n"
        if actions:
            yield _table(actions)


def _actions(registered: type) -> list[argparse.Action]:
    parser = argparse.ArgumentParser(add_help=False)
    registered.add_args(parser)
    return parser._actions


def _table(actions: Iterable[argparse.Action]) -> str:
    rows = [f"| {_name(action)} | {_help(action)} |" for action in actions]
    return "\n".join(["| flag | |", "|---|---|", *rows])


def _name(action: argparse.Action) -> str:
    takes = "" if action.nargs == 0 else f" {_value(action)}"
    if not action.option_strings:
        return f"`{_cell(takes.strip())}`"
    return ", ".join(f"`{_cell(flag + takes)}`" for flag in action.option_strings)


def _value(action: argparse.Action) -> str:
    shown = action.metavar or (action.choices and "|".join(map(str, action.choices)))
    one = shown or {int: "N", float: "X"}.get(action.type, action.dest.split("_")[-1].upper())
    one = " ".join(one) if isinstance(one, tuple) else str(one)
    return {"?": f"[{one}]", "+": f"{one} [{one} ...]", "*": f"[{one} ...]"}.get(action.nargs, one)


def _help(action: argparse.Action) -> str:
    default = action.default
    # not as argparse does it: fairseq's own help has lone signs of per cent
    said = (action.help or "").replace("%(default)s", str(default)).replace("%%", "%")
    if (
        "default" not in said
        and default not in (None, False, [], argparse.SUPPRESS)
        and action.nargs != 0
    ):
        said += f" (default: {default})"
    return _cell(said)


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    main()
