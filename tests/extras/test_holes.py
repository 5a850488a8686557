"""Wide holes are filled with what other frames show, and nothing else is touched."""

import pytest
import torch

from visionxl import video
from visionxl.extras.estimates.holes import (
    calm,
    carry_along,
    fill_as_plates,
    fill_from_around,
    fill_wide_holes,
    grow_mask,
    motion_behind,
    shrink_mask,
    wide_holes,
)
from visionxl.extras.photographs.photo_spectrum import smooth_solution
from visionxl.extras.starts import Regularised, first_guess
from visionxl.operators.sensors import bayer
from visionxl.operators.tasks import Mask, task
from visionxl.steps.problem import Problem


def box(T, H, W, moves=6):
    weights = torch.ones(T, 1, H, W)
    for t in range(T):
        weights[t, :, 20:40, 8 + moves * t : 32 + moves * t] = 0
    return weights


@pytest.fixture(scope="module")
def x():
    return video.fit(video.sample("flower", 7).x, 64, 96)


def test_a_box_that_moves_is_seen_through(x):
    weights = box(7, 64, 96)
    A = Mask(tuple(x.shape), weights)
    y, lost = A(x), (weights == 0).expand_as(x)
    smooth = smooth_solution(A, y, y, 1e-6)
    filled = fill_wide_holes(A, y, smooth)
    errors = [float((v - x)[lost].square().mean()) for v in (filled, smooth)]
    assert errors[0] < errors[1] / 10
    assert torch.equal(filled[~lost], smooth[~lost])


def test_what_is_invented_is_calm(x):
    "Noise in a hole of a clip that moves evenly is averaged along the motion; the rest stays."
    still = x[:1].expand(7, -1, -1, -1)
    known = (box(7, 64, 96, 0) != 0).expand(7, -1, -1, -1)
    noise = 0.1 * torch.randn(still.shape, generator=torch.Generator().manual_seed(0))
    shaky = torch.where(known, still, still + noise)
    ends = {(t, s): torch.zeros(64, 96, 2) for t in range(7) for s in (t - 1, t + 1) if 0 <= s < 7}
    once, thrice = calm(shaky, known, ends, 1), calm(shaky, known, ends)
    lost = (~known).expand_as(x)
    sizes = [float((v - still)[lost].square().mean().sqrt()) for v in (shaky, once, thrice)]
    assert sizes[1] < 0.65 * sizes[0] and sizes[2] < 0.53 * sizes[0]
    assert torch.equal(thrice[~lost], still[~lost]) and torch.equal(calm(shaky, known, {}), shaky)
    far = torch.where(torch.arange(7).view(7, 1, 1, 1) == 3, shaky - 1, shaky)
    mixed = calm(far, known, ends, 1)
    assert (mixed[3] - far[3]).abs().max() < 1e-6, "a frame that is unlike its neighbours stays"


def test_the_best_start_uses_it(x):
    A = Mask(tuple(x.shape), box(7, 64, 96))
    problem = Problem(A(x), A, None, None)
    want = fill_wide_holes(A, problem.y, first_guess(A, problem.y, 1e-8))
    assert torch.equal(Regularised()(problem), want)


@pytest.mark.parametrize("name", ["inpaint", "inpaint+", "deblur", "sr", "denoise"])
def test_the_tasks_are_left_as_they_are(x, name):
    A = task(name, tuple(x.shape), window=3)
    assert fill_wide_holes(A, A(x), x) is x


def test_a_pixel_with_one_colour_is_no_hole(x):
    A = bayer(tuple(x.shape))
    guess = first_guess(A, A(x))
    assert fill_wide_holes(A, A(x), guess) is guess


def test_nothing_is_carried_across_a_cut(x):
    both = torch.cat([x[:3], -x[:3]])
    known = box(6, 64, 96) > 0
    assert not {(2, 3), (3, 2)} & set(motion_behind(both, known))
    A = Mask(tuple(both.shape), known.double())
    guess = first_guess(A, A(both), 1e-8)
    out = fill_wide_holes(A, A(both), guess)
    assert float((out[:3] - x[:3]).abs().mean()) < 0.05


def test_a_hole_that_stands_still_over_a_still_scene_stays_smooth(x):
    weights = box(1, 64, 96)
    v = x[:1].expand(4, -1, -1, -1)
    A = Mask(tuple(v.shape), weights)
    guess = first_guess(A, A(v), 1e-8)
    known = (weights > 0).expand(4, -1, -1, -1)
    _, seen = carry_along(A(v), known, guess)
    assert float((seen & ~known).float().mean()) < 0.02


def test_regions_grow_and_shrink():
    m = torch.zeros(1, 1, 20, 20, dtype=torch.bool)
    m[..., 8:12, 8:12] = True
    assert int(grow_mask(m, 2).sum()) == 64 and int(shrink_mask(m, 1).sum()) == 4
    assert torch.equal(grow_mask(m, 0), m)
    assert not wide_holes(~m, 9).any() and torch.equal(wide_holes(~m, 3), m)


def test_a_map_is_filled_smoothly():
    v = torch.arange(30.0).expand(2, 24, 30).clone()
    known = torch.ones(24, 30, dtype=torch.bool)
    known[6:18, 8:20] = False
    out = fill_from_around(v, known)
    assert torch.equal(out[:, known], v[:, known])
    assert float((out - v).abs().max()) < 3
    assert fill_from_around(v, torch.zeros(24, 30, dtype=torch.bool)).isfinite().all()


def test_a_plate_goes_on_with_the_slopes_of_its_rim():
    rows, cols = torch.linspace(-1, 1, 30)[:, None], torch.linspace(-0.5, 0.5, 40)
    plane = (0.6 * rows + cols).clamp(-1, 1).expand(2, 3, -1, -1)
    known = torch.ones(2, 1, 30, 40, dtype=torch.bool)
    known[0, :, 8:22, 10:30] = False
    known[1, :, 10:18, 5:12] = False
    filled = fill_as_plates(plane * known, known)
    assert float((filled - plane).abs().max()) < 1e-4
    assert torch.equal(fill_as_plates(plane, torch.zeros_like(known)), plane)


def test_a_still_logo_over_a_still_scene_is_ahead_of_opencv(x):
    import cv2

    weights = torch.ones(1, 1, 64, 96)
    weights[..., 8:24, 64:88] = 0
    v = x[:1].expand(3, -1, -1, -1)
    A = Mask(tuple(v.shape), weights)
    filled = fill_wide_holes(A, A(v), first_guess(A, A(v), 1e-8))
    frame = ((v[0] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy().copy()
    rival = cv2.inpaint(frame, (1 - weights[0, 0]).byte().numpy(), 5, cv2.INPAINT_TELEA)
    rival = torch.from_numpy(rival).permute(2, 0, 1) / 127.5 - 1
    lost = (weights[0] == 0).expand_as(rival)
    errors = [float((r - v[0])[lost].square().mean()) for r in (filled[0], rival)]
    assert errors[0] < errors[1]
