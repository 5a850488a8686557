"""The motion of a clip against known shifts, its averages against formulas written out."""

import pytest
import torch
import torch.nn.functional as F

from visionxl.extras import flow as flows
from visionxl.extras.flow import flow, greyscale, visible, warp
from visionxl.extras.motion import AlongMotion, estimate_motion, motion_average, patch_mean

H, W = 40, 56


def texture(h=H, w=W, seed=0):
    "Smooth random frames (1, 1, h, w) in [-1, 1]."
    v = torch.rand(1, 1, h, w, generator=torch.Generator().manual_seed(seed))
    return F.avg_pool2d(F.pad(v, (2, 2, 2, 2), "reflect"), 5, 1) * 4 - 2


def moving(frames, dx, dy):
    "A texture that goes (dx, dy) pixels a frame: (frames, 3, H, W)."
    big = texture(H + 40, W + 40)[0].expand(3, -1, -1)
    cuts = [big[:, 20 - k * dy :, 20 - k * dx :][:, :H, :W] for k in range(frames)]
    return torch.stack(cuts).contiguous()


def still(x, js):
    "Motion of a clip that stands still, to these neighbours, all of it seen."
    n = len(js)
    return js, torch.zeros(n, *x.shape[-2:], 2), torch.ones(n, *x.shape[-2:], dtype=torch.bool)


def test_greyscale_is_the_mean_of_colours_in_bytes():
    x = torch.tensor([-1.0, 0.0, 0.5, 0.999, 2.0]).view(5, 1, 1, 1) * torch.ones(5, 3, 2, 4)
    assert greyscale(x)[:, 0, 0].tolist() == [0, 0, 128, 255, 255]
    assert greyscale(x).shape == (5, 2, 4) and greyscale(x).dtype == torch.uint8
    mixed = torch.tensor([0.0, 0.3, 0.9]).view(3, 1, 1)
    assert int(greyscale(mixed)) == 102


@pytest.mark.parametrize("dx, dy", [(2, 0), (0, -1), (-1, 2)])
def test_every_pair_has_its_shift(dx, dy):
    motion = estimate_motion(moving(5, dx, dy), 2)
    assert [js for js, *_ in motion] == [[1, 2], [0, 2, 3], [0, 1, 3, 4], [1, 2, 4], [2, 3]]
    for i, (js, found, seen) in enumerate(motion):
        for j, f, s in zip(js, found, seen):
            inner = f[8:-8, 10:-10].reshape(-1, 2).median(0).values
            assert (inner - torch.tensor([dx, dy]) * (j - i)).abs().max() < 0.25
            assert s[8:-8, 10:-10].float().mean() > 0.8
    with pytest.raises(ValueError, match="radius=0 must be at least 1"):
        estimate_motion(moving(2, 1, 0), 0)


def test_dark_frames_count_as_much_as_bright_ones():
    "The frames are in [-1, 1]: what is below zero is not cut off before the motion is looked for."
    x = moving(2, 2, 1)
    for v in (x * 0.4 - 0.5, x * 0.4 + 0.5):
        (_, f, _), _ = estimate_motion(v, 1)
        assert (
            f[0, 8:-8, 10:-10].reshape(-1, 2).median(0).values - torch.tensor([2, 1])
        ).norm() < 0.3


def test_small_frames_are_refused():
    a = torch.zeros(3, 16, 15)
    with pytest.raises(ValueError, match="16x15 are too small"):
        flow(a, a)
    assert flow(torch.zeros(3, 16, 16), torch.zeros(3, 16, 16)).shape == (16, 16, 2)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_whole_pixels_are_fetched_and_edges_repeated(mode, dtype):
    x = torch.rand(2, 3, H, W, dtype=dtype, generator=torch.Generator().manual_seed(1))
    f = torch.tensor([3.0, -2.0]).expand(2, H, W, 2)
    rows, cols = (torch.arange(H) - 2).clamp(0), (torch.arange(W) + 3).clamp(max=W - 1)
    want = x[:, :, rows][..., cols]
    assert (warp(x, f, mode) - want).abs().max() < 1e-5
    assert (warp(x[0], f[0], mode) - want[0]).abs().max() < 1e-5


def test_bicubic_goes_through_opencv_where_it_can(monkeypatch):
    calls, remap = [], flows._remap
    monkeypatch.setattr(flows, "_remap", lambda x, p: calls.append(x.shape) or remap(x, p))
    x, f = torch.rand(1, 3, H, W), torch.full((1, H, W, 2), 0.5)
    fast = warp(x, f, "bicubic")
    assert calls == [x.shape]
    assert (warp(x.double(), f, "bicubic") - fast).abs().max() < 2e-2 and len(calls) == 1
    warp(x.requires_grad_(), f, "bicubic").sum().backward()
    assert x.grad is not None and len(calls) == 1


@pytest.mark.parametrize("dx, dy", [(2.0, 0.0), (-3.0, 0.0), (0.0, 1.0), (0.0, -4.0), (1.5, -0.5)])
def test_what_leaves_the_frame_is_not_seen(dx, dy):
    f = torch.tensor([dx, dy]).expand(H, W, 2)
    x, y = torch.arange(W) + dx, torch.arange(H)[:, None] + dy
    want = (x >= 0) & (x <= W - 1) & (y >= 0) & (y <= H - 1)
    assert visible(f, -f).equal(want)


def test_flows_that_disagree_are_not_seen():
    "By more than 0.01 (|f|^2 + |b|^2) + 0.5, in square pixels; each of the two sizes counts."
    middle = (H // 2, W // 2)
    for f, b, seen in [
        ((0.0, 0.0), (0.69, 0.0), True),  # gap 0.476, bound 0.505
        ((0.0, 0.0), (0.0, 0.73), False),
        ((6.0, 0.0), (-6.0, 1.08), True),  # gap 1.166, bound 1.232
        ((0.0, 6.0), (1.15, -6.0), False),  # gap 1.323, bound 1.233
    ]:
        forward, backward = (torch.tensor(v).expand(H, W, 2) for v in (f, b))
        assert bool(visible(forward, backward)[middle]) is seen


@pytest.mark.parametrize("patch", [1, 3, 5, 9])
@pytest.mark.parametrize("size", [(6, 11), (3, 4), (12, 2)])
def test_patches_are_pytorchs(patch, size):
    v = torch.rand(2, 1, *size, dtype=torch.float64)
    want = F.avg_pool2d(v, patch, 1, patch // 2, count_include_pad=False)
    before = v.clone()
    assert (patch_mean(v, patch) - want).abs().max() < 1e-12 and v.equal(before)


def test_the_average_is_its_formula():
    x = torch.cat([texture(seed=s) for s in range(3)]) * 0.1
    x = x.expand(-1, 2, -1, -1).contiguous() + torch.tensor([0.0, 0.05]).view(1, 2, 1, 1)
    motion = [still(x, [1]), still(x, [0, 2]), still(x, [])]
    motion[1][2][1, :, : W // 2] = False
    out = motion_average(x, motion, tolerance=0.2, patch=3)
    assert out[2].equal(x[2])
    for i, js in ((0, [1]), (1, [0, 2])):
        total, weight = x[i].clone(), torch.ones(1, H, W)
        for k, j in enumerate(js):
            gap = F.avg_pool2d(
                (x[j] - x[i]).square().mean(0)[None, None], 3, 1, 1, count_include_pad=False
            )[0]
            w = torch.exp(-gap / (2 * 0.2**2)) * motion[i][2][k]
            total, weight = total + w * x[j], weight + w
        assert (out[i] - total / weight).abs().max() < 1e-5
    for wrong in (motion[:2], [*motion, motion[0]]):
        with pytest.raises(ValueError, match=f"that of {len(wrong)} frames, the clip has 3"):
            motion_average(x, wrong)


class Counts:
    "A consistency that counts how often it is asked, and says what its guess was."

    def __init__(self, x):
        self.x, self.asked = x, []

    def bind(self, problem, guess):
        return self.step, lambda: self.x

    def step(self, x, a_t, last=False):
        self.asked.append((a_t, last))
        return x


@pytest.mark.parametrize("rounds, again", [(0, False), (2, True), (3, False)])
def test_so_many_rounds(rounds, again):
    class Scheduled:
        sampling = (281, 1)

        def a(self, t):
            return 1 - t / 1000

    class Problem:
        schedule = Scheduled()

    inner = Counts(moving(3, 1, 0))
    along = AlongMotion(inner.bind, rounds=rounds, again=again)
    object.__setattr__(along, "inner", inner)
    step, guess = along.bind(Problem(), lambda: inner.x)
    assert inner.asked == [(0.719, False)] * rounds
    assert guess().equal(inner.x) is (rounds == 0)
    step(inner.x, 0.9, True)
    assert inner.asked[rounds:] == [(0.9, True)]
