"""What stands in place of a prior's network in rows of `best`: nothing, a blur, or a denoiser.

`plain_prior` of the package puts them into the latents of an autoencoder. The latents of `white`
are pixels in another order, with more noise by a constant, and `best` has settings of its own for
it. So there they work on the pixels, at the noise that the network would meet, with the settings
of `white`. A blur is as many pixels wide as the noise is strong in units of the latents: 0.26 where
`best` starts on inpaintings, 0.70 on sr.
"""

import sys
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from visionxl.compare.from_noise import ThroughLatents  # noqa: E402
from visionxl.extras.best_white import white_in_pixels  # noqa: E402
from visionxl.measure.experiment.grid import Grid  # noqa: E402
from visionxl.measure.experiment.plain_priors import PLAIN_PRIORS, plain_prior  # noqa: E402
from visionxl.prior.adapters import DenoiserPrior  # noqa: E402
from visionxl.prior.protocol import PriorLike  # noqa: E402


class OnPixels:
    "A denoiser of pixels for the latents of a prior whose noise is white in the pixels."

    def __init__(self, denoise: Callable, prior: PriorLike, gain: float):
        self.denoise, self.prior, self.gain = denoise, prior, gain

    def __call__(self, z: Tensor, sigma: float) -> Tensor:
        "The clean latents (T, c, h, w)."
        return self.prior.encode(self.denoise(self.prior.decode(z), sigma / self.gain))


def in_place(
    prior: PriorLike,  # whose network is left out
) -> dict[str, DenoiserPrior]:  # under the names of PLAIN_PRIORS
    "The priors without a network that keep everything else of a prior."
    if not white_in_pixels(prior):
        return {name: plain_prior(name, prior) for name in PLAIN_PRIORS}
    a = float(prior.alpha_bar[1])
    gain = ((1 - a) / a) ** 0.5 / float(ThroughLatents(prior).levels[1])
    found = {}
    for name, denoise in PLAIN_PRIORS.items():
        wide = 1.0 if name == "blur prior" else gain
        found[name] = DenoiserPrior(OnPixels(denoise, prior, wide), prior)
        found[name].white = True  # so `best` takes the settings that it has for this prior
    return found


def put_in(
    grid: Grid,
    prior: str,  # the name of the run's prior
    names: list[str],  # of PLAIN_PRIORS, those that have rows
) -> None:
    "Let a grid know priors without a network that belong to the run's prior."
    if names:
        found = in_place(grid.prior(prior))
        grid.priors |= {name: found[name] for name in names}
