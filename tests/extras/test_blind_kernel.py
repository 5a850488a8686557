"Kernels of any form: fitted, found from coarse to fine, and refused where the film cannot tell."

import pytest
import torch

from visionxl import video
from visionxl.extras.estimates.blind import kernel_likeness
from visionxl.extras.estimates.blind_kernel import (
    check_tells,
    fade_out,
    find_kernel,
    fit_kernel,
    fit_slopes,
    kernels_by_size,
    middle,
    on_simplex,
    sizes_up_to,
    slopes,
    strong_edges,
)
from visionxl.operators.blurs import Blur2d
from visionxl.video import as_in_file


def hook(n=11):
    "A path down and then to the right: no straight line, no disk, no Gaussian."
    k = torch.zeros(n, n, dtype=torch.float64)
    k[1:9, 2] = 1
    k[8, 2:9] = 0.7
    return k / k.sum()


@pytest.fixture(scope="module")
def clip():
    return video.fit(video.sample("flower", 5).x, 96, 160)


def test_the_nearest_weights():
    v = torch.randn(7, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    k = on_simplex(v)
    assert float(k.sum()) == pytest.approx(1) and float(k.min()) == 0
    other = torch.rand(200, 7, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    other /= other.sum((1, 2), keepdim=True)
    assert (k - v).square().sum() < (other - v).square().sum((1, 2)).min()
    assert torch.allclose(on_simplex(k), k)


def test_with_both_videos_known_the_kernel_is_exact():
    g = torch.Generator().manual_seed(0)
    x, true = torch.randn(2, 64, 80, generator=g, dtype=torch.float64), hook()
    K = torch.zeros(64, 80, dtype=torch.float64)
    K[:11, :11] = true
    K = torch.fft.rfft2(K.roll((-5, -5), (0, 1)))
    y = torch.fft.irfft2(torch.fft.rfft2(x) * K, s=(64, 80))
    assert float((fit_slopes(slopes(x), slopes(y), 11) - true).abs().max()) < 1e-3
    held = fit_slopes(slopes(x), slopes(y), 11, true.T, 1e4)
    assert float((held - true.T).abs().max()) < 1e-3


def test_a_film_explains_itself_by_no_blur(clip):
    y = as_in_file(Blur2d(tuple(clip.shape), hook())(clip))
    assert float(fit_kernel(y, y, 11).max()) > 0.9
    assert kernel_likeness(fit_kernel(clip, y, 13), hook()) > 0.97


def test_a_path_that_bends_is_found_where_no_straight_one_is_like_it(clip):
    true = hook()
    y = as_in_file(Blur2d(tuple(clip.shape), true)(clip))
    found = find_kernel(y, 13, weights=(1e-3, 5e-4), frames=1, rounds=3)
    alone = float(true.max() / true.norm())  # likeness of a single pixel
    assert kernel_likeness(found, true) > max(0.9, alone + 0.3)
    assert float(found.sum()) == pytest.approx(1) and float(found.min()) >= 0


def test_sizes_and_the_middle(clip):
    for size in (3, 5, 19, 31):
        sizes = sizes_up_to(size)
        assert sizes[0] == 3 and sizes[-1] == size and all(n % 2 for n in sizes)
        assert sizes == sorted(set(sizes))
    kernels = list(kernels_by_size(clip, 7, rounds=1))
    assert [len(k) for k in kernels] == sizes_up_to(7)
    corner = torch.zeros(9, 9, dtype=torch.float64)
    corner[:2, :2] = 1
    corner[8, 8] = 0.01
    k = middle(corner)
    assert float(k.sum()) == pytest.approx(1) and k[4:6, 4:6].sum() + k[3:5, 3:5].sum() > 1


def test_few_edges_stay_and_noise_goes():
    step = torch.zeros(1, 40, 60, dtype=torch.float64)
    step[..., 20:45] = 1
    y = step + 0.02 * torch.randn(step.shape, generator=torch.Generator().manual_seed(0))
    out = strong_edges(y, torch.ones(1, 1, dtype=torch.float64), 5e-3)
    assert (out - step).square().mean() < (y - step).square().mean() / 5
    assert torch.allclose(fade_out(step, 6)[:, 6:-6, 6:-6].mean(), step.mean(), atol=0.2)


@pytest.mark.parametrize(
    ("size", "scale", "said"),
    [(8, 1, "odd"), (1, 1, "odd"), (51, 1, "too large for frames of 96x160"), (9, 0, "flat")],
)
def test_where_the_film_cannot_tell_it_is_refused(clip, size, scale, said):
    with pytest.raises(ValueError, match=said):
        check_tells(scale * clip, size)
    with pytest.raises(ValueError, match=said):
        find_kernel(scale * clip, size)
