"""Steps 1, 2, 4 and 5, each against something that was not written here: diffusers, scipy,
quadrature, statistics.
"""

import math
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import ndimage

from visionxl.extras.photographs.photo_spectrum import (
    PhotoSpectrum,
    fill_holes,
    fill_smoothly,
    smooth_step,
)
from visionxl.operators.fast.cosine import dct2
from visionxl.operators.known.properties import has_one_gain
from visionxl.operators.tasks import LinearOperator, Mask, task
from visionxl.prior.latent import to_eps
from visionxl.prior.schedule import ddim_step, make_schedule, scaled_linear
from visionxl.steps.batch import side_by_side
from visionxl.steps.checks import as_seed, check_input
from visionxl.steps.consistency import cg
from visionxl.steps.inversion import climb, descend, invert, to_size
from visionxl.steps.lowpass import (
    BOUNDARIES,
    EncodeCorrection,
    LowPass,
    folded_index,
    gaussian_taps,
    lowpass,
    lowpass_gain,
    lowpass_sigma,
)
from visionxl.steps.own import OwnStep
from visionxl.steps.problem import Route, State, check_trained
from visionxl.steps.progress import CheckedPrior, Passes
from visionxl.steps.renoise import SeededNoise, mix_noise, renoise, shared_noise
from visionxl.steps.tweedie import eps_of, noise_ratio, tweedie


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def worst(a, b) -> float:
    return float((torch.as_tensor(a) - torch.as_tensor(b)).abs().max())


class Gaussian:
    "A prior of independent N(0, sd^2) numbers: its eps and its flow are formulas."

    def __init__(self, sd=1.0, alpha_bar=None):
        self.sd, self.alpha_bar = sd, scaled_linear() if alpha_bar is None else alpha_bar

    def var(self, t):
        a = float(self.alpha_bar[t])
        return a * self.sd**2 + 1 - a

    def eps(self, z, t):
        return (1 - float(self.alpha_bar[t])) ** 0.5 * z / self.var(t)


def diffusers_scheduler(name, **kw):
    diffusers = pytest.importorskip("diffusers")
    s = getattr(diffusers, name)(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        steps_offset=1,
        set_alpha_to_one=False,
        clip_sample=False,
        **kw,
    )
    s.set_timesteps(25)
    return s


# ---------------------------------------------------------------- step 1


def test_schedule_walks_the_timesteps_of_diffusers():
    s = make_schedule(scaled_linear(), steps=25, tau=1.0)
    assert list(s.sampling) == diffusers_scheduler("DDIMScheduler").timesteps.tolist()
    assert s.inversion[0] == (1, 41) and all(
        b == c for (_, b), (c, _) in zip(s.inversion, s.inversion[1:])
    )


@pytest.mark.parametrize("pair", [(1, 41), (41, 81), (121, 161), (241, 281), (921, 961)])
def test_a_step_up_is_diffusers_inverse_scheduler(pair):
    "diffusers names an inversion step by the timestep it arrives at; ours by both."
    t, s = pair
    ref, z, e = (
        diffusers_scheduler("DDIMInverseScheduler"),
        draw(2, 4, 6, 5),
        draw(2, 4, 6, 5, seed=1),
    )
    a = scaled_linear()
    assert worst(ddim_step(z, e, float(a[t]), float(a[s])), ref.step(e, s, z).prev_sample) < 1e-5


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("t", [41, 281, 961])
def test_a_step_down_is_diffusers_scheduler(kind, t):
    ref, z, out = (
        diffusers_scheduler("DDIMScheduler", prediction_type=kind),
        draw(2, 4, 6, 5),
        draw(2, 4, 6, 5, seed=1),
    )
    a = ref.alphas_cumprod.double()
    got, e = ref.step(out, t, z), to_eps(out, z, float(a[t]), kind)
    assert (
        worst(tweedie(z, e, float(a[t])), got.pred_original_sample)
        < 1e-5 * noise_ratio(float(a[t])).__ceil__()
    )
    assert worst(ddim_step(z, e, float(a[t]), float(a[t - 40])), got.prev_sample) < 1e-5


def test_inversion_is_diffusers_inversion_step_by_step():
    """The whole climb, with the network asked where each side asks it: ours at the start of a step,
    the released indexing at its end.
    """
    prior, z0 = Gaussian(0.5), draw(2, 4, 3, 3)
    ref = diffusers_scheduler("DDIMInverseScheduler")
    z = z0
    for s, ours in climb(z0, prior, make_schedule(prior.alpha_bar)):
        z = ref.step(prior.eps(z, s - 40), s, z).prev_sample
        assert worst(ours, z) < 1e-5


def test_unit_gaussian_turns_by_the_angle_between_noise_levels():
    """For N(0, 1) a DDIM step is multiplication by cos of the angle between (sqrt(a), sqrt(1-a))
    before and after.
    """
    prior, z0 = Gaussian(1.0), draw(1, 2, 3, 3)
    s = make_schedule(prior.alpha_bar)
    angle = [math.acos(s.a(t) ** 0.5) for t in s.sampling[::-1]]
    shrink = math.prod(math.cos(b - a) for a, b in zip(angle, angle[1:]))
    assert worst(invert(z0, prior, s), shrink * z0) < 1e-12


def test_more_steps_approach_the_exact_flow():
    """The flow carries a Gaussian's quantiles along: z_tau / sd(tau) = z_0 / sd(0).

    The error falls like one over the number of steps.
    """
    prior, z0 = Gaussian(0.3), draw(1, 2, 3, 3)

    def error(steps):
        s = make_schedule(prior.alpha_bar, steps=steps, tau=0.3)
        first, last = s.inversion[0][0], s.inversion[-1][1]
        return worst(
            invert(z0, prior, s), z0 * (prior.var(last) / prior.var(first)) ** 0.5
        ) / float(z0.abs().max())

    e = [error(n) for n in (25, 100, 500)]
    assert e[0] > 3 * e[1] and e[1] > 4 * e[2] and e[2] < 0.02


def test_up_and_down_again():
    prior, z0 = Gaussian(0.3), draw(2, 4, 3, 3)

    def error(steps):
        s = make_schedule(prior.alpha_bar, steps=steps, tau=0.3)
        *_, (t, z) = descend(invert(z0, prior, s), prior, s)
        assert t == s.sampling[-1]
        return worst(z, z0) / float(z0.abs().max())

    assert error(500) < 0.02 < error(25) < 0.3


@pytest.mark.parametrize("indexing", ["paper", "released"])
@pytest.mark.parametrize("tau", [0.001, 0.05, 0.18, 0.3])
@pytest.mark.parametrize("n", [1, 2, 3, 40])
def test_longer_strides_up_end_where_sampling_begins(indexing, tau, n):
    s, every = (
        make_schedule(scaled_linear(), tau=tau, indexing=indexing, inversion_steps=k)
        for k in (n, None)
    )
    still = indexing == "released"
    assert s.sampling == every.sampling and len(s.inversion) == min(n, len(s.sampling) - 1) + still
    assert (
        all(a[1] == b[0] for a, b in zip(s.inversion, s.inversion[1:]))
        and s.inversion[:still] == every.inversion[:still]
    )
    if s.inversion:
        assert s.inversion[-1][1] == s.sampling[0] and s.inversion[0][0] == s.sampling[-1]
    if n == 40:
        assert s.inversion == every.inversion


def test_climb_counts_one_evaluation_per_step_and_leaves_its_start_alone():
    prior, z0, asked = Gaussian(), draw(1, 2, 3, 3), []
    counting = Gaussian()
    counting.eps = lambda z, t: asked.append(t) or prior.eps(z, t)
    before = z0.clone()
    for indexing, last in (
        ("paper", 241),
        ("released", 281),
    ):  # that code stands still once, at the first
        asked.clear()
        invert(z0, counting, make_schedule(prior.alpha_bar, indexing=indexing))
        assert asked == list(range(1, last + 1, 40))
    assert torch.equal(z0, before)


def test_nothing_to_climb_and_nothing_to_climb_with():
    s = make_schedule(scaled_linear(), tau=0.03)
    z0 = draw(1, 2, 3, 3)
    assert (
        s.inversion == ()
        and invert(z0, Gaussian(), s) is z0
        and list(descend(z0, Gaussian(), s)) == []
    )
    with pytest.raises(ValueError, match="NaN or Inf"):
        invert(z0 * math.nan, Gaussian(), make_schedule(scaled_linear()))


# ---------------------------------------------------------------- step 2


@pytest.mark.parametrize("a", [0.999, 0.6, 0.05])
def test_tweedie_and_its_inverse(a):
    z0, n = draw(2, 4, 3, 3), draw(2, 4, 3, 3, seed=1)
    z = a**0.5 * z0 + (1 - a) ** 0.5 * n
    assert worst(tweedie(z, n, a), z0) < 1e-12 and worst(eps_of(z, z0, a), n) < 1e-12
    assert noise_ratio(a) == pytest.approx(math.sqrt(1 / a - 1))


@pytest.mark.parametrize("a", [0.0, -1.0, 1.2, math.nan])
def test_tweedie_refuses_impossible_levels(a):
    with pytest.raises(ValueError, match="alpha_bar"):
        tweedie(draw(1, 1, 1, 1), draw(1, 1, 1, 1), a)


def test_eps_of_nothing_is_refused():
    assert worst(tweedie(draw(1, 1, 2, 2), draw(1, 1, 2, 2, seed=1), 1.0), draw(1, 1, 2, 2)) == 0
    with pytest.raises(ValueError, match="no noise"):
        eps_of(draw(1, 1, 1, 1), draw(1, 1, 1, 1), 1.0)


# ---------------------------------------------------------------- step 4

SHAPES = [(2, 3, 32, 40), (1, 1, 1, 2), (2, 3, 5, 70), (3, 2, 1, 1), (1, 3, 33, 7)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sigma", [0.2, 0.7, 1.9, 6.0])
def test_lowpass_is_scipys(shape, sigma):
    """scipy calls our symmetric boundary `reflect`, and our reflect `mirror`.

    Kernels may be larger than the frame.
    """
    x = draw(*shape)
    for boundary, mode in zip(BOUNDARIES, ("reflect", "mirror")):
        ref = ndimage.gaussian_filter(x.numpy(), (0, 0, sigma, sigma), mode=mode)
        assert worst(lowpass(x, sigma, boundary), ref) < 1e-12, boundary
    ref = ndimage.gaussian_filter(x.numpy(), (0, 0, sigma, sigma), mode="mirror", radius=30)
    assert worst(lowpass(x, sigma, "reflect", 61), ref) < 1e-9


def test_lowpass_is_the_released_convolution():
    """A dense 61 x 61 kernel and reflect padding, as the released code filters, where the frame is
    large enough for it.
    """
    x, k = draw(2, 3, 40, 48, dtype=torch.float32), gaussian_taps(1.06, 61).float()
    padded = torch.nn.functional.pad(x, [30] * 4, mode="reflect")
    dense = torch.nn.functional.conv2d(padded, (k[:, None] * k).expand(3, 1, 61, 61), groups=3)
    assert worst(lowpass(x, 1.06, "reflect", 61), dense) < 1e-5


@pytest.mark.parametrize("boundary,mode", [("symmetric", "symmetric"), ("reflect", "reflect")])
@pytest.mark.parametrize("n,pad", [(1, 3), (2, 7), (5, 4), (5, 23)])
def test_folding_is_numpys(n, pad, boundary, mode):
    assert folded_index(n, pad, boundary).tolist() == np.pad(np.arange(n), pad, mode=mode).tolist()


def test_lowpass_properties():
    x = draw(2, 3, 24, 30)
    y = lowpass(x, 1.3)
    assert worst(y.mean((-2, -1)), x.mean((-2, -1))) < 1e-12, "symmetric boundaries keep the mean"
    assert worst(lowpass(torch.ones(1, 1, 9, 9), 5.0), torch.ones(1, 1, 9, 9)) < 1e-6
    assert worst(lowpass(x.flip(-1).transpose(-1, -2), 1.3), y.flip(-1).transpose(-1, -2)) < 1e-12
    assert lowpass(x, 0.0) is x and lowpass(x, 0.05) is x
    assert float(y.var()) < float(x.var())


@pytest.mark.parametrize(
    "dtype,tol", [(torch.float16, 2e-3), (torch.bfloat16, 2e-2), (torch.float32, 1e-6)]
)
def test_lowpass_keeps_the_dtype_and_computes_wide(dtype, tol):
    x = draw(2, 3, 20, 20).clamp(-1, 1).to(dtype)
    y = lowpass(x, 1.5)
    assert y.dtype == dtype and worst(y.double(), lowpass(x.double(), 1.5)) < tol


def test_lowpass_takes_views_and_leaves_them_alone():
    base = draw(2, 12, 9, 3)
    x = base.permute(0, 3, 1, 2)
    before = base.clone()
    assert worst(lowpass(x, 1.0), lowpass(x.contiguous(), 1.0)) == 0 and torch.equal(base, before)


def test_lowpass_gain_is_what_a_wave_loses():
    n, k = 64, 9
    wave = torch.cos(
        torch.pi * k * (torch.arange(n).double() + 0.5) / n
    )  # a cosine that the symmetric boundary continues
    out = lowpass(wave.expand(1, 1, 3, n), 1.2)[0, 0, 1]
    assert (
        worst(out, float(lowpass_gain(1.2, torch.tensor(k / (2 * n), dtype=torch.float64))) * wave)
        < 1e-12
    )
    assert float(lowpass_gain(1.2, torch.tensor(0.0))) == pytest.approx(1)


def test_width_goes_to_zero_with_the_noise():
    s = make_schedule(scaled_linear())
    widths = [lowpass_sigma(2.0, s.a(t)) for t in s.sampling]
    assert all(a > b for a, b in zip(widths, widths[1:])) and widths[0] < 2 and widths[-1] < 0.1
    assert lowpass_sigma(2.0, s.a(281)) == 2 * math.sqrt(1 - s.a(281)) and lowpass_sigma(
        0.0, 0.5
    ) == 0 == lowpass_sigma(2.0, 1.0)


@pytest.mark.parametrize(
    "call,error,text",
    [
        (lambda: lowpass(draw(1, 1, 4, 4), -1.0), ValueError, "sigma=-1.0"),
        (lambda: lowpass(draw(1, 1, 4, 4), math.nan), ValueError, "sigma=nan"),
        (lambda: lowpass(draw(4, 4), 1.0), ValueError, r"\(4, 4\)"),
        (lambda: lowpass(torch.ones(1, 1, 4, 4, dtype=torch.uint8), 1.0), TypeError, "uint8"),
        (lambda: lowpass(draw(1, 1, 4, 4), 1.0, "circular"), ValueError, "circular"),
        (lambda: lowpass(draw(1, 1, 4, 4), 1.0, kernel_size=60), ValueError, "61"),
        (lambda: lowpass(draw(1, 1, 4, 4), math.inf), ValueError, "sigma=inf"),
        (lambda: lowpass(draw(1, 1, 4, 4), 1.0, kernel_size=3.5), ValueError, "whole number"),
        (lambda: lowpass(draw(1, 1, 4, 4), 1.0, kernel_size=math.inf), ValueError, "size=inf"),
        (lambda: LowPass(kernel_size=-61), ValueError, "kernel_size=-61"),
        (lambda: lowpass_sigma(-2.0, 0.5), ValueError, "lam=-2"),
        (lambda: lowpass_sigma(math.nan, 0.5), ValueError, "lam=nan"),
        (lambda: lowpass_sigma(2.0, math.nan), ValueError, "alpha_bar=nan"),
        (lambda: lowpass_sigma(2.0, 0.0), ValueError, "alpha_bar=0"),
    ],
)
def test_lowpass_refuses(call, error, text):
    with pytest.raises(error, match=text):
        call()


# ---------------------------------------------------------------- step 5


@pytest.mark.parametrize("eta", [0.0, 0.3, 0.8, 1.0])
@pytest.mark.parametrize("shared", [True, False])
def test_renoise_mean_variance_and_correlation(eta, shared):
    """Mean sqrt(a) z_bar, variance 1-a, and eta^2 of the noise shared by all frames when one draw
    serves them.
    """
    a, frames, shape = 0.6, 4, (4, 200, 200)
    z_bar = draw(frames, 1, 1, 1).expand(frames, *shape)
    g = torch.Generator().manual_seed(3)
    eps, noise = draw(frames, *shape, seed=1), shared_noise(z_bar, g, 1 if shared else frames)
    e = (renoise(z_bar, eps, noise, a, eta) - a**0.5 * z_bar).flatten(
        1
    )  # (frames, N): what was added
    n, share = e.shape[1], eta**2 if shared else 0.0
    assert float(e.mean(1).abs().max()) < 5 * (1 - a) ** 0.5 / n**0.5
    assert worst(e.var(1), 1 - a) < 5 * (1 - a) * (2 / n) ** 0.5
    off = torch.corrcoef(e)[~torch.eye(frames, dtype=bool)]
    assert worst(off, share) < 5 / n**0.5


def test_renoise_without_a_draw_is_a_ddim_step():
    z, e, (a, b) = draw(2, 4, 3, 3), draw(2, 4, 3, 3, seed=1), (0.6, 0.8)
    assert worst(renoise(tweedie(z, e, a), e, None, b, 0.0), ddim_step(z, e, a, b)) < 1e-12


def test_renoise_with_the_draw_alone_forgets_the_prediction():
    z, n = draw(3, 4, 3, 3), draw(1, 4, 3, 3, seed=1)
    out = renoise(z, draw(3, 4, 3, 3, seed=2), n, 0.5, 1.0)
    assert worst(out, 0.5**0.5 * (z + n)) < 1e-12


def test_noise_scale_scales_what_is_added():
    z, e, n = draw(2, 4, 3, 3), draw(2, 4, 3, 3, seed=1), draw(1, 4, 3, 3, seed=2)

    def added(s):
        return renoise(z, e, n, 0.6, 0.4, noise_scale=s) - 0.6**0.5 * z

    assert worst(added(0.7), 0.7 * added(1.0)) < 1e-12 and worst(added(0.0), 0.0) == 0


def test_shared_noise_is_a_function_of_its_generator():
    z = torch.zeros(5, 4, 3, 3, dtype=torch.float32)

    def make(frames=1):
        return shared_noise(z, torch.Generator().manual_seed(7), frames)

    assert make().shape == (1, 4, 3, 3) and make(5).shape == z.shape and make().dtype == z.dtype
    assert torch.equal(make(), make()) and torch.equal(make(5), make(5))


@pytest.mark.parametrize(
    "call,text",
    [
        (lambda z: mix_noise(z, z, 1.1), "eta=1.1"),
        (lambda z: mix_noise(z, z, -0.1), "eta=-0.1"),
        (lambda z: mix_noise(z, z[:, :, :2], 0.5), "noise has shape"),
        (lambda z: renoise(z, z, z, 0.0, 0.5), "alpha_bar=0"),
        (lambda z: renoise(z, z, z, 0.5, 0.5, noise_scale=-1.0), "noise_scale=-1"),
        (lambda z: renoise(z, z, z, 0.5, 0.5, noise_scale=math.inf), "noise_scale=inf"),
        (lambda z: renoise(z, z, None, 0.5, 0.2), "noise is NoneType, and eta=0.2"),
        (lambda z: renoise(z, z, 3, 0.5, 0.2), "noise is int"),
    ],
)
def test_renoise_refuses(call, text):
    with pytest.raises((ValueError, TypeError), match=text):
        call(draw(2, 4, 3, 3))


# ---------------------------------------------------------------- the weighted correction of step
# 3, and starts


def weighted(A, r, rho):
    "argmin |r - A d|^2 + rho |K^-1 d|^2 with dense matrices."
    n = int(np.prod(A.in_shape))
    eye = torch.eye(n, dtype=torch.float64).view(n, *A.in_shape)
    M = torch.stack([A(e).flatten() for e in eye], 1)
    W = (
        dct2(eye).flatten(1)
        * PhotoSpectrum(A.in_shape).weight.double().expand(A.in_shape).flatten() ** -1
    )  # rows: K^-1 e
    return torch.linalg.solve(M.T @ M + rho * W @ W.T, M.T @ r.flatten()).view(A.in_shape)


FRAMES = (2, 1, 6, 8)
MASKS = {
    "one for all": lambda: Mask(FRAMES, draw(6, 8) < 0),
    "its own": lambda: Mask(FRAMES, draw(2, 1, 6, 8) < 0),
    "scaled": lambda: Mask(FRAMES, 0.5 * (draw(6, 8) < 0)),
    "nothing": lambda: Mask(FRAMES, torch.eye(6, 8) * (torch.arange(8) < 1)),
    "everything": lambda: Mask(FRAMES, torch.ones(6, 8)),
}


@pytest.mark.parametrize("rho", [1e-8, 1e-4, 1e-2, 0.9, 1.1, 100.0])
@pytest.mark.parametrize("name", MASKS)
def test_holes_are_filled_as_dense_matrices_do(name, rho):
    A, r = MASKS[name](), draw(*FRAMES, seed=1)
    want = weighted(A, r, rho)
    assert worst(fill_holes(A, r, rho, 200), want) < 1e-3 * float(
        want.abs().max()
    )  # the residual ends at 1e-5 of the first
    assert worst(fill_holes(A, r.float(), rho, 200), want) < 2e-3 * float(want.abs().max())


def test_holes_are_known_for_what_they_are():
    assert (
        has_one_gain(MASKS["its own"]())
        and has_one_gain(task("sr", (2, 1, 8, 8)))
        and not has_one_gain(task("deblur", (2, 1, 8, 8), kernel_size=5))
    )
    assert not has_one_gain(Mask(FRAMES, draw(6, 8).abs())), "weights that differ are no holes"
    A, x = MASKS["its own"](), draw(*FRAMES)
    assert worst(A(smooth_step(A, A(x), 0 * x, 1e-8, 50)), A(x)) < 1e-6


def test_a_membrane_over_nothing_stays_flat():
    L = PhotoSpectrum((1, 1, 6, 8)).weight ** -2
    flat = torch.zeros(1, 6, 8)
    # no pin: 0 / 0 is not divided
    assert worst(fill_smoothly(flat, L, flat.clone(), 20), flat) == 0
    held = torch.full((1, 6, 8), 0.3)
    assert worst(fill_smoothly(1e8 + flat, L, held.clone(), 20), held) < 1e-6  # pinned everywhere


def test_twenty_steps_reach_what_sixty_did():
    """Half of the pixels of a picture, in float32: nearer to the answer than 60 steps of CG on K^-1
    of it in float64 were.
    """
    shape = (1, 1, 48, 64)
    K, A = PhotoSpectrum(shape), task("inpaint", shape)
    y = A(K(draw(*shape)))
    kept = (A.weights**2 / 1e-8)[0]
    want = fill_smoothly(kept, K.weight.double() ** -2, y[0].clone(), 500, 0.0)
    ours = fill_holes(A, y.float(), 1e-8, 20)[0]
    theirs = K(cg(A @ K, y, 0 * y, 60, 1e-8)[0])[0]
    assert (ours - want).square().mean() < (theirs - want).square().mean()


def test_a_preset_filter_has_its_own_taps():
    x, sigma = draw(2, 3, 16, 16), lowpass_sigma(3.0, 0.5)
    for taps in (None, 5):
        want = lowpass(x, sigma, "reflect", taps)
        assert worst(LowPass(3.0, taps, "reflect").blur(x, 0.5), want) == 0
    assert worst(lowpass(x, sigma, "reflect", 5), lowpass(x, sigma, "reflect")) > 0.01


def test_a_correction_needs_no_noise_of_any_kind():
    "Noise that samples no posterior may be any function."
    problem = SimpleNamespace(noise=lambda z, k: z, encode=lambda x, k: 2 * x)
    step = EncodeCorrection().bind(problem)
    assert step(3.0, 1.0, 10.0, 0) == 14.0
    problem.noise = SimpleNamespace(posterior=3)
    with pytest.raises(ValueError, match="sampled posterior"):
        EncodeCorrection().bind(problem)


def test_numbers_of_an_own_step_that_blows_up_are_named():
    step = OwnStep(lambda problem, x, a_t: x / 0, "lowpass")
    with pytest.raises(FloatingPointError, match="lowpass=.*returned NaN or Inf"):
        step.called(None, torch.ones(1, 3, 2, 2), 0.5)


def test_to_size_interpolates_a_ramp():
    "A slope comes back where it was: pixels are means, and lie in the middle of what they cover."
    A = task("sr", (2, 3, 128, 32))  # the small frames are higher than the large ones are wide
    down, right = torch.linspace(-1, 1, 128)[:, None], torch.linspace(-0.5, 0.5, 32)
    x = (0.5 * down + right).expand(A.in_shape)
    got = to_size(A, A(x), bicubic=True)
    assert worst(got[..., 8:-8, 8:-8], x[..., 8:-8, 8:-8]) < 0.01  # a cubic waves about a slope
    assert got.shape == x.shape and worst(to_size(A, A(x)), x) > 0.03


@pytest.mark.parametrize("name", ["sr", "inpaint", "inpaint+", "deblur+"])
def test_to_size_keeps_constants(name):
    A = task(name, (8, 3, 16, 16), kernel_size=5)
    for scaled in (A, 3 * A):
        out = to_size(scaled, scaled(torch.full(A.in_shape, 0.3)), width=2.0)
        seen = to_size(scaled, scaled(torch.ones(A.in_shape)), width=2.0) != 0
        assert worst(out[seen], 0.3) < 1e-5 and seen.float().mean() > 0.9


class Nothing(LinearOperator):
    in_shape = out_shape = (1, 1, 2, 2)

    def forward(self, x):
        return 0 * x

    def adjoint(self, y):
        return 0 * y


def test_nothing_measured_is_nothing_shown():
    assert (to_size(Nothing(), torch.ones(1, 1, 2, 2), width=0.0) == 0).all()


# ---------------------------------------------------------------- what only a whole run would meet


def test_runs_of_a_batch_end_together():
    state = State(5, torch.zeros(2, 1, 2, 2))
    runs = side_by_side(lambda b, tell: iter([state] * (b + 1)), 2)
    assert next(runs).z.shape == (2, 2, 1, 2, 2)
    with pytest.raises(ValueError, match="longer"):
        next(runs)


def test_passes_are_counted():
    passes = Passes(start=10, step=5, last=3, steps=4)
    assert (passes.before(2), passes.total) == (20, 28)


@pytest.mark.parametrize(
    "gain, channels, low, warned",
    [(1, 3, 0.0, True), (1, 3, -0.01, False), (1, 1, 0.0, False), (0.5, 3, 0.0, False)],
)
def test_a_clip_of_the_wrong_range(gain, channels, low, warned):
    "Nothing is dark, although the operator would keep black: said once, and only then."
    shape = (2, channels, 8, 8)
    y = torch.linspace(low, 1, 2 * channels * 64).reshape(shape)
    A = LinearOperator.from_function(lambda x: gain * x, shape)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        check_input(y, A, Pixels(), 0.0)
    assert any("middle grey" in str(w.message) for w in seen) == warned


class Pixels:
    "A prior whose latents are pixels."

    factor, device = 1, torch.device("cpu")
    alpha_bar = torch.linspace(0.999, 0.01, 1000, dtype=torch.float64)

    def latent_shape(self, h, w):
        return 3, h, w

    def encode(self, x):
        return x

    decode = encode

    def eps(self, z, t):
        return z


def test_noise_of_a_generator_starts_elsewhere():
    "That of the start is a stream of its own, the same one each time; the generator is left."
    problem = SimpleNamespace(latent_shape=(1, 4, 4))
    given = torch.Generator().manual_seed(3)
    before = given.get_state()
    draws = SeededNoise().bind(problem, 0, given)
    start = draws.start(2)
    assert torch.equal(start, draws.start(2)) and not torch.equal(start[:1], draws(0))
    assert torch.equal(draws(1), draws(1)) and not torch.equal(draws(1), draws(0))
    number = int(torch.randint(2**62, (), generator=torch.Generator().manual_seed(3)))
    hand = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(number))
    assert torch.equal(start, hand) and torch.equal(given.get_state(), before)


def test_a_start_above_what_was_trained():
    schedule = SimpleNamespace(sampling=(500, 480), tau=0.5)
    check_trained(schedule, SimpleNamespace(t_max=500, alpha_bar=range(1000)))
    with pytest.raises(ValueError, match="starts at timestep 500, .* trained up to 490"):
        check_trained(schedule, SimpleNamespace(t_max=490, alpha_bar=range(1000)))


@pytest.mark.parametrize("seed", [1.5, np.float64(3), True, np.bool_(1), 2**44, -(2**63), None])
def test_a_seed_is_a_whole_number(seed):
    "Streams are numbered from a multiple of it, which torch takes as an int of 64 bits."
    with pytest.raises(ValueError, match=r"must be a whole number from -2\*\*43 to 2\*\*43"):
        as_seed(seed)
    for largest in (2**43, -(2**43)):
        assert as_seed(largest) == largest
        SeededNoise().bind(SimpleNamespace(latent_shape=(1, 1, 1)), largest, None)(999)


def test_settings_are_numbers_of_any_type():
    "Those of numpy too: a sweep over np.arange gives them."
    assert Route(np.int64(10), np.float32(0.25)) == Route(10, 0.25)
    for wrong in ("10", None, True, np.array([10])):
        with pytest.raises(ValueError, match="must lie between 1 and 1000"):
            Route(steps=wrong)


def test_half_precision_is_no_overflow():
    "A sum of many numbers may be too large for float16 where none of them is."
    bright = SimpleNamespace(
        device="cpu",
        latent_shape=lambda h, w: (3, h, w),
        encode=lambda x: torch.full_like(x, 0.9, dtype=torch.float16),
    )
    networks = CheckedPrior(bright, (200, 200), Passes(1, 1, 1, 1))
    assert networks.encode(torch.zeros(1, 3, 200, 200)).dtype == torch.float32  # as was asked
    bright.encode = lambda x: torch.full_like(x, math.inf, dtype=torch.float16)
    with pytest.raises(FloatingPointError, match="encode returned NaN or Inf"):
        networks.encode(torch.zeros(1, 3, 200, 200))
