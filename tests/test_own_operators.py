"""`best` on operators that declare nothing: as good as on bundled ones, and ahead of motion_tv."""

import pytest
import torch
from own_operators import Bayer, Kernel, Plain, Radial, Rows, slanted

from visionxl.compare.rivals import motion_tv
from visionxl.operators.known.properties import describe
from visionxl.operators.linear import LinearOperator
from visionxl.operators.tasks import TASKS, task
from visionxl.prior.latent import Prior
from visionxl.solver import solve
from visionxl.video import sample


@pytest.fixture(scope="module")
def clip():
    return sample("flower", 3).x[:, :, 48:96, 110:174]  # (3, 3, 48, 64)


@pytest.fixture(scope="module")
def prior():
    return Prior.load("tiny")


def psnr(a, b):
    return float(-10 * torch.log10(((a.clamp(-1, 1) - b) / 2).square().mean()))


def restored(A, x, prior, preset="best"):
    *_, last = solve(A(x), A, prior, preset)
    return psnr(last.x, x)


SIX = [n if n.endswith("+") else pytest.param(n, marks=pytest.mark.slow) for n in TASKS]


@pytest.mark.parametrize("name", SIX)  # the others are parts of those with a mean over time
def test_a_wrapped_task_loses_nothing(name, clip, prior):
    A = task(name, clip.shape, window=3)
    bundled, own = restored(A, clip, prior), restored(Plain(A), clip, prior)
    print(f"{name}: bundled {bundled:.2f} dB, own {own:.2f} dB")
    assert own > bundled - 0.1


def line(n=9, rise=0.5):
    "A slanted line: the blur of a camera that was pulled aside."
    k = torch.zeros(n, n, dtype=torch.float64)
    for j in range(n):
        i = n // 2 + rise * (j - n // 2)
        low = int(i)
        k[low, j] += 1 - (i - low)
        if i > low:
            k[low + 1, j] += i - low
    return k / k.sum()


OWN = {
    "directional blur": lambda s: Kernel(s, line()),
    "long directional blur": lambda s: Kernel(s, line(15, 0.3)),
    "slanted Gaussian": lambda s: Kernel(s, slanted(13, 3.0, 1.0)),
    "Bayer": Bayer,
    "radial Fourier": lambda s: Radial(s, 16),
    "rows": Rows,
}


LONG = {"directional blur", "long directional blur", "slanted Gaussian"}  # for make test-all
NAMES = [pytest.param(n, marks=pytest.mark.slow) if n in LONG else n for n in OWN]


@pytest.mark.parametrize("name", NAMES)
def test_ahead_of_total_variation_along_the_motion(name, clip, prior):
    A = OWN[name](tuple(clip.shape))
    ours, theirs = restored(A, clip, prior), psnr(motion_tv(A(clip), A), clip)
    print(f"{name}: best {ours:.2f} dB, motion_tv {theirs:.2f} dB ({describe(A).recipe})")
    assert ours > theirs


def test_an_operator_from_a_function(clip, prior):
    def pooled(x):
        return torch.nn.functional.avg_pool2d(x, 4)

    A = LinearOperator.from_function(pooled, clip.shape)
    bundled = task("sr", clip.shape)
    assert abs(restored(A, clip, prior) - restored(bundled, clip, prior)) < 0.1
    rough = restored(A, clip, prior, "paper")
    assert abs(rough - restored(bundled, clip, prior, "paper")) < 0.1


def test_what_is_not_linear_is_refused(clip, prior):
    A = LinearOperator.from_function(lambda x: x.clamp(-0.5, 0.5), clip.shape)
    for preset in ("best", "paper"):
        with pytest.raises(ValueError, match="is not linear"):
            next(solve(A(clip), A, prior, preset))
    with pytest.raises(TypeError, match="from_function"):
        next(solve(clip, torch.relu, prior))
