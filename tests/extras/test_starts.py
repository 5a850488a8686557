"Total variation as a start: its weight, and its copy that meets the data."

import pytest
import torch

from visionxl.app.degradation.own import as_degradation
from visionxl.extras import starts
from visionxl.extras.photographs import tv
from visionxl.operators.blurs import Blur2d
from visionxl.operators.cameras import motion_kernel
from visionxl.operators.fast.cosine import dct2, idct2
from visionxl.operators.known.properties import describe
from visionxl.operators.tasks import task
from visionxl.steps.consistency import proximal

SHAPE = (3, 3, 48, 64)


@pytest.fixture
def weights(monkeypatch):
    "The weights that total variation was asked for."
    asked = []
    monkeypatch.setattr(starts, "admm_tv", lambda y, A, mu: asked.append(mu) or y)
    return asked


@pytest.mark.parametrize("sigma", [2 / 255 / 12**0.5, 0.02])
def test_a_blur_without_a_known_basis_has_a_larger_weight(weights, sigma):
    slanted, known = Blur2d(SHAPE, motion_kernel(7, 30)), task("deblur", SHAPE)
    assert describe(slanted).recipe == "blur" and describe(known).recipe == "deblur"
    for A in (slanted, known):
        starts.tv_start(A, torch.zeros(A.out_shape), sigma)
    assert weights == pytest.approx([sigma**2 / 0.25, sigma**2 / 1.6])


def test_without_noise_and_with_a_scale_of_ones_own(weights):
    A = Blur2d(SHAPE, motion_kernel(7, 30))
    y = torch.zeros(A.out_shape)
    starts.tv_start(A, y)
    starts.tv_start(A, y, 0.1, scale=2.0)
    assert weights == [starts.TV_TUNED["blur"][0], pytest.approx(0.005)]


@pytest.mark.parametrize("weight", [1e-9, 0.1])
@pytest.mark.parametrize(
    "said", ["gaussian:sigma=2,mean", "mean:window=3,gaussian:sigma=1", "gaussian:sigma=2,every"]
)
def test_the_copy_in_waves_is_the_one_in_pixels(said, weight):
    "Also where frames are lost, so that the matrix over time is not square."
    x = torch.randn(8, 3, 24, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    A = describe(as_degradation(said).operator(tuple(x.shape)), "cpu").operator
    y = A(x)
    meet = tv._MeetInWaves(tv._waves_of(A), x.shape, y, weight, tv.norm2(A))
    in_waves = idct2(meet(dct2(0.9 * x), None))
    torch.testing.assert_close(in_waves, proximal(A, y, 0.9 * x, weight), rtol=0, atol=1e-12)
