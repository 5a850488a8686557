"A kernel that is nearly right becomes better, and what its cost can tell apart."

import pytest
import torch
import torch.nn.functional as F
from extras.test_blind_kernel import hook as bent_path

from visionxl import video
from visionxl.extras.estimates import blind_kernel
from visionxl.extras.estimates.blind import FoundBlur, kernel_likeness
from visionxl.extras.estimates.blind_fit import TURNS, KernelFit, shapes_of_power
from visionxl.extras.estimates.blind_kernel import find_kernel
from visionxl.operators.blurs import Blur2d
from visionxl.operators.cameras import motion_kernel


def hook():
    "The bent path of the searches' tests, with a wider rim: (13, 13)."
    return F.pad(bent_path(), (1,) * 4)


@pytest.fixture(scope="module")
def clip():
    return video.fit(video.sample("flower", 5).x, 96, 160)


def blurred(clip, kernel):
    return video.as_in_file(Blur2d(tuple(clip.shape), kernel)(clip))


@pytest.fixture(scope="module")
def fit(clip):
    return KernelFit(blurred(clip, hook()), 13)


def test_the_shapes_are_even_and_bounded():
    fy, fx = torch.rand(2, 50, generator=torch.Generator().manual_seed(0)) - 0.5
    shapes = shapes_of_power(fy, fx)
    assert shapes.shape == (50, 2 * TURNS + 2) and float(shapes.abs().max()) <= 1
    assert torch.allclose(shapes, shapes_of_power(-fy, -fx), atol=1e-4)  # of a real picture


def test_a_smeared_kernel_finds_back(fit):
    true = hook()
    smeared = F.avg_pool2d(F.pad(true, (1,) * 4)[None, None], 3, 1)[0, 0]
    moved, cost = fit.improved(smeared / smeared.sum())
    assert kernel_likeness(moved, true) > kernel_likeness(smeared, true) + 0.05
    assert float(moved.sum()) == pytest.approx(1) and float(moved.min()) >= 0
    assert moved.dtype == torch.float64 and cost < fit.cost(smeared)


def test_wrong_kernels_cost_more(fit):
    true, none = hook(), torch.zeros(13, 13, dtype=torch.float64)
    none[6, 6] = 1
    right = fit.cost(true)
    assert right < fit.cost(none)
    assert right < fit.cost(true.T)  # another power
    assert right < fit.cost(true.flip(0, 1))  # the same power, other phases


def test_its_gradient_is_exact(fit):
    k, v = hook(), fit._first(hook())
    k = (k + 1e-3) / (k + 1e-3).sum()
    way = torch.randn(13, 13, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    k.requires_grad_()
    (told,) = torch.autograd.grad(fit._by_power(k, v), k)
    step = 1e-6 * way
    with torch.no_grad():
        seen = fit._by_power(k + step, v) - fit._by_power(k - step, v)
    assert float((told * step).sum() * 2) == pytest.approx(float(seen), rel=1e-4)


def test_nothing_outside_changes(clip):
    y, k = blurred(clip, hook()), hook()
    before = y.clone(), k.clone()
    KernelFit(y, 13).improved(k, steps=3)
    assert torch.equal(y, before[0]) and torch.equal(k, before[1])
    assert not y.requires_grad and not k.requires_grad


def test_a_straight_path_is_taken_where_it_explains_most(clip, monkeypatch):
    true = motion_kernel(7, 30)
    near = F.avg_pool2d(F.pad(true, (2,) * 4)[None, None], 3, 1)[0, 0]
    y, free = blurred(clip, true), F.pad(near, ((13 - len(near)) // 2,) * 4)
    monkeypatch.setattr(blind_kernel, "free_kernel", lambda y, fit, weights: free)
    assert kernel_likeness(free, true) < 0.95
    assert kernel_likeness(find_kernel(y, 13, kinds=("motion",)), true) > 0.99
    assert torch.equal(find_kernel(y, 13, kinds=()), free)


def test_a_bent_path_is_not_taken_for_a_straight_one(clip, monkeypatch):
    true = hook()
    straight = FoundBlur("motion", {}, motion_kernel(9, 45), 0, 0)
    monkeypatch.setattr(blind_kernel, "free_kernel", lambda y, fit, weights: true)
    monkeypatch.setattr(blind_kernel, "find_blur", lambda y, kinds: straight)
    assert torch.equal(find_kernel(blurred(clip, true), 13), true)


def test_where_the_film_cannot_tell_it_is_refused(clip):
    with pytest.raises(ValueError, match="nearly flat"):
        KernelFit(0 * clip, 13)
