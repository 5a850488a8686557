"""Restore degraded video with a latent image diffusion model and no training (VISION-XL).

The names below are loaded when they are first used, so that `import visionxl` stays fast.
"""

__version__ = "0.2.0"

import importlib
import warnings
from collections.abc import Callable

_LAZY = {
    "Prior": "visionxl.prior.latent:Prior",
    "solve": "visionxl.solver:solve",
    "restore": "visionxl.app.restore:restore",
    "task": "visionxl.operators.tasks:task",
    "video": "visionxl.video",
    "plots": "visionxl.show.plots",
    "metrics": "visionxl.measure.metrics",
}
__all__ = ["__version__", *_LAZY]


def __getattr__(name):
    if name not in _LAZY:
        raise AttributeError(
            f"module 'visionxl' has no attribute {name!r}: it offers {', '.join(__all__)}"
        )
    module, _, attribute = _LAZY[name].partition(":")
    found = importlib.import_module(module)
    value = getattr(found, attribute) if attribute else found
    globals()[name] = value
    return value


def moved(
    module: str,  # from which things moved
    places: dict,  # {old name: "module" or "module:new name"}
) -> Callable[[str], object]:
    "A module's `__getattr__`: what has moved is found for one version more, with a warning."

    def find(name: str) -> object:
        if name not in places:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        place, _, now = places[name].partition(":")
        said = f"{module}.{name} has moved: take {now or name} from {place}"
        warnings.warn(said, DeprecationWarning, stacklevel=2)
        return getattr(importlib.import_module(place), now or name)

    return find


def __dir__():
    return sorted([*globals(), *_LAZY])
