"The weight of total variation's start: tuned for the recipe, or that of the noise."

import pytest
import torch

from visionxl.extras import starts
from visionxl.operators.blurs import Blur2d
from visionxl.operators.cameras import motion_kernel
from visionxl.operators.known.properties import describe
from visionxl.operators.tasks import task

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
