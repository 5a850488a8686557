"""Algorithm 1: against a literal transcription, by counts, by resuming at every step, and by what it refuses."""

import ast
import inspect
import subprocess
import sys
import warnings
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter

from visionxl import solver
from visionxl.operators.tasks import LinearOperator, task
from visionxl.prior.latent import Prior
from visionxl.prior.schedule import make_schedule, scaled_linear
from visionxl.solver import PRESETS, Preset, State, choose, solve, to_size

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "bench"))
import as_released  # noqa: E402

TASKS = ("deblur", "sr", "inpaint", "deblur+", "sr+", "inpaint+")
SHAPE = (3, 3, 16, 24)


class Gauss:
    "A prior with a known answer: latents are rearranged pixels, every one of them normal with mean `m` and deviation `sd`."

    factor, channels, device, t_max = 2, 12, torch.device("cpu"), 999

    def __init__(self, m=0.1, sd=0.4):
        self.m, self.sd, self.alpha_bar, self.calls = m, sd, scaled_linear(), []

    def latent_shape(self, h, w):
        return 12, h // 2, w // 2

    def encode(self, x, generator=None):
        self.calls.append(("encode", len(x)))
        z = F.pixel_unshuffle(x, 2)
        return (
            z if generator is None else z + 1e-3 * torch.randn(z.shape, generator=generator).to(z)
        )

    def decode(self, z):
        self.calls.append(("decode", len(z)))
        return F.pixel_shuffle(z, 2)

    def eps(self, z, t):
        self.calls.append(("eps", len(z)))
        a = float(self.alpha_bar[t])
        return (1 - a) ** 0.5 * (z - a**0.5 * self.m) / (a * self.sd**2 + 1 - a)


def clip(shape=SHAPE, seed=0):
    "A smooth moving picture in [-1, 1], float64."
    g = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, 3, shape[2] // 4, shape[3] // 4, generator=g, dtype=torch.float64)
    still = F.interpolate(coarse, scale_factor=4, mode="bicubic")[0].tanh()
    return torch.stack([still.roll(k, -1) for k in range(shape[0])])


def last(*args, **kw):
    for state in solve(*args, **kw):
        pass
    return state


def algorithm_1(y, dense, shape, prior, noise, steps=25, tau=0.3, lam=2.0, l=10, eta=0.2):
    "The paper's Algorithm 1, equation by equation, in numpy: frames in loops, A as a matrix."
    alpha = [float(v) for v in np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)]
    times = [t for t in range(1, 1000, 1000 // steps) if t <= tau * 1000]

    def E(v):
        return np.stack([F.pixel_unshuffle(torch.tensor(f)[None], 2)[0].numpy() for f in v])

    def D(v):
        return np.stack([F.pixel_shuffle(torch.tensor(f)[None], 2)[0].numpy() for f in v])

    def e(z, t):
        return (
            np.sqrt(1 - alpha[t])
            * (z - np.sqrt(alpha[t]) * prior.m)
            / (alpha[t] * prior.sd**2 + 1 - alpha[t])
        )

    x = (
        y.reshape(shape)
        if y.size == np.prod(shape)
        else np.kron(y.reshape(*shape[:2], shape[2] // 4, shape[3] // 4), np.ones((1, 1, 4, 4)))
    )
    z = E(x)
    for t, s in zip(times, times[1:]):  # Eq. 2
        noise_hat = e(z, t)
        z = (
            np.sqrt(alpha[s]) * (z - np.sqrt(1 - alpha[t]) * noise_hat) / np.sqrt(alpha[t])
            + np.sqrt(1 - alpha[s]) * noise_hat
        )
    for k, t in enumerate(times[::-1]):
        noise_hat = e(z, t)
        x = D((z - np.sqrt(1 - alpha[t]) * noise_hat) / np.sqrt(alpha[t])).reshape(-1)  # Eq. 3-5
        r = dense.T @ (y - dense @ x)  # Eq. 6
        p = r.copy()
        for _ in range(l):
            if r @ r < 1e-24:
                break
            q = dense.T @ (dense @ p)
            step = (r @ r) / (p @ q)
            x, new = x + step * p, r - step * q
            p, r = new + (new @ new) / (r @ r) * p, new
        x = x.reshape(shape)
        if k + 1 == len(times):
            return x
        sigma = lam * np.sqrt(1 - alpha[t])  # Eq. 7
        low = np.stack(
            [[gaussian_filter(c, sigma, mode="reflect", truncate=4) for c in f] for f in x]
        )
        s = times[::-1][k + 1]
        z = np.sqrt(alpha[s]) * E(low) + np.sqrt(1 - alpha[s]) * (
            eta * noise[k] + np.sqrt(1 - eta**2) * noise_hat
        )  # Eq. 8-9


@pytest.mark.parametrize("name", TASKS)
def test_paper_is_algorithm_1(name):
    shape = (3, 3, 8, 12)
    A, x = task(name, shape, kernel_size=9, sigma=1.0, window=3), clip(shape)
    dense = torch.stack(
        [A(v).flatten() for v in torch.eye(x.numel(), dtype=torch.float64).view(-1, *shape)], 1
    ).numpy()
    noise = torch.randn(
        8, 1, 12, 4, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    want = algorithm_1(A(x).flatten().numpy(), dense, shape, Gauss(), noise.numpy())
    assert np.abs(last(A(x), A, Gauss(), preset="paper", noise=noise).x.numpy() - want).max() < 1e-5


@pytest.mark.parametrize("preset", ["paper", "best"])
@pytest.mark.parametrize("name", ["deblur+", "sr"])
def test_fifteen_evaluations_per_frame(preset, name):
    A, prior = task(name, SHAPE, kernel_size=9, sigma=1.0, window=3), Gauss()
    last(A(clip()), A, prior, preset=preset, tau=0.3)
    per_frame = {
        k: sum(n for c, n in prior.calls if c == k) / SHAPE[0] for k in ("eps", "encode", "decode")
    }
    assert per_frame == dict(
        eps=15, encode=8, decode=8
    )  # the start and seven returns; no last encode


def test_a_shorter_way_up_saves_its_evaluations():
    A, prior = task("sr", SHAPE), Gauss()
    last(A(clip()), A, prior, preset="best", tau=0.3, inversion_steps=2)
    assert sum(n for c, n in prior.calls if c == "eps") == (2 + 8) * SHAPE[0]
    with pytest.raises(ValueError, match="inversion_steps=0 must lie between 1 and 1000"):
        last(A(clip()), A, prior, inversion_steps=0)


@pytest.mark.parametrize("name", TASKS)
def test_the_short_way_belongs_to_its_height(name):
    A, prior = task(name, SHAPE, kernel_size=9, sigma=1.0, window=3), Gauss()
    down = 3 if name.startswith("deblur") else 4
    last(A(clip()), A, prior)
    assert {
        k: sum(n for c, n in prior.calls if c == k) / SHAPE[0] for k in ("eps", "encode", "decode")
    } == dict(eps=1 + down, encode=down, decode=down)
    for tau in (0.18, 0.3):
        assert (
            choose("best", name, tau=tau).steps,
            choose("best", name, tau=tau).inversion_steps,
        ) == (25, None)
    assert (choose("best", name, steps=25).tau, choose("best", name, steps=25).inversion_steps) == (
        0.18,
        1,
    )


def test_the_way_down_may_end_above_the_bottom():
    A, full, high = task("deblur", SHAPE, kernel_size=9, sigma=1.0), [], []
    y = A(clip())
    for out, changes in (full, dict(tau_end=0.0, final_rounds=0)), (high, dict(final_rounds=0)):
        out += solve(y, A, Gauss(), prior_error=0.0, motion=0, **changes)
    assert [s.t for s in full] == [175, 117, 59, 1] and [s.t for s in high] == [175, 117, 59]
    for a, b in zip(full[:2], high):
        assert torch.equal(a.z_bar, b.z_bar)
    assert torch.equal(full[2].x_hat, high[2].x_hat) and high[2].z_bar is None
    pb = solver.prepare(y, A, Gauss(), "best", 0, None, None, dict(motion=0))
    x, a = high[2].x_hat, pb.schedule.a(59)
    for _ in range(2):
        x = solver.consistent(pb, x, a)
    assert torch.equal(
        last(y, A, Gauss(), prior_error=0.0, motion=0).x, solver.consistent(pb, x, a, last=True)
    )


def test_with_noise_the_prior_has_the_last_word():
    A, prior = task("deblur", SHAPE, kernel_size=9, sigma=1.0), Gauss()
    assert last(A(clip()), A, prior, sigma_y=0.05).t == 1
    assert (
        choose("best", "deblur", sigma_y=0.05).final_rounds,
        choose("best", "deblur").final_rounds,
    ) == (0, 2)


@pytest.mark.parametrize("name", ["deblur", "sr", "inpaint"])
def test_of_a_small_change_a_part_is_kept(name):
    A, prior = task(name, SHAPE, kernel_size=9, sigma=1.0, window=3), Gauss()
    y = A(clip())
    whole = last(y, A, prior, prior_error=0.0).x
    pb = solver.prepare(y, A, prior, "best", 0, None, None, {})
    first = solver.followed(pb, solver.guess(pb))[0]
    size = float((whole - first).square().mean())
    for error in (size**0.5, 3 * size**0.5):
        x = last(y, A, prior, prior_error=error).x
        assert torch.allclose(x, first + size / (size + error**2) * (whole - first), atol=1e-9)
        assert (A(x) - y).abs().max() <= max((A(v) - y).abs().max() for v in (first, whole)) + 1e-12


def test_of_an_answer_that_was_not_inverted_nothing_is_mixed():
    A = task("inpaint", SHAPE)
    y = A(clip()).float()
    for changes in (dict(start="random", tau=1.0), dict(final="tweedie")):
        assert torch.equal(
            last(y, A, Gauss(), prior_error=0.1, **changes).x,
            last(y, A, Gauss(), prior_error=0.0, **changes).x,
        )


@pytest.mark.parametrize(
    "changes, count", [(dict(), 2), (dict(motion_estimates=1), 1), (dict(motion_rounds=0), 1)]
)
def test_motion_is_estimated_as_often_as_asked(monkeypatch, changes, count):
    A, calls = task("inpaint", SHAPE), []
    estimate = solver.estimate_motion
    monkeypatch.setattr(solver, "estimate_motion", lambda x, r: calls.append(r) or estimate(x, r))
    last(A(clip()).float(), A, Gauss(), **changes)
    assert calls == [2] * count


def test_official_inverts_one_frame_and_returns_the_last_decode():
    A, prior = task("inpaint", SHAPE), Gauss()
    state = last(A(clip()), A, prior, preset="official")
    assert sum(n for c, n in prior.calls if c == "eps") == 2 * (
        8 + 8 * SHAPE[0]
    )  # both branches, and one evaluation on the spot
    assert state.x is state.x_hat and state.x_bar is None and state.z_bar is None


@pytest.mark.parametrize("preset", PRESETS)
def test_resume_at_every_step(preset):
    A = task("sr", SHAPE)
    y, prior = A(clip()).float(), Gauss()
    run = dict(preset=preset, seed=3, tau=0.3)
    whole = list(solve(y, A, prior, **run))
    for k, state in enumerate(whole[:-1]):
        rest = list(solve(y, A, prior, **run, resume=state))
        assert [s.t for s in rest] == [s.t for s in whole[k + 1 :]]
        assert torch.equal(rest[-1].x, whole[-1].x), f"resumed after t = {state.t}"
        again = last(y, A, prior, **run, resume=State(state.t, state.z))
        assert torch.equal(again.x, whole[-1].x), f"repeated from t = {state.t}"


def test_official_draws_in_the_released_order():
    "One stream for all noise: the start, then for each step the shared draw and every frame's; the caller's generator stays as it is."
    A, g = task("sr", SHAPE), torch.Generator().manual_seed(5)
    y, before = A(clip()).float(), g.get_state()
    states = list(solve(y, A, Gauss(), preset="official", noise=g))
    assert torch.equal(g.get_state(), before)
    assert torch.equal(last(y, A, Gauss(), preset="official", seed=5).x, states[-1].x)
    again = [s.x for s in solve(y, A, Gauss(), preset="official", noise=g, resume=states[3])]
    assert torch.equal(again[-1], states[-1].x)
    hand, shape = torch.Generator().manual_seed(5), (1, *Gauss().latent_shape(*SHAPE[2:]))
    torch.randn(shape, generator=hand)  # the first frame's posterior
    shared = torch.randn(shape, generator=hand)
    assert torch.equal(
        solver.prepare(y, A, Gauss(), "official", 5, None, None, {}).draw(0, states[0].z), shared
    )
    fed = last(
        y,
        A,
        Gauss(),
        preset="official",
        seed=5,
        noise=torch.stack(
            [shared]
            + [
                solver.prepare(y, A, Gauss(), "official", 5, None, None, {}).draw(k, shared)
                for k in range(1, 8)
            ]
        ),
    )
    assert torch.equal(fed.x, states[-1].x)


def test_same_seed_same_bytes_and_nothing_global():
    A, prior = task("deblur", SHAPE, kernel_size=9), Gauss()
    y, before = A(clip()).float(), torch.random.get_rng_state()
    a, b, c = (last(y, A, prior, preset="paper", seed=s).x for s in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(last(y, A, prior, eta=0.0, seed=0).x, last(y, A, prior, eta=0.0, seed=1).x)


@pytest.mark.parametrize("name", ["deblur", "sr", "inpaint"])
def test_frames_per_batch_and_threads_change_nothing_that_counts(name):
    "The bundled prior: 1e-5 between batches of frames, 1e-4 between numbers of threads; the same bytes when nothing differs."
    A = task(name, (3, 3, 32, 32))
    y, threads, found = A(clip(A.in_shape).float()), torch.get_num_threads(), {}
    try:
        for n, batch in ((1, 1), (1, 3), (2, 1), (1, 1)):
            torch.set_num_threads(n)
            x = last(
                y,
                A,
                Prior.load("tiny", device="cpu", frames_per_batch=batch),
                tau=0.05,
                invert_from="measurement" if name == "deblur" else "regularised",
            ).x
            if (n, batch) in found:
                assert torch.equal(x, found[n, batch])
            found[n, batch] = x
    finally:
        torch.set_num_threads(threads)
    one = found[1, 1]
    assert (found[1, 3] - one).abs().max() < 1e-5 and (found[2, 1] - one).abs().max() < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["deblur+", "sr", "inpaint"])
def test_memory_grows_by_the_clip_alone(name):
    "Peak memory of a process against its number of frames: a few buffers of the clip's size, nothing that the networks hold."
    code = """
import resource, sys, torch
from visionxl.operators.tasks import task; from visionxl.prior.latent import Prior; from visionxl.solver import solve
torch.set_num_threads(1)
name, frames, h, w = sys.argv[1], *map(int, sys.argv[2:])
A, prior = task(name, (frames, 3, h, w)), Prior.load("tiny", device="cpu", frames_per_batch=1)
run = solve(A(torch.rand(A.in_shape) - .5), A, prior, tau=.05, invert_from="measurement")
for state in run: pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)"""
    h, w = 64, 96

    def peak(frames):
        out = subprocess.run(
            [sys.executable, "-c", code, name, str(frames), str(h), str(w)],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parent.parent,
        )
        return int(out.stdout.split()[-1])

    few, many = peak(20), peak(120)
    frame = 3 * h * w * 4
    print(f"{name}: {(many - few) / 100 / frame:.1f} frames of memory for each frame")
    assert many - few < 100 * 25 * frame


@pytest.mark.parametrize("name", TASKS)
def test_best_satisfies_a_noiseless_measurement(name):
    A, x = task(name, SHAPE, kernel_size=9, sigma=1.0, window=3), clip()
    y = A(x).float()
    r = (A(last(y, A, Gauss()).x) - y).abs().max()
    assert r < 1e-4, f"residual {r:.1e}"


def test_noise_is_trusted_as_far_as_it_is_small():
    A, x = task("sr", SHAPE), clip()
    n = torch.randn(A.out_shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    miss = [
        float((A(last(A(x) + s * n, A, Gauss(), sigma_y=s).x) - A(x) - s * n).std())
        for s in (0.0, 0.05, 0.2)
    ]
    assert miss[0] < 1e-4 < miss[1] < miss[2]


VARIANTS = [
    dict(encoding="correction"),
    dict(filtered="correction", lam=0.5),
    dict(final="tweedie"),
    dict(start="random", tau=1.0),
    dict(start="shared", tau=1.0, eta=0.15),
    dict(start="frame0"),
    dict(consistency="spectral"),
    dict(consistency="cg"),
    dict(invert_from="measurement"),
    dict(posterior="sample"),
    dict(tau=0.45),
    dict(steps=50),
]


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_every_choice_runs(changes):
    A = task("inpaint+", SHAPE, window=3)
    state = last(A(clip()), A, Gauss(), **changes)
    assert state.x.shape == SHAPE and torch.isfinite(state.x).all() and state.t == 1


def test_correction_encoding_is_exact_for_a_lossless_autoencoder():
    A, y = task("sr", SHAPE), task("sr", SHAPE)(clip())
    a, b = (last(y, A, Gauss(), preset="paper", encoding=e).x for e in ("plain", "correction"))
    assert (a - b).abs().max() < 1e-12


def test_spectral_equals_cg():
    A = task("deblur+", SHAPE, kernel_size=9, sigma=1.0, window=3)
    a, b = (
        last(A(clip()), A, Gauss(), preset="paper", consistency=c).x for c in ("cg", "spectral")
    )
    assert (a - b).abs().max() < 1e-6


@pytest.mark.parametrize(
    "changes, words",
    [
        (dict(preset="finest"), "paper, official, best"),
        (dict(colour=1), "no setting of a preset"),
        (dict(eta=2.0), "between 0 and 1"),
        (dict(start="middle"), "inversion.*frame0"),
        (dict(consistency="exact"), "cg.*spectral.*proximal"),
        (dict(tau=0.0), "between"),
        (dict(preset="paper", sigma_y=0.1), "only consistency='proximal'"),
        (dict(slack=0.0), "slack"),
        (dict(tau_end=0.5), "lies above tau"),
        (dict(encoding="correction", posterior="sample"), "posterior='mode'"),
        (dict(steps=0), "between"),
        (dict(eta=float("nan")), "eta=nan"),
    ],
    ids=lambda v: str(v)[:40],
)
def test_refused_settings(changes, words):
    A = task("sr", SHAPE)
    with pytest.raises(ValueError, match=words):
        next(solve(A(clip()), A, Gauss(), **changes))


class Broken(Gauss):
    def __init__(self, stage, at):
        super().__init__()
        self.stage, self.at = stage, at

    def _spoil(self, stage, v):
        return (
            v * float("nan")
            if stage == self.stage and sum(c == stage for c, _ in self.calls) >= self.at
            else v
        )

    def encode(self, x, generator=None):
        return self._spoil("encode", super().encode(x))

    def decode(self, z):
        return self._spoil("decode", super().decode(z))

    def eps(self, z, t):
        return self._spoil("eps", super().eps(z, t))


@pytest.mark.parametrize(
    "stage, at, where",
    [
        ("encode", 1, "the start"),
        ("eps", 9, "t = 241"),
        ("decode", 8, "t = 1"),
        ("encode", 3, "t = 241"),
    ],
)
def test_nan_stops_at_its_step(stage, at, where):
    A = task("sr", SHAPE)
    with pytest.raises(FloatingPointError, match=f"{stage} returned NaN or Inf at {where}"):
        last(A(clip()), A, Broken(stage, at), tau=0.3)


def test_refused_inputs():
    A, prior, y = task("sr", SHAPE), Gauss(), task("sr", SHAPE)(clip())
    for bad, words in (
        (y[:2], "y has shape"),
        (y * float("nan"), "NaN"),
        (y.float()[None], "y has shape"),
    ):
        with pytest.raises(ValueError, match=words):
            next(solve(bad, A, prior))
    with pytest.raises(TypeError, match="floats"):
        next(solve((y * 100).to(torch.uint8), A, prior))
    with pytest.raises(ValueError, match="resume"):
        next(solve(y, A, prior, resume=State(281, torch.zeros(3, 4, 8, 12))))
    with pytest.raises(ValueError, match="timestep 280"):
        next(solve(y, A, prior, resume=State(280, torch.zeros(3, 12, 8, 12))))
    with pytest.raises(ValueError, match="noise has shape"):
        next(solve(y, A, prior, noise=torch.zeros(2, 1, 12, 8, 12), tau=0.3))
    prior.t_max = 200
    with pytest.raises(ValueError, match="trained up to 200: choose tau <= 0.20"):
        next(solve(y, A, prior, tau=0.3))
    prior.device = torch.device("meta")
    with pytest.raises(ValueError, match="y is on cpu, the prior on meta"):
        next(solve(y, A, prior, tau=0.2))
    with pytest.warns(UserWarning, match="check its scale"):
        next(solve(y * 100, A, Gauss()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        next(solve(y, A, Gauss()))


def test_presets_are_values():
    with pytest.raises(AttributeError):
        PRESETS["best"].eta = 1.0
    assert choose("paper", eta=0.5).eta == 0.5 and choose("paper").eta != 0.5
    assert (
        PRESETS["paper"].lam == 2
        and PRESETS["paper"].cg_steps == 10
        and PRESETS["paper"].tau == 0.3
        and PRESETS["paper"].steps == 25
    )
    assert all(
        isinstance(getattr(p, f.name), (int, float, str, type(None)))
        for p in PRESETS.values()
        for f in fields(p)
    )
    assert choose(Preset(lam=1.0), "sr", lam=2.0).lam == 2


def test_the_body_fits_on_a_screen():
    body = ast.parse(inspect.getsource(solver)).body
    node = next(n for n in body if isinstance(n, ast.FunctionDef) and n.name == "solve")
    assert node.end_lineno - node.body[0].end_lineno <= 40


def test_any_operator_is_restored():
    class Flip(LinearOperator):
        in_shape = out_shape = SHAPE

        def forward(self, x):
            return x.flip(-1)

        def adjoint(self, y):
            return y.flip(-1)

    x = clip()
    assert (last(x.flip(-1), Flip(), Gauss()).x - x).abs().max() < 1e-3
    A = task("sr", SHAPE)
    assert torch.allclose(to_size(A, A(x)), F.interpolate(A(x), scale_factor=4.0))


def test_official_equals_the_transcription_on_another_model():
    from diffusers import AutoencoderKL, UNet2DModel

    torch.manual_seed(0)
    vae = AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
    )
    unet = UNet2DModel(
        in_channels=4,
        out_channels=4,
        block_out_channels=(8, 16),
        norm_num_groups=4,
        layers_per_block=1,
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
    )
    prior = Prior(vae, unet)
    nets = as_released.Nets(prior.vae, prior.unet, prior.alpha_bar.float())
    nets.encode = prior.encode  # without the posterior's noise
    shape, gen = (3, 3, 32, 40), torch.Generator().manual_seed(1)
    A, z = task("sr", shape), torch.randn(3, 4, 16, 20, generator=gen)
    y, noise = A(clip(shape).float()), torch.randn(8, 1, 4, 16, 20, generator=gen)
    with torch.no_grad():
        up = F.interpolate(y, scale_factor=4.0)
        blur, as_released.blur = (
            as_released.blur,
            lambda x, k: as_released.F.conv2d(
                as_released.F.pad(x, (9,) * 4, mode="reflect"),
                k[21:40, 21:40].expand(3, 1, 19, 19),
                groups=3,
            ),
        )  # 61 taps want a larger frame
        try:
            x_hat, want = as_released.step(z, 81, up, "sr", nets, noise[5])
        finally:
            as_released.blur = blur
    run = solve(y, A, prior, preset="official", noise=noise, resume=State(81, z), posterior="mode")
    state = next(run)
    assert (state.x_hat - x_hat).abs().max() < 1e-4 and (next(run).z - want).abs().max() < 1e-4
    assert make_schedule(prior.alpha_bar, indexing="released").a(1) == float(prior.alpha_bar[0])
