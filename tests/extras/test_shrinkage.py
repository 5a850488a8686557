"""Shrinkage along the motion against its dense form, against one frame alone, and in the loop."""

import pytest
import torch

from visionxl import video
from visionxl.extras.motion import estimate_motion
from visionxl.extras.photographs.shrink_steps import ShrinkNoise, Shrunk
from visionxl.extras.photographs.shrinkage import (
    PATCH,
    align_neighbours,
    denoise_video,
    motion_of,
    no_motion,
    opponent_colours,
    shrink,
    shrink_along,
)
from visionxl.extras.photographs.tv import dct_matrix
from visionxl.operators.tasks import task
from visionxl.presets import choose
from visionxl.steps.consistency import Consistent
from visionxl.steps.problem import Problem


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def mse(a, b):
    return float((a - b).square().mean())


@pytest.fixture(scope="module")
def x():
    return video.fit(video.sample("tears", 5).x, 64, 96)


def test_one_patch_is_wieners_filter_written_out():
    stack, pilot = draw(3, 1, PATCH, PATCH), draw(3, 1, PATCH, PATCH, seed=1)
    D, T = dct_matrix(PATCH).float(), dct_matrix(3).float()

    def waves(v):
        return torch.einsum("ab,bij->aij", T, D @ v[:, 0] @ D.T)

    p = waves(pilot).square()
    c = waves(stack) * p / (p + 0.3**2)
    want = (D.T @ torch.einsum("ab,bij->aij", T.T, c) @ D)[1]
    got = shrink(stack, 1, 0.3, pilot=pilot)
    assert torch.allclose(got[0], want, atol=1e-5)


def test_without_noise_nothing_changes(x):
    clean = shrink_along(x, 1e-6, motion_of(x, 2), x, 0.1)
    assert float((clean - x).abs().max()) < 1e-3


def test_neighbours_that_show_something_else_say_nothing():
    frame = draw(1, 1, 24, 24)
    stack = frame.expand(3, -1, -1, -1)
    hidden = torch.zeros(3, 1, 24, 24)
    hidden[1] = 1
    pilot = draw(1, 1, 24, 24, seed=2)
    alone = shrink(frame, 0, 0.5, pilot=pilot)
    three = shrink(stack, 1, 0.5, hidden, pilot.expand(3, -1, -1, -1))
    assert torch.allclose(three, alone, atol=1e-2)


@pytest.mark.parametrize("level", [15, 25, 50])
def test_neighbours_help(x, level):
    sigma = level / 127.5
    y = x + sigma * draw(*x.shape, seed=level)
    alone = shrink_along(y, sigma, no_motion(len(y)), y, 1.0)
    assert mse(denoise_video(y, sigma), x) < mse(alone, x) < mse(y, x) / 4


def test_bands_do_not_show(x, monkeypatch):
    y = x[:2] + 0.2 * draw(2, 3, 64, 96)
    whole = shrink(y, 0, 0.2)
    tall = torch.cat([y] * 12, -1)
    one = shrink(tall, 0, 0.2)
    assert whole.shape == y[0].shape and torch.allclose(one[..., :40], whole[..., :40], atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 3, 16, 16), (2, 1, 9, 30), (3, 3, 5, 7), (2, 2, 17, 19)])
def test_any_size(shape):
    y = draw(*shape)
    out = denoise_video(y, 0.5)
    assert out.shape == y.shape and out.isfinite().all()
    assert torch.allclose(opponent_colours(opponent_colours(y), back=True), y, atol=1e-5)


def test_alignment_keeps_the_frame_itself(x):
    motion = estimate_motion(x, 1)
    stack, shown, k = align_neighbours(x, 0, motion[0], x, 0.1)
    assert (len(stack), k) == (2, 0)
    assert torch.equal(stack[0], x[0]) and float(shown[0].min()) == 1.0


def test_in_the_loop_it_follows_the_network(x):
    sigma = 0.2
    A = task("denoise", tuple(x.shape))
    problem = Problem(x + sigma * draw(*x.shape), A, None, None, sigma)
    start = denoise_video(problem.y, sigma)
    step, guess = ShrinkNoise(2).bind(problem, lambda: start)
    assert mse(step(x, 0.9), x) < mse(step(start, 0.9), x)  # the better the pilot ...
    assert guess() is start


@pytest.mark.parametrize("name", ["deblur", "sr", "inpaint", "denoise", "denoise+", "sr+"])
def test_best_shrinks_where_noise_is_heard(name):
    quiet, loud = (choose("best", name, s) for s in (0.002, 0.05))
    if name == "denoise":
        assert quiet == loud
    else:
        assert loud.result == Shrunk(quiet.result)
    assert loud.knows_noise and not choose("best", name).knows_noise


def test_refusals(x):
    A = task("denoise+", tuple(x.shape), window=3)
    with pytest.raises(ValueError, match="removes noise alone"):
        ShrinkNoise().bind(Problem(x, A, None, None, 0.1), lambda: x)
    with pytest.raises(ValueError, match="positive"):
        denoise_video(x, -1.0)
    with pytest.raises(ValueError, match="result.level"):
        Shrunk(Consistent(), level=0)
