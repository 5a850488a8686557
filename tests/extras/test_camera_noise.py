"""The noise of a camera: its curve is found, and in the other scale it is the same everywhere."""

import pytest
import torch

from visionxl import video
from visionxl.extras.estimates.camera_noise import (
    NoiseCurve,
    fit_noise_curve,
    stabilise,
    unstabilise,
)


@pytest.fixture(scope="module")
def x():
    return video.fit(video.sample("tears", 5).x, 64, 96)


def camera(x, gain, floor, seed=0):
    g = torch.Generator().manual_seed(seed)
    grains = torch.poisson((x + 1) / 2 / gain, generator=g) * gain
    return 2 * (grains + floor**0.5 * torch.randn(x.shape, generator=g)) - 1


@pytest.mark.parametrize(("gain", "floor"), [(0.02, 0.0004), (0.005, 0.001), (0.03, 0.0)])
def test_the_curve_is_found(x, gain, floor):
    curve = fit_noise_curve(camera(x, gain, floor))
    for b in (0.25, 0.5, 0.75):
        assert curve.sigma(b) == pytest.approx(NoiseCurve(gain, floor).sigma(b), rel=0.15)


@pytest.mark.parametrize("level", [0.1, 0.3, 0.6, 0.9])
def test_in_the_other_scale_the_noise_is_even(level):
    curve = NoiseCurve(0.01, 0.0005)
    flat = torch.full((1, 1, 200, 200), 2 * level - 1)
    v, sigma = stabilise(camera(flat, curve.gain, curve.floor), curve)
    assert float(v.std()) == pytest.approx(sigma, rel=0.05)


@pytest.mark.parametrize("level", [0.1, 0.3, 0.6, 0.9])
def test_the_way_back_is_unbiased(level):
    curve = NoiseCurve(0.02, 0.0004)
    flat = torch.full((1, 1, 300, 300), 2 * level - 1, dtype=torch.float64)
    v, _ = stabilise(camera(flat, curve.gain, curve.floor), curve)
    back = unstabilise(v.mean((-2, -1), keepdim=True), curve)
    assert float(back) == pytest.approx(2 * level - 1, abs=0.01)


def test_without_grains_nothing_is_turned(x):
    v, sigma = stabilise(x, NoiseCurve(0.0, 0.0025))
    assert torch.equal(v, x) and sigma == pytest.approx(0.1)
    assert torch.equal(unstabilise(x, NoiseCurve(0.0, 0.0025)), x)


def test_refusals(x):
    with pytest.raises(ValueError, match="not both 0"):
        NoiseCurve(0.0, 0.0)
    with pytest.raises(ValueError, match="too small"):
        fit_noise_curve(x[..., :12, :12])
    with pytest.raises(ValueError, match="too little"):
        fit_noise_curve(torch.full_like(x, -1.0))
