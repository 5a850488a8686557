"""SDXL's sizes: the nearest one for any clip, and nothing stretched on the way into it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from visionxl.prior.models.sizes import SDXL_SIZES, fit, nearest_size


def test_the_list():
    assert all(h % 64 == w % 64 == 0 for h, w in SDXL_SIZES)
    assert all(0.88e6 < h * w < 1.09e6 for h, w in SDXL_SIZES)
    assert set(SDXL_SIZES) == {(w, h) for h, w in SDXL_SIZES}


@pytest.mark.parametrize("size", SDXL_SIZES)
def test_its_own_sizes_are_exact(size):
    assert nearest_size(*size) == size
    assert fit(*size).scaled == fit(*size, "letterbox").scaled == size


@pytest.mark.parametrize(
    "clip, want",
    [
        ((1080, 1920), (768, 1344)),
        ((1920, 1080), (1344, 768)),
        ((2160, 3840), (768, 1344)),
        ((500, 500), (1024, 1024)),
        ((1, 100), (512, 2048)),
    ],
)
def test_nearest(clip, want):
    assert nearest_size(*clip) == want


@given(st.integers(8, 300), st.integers(8, 300), st.sampled_from(["crop", "letterbox"]))
def test_nothing_is_stretched(h, w, how):
    found = fit(h, w, how, (64, 96))
    scale = (max if how == "crop" else min)(64 / h, 96 / w)
    assert all(abs(n - scale * m) <= 0.5 for n, m in zip(found.scaled, (h, w)))
    x = found.apply(torch.full((1, 3, h, w), 0.5))
    assert x.shape == (1, 3, 64, 96)
    picture = x[(..., *found.window)]
    assert (picture - 0.5).abs().max() < 1e-5
    assert int((x > -1).sum()) == picture.numel()  # the rest are black bars
    assert how == "letterbox" or picture.numel() == x.numel()
