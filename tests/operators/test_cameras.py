"""Kernels of cameras by their moments, smaller pictures as Pillow makes them, frames left out."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from visionxl.operators.adapters import FromScipy
from visionxl.operators.blurs import Blur, Blur2d
from visionxl.operators.cameras import (
    Resize,
    disk_kernel,
    ellipse_kernel,
    motion_kernel,
    resize_matrix,
)
from visionxl.operators.fast.spectral import one_step_is_exact
from visionxl.operators.named import Chain
from visionxl.operators.sensors import every_frame
from visionxl.operators.tasks import task


def moments(k):
    "Mean and covariance of a kernel, in pixels from its middle: x to the right, y up."
    n = (len(k) - 1) / 2
    at = torch.arange(len(k), dtype=torch.float64) - n
    y, x = -at[:, None].expand_as(k), at.expand_as(k)
    mean = torch.stack([(k * x).sum(), (k * y).sum()])
    xy = torch.stack([x - mean[0], y - mean[1]])
    return mean, torch.einsum("ij,aij,bij->ab", k, xy, xy)


def along(cov, angle):
    "Variance in this direction and across it."
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    turn = torch.tensor([[c, s], [-s, c]], dtype=torch.float64)
    return (turn @ cov @ turn.T).diagonal().tolist()


@pytest.mark.parametrize("length", [1, 5, 9.5, 14])
@pytest.mark.parametrize("angle", [0, 30, 90, 135])
def test_a_path_has_its_length_and_direction(length, angle):
    k = motion_kernel(length, angle)
    mean, cov = moments(k)
    far, across = along(cov, angle)
    assert abs(float(k.sum()) - 1) < 1e-12 and mean.abs().max() < 1e-9 and (k >= 0).all()
    assert abs(far - (length - 1) ** 2 / 12) < 0.3 and across < 0.3  # of drawing between pixels


@pytest.mark.parametrize("widths", [(1.5, 1.5), (3, 1), (2, 4)])
@pytest.mark.parametrize("angle", [0, 30, 120])
def test_an_ellipse_has_its_widths(widths, angle):
    k = ellipse_kernel(*widths, angle)
    mean, cov = moments(k)
    assert abs(float(k.sum()) - 1) < 1e-12 and mean.abs().max() < 1e-9
    assert torch.tensor(along(cov, angle)).sqrt().tolist() == pytest.approx(widths, rel=0.01)


@pytest.mark.parametrize("radius", [0.4, 2, 3.7])
def test_a_disk_has_its_radius(radius):
    k = disk_kernel(radius)
    mean, cov = moments(k)
    assert abs(float(k.sum()) - 1) < 1e-12 and mean.abs().max() < 1e-9
    if radius > 1:
        assert cov[0, 0] == pytest.approx(radius**2 / 4 + 1 / 12, rel=0.06)
    else:
        assert k[1, 1] == 1


@pytest.mark.parametrize("kernel", ["box", "bicubic", "lanczos"])
@pytest.mark.parametrize("n, m", [(24, 8), (23, 9), (20, 13), (7, 7)])
def test_smaller_as_pillow_makes_it(kernel, n, m):
    x = torch.rand(1, 1, n, n + 4, generator=torch.Generator().manual_seed(0))
    name = {"box": "BOX", "bicubic": "BICUBIC", "lanczos": "LANCZOS"}[kernel]
    theirs = Image.fromarray(x[0, 0].numpy()).resize((m, m), getattr(Image.Resampling, name))
    ours = Resize(x.shape, (m, m), kernel)(x)[0, 0]
    assert (ours - torch.from_numpy(np.array(theirs))).abs().max() < 1e-5
    assert resize_matrix(n, m, kernel).sum(1).sub(1).abs().max() < 1e-12


@pytest.mark.parametrize("T", [1, 5, 6])
@pytest.mark.parametrize("step", [1, 2, 3])
def test_frames_that_are_left_out(T, step):
    x = torch.rand(T, 2, 3, 4)
    assert every_frame(x.shape, step)(x).equal(x[::step])
    assert every_frame(x.shape)(x).equal(x[::2]), "a film of twice the rate is the usual wish"


def test_the_clean_size_of_a_chain():
    chain = Chain("box:factor=2,every:step=3,lanczos:factor=1.5")
    assert chain.clean_shape((4, 10, 30)) == (10, 30, 90)
    assert chain.measured_size((30, 90)) == (10, 30) and chain.rate == pytest.approx(1 / 3)


def test_a_pair_of_kernels_is_not_a_kernel_of_two():
    x = torch.rand(1, 1, 8, 9, dtype=torch.float64)
    two, one = [0.25, 0.75], [1.0]
    same = Blur(x.shape, two)(x)
    assert Blur(x.shape, (two, two))(x).equal(same)
    assert Blur(x.shape, torch.tensor(two, dtype=torch.float64))(x).equal(same)
    rows = Blur(x.shape, (two, one))(x)
    assert Blur(x.shape, (one, two))(rows).sub(same).abs().max() < 1e-12
    assert rows.sub(same).abs().max() > 1e-3


@pytest.mark.parametrize("flip", [0, 1])
def test_cosines_need_a_kernel_even_both_ways(flip):
    k = torch.rand(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    half = (k + k.flip(flip)) / 2
    shape = (1, 1, 9, 10)
    assert Blur2d(shape, half, "symmetric").factors() is None
    assert Blur2d(shape, (half + half.flip(1 - flip)) / 2, "symmetric").factors() is not None


def test_one_step_is_enough_for_masks_and_pools_alone():
    one = {
        name
        for name in ("sr", "inpaint", "deblur", "sr+")
        if one_step_is_exact(task(name, (9, 3, 16, 16)))
    }
    assert one == {"sr", "inpaint"}


def test_what_is_no_matrix_is_refused():
    with pytest.raises(TypeError, match="dict is no matrix"):
        FromScipy({}, (1, 1, 2, 2), (4,))
    with pytest.raises(ValueError, match=r"that needs \(4, 4\)"):
        FromScipy(np.eye(3), (1, 1, 2, 2), (4,))


def test_what_moved_is_found_with_a_warning():
    from visionxl.operators import cameras, sensors

    with pytest.warns(DeprecationWarning, match="take bayer from visionxl.operators.sensors"):
        assert cameras.bayer is sensors.bayer
    with pytest.raises(AttributeError, match="no attribute 'mosaic'"):
        _ = cameras.mosaic
