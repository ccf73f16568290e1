"""The methods by which leaves learn from each other, one file each."""

from tsa_fairseq.errors import UsageError
from tsa_fairseq.objectives.base import KDSettings, Objective
from tsa_fairseq.objectives.tsa import TSA

OBJECTIVES: dict[str, type[Objective]] = {"tsa": TSA}


def build_objective(name: str, settings: KDSettings) -> Objective:
    """The objective that ``--kd-objective`` names.

    Raises:
        UsageError: there is no such objective.
    """
    if name not in OBJECTIVES:
        raise UsageError(f"--kd-objective: got '{name}'; expected one of {', '.join(OBJECTIVES)}")
    return OBJECTIVES[name](settings)


__all__ = ["OBJECTIVES", "KDSettings", "Objective", "build_objective"]
