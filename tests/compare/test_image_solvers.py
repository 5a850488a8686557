"""Solvers for images: against their published pseudo-code, written out, and against the posterior
that is known in the world of two numbers.
"""

import pytest
import torch

from visionxl.compare import guided, image_solvers
from visionxl.compare.known_posterior import known_posterior
from visionxl.compare.rivals import RIVALS
from visionxl.operators.tasks import Mask, task
from visionxl.prior.latent import Prior
from visionxl.prior.toy import ToyPrior, Weigh, frames, points
from visionxl.solver import solve

MODES = torch.tensor([[-0.6, 0.1], [0.3, 0.6], [0.3, -0.6]])
N = 500


@pytest.fixture(scope="module")
def toy():
    return ToyPrior(MODES, sd=0.15)


def draws(toy, recipe, y, sigma_y=0.0, seed=1, n=N, **changes):
    A = Weigh((1, 0), n)
    measured = torch.full(A.out_shape, y, dtype=torch.float64)
    for state in solve(measured, A, toy, recipe, changes, sigma_y=sigma_y, seed=seed):
        pass
    return state.x


# ---------------------------------------------------------------- against the pseudo-code


def noises(seed, n):
    "The draws of a run, in their order: the start's, then that of each step."
    g = torch.Generator().manual_seed(seed)
    while True:
        yield torch.randn(n, 2, 1, 1, generator=g).double()


def table(toy, steps):
    "Timesteps of the way down with their alpha_bar, as the papers lay them: leading, from 1."
    times = list(range(1, 1000, 1000 // steps))[:steps][::-1]
    return times, [float(toy.alpha_bar[t]) for t in times]


def dps_by_hand(toy, y, zeta, steps, n):
    "Chung et al. 2023, Algorithm 1, with DDPM's own coefficients between the timesteps taken."
    draw, (times, a) = noises(1, n), table(toy, steps)
    x = next(draw)
    for i, t in enumerate(times):
        x = x.detach().requires_grad_()
        score = -toy.eps(x, t) / (1 - a[i]) ** 0.5
        x0 = (x + (1 - a[i]) * score) / a[i] ** 0.5
        if i == len(times) - 1:
            return x0.detach()
        miss = y - x0[:, 0, 0, 0]
        (slope,) = torch.autograd.grad(miss.abs().sum(), x)
        alpha, beta, before = a[i] / a[i + 1], 1 - a[i] / a[i + 1], 1 - a[i + 1]
        mean = alpha**0.5 * before / (1 - a[i]) * x + a[i + 1] ** 0.5 * beta / (1 - a[i]) * x0
        x = mean + (before / (1 - a[i]) * beta) ** 0.5 * next(draw) - zeta * slope


def ddnm_by_hand(toy, y, eta, steps, n):
    "Wang et al. 2023: replace what was measured, then their released step."
    draw, (times, a) = noises(1, n), table(toy, steps)
    x = next(draw)
    for i, t in enumerate(times):
        e = toy.eps(x, t)
        x0 = (x - (1 - a[i]) ** 0.5 * e) / a[i] ** 0.5
        if i == len(times) - 1:
            return x0
        x0[:, 0] = (y + 1e-4 * x0[:, 0]) / (1 + 1e-4)  # A^+ y + (I - A^+ A) x0
        sigma = (1 - a[i + 1]) ** 0.5
        x = a[i + 1] ** 0.5 * x0 + sigma * (eta * next(draw) + (1 - eta**2) ** 0.5 * e)


def diffpir_by_hand(toy, y, sigma_y, lam, zeta, steps, n):
    "Zhu et al. 2023, Algorithm 1."
    draw, (times, a) = noises(1, n), table(toy, steps)
    x = next(draw)
    for i, t in enumerate(times):
        e = toy.eps(x, t)
        x0 = (x - (1 - a[i]) ** 0.5 * e) / a[i] ** 0.5
        if i == len(times) - 1:
            return x0
        rho = lam * sigma_y**2 / ((1 - a[i]) / a[i]) + 1e-8
        x0[:, 0] = (y + rho * x0[:, 0]) / (1 + rho)
        e = (x - a[i] ** 0.5 * x0) / (1 - a[i]) ** 0.5
        mixed = (1 - zeta) ** 0.5 * e + zeta**0.5 * next(draw)
        x = a[i + 1] ** 0.5 * x0 + (1 - a[i + 1]) ** 0.5 * mixed


def treg_by_hand(toy, y, every, steps, n):
    "Kim et al. 2025 with the null text: a correction every few steps, DDIM in between."
    draw, (times, a) = noises(1, n), table(toy, steps)
    x = next(draw)
    for i, t in enumerate(times):
        e = toy.eps(x, t)
        x0 = (x - (1 - a[i]) ** 0.5 * e) / a[i] ** 0.5
        if i == len(times) - 1:
            return x0
        fresh, s = next(draw), a[i + 1]
        if i % every:
            x = s**0.5 * x0 + (1 - s) ** 0.5 * e
            continue
        fit = x0.clone()
        fit[:, 0] = (y + 1e-4 * x0[:, 0]) / (1 + 1e-4)
        x0 = s * fit + (1 - s) * x0
        x = s**0.5 * x0 + (1 - s) * e + (1 - s) ** 0.5 * s**0.5 * fresh


BY_HAND = {
    "dps": (lambda toy: dps_by_hand(toy, 0.2, 0.1, 50, 40), {"renoise.scale": 0.1}, 0.0),
    "ddnm": (lambda toy: ddnm_by_hand(toy, 0.2, 0.85, 50, 40), {}, 0.0),
    "diffpir": (lambda toy: diffpir_by_hand(toy, 0.2, 0.1, 7, 0.3, 50, 40), {}, 0.1),
    "treg": (lambda toy: treg_by_hand(toy, 0.2, 3, 50, 40), {}, 0.0),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_the_published_pseudo_code(toy, name):
    f, changes, sigma_y = BY_HAND[name]
    ours = draws(toy, name, 0.2, sigma_y, n=40, **{"route.steps": 50}, **changes)
    assert (ours - f(toy)).abs().max() < 1e-6


def test_psld_is_dps_with_a_second_term(toy):
    "On pixels the term glues to the same misfit, so that the weights add up."
    ours = draws(toy, "psld", 0.2, n=40, **{"renoise.scale": 0.07, "renoise.glue": 0.03})
    both = draws(toy, "dps", 0.2, n=40, **{"renoise.scale": 0.1})
    assert (ours - both).abs().max() < 1e-3  # gains under 0.01 are not inverted


# ---------------------------------------------------------------- against the known posterior

SETTINGS = {  # the norm of one number has a gradient of length 1: the published scale is too long
    "dps": {"renoise.scale": 0.1},
    "psld": {"renoise.scale": 0.1, "renoise.glue": 0.01},
    "ddnm": {},
    "diffpir": {},
    "treg": {},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_the_known_posterior_is_met(toy, name):
    for y in (0.2, 0.3):
        known = known_posterior(toy, Weigh((1, 0)), y)
        x = draws(toy, name, y, **SETTINGS[name])
        p = points(x)
        assert float((p.mean(0) - known.mean).norm()) < 0.12, "standard error 0.03"
        mine, theirs = known.shares(x, toy.means)
        assert float((mine - theirs).abs().max()) < 0.1
        spread = float((p - p.mean(0)).square().sum(1).mean().sqrt())
        assert abs(spread / known.spread - 1) < 0.1
    assert float((p[:, 0] - y).abs().mean()) < 0.06


def test_that_check_can_fail(toy):
    known = known_posterior(toy, Weigh((1, 0)), 0.2)
    p = draws(toy, "dps", 0.2, **{"renoise.scale": 0.0})
    assert float((points(p).mean(0) - known.mean).norm()) > 0.12
    assert float(known.shares(p, toy.means)[1][0]) > 0.2, "the prior alone finds all three modes"


@pytest.mark.parametrize("name", ["ddnm", "diffpir"])
def test_noise_of_the_measurement_is_known(toy, name):
    y, sigma_y = 0.2, 0.1
    known = known_posterior(toy, Weigh((1, 0)), y, sigma_y)
    p = points(draws(toy, name, y, sigma_y))
    assert float((p.mean(0) - known.mean).norm()) < 0.15
    hard = points(draws(toy, name, y))
    assert float((p[:, 0] - y).abs().mean()) > 2 * float((hard[:, 0] - y).abs().mean()), (
        "it does not follow the noise"
    )


@pytest.mark.parametrize("name", ["dps", "psld", "treg"])
def test_who_knows_no_noise_says_so(toy, name):
    with pytest.raises(ValueError, match="does not know of noise"):
        draws(toy, name, 0.2, 0.1, n=2)


def test_the_formula_of_the_posterior_against_quadrature(toy):
    A, y, sigma_y = Weigh((0.5, -0.2)), 0.1, 0.2
    known = known_posterior(toy, A, y, sigma_y)
    g = torch.linspace(-1.6, 1.6, 321, dtype=torch.float64)
    grid = torch.cartesian_prod(g, g)
    log_p = toy.log_density(frames(grid), 0) - (y - grid @ A.w) ** 2 / (2 * sigma_y**2)
    p = log_p.softmax(0)
    assert float((known.mean - p @ grid).norm()) < 1e-3  # t = 0 has a little noise
    drawn = known.sample(20000, torch.Generator().manual_seed(0))
    assert float((drawn.mean(0) - known.mean).norm()) < 0.02
    assert float(drawn.T.cov().trace()) == pytest.approx(known.spread**2, rel=0.03)


# ---------------------------------------------------------------- in latents


@pytest.mark.parametrize("name", SETTINGS)
def test_they_run_on_latents_and_repeat(name):
    prior = Prior.load("tiny", device="cpu")
    mask = (torch.rand(16, 16, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    A = Mask((2, 3, 16, 16), mask)
    y = A(torch.rand(A.in_shape, generator=torch.Generator().manual_seed(1)) - 0.5)

    def run(seed):
        with pytest.warns(UserWarning, match="trained up to"):
            for state in solve(y, A, prior, name, {"route.steps": 12}, seed=seed):
                pass
        return state.x

    x = run(1)
    assert x.shape == A.in_shape and x.isfinite().all()
    assert torch.equal(x, run(1)) and not torch.equal(x, run(2))


def test_guidance_fits_latents_to_the_measurement():
    prior = Prior.load("tiny", device="cpu")
    A = task("sr", (1, 3, 32, 32))
    y = A(torch.rand(A.in_shape, generator=torch.Generator().manual_seed(1)) - 0.5)
    miss = {}
    for scale in (0.0, 0.3):
        with pytest.warns(UserWarning, match="trained up to"):
            changes = {"route.steps": 25, "renoise.scale": scale}
            for state in solve(y, A, prior, "dps", changes):
                pass
        miss[scale] = float((A(state.x) - y).norm())
    assert miss[0.3] < 0.8 * miss[0.0]


@pytest.mark.parametrize("name", ["ddnm", "psld", "diffpir", "treg"])
def test_a_blur_that_has_no_inverse_in_single_precision(name):
    prior, A = Prior.load("tiny", device="cpu"), task("deblur", (2, 3, 24, 32))
    y = A(torch.rand(A.in_shape, generator=torch.Generator().manual_seed(1)) - 0.5)
    with pytest.warns(UserWarning, match="trained up to"):
        for state in solve(y, A, prior, name, {"route.steps": 12}):
            pass
    assert float(state.x.abs().max()) < 5


def test_latents_want_the_filter():
    "SVI as published loses to the measurement brought to size; with the filter it does not."
    from visionxl import video
    from visionxl.extras.starts import upsample

    x = video.sample("tears", 2).x[..., 40:104, 80:176].contiguous()
    prior, A = Prior.load("tiny", device="cpu"), task("sr", tuple(x.shape))
    error = {"measured": float((upsample(A(x), A) - x).square().mean())}
    for name in ("svi", "svi_latent"):
        with pytest.warns(UserWarning, match="trained up to"):
            for state in solve(A(x), A, prior, name, {"route.steps": 12}):
                pass
        error[name] = float((state.x - x).square().mean())
    assert error["svi_latent"] < error["measured"] < error["svi"]


def test_each_is_a_rival_of_few_lines():
    import inspect

    assert {"dps", "psld", "ddnm", "diffpir", "treg"} <= set(RIVALS)
    parts = {
        "dps": (guided.Guided, guided.dps),
        "psld": (guided.psld,),
        "ddnm": (image_solvers.NullSpace, image_solvers.ddnm),
        "diffpir": (image_solvers.EffectiveNoise, image_solvers.diffpir),
        "treg": (image_solvers.EncodeEvery, image_solvers.RenoiseEvery, image_solvers.treg),
    }
    for name, things in parts.items():
        lines = sum(statements(inspect.getsource(thing)) for thing in things)
        assert lines < 40, f"{name} takes {lines} statements"


def statements(source):
    import ast

    return sum(isinstance(n, ast.stmt) for n in ast.walk(ast.parse(source)))
