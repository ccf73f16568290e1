"""A model card beside an export: Markdown, with the metadata block that model hubs read."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tsa_fairseq.errors import UsageError, plural
from tsa_fairseq.evidence.comparison import Comparison
from tsa_fairseq.evidence.costs import cost
from tsa_fairseq.evidence.formats import markdown
from tsa_fairseq.evidence.runs import Run, find_run
from tsa_fairseq.evidence.scores import Measure
from tsa_fairseq.evidence.spread import Spread
from tsa_fairseq.evidence.systems import Seed, System
from tsa_fairseq.evidence.tables import gained, written
from tsa_fairseq.files.checksums import checksum
from tsa_fairseq.report.provenance import FLAGS

_TEMPLATE = Path(__file__).with_name("card.md")


def card(export: str, systems: Sequence[System], found: Comparison | None) -> str:
    """The text of it.

    Args:
        export: the folder of an export.
        systems: among which the training is that it was made of, or the export itself.
        found: their comparison; None if there is none.

    Raises:
        UsageError: the folder is no export, or of none of the systems.
    """
    run = find_export(export)
    assert run.origin is not None
    system, seed = _source(run, systems)
    said, text = run.origin, run.origin.get("text", {})
    source, target = (text.get(side) or "und" for side in ("source", "target"))
    leaf = said.get("leaf")
    what = "the bridge" if leaf == "bridge" else f"leaf {leaf} of the tree {said.get('tree')}"
    library = "ctranslate2" if str(run.checkpoint).endswith(".bin") else "fairseq"
    names = {"source": source, "target": target, "library": library, "what": what}
    exact = leaf == 0 or (seed.run is not None and seed.run.is_export)
    # numbers that a hub shows beside the model must be this model's
    index = _index(found, system, seed, names) if found is not None and exact else ""
    return _TEMPLATE.read_text(encoding="utf-8").format(
        index=index,
        **names,
        languages="\n".join(f"- {_quoted(language)}" for language in (source, target)),
        checkpoint=said.get("source"),
        data=_data(seed),
        recipe=_recipe(seed, said),
        scores=_scores(found, system, seed, leaf),
    )


def find_export(path: str) -> Run:
    """What there is in the folder.

    Raises:
        UsageError: it is no export.
    """
    run = find_run(path, "--card")
    if run.origin is None:
        raise UsageError(f"--card: '{path}' is no export; expected what tsa-fairseq export made")
    return run


def _source(run: Run, systems: Sequence[System]) -> tuple[System, Seed]:
    """The system that the export is, or is made of."""
    assert run.origin is not None
    made_of, named = run.origin.get("source_sha256"), run.origin.get("source")
    for system in systems:
        for seed in system.seeds:
            if seed.run is None:
                continue
            if Path(seed.run.path).resolve() == Path(run.path).resolve():
                return system, seed
            # the one of its name first: a checkpoint may be large
            files = sorted(seed.run.models(), key=lambda file: Path(file).name != named)
            if any(checksum(file, "RUN") == made_of for file in files):
                return system, seed
    raise UsageError(f"--card: '{run.path}' was exported from '{named}' of none of these runs")


def _data(seed: Seed) -> str:
    config = seed.run.log.config if seed.run is not None and seed.run.log is not None else {}
    folder = config.get("data")
    known = f"`{Path(str(folder)).name}`, as fairseq-preprocess left it. " if folder else ""
    return f"{known}*Say here what the data are, where they come from and how they were cleaned.*"


def _recipe(seed: Seed, said: dict[str, Any]) -> str:
    lines = [f"- updates: {said.get('updates')}", f"- tsa_fairseq {said.get('tsa_fairseq')}"]
    log = seed.run.log if seed.run is not None else None
    if log is None:
        return "\n".join(lines)
    spent = cost(seed)
    if spent.training_parameters is not None:
        lines.append(f"- parameters in training: {spent.training_parameters:,}")
    if spent.ratio is not None:
        lines.append(f"- multiply-adds of a training step: {spent.ratio:.2f} x the plain model's")
    shown = [f for f in FLAGS if f != "data" and log.config.get(f) is not None]
    lines += [f"- `--{flag.replace('_', '-')} {_value(log.config[flag])}`" for flag in shown]
    return "\n".join(lines)


def _value(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _scores(found: Comparison | None, system: System, seed: Seed, leaf: Any) -> str:
    if found is None:
        return "None were measured."
    rows = []
    for one in found.judged:
        spread = Spread.of(one.values(system.name))
        gain = one.paired.gains.get(system.name) if one.paired is not None else None
        over = gained(gain) if gain is not None else "–"
        signature = f"`{one.measure.signature}`"
        rows.append([one.measure.title, written(spread, 2).text, over, signature])
    heading = ["metric", "score", f"against {found.baseline}", "signature"]
    if seed.run is not None and seed.run.is_export:
        of = "this export"
    else:
        of = "the training that it was exported from, by its leaf 0 unless it was told otherwise"
        of += "" if leaf == 0 else f"; this export is leaf {leaf}, and not the same model"
    names = ", ".join(map(_short, found.test.names))
    note = f"Of {of}. {plural(len(found.test), 'sentence')}: {names}."
    if len(system.seeds) > 1:
        note += f" Mean and standard deviation over {len(system.seeds)} trainings; "
        own = _own(found, system, seed)
        note += f"this one has {', '.join(f'{value} {measure.title}' for measure, value in own)}."
    tests = found.judged[0].paired
    if tests is not None:
        note += f" Intervals and p: `{'`, `'.join(tests.signatures)}`."
    return f"{markdown(heading, rows)}\n\n{note}"


def _own(found: Comparison, system: System, seed: Seed) -> list[tuple[Measure, str]]:
    """What this model itself has, of a system that may have several seeds."""
    number = system.seeds.index(seed)
    return [(one.measure, f"{one.values(system.name)[number]:.2f}") for one in found.judged]


def _index(found: Comparison, system: System, seed: Seed, names: dict[str, str]) -> str:
    """The scores of this model as hubs read them."""
    task = _quoted(f"{names['source']} to {names['target']}")
    dataset = _quoted(_short(found.test.names[0]))
    lines = ["model-index:", f"- name: {_quoted(system.name)}", "  results:", "  - task:"]
    lines += ["      type: translation", f"      name: {task}", "    dataset:"]
    lines += [f"      name: {dataset}", "      type: custom", "    metrics:"]
    for measure, value in _own(found, system, seed):
        lines += [f"    - type: {measure.name}", f"      name: {measure.title}"]
        lines += [f"      value: {value}"]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A text of YAML's, whatever is in it: JSON's are."""
    return json.dumps(text, ensure_ascii=False)


def _short(name: str) -> str:
    return Path(name).name
