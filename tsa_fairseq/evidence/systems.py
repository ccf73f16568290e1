"""The systems that are compared: what each of their seeds translated, and the run behind it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tsa_fairseq.errors import UsageError
from tsa_fairseq.evidence.generated import Generated, is_generated, parse
from tsa_fairseq.evidence.lines import read_lines
from tsa_fairseq.evidence.logs import is_log
from tsa_fairseq.evidence.runs import Run, find_run, run_around

# Translates the sources with the model of a run.
Translate = Callable[[Run], list[str]]


@dataclass(frozen=True)
class Seed:
    """One training of a system.

    Args:
        path: as the user gave it.
        hypotheses: a line a sentence; empty of a run that is looked at without translations.
        file: what they were read from; None if they were made just now.
        run: the folder it is of; None of a file alone.
        generated: sources, references and speed, if fairseq-generate wrote the file.
    """

    path: str
    hypotheses: list[str]
    file: str | None
    run: Run | None
    generated: Generated | None


@dataclass(frozen=True)
class System:
    """What is compared, under a name."""

    name: str
    seeds: tuple[Seed, ...]

    @property
    def runs(self) -> list[Run]:
        """The trainings that there are folders of."""
        return [seed.run for seed in self.seeds if seed.run is not None]


def read_systems(
    texts: Sequence[str], flag: str, translate: Translate | None, needed: bool = True
) -> list[System]:
    """Systems as a command line names them: ``PATH``, or ``NAME=PATH,PATH,...`` of several seeds.

    Args:
        texts: one a system.
        flag: what they are called there.
        translate: for runs without translations; None if the user did not ask for it.
        needed: whether every system must have translations.

    Raises:
        UsageError: two have one name, or there is nothing to compare of one.
    """
    named = [_named(text, flag) for text in texts]
    short = [name or _short(paths) for name, paths in named]
    systems = []
    for (name, paths), shown in zip(named, short, strict=True):
        shown = name or (shown if short.count(shown) == 1 else paths[0])
        seeds = tuple(read_seed(path, flag, translate, needed) for path in paths)
        systems.append(System(shown, seeds))
    for system in systems:
        if sum(other.name == system.name for other in systems) > 1:
            raise UsageError(
                f"{flag}: two systems are called '{system.name}'; expected names: NAME=PATH"
            )
    return systems


def read_seed(path: str, flag: str, translate: Translate | None, needed: bool) -> Seed:
    """What one path has, of any kind.

    Raises:
        UsageError: no translations, translations of several parts of the data, or no such file.
    """
    if Path(path).is_dir():
        run = find_run(path, flag)
        if len(run.generated) > 1:
            several = ", ".join(f"'{file}'" for file in run.generated)
            raise UsageError(
                f"{flag}: '{path}' holds {len(run.generated)} outputs of fairseq-generate, "
                f"{several}; expected one of them by its name"
            )
        if run.generated:
            return _of_file(run.generated[0], flag, path, run)
        if translate is not None and run.checkpoint is not None:
            return Seed(path, translate(run), None, run, None)
        if not needed:
            return Seed(path, [], None, run, None)
        raise UsageError(f"{flag}: '{path}' has no translations: {_how(run)}")
    lines = read_lines(path, flag)
    if is_log(lines) and not is_generated(lines):
        if not needed:
            return Seed(path, [], None, find_run(path, flag), None)
        raise UsageError(
            f"{flag}: '{path}' is a log of fairseq-train; expected the run's folder, "
            "fairseq-generate's output or a file of translations"
        )
    return _of_file(path, flag, path, run_around(path, flag))


def _of_file(file: str, flag: str, path: str, run: Run | None) -> Seed:
    lines = read_lines(file, flag)
    if is_generated(lines):
        generated = parse(lines, file, flag)
        return Seed(path, generated.hypotheses, file, run, generated)
    return Seed(path, lines, file, run, None)


def _how(run: Run) -> str:
    if run.checkpoint is None:
        return "expected fairseq-generate's output in it"
    return (
        f"run 'fairseq-generate DATA --path {run.checkpoint} ... > {run.path}/generate.txt', "
        "or give --translate and --source"
    )


def _named(text: str, flag: str) -> tuple[str, list[str]]:
    """A name, empty if there is none, and paths; a path that exists is one, whatever is in it."""
    if text and Path(text).exists():
        return "", [text]
    name, equals, paths = text.partition("=")
    if not equals:
        name, paths = "", text
    found = (
        [paths] if paths and Path(paths).exists() else [path for path in paths.split(",") if path]
    )
    if not found:
        raise UsageError(f"{flag}: got '{text}'; expected PATH, or NAME=PATH,PATH of several seeds")
    twice = next((path for n, path in enumerate(found) if _same(path, found[:n])), None)
    if twice is not None:
        raise UsageError(
            f"{flag}: got '{text}', in which '{twice}' stands twice; expected a training of its "
            "own for each seed"
        )
    return name, found


def _same(path: str, others: Sequence[str]) -> bool:
    return Path(path).resolve() in [Path(other).resolve() for other in others]


def _short(paths: Sequence[str]) -> str:
    path = Path(paths[0])
    return path.name or str(path.resolve().name)
