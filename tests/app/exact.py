"Priors that need no weights, for tests of what lies around the solver."

import torch

from visionxl.app.cli.main import main

FEW = {"route.steps": 6, "start.what": "Regularised"}  # `best` with one step of the loop


def psnr(a, b):
    return float(10 * torch.log10(4 / (a - b).square().mean()))


def run(*words):
    "The command line in this process; returns its exit status."
    return main([str(w) for w in words])


class Gaussian:
    """An exact prior without weights: pixels of variance 1/4, folded into latents of a quarter of
    the size.
    """

    factor, channels, frames_per_batch, t_max = 4, 48, 5, 999
    device = torch.device("cpu")
    alpha_bar = (
        1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    ).cumprod(0)
    calls = 0

    def latent_shape(self, h, w):
        assert not (h % 4 or w % 4)
        return 48, h // 4, w // 4

    def encode(self, x, generator=None):
        return torch.nn.functional.pixel_unshuffle(x, 4)

    def decode(self, z):
        return torch.nn.functional.pixel_shuffle(z, 4)

    def eps(self, z, t):
        Gaussian.calls += 1
        a = float(self.alpha_bar[t])
        z0 = a**0.5 * 0.25 / (a * 0.25 + 1 - a) * z
        return (z - a**0.5 * z0) / (1 - a) ** 0.5


class Plain(Gaussian):
    "A prior that believes everything: no noise is predicted."

    frames_per_batch = 9
    alpha_bar = (1 - torch.linspace(0.03, 0.11, 1000, dtype=torch.float64) ** 2).cumprod(0)

    def eps(self, z, t):
        return torch.zeros_like(z)
