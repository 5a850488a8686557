"""Noise along the flow: white, of unit variance, and the same along the motion; and patches."""

import math

import pytest
import torch

from visionxl import restore
from visionxl.compare import patches, warped
from visionxl.compare.key_frames import AlongKeyFrames
from visionxl.compare.patches import InPatches, PatchedPrior, mixed_bands, seam
from visionxl.compare.warped import AlongFlow, Flowing, flowing_noise
from visionxl.extras.flow import warp
from visionxl.operators.tasks import task
from visionxl.prior.adapters import DenoiserPrior
from visionxl.prior.latent import Prior
from visionxl.solver import solve

pytestmark = pytest.mark.filterwarnings("ignore:this prior is trained up to")


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def turning(h, w, angle=0.05, zoom=1.02):
    "A flow that turns and widens the picture about its middle."
    y, x = torch.meshgrid(torch.arange(h) - h / 2, torch.arange(w) - w / 2, indexing="ij")
    c, s = zoom * torch.cos(torch.tensor(angle)), zoom * torch.sin(torch.tensor(angle))
    return torch.stack([c * x - s * y - x, s * x + c * y - y], -1)


def test_white_and_of_unit_variance_under_a_turning_flow():
    "In the last of six frames, over many draws: every pixel, and every pair of neighbours."
    flows = [turning(12, 16)] * 5
    draws = torch.stack([flowing_noise(noise(1, 2, 12, 16, seed=i), flows)[5] for i in range(400)])
    error = (2 / (400 * 2)) ** 0.5  # standard error of a variance of 800 numbers
    variance = draws.square().mean((0, 1))
    assert float(variance.mean()) == pytest.approx(1, abs=5 * error / 12)
    assert float((variance - 1).abs().max()) < 5 * error
    for dim in (-1, -2):
        n = draws.shape[dim] - 1
        pairs = (draws.narrow(dim, 0, n) * draws.narrow(dim, 1, n)).mean((0, 1))
        assert float(pairs.abs().max()) < 5 * (1 / 800) ** 0.5
    assert float(draws.mean((0, 1)).abs().max()) < 5 * (1 / 800) ** 0.5


def test_the_same_along_the_flow_and_not_across_it():
    flow = turning(48, 64)
    first = noise(1, 8, 48, 64)
    frames = flowing_noise(first, [flow] * 4)
    back = turning(48, 64, -0.05, 1 / 1.02)  # where each pixel was a frame ago
    inner = (slice(None), slice(8, -8), slice(8, -8))
    for t in range(4):
        then = warp(frames[t], back)
        same = (then * frames[t + 1])[inner].mean() / then[inner].std() / frames[t + 1][inner].std()
        # a pixel shares the area w_i with its neighbour i, so that it correlates by the root of
        # the sum of w_i^2 with the bilinear reading: 0.812^2 = 0.66 over all places in a pixel
        assert float(same) == pytest.approx(0.66, abs=0.03)
        still = (frames[t] * frames[t + 1])[inner].mean()
        assert float(still) < 0.25


@pytest.mark.parametrize("shift", [(1, 0), (0, -2), (3, 3)])
def test_whole_pixels_are_carried_exactly(shift):
    dx, dy = shift
    first = noise(1, 3, 16, 20)
    moved = flowing_noise(first, [torch.tensor(shift).float().expand(16, 20, 2)])[1]
    ys, xs = slice(max(dy, 0), 16 + min(dy, 0)), slice(max(dx, 0), 20 + min(dx, 0))
    from_y, from_x = slice(max(-dy, 0), 16 - max(dy, 0)), slice(max(-dx, 0), 20 - max(dx, 0))
    assert (moved[:, ys, xs] - first[0][:, from_y, from_x]).abs().max() < 1e-5
    fresh = torch.ones(16, 20, dtype=bool)
    fresh[ys, xs] = False
    assert float(moved[:, fresh].std()) == pytest.approx(1, abs=0.25)
    gone = first[0][:, 16 - abs(dy) :] if dy else first[0][:, :, -abs(dx) :]
    assert not torch.isin(moved[:, fresh], gone).any(), "what is uncovered is new"


def test_it_follows_from_the_first_frame_alone():
    flows, first = [turning(8, 8)] * 2, noise(1, 2, 8, 8)
    state = torch.get_rng_state()
    a, b = flowing_noise(first, flows), flowing_noise(first.clone(), flows)
    assert torch.equal(a, b) and torch.equal(a[0], first[0])
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(flowing_noise(first, []), first)


@pytest.fixture(scope="module")
def moving():
    "A texture that moves two pixels to the right with every frame, and its measurement."
    wide = torch.nn.functional.interpolate(noise(1, 3, 8, 16), (32, 64), mode="bicubic")[0] / 3
    x = torch.stack([wide[..., 2 * (3 - t) : 2 * (3 - t) + 48] for t in range(4)])
    A = task("sr", tuple(x.shape))
    return x, A, A(x)


@pytest.fixture(scope="module")
def tiny():
    return Prior.load("tiny", device="cpu")


def states(y, A, prior, preset="warped", **kw):
    return list(solve(y, A, prior, preset, {"route.steps": 12}, **kw))


def test_in_the_start_and_in_every_renoising(moving, tiny):
    x, A, y = moving
    a, b = states(y, A, tiny), states(y, A, tiny, "svi")
    assert torch.equal(a[0].z[0], b[0].z[0]), "the first frame has the same noise"
    assert not torch.equal(a[0].z[3], b[0].z[3])
    assert a[-1].x.isfinite().all()
    again = states(y, A, tiny, resume=a[2])
    assert torch.equal(again[-1].x, a[-1].x), "a resumed run draws the same noise"
    assert not torch.equal(states(y, A, tiny, seed=5)[-1].x, a[-1].x)


def test_noise_that_was_recorded(moving, tiny):
    x, A, y = moving
    recorded = noise(20, 1, 16, 8, 12)
    a, b = (states(y, A, tiny, noise=recorded)[-1].x for _ in range(2))
    assert torch.equal(a, b) and not torch.equal(a, states(y, A, tiny)[-1].x)


def test_guidance_brings_frames_together_along_the_flow(moving, tiny):
    x, A, y = moving
    back = warped.flows_back(warped.upsample(y, A), (8, 12))
    gaps = {}
    for scale in (0.0, 0.3):
        z = states(y, A, tiny, renoise=AlongFlow(0.15, scale))[-1].z0_hat
        gaps[scale] = float(warped.flow_misfit(z, back))
    assert gaps[0.3] < 0.95 * gaps[0.0]


def test_a_clip_without_motion_to_follow_has_one_noise(tiny):
    A = task("sr", (2, 3, 8, 8))
    z = states(torch.zeros(A.out_shape), A, tiny)[0].z
    assert (z[0] - z[1]).abs().max() < 1e-5


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda: Flowing(0), "noise.detail=0"),
        (lambda: AlongFlow(eta=2.0), "renoise.eta=2.0"),
        (lambda: InPatches(1), "networks.side=1"),
        (lambda: PatchedPrior(DenoiserPrior(abs), 3), "give at least 4"),
    ],
)
def test_refusals(call, says):
    with pytest.raises(ValueError, match=says):
        call()


# ---------------------------------------------------------------- patches


def test_patches_of_a_prior_that_looks_at_single_pixels_change_nothing():
    "The blend's weights sum to one, wherever the patches lie."
    prior = DenoiserPrior(lambda v, sigma: v / (1 + sigma**2))
    patched, z = PatchedPrior(prior, 16), noise(2, 3, 37, 61).double()
    assert (patched.eps(z, 300) - prior.eps(z, 300)).abs().max() < 1e-6
    assert (patched.encode(z) - z).abs().max() < 1e-6


def test_a_seam_is_measured_where_patches_are_mixed():
    bands = mixed_bands(40, 60, 16, 1)
    answers = iter(range(100))

    def numbered(v, sigma):
        return torch.full_like(v, next(answers))

    z = torch.zeros(1, 3, 40, 60)
    clean = z + PatchedPrior(DenoiserPrior(numbered, sigma_max=None), 16).encode(z)
    assert torch.equal(clean, z), "pixels stay pixels"
    out = PatchedPrior(DenoiserPrior(numbered), 16).eps(z, 300)[0, 0]
    steps = out.new_tensor(sorted(set(out[~bands].round(decimals=3).tolist())))
    assert len(steps) == next(answers), "outside the bands stands the answer of one patch"
    assert 0.2 < bands.double().mean() < 0.6
    x = torch.zeros(2, 3, 40, 60)
    assert seam(x + 1 + 2 * bands, x, bands) == pytest.approx(9)
    assert math.isnan(seam(x, x, mixed_bands(40, 60, 80, 4))), "one patch has no seam"


def test_the_flow_rival_in_patches(tiny):
    A = task("sr", (3, 3, 32, 48))
    y = A(torch.rand(A.in_shape, generator=torch.Generator().manual_seed(0)) - 0.5)
    whole, fits, parts = (
        states(y, A, tiny, "diffir2vr", networks=AlongKeyFrames(side=side))[-1].x
        for side in (None, 48, 24)
    )
    assert (fits - whole).abs().max() < 1e-5 < (parts - whole).abs().max()
    assert (A(parts) - y).abs().max() < 1e-3


def test_patches_are_no_larger_than_asked(tiny):
    seen = []

    class Watched:
        def __getattr__(self, name):
            return getattr(tiny, name)

        def eps(self, z, t):
            seen.append(tuple(z.shape[-2:]))
            return tiny.eps(z, t)

    z = noise(1, 16, 20, 30)
    PatchedPrior(Watched(), 48).eps(z, 121)
    assert len(seen) > 3 and max(max(s) for s in seen) == 12
    seen.clear()
    PatchedPrior(Watched(), 120).eps(z, 121)
    assert seen == [(20, 30)]


def test_a_preset_in_patches(moving, tiny):
    x, A, y = moving
    whole = states(y, A, tiny, "svi")[-1].x
    fits = states(y, A, tiny, "svi", networks=InPatches(64))[-1].x
    parts = states(y, A, tiny, "svi", networks=InPatches(24))[-1].x
    assert (fits - whole).abs().max() < 1e-5
    assert not torch.equal(parts, whole)
    assert (A(parts) - y).abs().max() < 1e-3, "the result has met the measurement"
    with pytest.raises(ValueError, match="give the side of a patch"):
        states(y, A, tiny, "svi", networks=InPatches())


def test_restore_in_patches_of_frames_of_any_size():
    y = torch.nn.functional.avg_pool2d(noise(2, 3, 33, 49), 5, 1, 2)
    with pytest.warns(UserWarning, match="trained up to"):
        out = restore(y, "deblur", "svi", changes={"networks": InPatches(24), "route.steps": 12},
                      progress=False, seed=1, prior="tiny")  # fmt: skip
    assert out.x.shape == (2, 3, 33, 49) and out.x.isfinite().all()


def test_the_side_that_a_network_names(tiny):
    class Known(type(tiny)):
        pass

    assert patches.own_side(tiny) is None
    named = Known.__new__(Known)
    named.__dict__.update(tiny.__dict__)
    named.unet = type("Net", (), {"config": {"sample_size": 32}})()
    assert patches.own_side(named) == 128
