"""The noise that is estimated is the noise that was added."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import truncnorm

from visionxl.extras.estimates.noise import (
    STENCILS,
    clipped_moments,
    differences,
    estimate_noise,
    noise_grain,
    noise_level,
    undo_clipping,
    whole_stencils,
)
from visionxl.media.frames import as_in_file
from visionxl.operators.tasks import Mask, task


def draw(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("level", [5, 15, 25, 50])
@pytest.mark.parametrize("rounded", [False, True], ids=["float", "file"])
def test_within_a_tenth(x, level, rounded):
    y = x + level / 127.5 * draw(x.shape, level)
    y = as_in_file(y) if rounded else y
    assert 127.5 * estimate_noise(y) == pytest.approx(level, rel=0.1)


@pytest.mark.parametrize("level", [25, 50])
def test_dark_films_that_are_clipped_within_a_twentieth(x, level):
    dark = 0.45 * (x + 1) - 1
    y = as_in_file(dark + level / 127.5 * draw(x.shape, level))
    assert 127.5 * estimate_noise(y) == pytest.approx(level, rel=0.05)


@pytest.mark.parametrize("name", ["deblur", "sr", "inpaint", "deblur+", "sr+", "inpaint+"])
def test_every_task(x, name):
    A = task(name, tuple(x.shape))
    y = as_in_file(A(x) + 0.1 * draw(A.out_shape))
    assert noise_level("estimate", y, A) == pytest.approx(0.1, rel=0.1)


def test_rounding_of_a_file_is_noise(x):
    A = task("deblur", tuple(x.shape))
    assert estimate_noise(as_in_file(A(x))) == pytest.approx(2 / 255 / math.sqrt(12), rel=0.1)


def test_a_moving_mask_and_a_hidden_box(x):
    weights = torch.ones(9, 1, 96, 160)
    for t in range(9):
        weights[t, :, 10:60, 10 * t : 10 * t + 60] = 0
    A = Mask(tuple(x.shape), weights)
    y = torch.where(weights > 0, x + 0.08 * draw(x.shape), torch.tensor(1.0))
    assert estimate_noise(y, A) == pytest.approx(0.08, rel=0.1)


def test_ahead_of_one_wavelet(x):
    "At little noise texture misleads the usual estimator: the finest wavelet's median."
    y = x + 5 / 127.5 * draw(x.shape)
    fine = differences(y, (None, (1.0, -1.0), (1.0, -1.0)))
    usual = float(fine.abs().median()) / 0.6745
    assert abs(estimate_noise(y) - 5 / 127.5) < abs(usual - 5 / 127.5)


def test_moments_of_a_clipped_gaussian():
    mean, sigma = np.array([-1.3, -0.5, 0.0, 0.9]), 0.4
    a, b = (-1 - mean) / sigma, (1 - mean) / sigma
    inside = truncnorm(a, b, mean, sigma)
    p = torch.tensor
    low = torch.distributions.Normal(p(mean), sigma).cdf(p(-1.0)).numpy()
    high = 1 - torch.distributions.Normal(p(mean), sigma).cdf(p(1.0)).numpy()
    first = (1 - low - high) * inside.mean() + high - low
    second = (1 - low - high) * (inside.var() + inside.mean() ** 2) + high + low
    m, v = clipped_moments(p(mean), sigma)
    assert np.allclose(m.numpy(), first, atol=1e-9)
    assert np.allclose(v.numpy(), second - first**2, atol=1e-9)


def test_stencils_are_orthogonal_to_smooth_pictures():
    ramp = torch.arange(24.0).view(1, 1, 1, -1) + torch.arange(20.0).view(1, 1, -1, 1)
    clip = ramp.expand(5, 1, -1, -1)
    for stencil in STENCILS:
        assert differences(clip, stencil).abs().max() < 1e-4
        assert whole_stencils(clip > -1, stencil).all()
        assert differences(clip, stencil).shape == whole_stencils(clip > -1, stencil).shape


def test_grain_is_told_from_white_noise(x):
    white = draw(x.shape)
    soft = torch.nn.functional.avg_pool2d(white, 3, 1, 1, count_include_pad=False)
    assert noise_grain(x + 0.15 * white) < 1.2
    assert noise_grain(x + 0.15 * soft / soft.std()) > 1.4


@pytest.mark.parametrize(
    ("y", "said"),
    [
        (torch.zeros(3, 8, 8), "are none|is none"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.complex64), "is none"),
        (torch.zeros(2, 3, 4, 40), "too small"),
    ],
)
def test_refusals(y, said):
    with pytest.raises(ValueError, match=said):
        estimate_noise(y)


def test_a_mask_of_single_pixels_is_refused():
    weights = torch.zeros(24, 24)
    weights[::4, ::4] = 1
    A = Mask((5, 3, 24, 24), weights)
    with pytest.raises(ValueError, match="too few neighbouring pixels"):
        estimate_noise(A(draw((5, 3, 24, 24))), A)
    with pytest.raises(ValueError, match="'estimate'"):
        noise_level("auto", torch.zeros(1, 3, 16, 16))


@pytest.mark.parametrize("level", [-0.95, -0.5, 0.0, 0.7, 1.0])
def test_what_clipping_has_moved_is_moved_back(level):
    flat = torch.full((1, 1, 300, 300), level)
    y = as_in_file(flat + 0.4 * draw(flat.shape))
    back = undo_clipping(y.mean().expand(flat.shape), y, 0.4)
    assert float(back[0, 0, 0, 0]) == pytest.approx(level, abs=0.02)
    assert undo_clipping(flat, 0.9 * flat, 0.4) is flat or abs(level) == 1.0
