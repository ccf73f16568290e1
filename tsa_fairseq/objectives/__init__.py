"""The methods by which leaves learn from each other, one file each, and their maths.

An objective is a pure function of a block of predictions: it knows no model, no tree and no file.
"""

from tsa_fairseq.errors import UsageError, check_choice
from tsa_fairseq.objectives.base import Objective
from tsa_fairseq.objectives.cl_ilr import CLILR
from tsa_fairseq.objectives.dml import DML
from tsa_fairseq.objectives.ensemble import Ensemble
from tsa_fairseq.objectives.kd import KD
from tsa_fairseq.objectives.kdcl import KDCLMinLogit, KDCLNaive
from tsa_fairseq.objectives.none import Independent
from tsa_fairseq.objectives.okddip import OKDDip
from tsa_fairseq.objectives.one import ONE
from tsa_fairseq.objectives.rdrop import RDrop
from tsa_fairseq.objectives.settings import KDSettings
from tsa_fairseq.objectives.sokd import SOKD
from tsa_fairseq.objectives.tsa import TSA

OBJECTIVES: dict[str, type[Objective]] = {
    objective.published.objective: objective
    for objective in (
        *(TSA, DML, Ensemble, OKDDip, ONE, CLILR, KDCLNaive, KDCLMinLogit),
        *(KD, SOKD, RDrop, Independent),
    )
}


def check_name(name: str) -> None:
    """Refuse what is no objective.

    Raises:
        UsageError: there is no such objective.
    """
    check_choice("--kd-objective", name, tuple(OBJECTIVES))


def build_objective(name: str, settings: KDSettings) -> Objective:
    """The objective that ``--kd-objective`` names.

    Raises:
        UsageError: there is no such objective, or it has no use for a setting that is given.
    """
    check_name(name)
    if name != OKDDip.published.objective:
        for flag, value in (
            ("--kd-aggregation", settings.aggregation),
            ("--kd-mask-self", settings.mask_self or None),
        ):
            if value is not None:
                raise UsageError(
                    f"{flag}: got '{value}' with --kd-objective {name}; "
                    f"expected --kd-objective {OKDDip.published.objective}"
                )
    return OBJECTIVES[name](settings)


__all__ = ["OBJECTIVES", "KDSettings", "Objective", "build_objective", "check_name"]
