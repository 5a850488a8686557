"""Baselines: total variation against an independent solver, and the properties every rival must
have.
"""

import json

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from visionxl.compare import rivals as B
from visionxl.extras.photographs import tv as V
from visionxl.operators.tasks import TASKS, Blur2d, Identity, Mask, TemporalMean, task
from visionxl.solver import solve

SHAPE = (5, 1, 4, 8)


def clip(shape=SHAPE, seed=0):
    "Blocks of grey that move: what total variation is made for, plus a little texture."
    g = torch.Generator().manual_seed(seed)
    x = torch.zeros(shape)
    for t in range(shape[0]):
        x[t, :, shape[2] // 4 : 3 * shape[2] // 4, 1 + t % 3 : 4 + t % 3] = 0.8
    return (x - 0.3 + 0.1 * torch.randn(shape, generator=g)).double()


def dense_gradient(shape, weights):
    "D as a matrix, from numpy's own differences."
    e = np.eye(int(np.prod(shape))).reshape(-1, *shape)
    parts = []
    for axis, w in zip((1, 3, 4), weights):
        d = np.diff(e, axis=axis, append=np.take(e, [-1], axis=axis))
        parts.append(w * d.reshape(len(e), -1).T)
    return np.stack(parts)  # (3, n, n)


def optimum(A, y, mu, weights):
    """scipy's L-BFGS on a smoothed objective, the smoothing driven to 1e-6 (an error of at most mu
    n 1e-6).
    """
    n = int(np.prod(A.in_shape))
    M = np.stack(
        [A(torch.eye(n)[i].double().view(A.in_shape)).flatten().numpy() for i in range(n)], 1
    )
    D, b, x = dense_gradient(A.in_shape, weights), y.flatten().numpy(), np.zeros(n)

    def f(x, eps):
        r, g = M @ x - b, D @ x
        length = np.sqrt((g**2).sum(0) + eps**2)
        return 0.5 * r @ r + mu * length.sum(), M.T @ r + mu * np.einsum("kij,ki->j", D, g / length)

    for eps in (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6):
        x = minimize(
            f,
            x,
            (eps,),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": 1500, "maxfun": 3000, "ftol": 1e-15, "gtol": 1e-9},
        ).x
    return torch.from_numpy(x).view(A.in_shape), f(x, 1e-30)[0]


@pytest.mark.parametrize(
    "A",
    [
        Identity(SHAPE),
        task("deblur", SHAPE, kernel_size=7, sigma=1.0),
        task("inpaint", SHAPE),
        task("sr+", SHAPE),
    ],
    ids=["denoise", "deblur", "inpaint", "sr+"],
)
def test_admm_tv_reaches_the_optimum_of_an_independent_solver(A):
    mu, weights = 0.02, (0.5, 1.0, 1.0)
    y = A(clip())
    y = y + 0.05 * torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype)
    x_best, best = optimum(A, y, mu, weights)
    seen = []
    x = B.admm_tv(
        y,
        A,
        mu,
        10 * mu,
        weights,
        400,
        lambda i, n, x: seen.append(V.tv_objective(y, A, x, mu, weights)),
    )
    assert V.tv_objective(y, A, x, mu, weights) == pytest.approx(best, rel=1e-3), (
        "neither above the optimum, nor below what the other solver holds for it"
    )
    assert (
        seen[29] <= best * (1.06 if A.name == "sr+" else 1.001) and seen[29] < seen[4] < seen[0]
    ), "thirty iterations must come near, and the objective must fall"
    if isinstance(A, Identity):
        assert (x - x_best).norm() / x_best.norm() < 1e-3  # only here is the optimum unique


def test_gradient_has_its_adjoint_and_its_eigenvalues():
    w = (0.3, 1.0, 2.0)
    x, g = (
        torch.randn(s, generator=torch.Generator().manual_seed(i), dtype=torch.float64)
        for i, s in enumerate((SHAPE, (3, *SHAPE)))
    )
    assert abs((V.gradient(x, w) * g).sum() - (x * V.gradient_T(g, w)).sum()) < 1e-10
    q = V._DCT(x)
    assert (
        q.inverse(V.gradient_gains(SHAPE, w) * q(x)) - V.gradient_T(V.gradient(x, w), w)
    ).abs().max() < 1e-12
    dense = np.einsum("kij,j->ki", dense_gradient(SHAPE, w), x.flatten().numpy())
    assert np.abs(dense - V.gradient(x, w).reshape(3, -1).numpy()).max() < 1e-12


def test_shrink_is_the_proximal_map():
    g = torch.tensor([[3.0, 0.1, 0.0], [4.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert torch.allclose(V.shrink(g, 1.0), torch.tensor([[2.4, 0, 0], [3.2, 0, 0], [0, 0, 0]]))


@pytest.mark.parametrize("name", TASKS)
def test_every_baseline_on_every_task_is_deterministic_and_keeps_its_input(name):
    shape = (8, 3, 16, 24)
    A = task(name, shape, kernel_size=13, sigma=1.5)
    x = clip(shape).float()
    y = A(x)
    kept = y.clone()
    up = B.upsample(y, A)
    for f in (B.upsample, B.cg_only, lambda y, A: B.admm_tv(y, A, steps=15)):
        out = f(y, A)
        assert (
            out.shape == x.shape
            and out.isfinite().all()
            and torch.equal(out, f(y, A))
            and torch.equal(y, kept)
        )
        assert (out - x).square().mean() <= (up - x).square().mean() * (1 + 1e-6), (
            "no rival may be worse than the measurement brought to size"
        )


def test_upsample_keeps_constants():
    for A in [task(n, (8, 3, 16, 24)) for n in TASKS]:
        x = torch.full(A.in_shape, 0.25)
        out, seen = B.upsample(A(x), A), A.AT(A(torch.ones(A.in_shape))) > 1e-3
        assert (out - 0.25)[seen].abs().max() < 1e-5


def test_admm_tv_without_a_spectrum_uses_cg():
    A = Blur2d(
        (4, 1, 8, 8),
        torch.rand(3, 3, generator=torch.Generator().manual_seed(0)) / 4.5,
        boundary="replicate",
    )
    assert A.spectrum() is None
    x = clip((4, 1, 8, 8)).float()
    y = A(x)
    assert V.tv_objective(y, A, B.admm_tv(y, A, 1e-3, steps=4), 1e-3) < V.tv_objective(
        y, A, B.upsample(y, A), 1e-3
    )


def test_tuned_settings_are_the_best_of_the_kept_grid():
    from pathlib import Path

    grid = Path(__file__).parents[2] / "bench" / "results" / "tune_tv.jsonl"
    if not grid.exists():
        pytest.skip("no grid: run bench/tune_tv.py")
    rows = [json.loads(r) for r in grid.read_text().splitlines()]
    for name in TASKS:
        cells = {
            (r["mu"], r["rho_over_mu"], r["time"]): r["psnr"] for r in rows if r["task"] == name
        }
        mu, rho, weights = B.TV_TUNED[name]
        mine = next(
            k
            for k in cells
            if k[0] == mu and k[1] == pytest.approx(rho / mu) and (k[2], 1.0, 1.0) == weights
        )
        assert cells[mine] > max(cells.values()) - 1e-3
        for axis in range(2):  # mu and rho/mu: measured on both sides
            line = sorted(
                k[axis]
                for k in cells
                if all(a == b for i, (a, b) in enumerate(zip(k, mine)) if i != axis)
            )
            assert line[0] < mine[axis] < line[-1], (
                "the best cell must not lie at the edge of the grid"
            )


@pytest.mark.parametrize("name", ["sr", "inpaint+"])
def test_without_noise_mu_has_no_say_where_the_measurement_leaves_a_choice(name):
    """The limit mu -> 0 with rho / mu kept is total variation under A x = y: from some mu on
    nothing changes any more.
    """
    A = task(name, (8, 3, 16, 24))
    y = A(clip((8, 3, 16, 24)).float())
    x, smaller = B.admm_tv(y, A), B.admm_tv(y, A, B.TV_TUNED[name][0] / 100)
    assert (x - smaller).abs().max() < 1e-3 and (A(x) - y).abs().max() < 1e-3


@pytest.mark.parametrize(
    "name", [n if n in ("deblur", "sr") else pytest.param(n, marks=pytest.mark.slow) for n in TASKS]
)
def test_no_other_mu_is_much_better_on_other_clips(name):
    """Mean over two clips; what a blur's rounding lets one see differs by some tenths of a decibel
    from clip to clip.
    """
    from visionxl import video
    from visionxl.measure import metrics

    xs = [video.sample(n, 17).x[::2, :, 64:112, 100:164] for n in ("tears", "flower")]
    A, (mu, rho, _) = task(name, tuple(xs[0].shape)), B.TV_TUNED[name]

    def db(*a):
        return (
            sum(
                metrics.psnr(metrics.to_unit(x), metrics.to_unit(B.admm_tv(A(x), A, *a)))
                for x in xs
            )
            / 2
        )

    best = db()
    for f in (0.3, 3.0):
        assert db(mu * f) < best + 0.2, "with rho in the tuned ratio"
        assert db(mu * f, rho) < best + 0.2, "with the tuned rho"


class Blocks:
    """A prior without weights: latents are 4x4 means, and the noise predicted is what they have
    above their blur.
    """

    from visionxl.prior.schedule import scaled_linear

    alpha_bar, t_max, factor = scaled_linear(), 450, 4

    def latent_shape(self, h, w):
        return 3, h // 4, w // 4

    def encode(self, x):
        return torch.nn.functional.avg_pool2d(x, 4)

    def decode(self, z):
        return torch.nn.functional.interpolate(z, scale_factor=4, mode="bilinear")

    def eps(self, z, t):
        return (z - torch.nn.functional.avg_pool2d(z, 3, 1, 1)) / (
            1 - float(self.alpha_bar[t])
        ) ** 0.5


def restored(y, A, prior, preset, **kw):
    for state in solve(y, A, prior, preset, **kw):
        pass
    return state.x


@pytest.mark.parametrize("rival", ["svi", "random", "from_top", "diffir2vr"])
def test_rivals_are_deterministic_and_say_where_they_start(rival):
    A = task("sr", (6, 3, 32, 48))
    y = A(clip((6, 3, 32, 48)).float())
    state = torch.get_rng_state()
    says = "trained up to timestep 450 of 1000: sampling starts at 441"
    with pytest.warns(UserWarning, match=says):
        x = restored(y, A, Blocks(), rival, seed=1)
    assert torch.equal(state, torch.get_rng_state()), "the global generator is nobody's business"
    with pytest.warns(UserWarning):
        assert torch.equal(x, restored(y, A, Blocks(), rival, seed=1))
        assert not torch.equal(x, restored(y, A, Blocks(), rival, seed=2))
    if rival != "from_top":
        assert (A(x) - y).abs().max() < 1e-3, "the result has met the measurement"


def test_a_prior_trained_all_the_way_starts_from_noise_alone():
    full = Blocks()
    full.t_max = 999
    A = task("sr", (6, 3, 32, 48))
    y = A(clip((6, 3, 32, 48)).float())
    state = next(solve(y, A, full, "svi", seed=3))
    noise = torch.randn(1, 3, 8, 12, generator=torch.Generator().manual_seed(3))
    assert state.t == 961 and torch.equal(state.z, noise.expand(6, -1, -1, -1))


def test_flow_rival_refuses_what_mixes_frames():
    A = task("sr+", (8, 3, 32, 48))
    with pytest.raises(ValueError, match="it is for sr and deblur"):
        next(solve(torch.zeros(A.out_shape), A, Blocks(), "diffir2vr"))


@pytest.mark.parametrize(
    "call,says",
    [
        (lambda: B.admm_tv(torch.zeros(8, 1, 8, 8), Identity(SHAPE)), "give both from one task"),
        (lambda: B.admm_tv(torch.full(SHAPE, np.nan), Identity(SHAPE)), "NaN"),
        (lambda: B.admm_tv(torch.zeros(SHAPE), Identity(SHAPE), mu=0.0), "cg_only"),
        (lambda: B.admm_tv(torch.zeros(SHAPE), Identity(SHAPE), steps=0), "at least 1"),
    ],
)
def test_refuses_with_the_reason(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_one_frame_and_a_masked_out_clip():
    x = clip((1, 1, 8, 8)).float()
    assert B.admm_tv(x, Identity(x.shape), 1e-2).isfinite().all()
    A = Mask(x.shape, torch.zeros(8, 8))
    assert (B.upsample(A(x), A) == 0).all()
    assert TemporalMean(SHAPE, 3).temporal is None
