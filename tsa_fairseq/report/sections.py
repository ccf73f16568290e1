"""The parts of a page, each of which is left out where nothing is known of it."""

from collections.abc import Sequence
from pathlib import Path

from tsa_fairseq.evidence import details as differences
from tsa_fairseq.evidence import tables
from tsa_fairseq.evidence.answer import answers
from tsa_fairseq.evidence.comparison import Comparison
from tsa_fairseq.evidence.costs import cost, is_known, topology_of
from tsa_fairseq.evidence.formats import Table, number, words
from tsa_fairseq.evidence.leaves import nll_of_leaves
from tsa_fairseq.evidence.logs import CRASHED, FINISHED, Log
from tsa_fairseq.evidence.pairs import Paired
from tsa_fairseq.evidence.systems import System
from tsa_fairseq.report import curves, provenance
from tsa_fairseq.report.examples import examples
from tsa_fairseq.report.html import Markup, Section, details, section, table, tag, typeset
from tsa_fairseq.report.plots import figures, forest
from tsa_fairseq.report.tree_drawing import Leaf, tree


def answer(systems: Sequence[System], found: Comparison | None) -> Section:
    """What came out, before anything else; and which trainings are not what they should be."""
    said = answers(found) if found is not None else _by_validation(systems)
    items = [
        tag("li", tag("p", typeset(first), class_="answer"),
            *(tag("p", typeset(sentence)) for sentence in rest))
        for first, *rest in said
    ]  # fmt: skip
    several = "verdicts several" if len(items) > 1 else "verdicts"
    parts = [tag("ul", *items, class_=several)]
    if found is not None and found.others and found.judged[0].paired is not None:
        parts.append(_forest(found, found.judged[0].paired))
    warned = found.warnings if found is not None else []
    states = [
        text for system in systems for run in system.runs if (text := _state(system, run.log))
    ]
    notes = [tag("li", text) for text in [*states, *warned]]
    parts += (
        [tag("ul", *notes, class_="warnings", aria_label="What to know first")] if notes else []
    )
    return section("answer", "The answer", *parts)


def _state(system: System, log: Log | None) -> str:
    if log is None or log.state == FINISHED or not log.config:
        return ""
    where = f"{system.name} ({log.path})"
    if log.state == CRASHED:
        return f"{where} crashed at update {log.updates:,}: {log.error}"
    limit = log.config.get("max_update")
    of = f" of {limit:,}" if isinstance(limit, int) and limit else ""
    return f"{where} is unfinished: update {log.updates:,}{of}; its figures are those so far."


def _forest(found: Comparison, paired: Paired) -> Markup:
    measure = found.judged[0].measure
    gains = {name: (gain.value, gain.low, gain.high) for name, gain in paired.gains.items()}
    better = "to the right" if measure.sign > 0 else "to the left"
    return forest(
        "gains", f"{measure.title} over {found.baseline}, with the 95 % interval over sentences",
        f"better is {better}", gains,
    )  # fmt: skip


def _by_validation(systems: Sequence[System]) -> list[list[str]]:
    """Without translations there are logs alone."""
    said = []
    for system in systems:
        for log in curves.logs(system)[:1]:
            points = [p for p in log.valid if "nll_loss" in p]
            if points:
                best = min(points, key=lambda point: point["nll_loss"])
                nll, updates = best["nll_loss"], best["num_updates"]
                least = f"least nll of the validation data {nll:.3f} bits a token"
                said.append([f"{system.name}: {least}, at update {updates:,.0f}."])
            else:
                said.append([f"{system.name}: nothing was validated yet."])
    none = (
        "No scores: they take translations of every system (fairseq-generate's output in the "
        "folder of a run)."
    )
    return [*said, [none]] if not said else [*said[:-1], [*said[-1], none]]


def compared(systems: Sequence[System]) -> Section:
    """What the page is about."""
    rows = []
    for system in systems:
        known = [run.log for run in system.runs if run.log is not None]
        what = [_kind(log) for log in known[:1]] or [_without_log(system)]
        states = ", ".join(sorted({log.state for log in known if log.config})) or "–"
        updates = max((log.updates for log in known), default=None)
        rows.append((words(system.name), words(what[0]), number(len(system.seeds), 0),
                     number(updates, 0), words(states)))  # fmt: skip
    heading = ("system", "what it is", "seeds", "updates", "training")
    return section(
        "systems", "What was compared", table(Table("systems", "Systems", heading, tuple(rows)))
    )


def _kind(log: Log) -> str:
    if Path(log.path).is_dir():
        return "a training, by TensorBoard's events"
    topology, config = topology_of(log), log.config
    if topology is None or topology.num_leaves == 1:
        objective = config.get("kd_objective")
        taught = f", {objective}" if objective not in (None, "none") else ""
        return f"{config.get('arch') or 'a model'}{taught}"
    taught = config.get("kd_objective") or "its objective"
    return f"tree {topology}, {topology.num_leaves} leaves, {taught}"


def _without_log(system: System) -> str:
    run = system.seeds[0].run
    if run is None:
        return "translations"
    return "an export" if run.is_export else "a run without a log"


def trees(systems: Sequence[System], found: Comparison | None) -> Section | None:
    """Every tree drawn, each leaf with its figures."""
    drawn = []
    measured = {one.system: one for one in found.leaves} if found is not None else {}
    for system in systems:
        for log in curves.logs(system)[:1]:
            topology = topology_of(log)
            if topology is None or topology.num_leaves == 1:
                continue
            nll, one = nll_of_leaves(log), measured.get(system.name)
            best = min(range(len(nll)), key=nll.__getitem__) if nll else None
            leaves = []
            for leaf in range(topology.num_leaves):
                shown = [f"nll {nll[leaf]:.3f}"] if nll else []
                if one is not None and found is not None:
                    shown.append(f"{found.judged[0].measure.title} {one.scores[leaf]:.2f}")
                leaves.append(Leaf(" · ".join(shown), leaf == best))
            drawn.append(tag("h3", system.name))
            drawn.append(tree(topology, leaves))
            if one is not None and found is not None:
                drawn.append(table(differences.leaves(found, system.name)))
    if not drawn:
        return None
    note = tag("p", "Boxes are decoder layers; nll in bits a token on the validation data, at the "
               "checkpoint that was kept.", class_="note")  # fmt: skip
    return section("tree", "The tree", *drawn, note)


def learning(systems: Sequence[System]) -> Section | None:
    """Curves, the distillation, and how far the leaves differ."""
    parts: list[str] = []
    for title, made in (
        ("", curves.learning(systems)),
        ("The distillation", curves.distillation(systems)),
        ("How far the leaves differ", curves.disagreement(systems)),
    ):
        if made:
            parts += [tag("h3", title)] * bool(title) + [figures(*made)]
    return section("learning", "How they learned", *parts) if parts else None


def cost_of(systems: Sequence[System], found: Comparison | None) -> Section | None:
    """Parameters, computing, speed, memory."""
    costs = found.costs if found else {s.name: cost(s.seeds[0]) for s in systems}
    if not any(map(is_known, costs.values())):
        return None
    rows = []
    for system in systems:
        for log in curves.logs(system)[:1]:
            speeds = [point["wps"] for point in log.inner if "wps" in point]
            free = [point["gb_free"] for point in log.inner if "gb_free" in point]
            rows.append((
                words(system.name),
                number(sum(speeds) / len(speeds) if speeds else None, 0),
                number(min(free) if free else None, 1),
            ))  # fmt: skip
    training = Table(
        "speed",
        "While training",
        ("system", "words a second", "least GPU memory free, GB"),
        tuple(rows),
        "As fairseq logs them, with all else that the machine did.",
    )
    shown = [table(differences.costs(costs))] + ([table(training)] if rows else [])
    return section("cost", "Speed, size and memory", *shown)


def scores(found: Comparison) -> Section:
    """The tables that decide."""
    made = [tables.scores(found), *tables.gains(found), *tables.seeds(found)]
    made += [differences.shares(found)] * bool(found.others)
    return section("scores", "Scores", *map(table, made))


def where(found: Comparison) -> Section:
    """In which sentences, words and n-grams the difference lies."""
    made = [differences.lengths(found)] + [differences.frequencies(found)] * bool(found.frequencies)
    folded = [
        details(f"N-grams that {system.name} wins and loses",
                table(differences.ngrams(found, system.name)))
        for system in found.others
    ]  # fmt: skip
    return section("where", "Where they differ", *map(table, made), *folded)


def sentences(found: Comparison) -> Section:
    """Translations, side by side."""
    parts = []
    for system in found.others:
        if len(found.others) > 1:
            parts.append(details(f"{system.name} against {found.baseline}",
                                 examples(found, system.name)))  # fmt: skip
        else:
            parts.append(examples(found, system.name))
    note = tag("p", "The sentences with the largest difference of chrF, by its mean over seeds; "
               "shown are the first seeds' translations. Marked: words that the other one does "
               "not have.", class_="note")  # fmt: skip
    return section("examples", "Translations", note, *parts)


def origin(systems: Sequence[System], found: Comparison | None, command: str) -> Section:
    """Commands, versions, seeds, checksums, signatures."""
    recipe = provenance.recipes(systems)
    versions = Table(
        "versions", "Versions", ("package", "version"),
        tuple((words(name), words(text)) for name, text in provenance.versions().items()),
    )  # fmt: skip
    made = [provenance.files(systems, found), versions]
    made += [recipe] if recipe is not None else []
    made += [tables.signatures(found)] if found is not None else []
    shown = tag("p", "This page was made by", tag("code", command))
    return section("provenance", "Where all this is from", shown, *map(table, made))
