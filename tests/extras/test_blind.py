"""Blurs that nobody measured: found on films, and refused where the film cannot tell."""

import pytest
import torch

from visionxl import video
from visionxl.extras.estimates.blind import find_blur, find_window, kernel_likeness, power_over_time
from visionxl.extras.estimates.blind_spectrum import BlurSpectrum, power_spectrum
from visionxl.media.frames import as_in_file
from visionxl.operators.blurs import Blur, Blur2d
from visionxl.operators.cameras import disk_kernel, motion_kernel
from visionxl.operators.tasks import TemporalMean


@pytest.mark.parametrize("sigma", [1.0, 2.0, 3.5, 5.0])
def test_the_width_of_a_gaussian_within_a_tenth(x, sigma):
    y = as_in_file(Blur.gaussian(tuple(x.shape), 61, sigma)(x))
    found = find_blur(y, ("gaussian",))
    assert found.numbers["sigma"] == pytest.approx(sigma, rel=0.1)
    assert kernel_likeness(found.kernel, Blur2d_of(sigma)) > 0.95


def Blur2d_of(sigma):
    k = torch.exp(-0.5 * (torch.arange(-20.0, 21) / sigma) ** 2).double()
    return torch.outer(k, k) / k.sum() ** 2


PATHS = [(5, 120), (9, 35), (13, 81), (15, 170)]
CLIPS = ["tears", "flower"]  # of the fixture `x`: the shortest and longest path in one of them
EITHER = [  # the rest is slow
    pytest.param(CLIPS[(k + n) % 2], *path, marks=pytest.mark.slow if n or k in (1, 2) else ())
    for n in (0, 1)
    for k, path in enumerate(PATHS)
]


@pytest.mark.parametrize(("x", "length", "angle"), EITHER, indirect=["x"])
def test_a_path_of_any_angle(x, length, angle):
    true = motion_kernel(length, angle)
    found = find_blur(as_in_file(Blur2d(tuple(x.shape), true)(x)), ("motion",))
    assert kernel_likeness(found.kernel, true) > 0.9


def test_a_long_path_is_not_taken_for_a_short_one():
    "Its zeros are filled by the window: with exact zeros a path of 3.75 pixels was cheaper here."
    x = video.read(video.data_dir() / "samples" / "tears_of_steel_battle.webm", 9, 800, 96, 160).x
    true = motion_kernel(13.44, 52)
    seen = BlurSpectrum(as_in_file(Blur2d(tuple(x.shape), true)(x)))
    assert seen.cost(seen.gain_of(true)) < seen.cost(seen.gain_of(motion_kernel(3.75, 45.75))) - 0.1


@pytest.mark.parametrize(
    "x", ["flower", pytest.param("tears", marks=pytest.mark.slow)], indirect=True
)
def test_the_kind_is_told(x):
    shape = tuple(x.shape)
    seen = {
        "gaussian": Blur.gaussian(shape, 61, 2.5),
        "motion": Blur2d(shape, motion_kernel(9, 60)),
        "disk": Blur2d(shape, disk_kernel(4)),
    }
    assert {k: find_blur(as_in_file(A(x))).kind for k, A in seen.items()} == {k: k for k in seen}


@pytest.mark.parametrize("window", [1, 3, 5, 7, 9, 13])
@pytest.mark.parametrize("name", ["tears", "flower"])
def test_the_window_exactly(name, window):
    x = video.fit(video.sample(name, 25).x, 48, 80)
    assert find_window(as_in_file(TemporalMean(tuple(x.shape), window)(x))) == window


def test_the_power_of_white_noise_is_its_variance():
    g = torch.Generator().manual_seed(0)
    white = 0.3 * torch.randn(20, 3, 64, 64, generator=g)
    assert float(power_spectrum(white)[3:, 3:].mean()) == pytest.approx(0.09, rel=0.05)
    assert float(power_over_time(white).mean()) == pytest.approx(0.09, rel=0.05)


def test_the_operator_is_the_blur(x):
    shape = tuple(x.shape)
    y = Blur.gaussian(shape, 61, 3.0)(x)
    A = find_blur(as_in_file(y), ("gaussian",)).operator(shape)
    assert A.spectrum() is not None
    assert float((A(x) - y).abs().max()) < 0.05


def test_where_the_film_cannot_tell_it_is_refused(x):
    with pytest.raises(ValueError, match="nearly flat"):
        find_blur(0.001 * x)
    with pytest.raises(ValueError, match="at least 48x48"):
        find_blur(x[..., :32, :32])
    with pytest.raises(ValueError, match="sharp already"):
        find_blur(x, ("gaussian",))
    with pytest.raises(ValueError, match="larger than the frames"):
        BlurSpectrum(x).gain_of(torch.ones(200, 200))
    with pytest.raises(ValueError, match="nothing moves"):
        find_window(x[:1].expand(25, -1, -1, -1))
    with pytest.raises(ValueError, match="too few"):
        find_window(x[:8])
    with pytest.raises(ValueError, match="choose from"):
        find_blur(x, ("square",))
