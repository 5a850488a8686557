"""What a researcher writes who has read the site alone: one section for each thing of one's own.

`tests/test_own_trial.py` runs every section, and CONTRIBUTING.md tells how many lines each takes.
"""

import torch

from visionxl.operators.linear import LinearOperator
from visionxl.operators.tasks import Mask
from visionxl.prior.adapters import DenoiserPrior, from_diffusers
from visionxl.steps.inversion import to_size
from visionxl.steps.renoise import renoise
from visionxl.steps.tweedie import tweedie


# own: operator, two methods and no base class
class Interlaced:
    def __init__(self, shape):
        self.in_shape = tuple(shape)
        self.out_shape = (*shape[:2], shape[2] // 2, shape[3])

    def __call__(self, x):
        return torch.stack([frame[:, i % 2 :: 2] for i, frame in enumerate(x)])

    def AT(self, y):
        x = y.new_zeros(self.in_shape)
        for i, half in enumerate(y):
            x[i, :, i % 2 :: 2] = half
        return x


# own: operator, a function
def vignette(x):
    rows, columns = torch.linspace(-1, 1, x.shape[2]), torch.linspace(-1, 1, x.shape[3])
    gain = 1 - 0.35 * (rows[:, None] ** 2 + columns**2)
    return torch.nn.functional.avg_pool2d(x * gain.to(x), 2)


def dark_corners(shape):
    return LinearOperator.from_function(vignette, shape)


# own: operator, a subclass of a bundled one
class Scratched(Mask):
    def __init__(self, shape):
        keep = torch.ones(shape[-2:])
        keep[20:24, 8:40] = 0
        super().__init__(shape, keep)


# own: operator with complex measurements
class Fourier(LinearOperator):
    def __init__(self, shape):
        self.in_shape = self.out_shape = tuple(shape)
        seen = torch.rand(shape[-2:], generator=torch.Generator().manual_seed(0)) < 0.4
        seen[0, :8] = seen[0, -8:] = seen[:6] = seen[-6:] = True
        self.seen = seen

    def forward(self, x):
        return torch.fft.fft2(x, norm="ortho") * self.seen

    def adjoint(self, y):
        return torch.fft.ifft2(y * self.seen, norm="ortho").real


# own: renoising rule
def two_draws(problem, z_bar, eps, a_s, k):
    noise = 0.5**0.5 * (problem.noise(k) + problem.noise(k + 100))
    return renoise(z_bar, eps, noise.to(z_bar), a_s, eta=0.3)


# own: consistency step
def landweber(problem, x_hat, a_t):
    for _ in range(8):
        x_hat = x_hat + 16 * problem.A.AT(problem.y - problem.A(x_hat))
    return x_hat


# own: start
def from_the_measurement(problem):
    return problem.prior.encode(to_size(problem.A, problem.y))


# own: prior, a plain denoiser
def soft(frames, sigma):
    blurred = torch.nn.functional.avg_pool2d(frames, 3, 1, 1, count_include_pad=False)
    return frames.lerp(blurred, min(1.0, 4 * sigma))


def soft_prior():
    return DenoiserPrior(soft)


# own: prior, a diffusion model on pixels
def pixel_prior():
    from diffusers import DDPMScheduler, UNet2DModel

    net = UNet2DModel(
        in_channels=3,
        out_channels=3,
        layers_per_block=1,
        norm_num_groups=8,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
    )
    return from_diffusers(net, DDPMScheduler())


# own: prior, a class
class Flat:
    alpha_bar = torch.linspace(0.9999, 0.01, 1000)

    def encode(self, x):
        return x

    def decode(self, z):
        return z

    def latent_shape(self, h, w):
        return 3, h, w

    def eps(self, z, t):
        a = self.alpha_bar[t]
        mean = torch.nn.functional.avg_pool2d(z, 5, 1, 2, count_include_pad=False)
        return (1 - a) ** 0.5 * (z - mean) / (a * 0.02 + 1 - a)


# own: method in the tables
def median(y, A):
    x = to_size(A, y)
    return 0.8 * x + 0.2 * x.median(0, keepdim=True).values


# own: hook
def watch(state):
    print("timestep", state.t)


# own: guidance by the gradient through the prior (DPS)
def keep(problem, x_hat, a_t):
    return x_hat


def keep_latents(problem, x_lp, x_hat, z0_hat, k):
    return z0_hat


def guided(problem, z0_hat, eps, a_s, k):
    t = problem.schedule.sampling[k]
    a_t = problem.schedule.a(t)
    with torch.enable_grad():
        z = (a_t**0.5 * z0_hat + (1 - a_t) ** 0.5 * eps).requires_grad_()
        mean = problem.prior.decode(tweedie(z, problem.prior.eps(z, t), a_t))
        misfit = (problem.y - problem.A(mean)).flatten(1).norm(dim=1).sum()
        (slope,) = torch.autograd.grad(misfit, z)
    return renoise(z0_hat, eps, problem.noise(k).to(z0_hat), a_s, eta=0.2) - slope
