"""What a score was made with."""

import platform
from importlib.metadata import packages_distributions, version


def versions(*more: str) -> dict[str, str]:
    """The versions of Python and of the packages that have a part in a score.

    Args:
        more: names of modules beside the plugin, fairseq and torch.
    """
    # fairseq goes by several distribution names
    distributions = packages_distributions()
    packages = ("tsa_fairseq", "fairseq", "torch", *more)
    return {"python": platform.python_version()} | {
        name: version(distributions[name][0]) for name in packages if name in distributions
    }
