"""Kernels of cameras by their moments, smaller pictures as Pillow makes them, frames left out."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch.autograd import gradcheck

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
from visionxl.operators.named import NAMED, Chain
from visionxl.operators.sensors import every_frame
from visionxl.operators.tasks import check_adjoint, task
from visionxl.steps.consistency import proximal

WELL = [  # no direction that is measured at all is measured faintly
    "pool:factor=3",
    "box:factor=1.5",
    "bicubic:factor=2.5",
    "bicubic:factor=1.5",
    "lanczos:factor=3",
    "lanczos:factor=2.5",
    "grey",
    "bayer:pattern=GBRG",
    "holes:keep=0.6:seed=3",
    "every:step=2",
    "mean:window=3:temporal=replicate",
    "every:step=2,bicubic:factor=1.5",
    "grey,lanczos:factor=2",
    "every:step=3,bayer",
]
CAMERAS = WELL + [
    "gaussian:sigma=1.5:size=7",
    "motion:length=4:angle=30",
    "ellipse:along=1.2:across=0.6:angle=60",
    "defocus:radius=1.7:boundary=replicate",
    "rolling:delay=0.9",
    "motion:length=3:angle=120,bicubic:factor=1.7",
    "mean:window=3,motion:length=3",
    "rolling:delay=0.5,gaussian:sigma=1:size=5",
    "rolling:delay=0.6,defocus:radius=1.2,bayer",
]


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


def dense(A):
    "The matrix of an operator, one column for each pixel."
    eye = torch.eye(math.prod(A.in_shape), dtype=torch.float64)
    return torch.stack([A(e.view(A.in_shape)).flatten() for e in eye], 1)


def clip_of(line):
    "The operator for odd frames, a measurement that no clip has, and a clip to stay near."
    A = Chain(line)((4, 3, 6, 9) if "pool" in line else (4, 3, 5, 7))
    g = torch.Generator().manual_seed(1)
    y, near = (torch.randn(s, generator=g, dtype=torch.float64) for s in (A.out_shape, A.in_shape))
    return A, y, near


def test_every_name_meets_the_properties():
    assert {p.split(":")[0] for line in CAMERAS for p in line.split(",")} == set(NAMED)


@pytest.mark.parametrize("line", CAMERAS)
def test_the_compromise_is_that_of_the_matrix(line):
    A, y, near = clip_of(line)
    assert check_adjoint(A) < 1e-12
    M = dense(A)
    square = M @ M.T + 0.05 * torch.eye(len(M), dtype=torch.float64)
    want = near.flatten() + M.T @ torch.linalg.solve(square, y.flatten() - M @ near.flatten())
    got = proximal(A, y, near, 0.05, 400)
    assert float((got.flatten() - want).abs().max()) < 1e-8
    short = proximal(A, y.float(), near.float(), 0.05, 400)
    assert short.dtype == torch.float32 and float((short - got).abs().max()) < 1e-3
    asked = [v.requires_grad_(True) for v in (y, near)]
    assert gradcheck(lambda y, x: proximal(A, y, x, 0.3, 60), asked, fast_mode=True, atol=1e-5)


@pytest.mark.parametrize("line", WELL)
def test_the_nearest_solution_is_that_of_the_pseudo_inverse(line):
    "What was not measured stays as it was, what was is met as far as any clip can."
    A, y, near = clip_of(line)
    M = dense(A)
    inverse = torch.linalg.pinv(M, rtol=1e-9)
    want = near.flatten() + inverse @ (y.flatten() - M @ near.flatten())
    got = proximal(A, y, near, 0.0, 400).flatten()
    assert float((got - want).abs().max()) < 1e-7
    unseen = torch.eye(M.shape[1], dtype=torch.float64) - inverse @ M
    assert float((unseen @ (got - near.flatten())).abs().max()) < 1e-7
