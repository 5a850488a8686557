"""Algorithm 1: against a literal transcription, by counts, resumed at every step."""

import ast
import inspect
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter

from visionxl import solver
from visionxl.compare.released import InvertFirst, OneStream
from visionxl.extras import motion
from visionxl.extras.estimates.noise import estimate_noise
from visionxl.extras.results import Blend
from visionxl.operators.tasks import LinearOperator, task
from visionxl.presets import PRESETS, choose
from visionxl.prior.latent import Prior
from visionxl.prior.machine.memory import placement
from visionxl.prior.schedule import make_schedule, scaled_linear
from visionxl.solver import prepare, solve
from visionxl.steps.consistency import CG, Consistent, SpectralCG
from visionxl.steps.inversion import FromNoise, to_size
from visionxl.steps.lowpass import EncodeCorrection, LowPassCorrection
from visionxl.steps.problem import Point, Problem, State
from visionxl.steps.tweedie import LastDecode

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench"))
import as_released  # noqa: E402

TASKS = ("deblur", "sr", "inpaint", "deblur+", "sr+", "inpaint+")
SHAPE = (3, 3, 16, 24)
LONG = {  # `best` on the paper's way
    "route.tau": 0.3,
    "route.steps": 25,
    "route.tau_end": 0.0,
    "start.steps": None,
}


class Gauss:
    "A prior with a known answer: latents are rearranged pixels, all of them N(m, sd^2)."

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


def algorithm_1(y, dense, shape, prior, noise, steps=25, tau=0.3, lam=2.0, cg_steps=10, eta=0.2):
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
        x = D((z - np.sqrt(1 - alpha[t]) * noise_hat) / np.sqrt(alpha[t]))  # Eqs. 3-5
        if k + 1 == len(times):  # lines 11 and 12
            return x
        x = x.reshape(-1)
        r = dense.T @ (y - dense @ x)  # Eq. 6
        p = r.copy()
        for _ in range(cg_steps):
            if r @ r < 1e-24:
                break
            q = dense.T @ (dense @ p)
            step = (r @ r) / (p @ q)
            x, new = x + step * p, r - step * q
            p, r = new + (new @ new) / (r @ r) * p, new
        x = x.reshape(shape)
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
    "The result is the Tweedie decode of the last timestep (lines 11 and 12), after nothing else."
    shape = (3, 3, 8, 12)
    A, x = task(name, shape, kernel_size=9, sigma=1.0, window=3), clip(shape)
    unit = torch.eye(x.numel(), dtype=torch.float64).view(-1, *shape)
    dense = torch.stack([A(v).flatten() for v in unit], 1).numpy()
    noise = torch.randn(
        8, 1, 12, 4, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )
    want = algorithm_1(A(x).flatten().numpy(), dense, shape, Gauss(), noise.numpy())
    state = last(A(x), A, Gauss(), "paper", noise=noise)
    assert np.abs(state.x.numpy() - want).max() < 1e-5
    assert torch.equal(state.x, state.x_hat) and state.x_bar is None
    walked = last(A(x), A, Gauss(), "paper", consistency=CG(10), noise=noise)
    assert np.abs(walked.x.numpy() - want).max() < 1e-5


@pytest.mark.parametrize("name", ["sr+", "inpaint+", "deblur+"])
def test_the_spectral_form_is_what_cg_drifts_from(name):
    "One step of each in float32 beside the exact answer in float64."
    A = task(name, (25, 3, 32, 48), window=7)
    x = torch.cat([clip((5, 3, 32, 48), seed) for seed in range(5)])
    y, start, off = A(x), torch.zeros(A.in_shape, dtype=torch.float64), {}
    exact = CG(10).bind(Problem(y, A, None, None), None)[0](start, 0.9)
    for variant in (CG(10), SpectralCG(10)):
        step, _ = variant.bind(Problem(y.float(), A, None, None), None)
        off[type(variant).__name__] = float(
            (step(start.float(), 0.9) - exact).norm() / exact.norm()
        )
    print(name, "relative distance from float64:", {k: f"{v:.1e}" for k, v in off.items()})
    assert off["SpectralCG"] < 3e-4 and off["SpectralCG"] <= off["CG"]


@pytest.mark.parametrize("preset", ["paper", "best"])
@pytest.mark.parametrize("name", ["deblur+", "sr"])
def test_fifteen_evaluations_per_frame(preset, name):
    A, prior = task(name, SHAPE, kernel_size=9, sigma=1.0, window=3), Gauss()
    last(A(clip()), A, prior, preset, LONG if preset == "best" else None)
    per_frame = {
        k: sum(n for c, n in prior.calls if c == k) / SHAPE[0] for k in ("eps", "encode", "decode")
    }
    assert per_frame == dict(eps=15, encode=8, decode=8)  # the start and seven returns


def test_a_shorter_way_up_saves_its_evaluations():
    A, prior = task("sr", SHAPE), Gauss()
    last(A(clip()), A, prior, "best", LONG | {"start.steps": 2})
    assert sum(n for c, n in prior.calls if c == "eps") == (2 + 8) * SHAPE[0]
    with pytest.raises(ValueError, match="start.steps=0 must lie between 1 and 1000"):
        last(A(clip()), A, prior, "best", {"start.steps": 0})


@pytest.mark.parametrize("name", TASKS)
def test_best_takes_a_short_way(name):
    A, prior = task(name, SHAPE, kernel_size=9, sigma=1.0, window=3), Gauss()
    down = 3 if name.startswith("deblur") else 4
    last(A(clip()), A, prior)
    found = {
        k: sum(n for c, n in prior.calls if c == k) / SHAPE[0] for k in ("eps", "encode", "decode")
    }
    assert found == dict(eps=1 + down, encode=down, decode=down)


def test_the_way_down_may_end_above_the_bottom():
    A = task("deblur", SHAPE, kernel_size=9, sigma=1.0)
    y, inner = A(clip()), choose("best", "deblur").consistency.inner
    steps = dict(consistency=inner, result=Consistent())
    full = list(solve(y, A, Gauss(), "best", {"route.tau_end": 0.0}, **steps))
    high = list(solve(y, A, Gauss(), "best", **steps))
    assert [s.t for s in full] == [175, 117, 59, 1] and [s.t for s in high] == [175, 117, 59]
    for a, b in zip(full[:2], high):
        assert torch.equal(a.z_bar, b.z_bar)
    assert torch.equal(full[2].x_hat, high[2].x_hat) and high[2].z_bar is None
    run = prepare(y, A, Gauss(), choose("best", "deblur", **steps))
    x, a = high[2].x_hat, run.schedule.a(59)
    for _ in range(2):
        x = run.consistency(x, a)
    twice = last(y, A, Gauss(), "best", {"result.rounds": 2}, **steps)
    assert torch.equal(twice.x, run.consistency(x, a, last=True))


def test_with_noise_the_prior_has_the_last_word():
    A, prior = task("deblur", SHAPE, kernel_size=9, sigma=1.0), Gauss()
    assert last(A(clip()), A, prior, sigma_y=0.05).t == 1
    noisy, clean = (choose("best", "deblur", sigma_y).result for sigma_y in (0.05, 0.0))
    assert (noisy.inner.rounds, clean.rounds) == (0, 2)


SELDOM = ("sr+", "deblur+", "denoise+", "inpaint")  # the estimate is tested in extras for all


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=pytest.mark.slow if n in SELDOM else ())
        for n in (*TASKS, "denoise", "denoise+")
    ],
)
def test_the_noise_may_be_estimated(name):
    A, prior = task(name, (7, 3, 32, 48), kernel_size=9, sigma=1.0, factor=2), Gauss()
    x = clip((7, 3, 32, 48))
    g = torch.Generator().manual_seed(1)
    y = A(x) + 0.1 * torch.randn(A.out_shape, generator=g, dtype=torch.float64)
    end = last(y, A, prior, sigma_y="estimate")
    told = float(end.job["sigma_y"])
    assert told == pytest.approx(0.1, rel=0.25)
    assert torch.equal(end.x, last(y, A, prior, sigma_y=estimate_noise(y, A)).x)
    with pytest.raises(ValueError, match="'estimate'"):
        next(solve(y, A, prior, sigma_y="loud"))


@pytest.mark.parametrize("name", ["deblur", "sr", "inpaint"])
def test_of_a_small_change_a_part_is_kept(name):
    A, prior = task(name, SHAPE, kernel_size=9, sigma=1.0, window=3), Gauss()
    y, rounds = A(clip()), choose("best", name).result.rounds
    whole = last(y, A, prior, result=Consistent(rounds)).x
    preset = choose("best", name)
    problem = Problem(y, A, prior, preset.schedule(prior))
    _, guess = preset.consistency.bind(problem, lambda: preset.start.guess(problem))
    first = guess()
    size = float((whole - first).square().mean())
    for error in (size**0.5, 3 * size**0.5):
        x = last(y, A, prior, result=Blend(error, rounds)).x
        assert torch.allclose(x, first + size / (size + error**2) * (whole - first), atol=1e-9)
        worst = max((A(v) - y).abs().max() for v in (first, whole))
        assert (A(x) - y).abs().max() <= worst + 1e-12


@pytest.mark.parametrize(
    "changes, count",
    [
        ({}, 2),
        ({"consistency.again": False}, 1),
        ({"consistency.again": False, "consistency.rounds": 0}, 1),
    ],
)
def test_motion_is_estimated_as_often_as_asked(monkeypatch, changes, count):
    A, calls = task("inpaint", SHAPE), []
    estimate = motion.estimate_motion
    monkeypatch.setattr(motion, "estimate_motion", lambda x, r: calls.append(r) or estimate(x, r))
    last(A(clip()).float(), A, Gauss(), "best", changes)
    assert calls == [2] * count


def test_official_inverts_one_frame_and_returns_the_last_decode():
    A, prior = task("inpaint", SHAPE), Gauss()
    state = last(A(clip()), A, prior, "official")
    # both branches, and one evaluation on the spot
    assert sum(n for c, n in prior.calls if c == "eps") == 2 * (8 + 8 * SHAPE[0])
    assert torch.equal(state.x, state.x_hat) and state.x_bar is None and state.z_bar is None


def as_kept(state):
    "What a state needs to be kept in a file."
    return State(state.next.t, state.next.z, next=state.next, job=state.job)


@pytest.mark.parametrize("preset", [*PRESETS, "svi", "from_top"])
def test_resume_at_every_step(preset):
    A = task("sr", SHAPE)
    y, prior = A(clip()).float(), Gauss()
    changes = LONG if preset == "best" else {}
    run = dict(preset=preset, changes=changes, seed=0 if preset == "best" else 3)
    whole = list(solve(y, A, prior, **run))
    for k, state in enumerate(whole[:-1]):
        rest = list(solve(y, A, prior, **run, resume=state))
        assert [s.t for s in rest] == [s.t for s in whole[k + 1 :]]
        assert torch.equal(rest[-1].x, whole[-1].x), f"resumed after t = {state.t}"
        if k % 3:  # what is kept in a file, and a bare point, go the same way
            continue
        again = last(y, A, prior, **run, resume=Point(state.t, state.z))
        assert torch.equal(again.x, whole[-1].x), f"repeated from t = {state.t}"
        assert torch.equal(last(y, A, prior, **run, resume=as_kept(state)).x, whole[-1].x)


def test_a_state_belongs_to_its_run():
    A, B, prior = task("sr", SHAPE), task("deblur", SHAPE, kernel_size=9), Gauss()
    y = A(clip())
    states = list(solve(y, A, prior, "paper"))
    for kw, words in (
        (dict(preset="paper", seed=1), "noise is seed 0 there and seed 1 here"),
        (dict(preset="paper", changes={"renoise.eta": 0.1}), "preset is .* there and .* here"),
        (dict(preset="best"), "belongs to another run"),
    ):
        with pytest.raises(ValueError, match=words):
            next(solve(y, A, prior, resume=states[0], **kw))
    with pytest.raises(ValueError, match="operator is sr .* there and deblur .* here"):
        next(solve(B(clip()), B, prior, "paper", resume=states[0]))
    with pytest.raises(ValueError, match="the last of its run"):
        next(solve(y, A, prior, "paper", resume=states[-1]))


def test_official_draws_in_the_released_order():
    "One stream: the start, then for each step the shared draw and every frame's."
    A, g = task("sr", SHAPE), torch.Generator().manual_seed(5)
    y, before = A(clip()).float(), g.get_state()
    states = list(solve(y, A, Gauss(), "official", noise=g))
    assert torch.equal(g.get_state(), before)
    assert torch.equal(last(y, A, Gauss(), "official", seed=5).x, states[-1].x)
    again = list(solve(y, A, Gauss(), "official", noise=g, resume=states[3]))
    assert torch.equal(again[-1].x, states[-1].x)
    hand, shape = torch.Generator().manual_seed(5), (1, *Gauss().latent_shape(*SHAPE[2:]))
    torch.randn(shape, generator=hand)  # the first frame's posterior
    shared = torch.randn(shape, generator=hand)
    problem = Problem(y, A, Gauss(), None, start_frames=1)
    draws = OneStream().bind(problem, 5, None)
    assert torch.equal(draws(0), shared)
    fed = torch.stack([draws(k) for k in range(8)])
    assert torch.equal(last(y, A, Gauss(), "official", seed=5, noise=fed).x, states[-1].x)


def test_same_seed_same_bytes_and_nothing_global():
    A, prior = task("deblur", SHAPE, kernel_size=9), Gauss()
    y, before = A(clip()).float(), torch.random.get_rng_state()
    a, b, c = (last(y, A, prior, "paper", **s).x for s in ({"seed": 0}, {}, {"seed": 1}))
    assert torch.equal(a, b) and not torch.equal(a, c)
    jobs = [prepare(y, A, prior, choose("paper"), **s).job for s in ({"seed": 0}, {}, {"seed": 1})]
    assert jobs[0] == jobs[1] != jobs[2]
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("seed", [np.int64(3), np.uint8(3), torch.tensor(3)])
def test_a_seed_is_a_number_of_any_package(seed):
    A, prior = task("inpaint", SHAPE), Gauss()
    y = A(clip()).float()
    ours, theirs = (list(solve(y, A, prior, "paper", seed=s))[-1] for s in (3, seed))
    assert ours.job == theirs.job and torch.equal(ours.x, theirs.x)


def test_what_would_have_no_effect_is_said():
    A, prior = task("sr", SHAPE), Gauss()
    y = A(clip())
    with pytest.warns(UserWarning, match="seed=3 changes nothing"):
        next(solve(y, A, prior, "best", seed=3))
    with pytest.raises(ValueError, match="noise has no effect"):
        next(solve(y, A, prior, "best", noise=torch.zeros(8, 1, 12, 8, 12)))
    with pytest.raises(TypeError, match="noise is str"):
        next(solve(y, A, prior, "paper", noise="a lot"))
    with pytest.raises(ValueError, match="does not know of noise.*Proximal"):
        next(solve(y, A, prior, "paper", sigma_y=0.1))
    with pytest.raises(ValueError, match="no effect on a measurement without noise"):
        next(solve(y, A, prior, "best", {"consistency.inner.trust": 0.2}))
    with pytest.raises(ValueError, match="start inverts none"):
        next(solve(y, A, prior, "best", start=FromNoise()))


def test_progress_counts_every_frame_from_the_inversion_on():
    A = task("inpaint", SHAPE)
    y = A(clip()).float()
    for preset, start in (("paper", 8 * SHAPE[0]), ("official", 1 + 2 * 8), ("best", 2 * SHAPE[0])):
        seen, prior = [], Gauss()
        states = list(solve(y, A, prior, preset, progress=seen.append))
        assert [p.done for p in seen] == sorted({p.done for p in seen})
        assert seen[0].step == 0 and seen[0].what == "encode"
        assert seen[-1].done == seen[-1].total == sum(n for _, n in prior.calls)
        assert seen[-1].step == seen[-1].steps == len(states)
        assert max(p.done for p in seen if p.step == 0) == start
        rest = []
        list(solve(y, A, Gauss(), preset, resume=states[0], progress=rest.append))
        assert [p.done for p in rest] == [p.done for p in seen if p.step > 1]


def test_reported_batches_change_no_bit():
    A = task("inpaint", (5, 3, 32, 32))
    y, seen = A(clip(A.in_shape)).float(), []
    prior = Prior.load("tiny", device="cpu", frames_per_batch=2)
    told = last(y, A, prior, "paper", {"route.tau": 0.1}, progress=seen.append)
    assert torch.equal(told.x, last(y, A, prior, "paper", {"route.tau": 0.1}).x)
    assert [p.done for p in seen[:3]] == [2, 4, 5] and seen[-1].done == seen[-1].total


@pytest.mark.parametrize("name", ["deblur", "sr", "inpaint"])
def test_frames_per_batch_and_threads_change_nothing_that_counts(name):
    "The bundled prior: 1e-5 between batches of frames, 1e-4 between numbers of threads."
    A = task(name, (3, 3, 32, 32))
    y, threads, found = A(clip(A.in_shape).float()), torch.get_num_threads(), {}
    changes = {"route.tau": 0.05, "route.steps": 25, "route.tau_end": 0.0}
    if name == "deblur":
        changes["start.what"] = "Upsampled"
    try:
        for n, batch in ((1, 1), (1, 3), (2, 1), (1, 1)):
            torch.set_num_threads(n)
            prior = Prior.load("tiny", device="cpu", frames_per_batch=batch)
            x = last(y, A, prior, "best", changes).x
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
    "Peak memory against the number of frames: a few buffers of the clip's size."
    code = """
import resource, sys, torch
from visionxl.operators.tasks import task
from visionxl.prior.latent import Prior
from visionxl.solver import solve
torch.set_num_threads(1)
name, frames, h, w = sys.argv[1], *map(int, sys.argv[2:])
A, prior = task(name, (frames, 3, h, w)), Prior.load("tiny", device="cpu", frames_per_batch=1)
y = A(torch.rand(A.in_shape) - .5)
changes = {"start.what": "Upsampled", "route.tau_end": 0.0, "route.tau": .05, "route.steps": 25}
for state in solve(y, A, prior, "best", changes): pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)"""
    h, w = 64, 96

    def peak(frames):
        out = subprocess.run(
            [sys.executable, "-c", code, name, str(frames), str(h), str(w)],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
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
    miss = []
    for s in (0.0, 0.05, 0.2):
        y = A(x) + s * n
        miss.append(float((A(last(y, A, Gauss(), sigma_y=s).x) - y).std()))
    assert miss[0] < 1e-4 < miss[1] < miss[2]


VARIANTS = [
    ("best", dict(encode=EncodeCorrection())),
    ("best", dict(lowpass=LowPassCorrection(0.5))),
    ("best", dict(result=LastDecode())),
    ("paper", dict(start=FromNoise(shared=False))),
    ("paper", dict(start=FromNoise())),
    ("best", dict(start=InvertFirst())),
    ("best", dict(consistency=SpectralCG())),
    ("best", dict(consistency=CG())),
    ("best", {"start.what": "Upsampled"}),
    ("paper", dict(noise=OneStream())),
    ("best", {"route.tau": 0.45}),
    ("best", {"route.steps": 50}),
]


@pytest.mark.parametrize("preset, changes", VARIANTS, ids=str)
def test_every_choice_runs(preset, changes):
    A = task("inpaint+", SHAPE, window=3)
    state = last(A(clip()), A, Gauss(), preset, changes)
    assert state.x.shape == SHAPE and torch.isfinite(state.x).all() and state.t == 1


def test_noise_given_as_a_generator_is_drawn_in_turn():
    A, g = task("sr", SHAPE), torch.Generator().manual_seed(5)
    y, prior, shape = A(clip()).float(), Gauss(), (1, *Gauss().latent_shape(*SHAPE[2:]))
    x = last(y, A, prior, "paper", noise=g).x
    fed = torch.stack([torch.randn(shape, generator=g) for _ in range(7)])
    assert torch.equal(x, last(y, A, prior, "paper", noise=fed).x)


def test_correction_encoding_is_exact_for_a_lossless_autoencoder():
    A = task("sr", SHAPE)
    y = A(clip())
    a, b = (last(y, A, Gauss(), "paper", encode=e).x for e in ("Encode", "EncodeCorrection"))
    assert (a - b).abs().max() < 1e-12


@pytest.mark.parametrize(
    "kw, words",
    [
        (dict(preset="finest"), "paper, best, fast, official"),
        (dict(colour=1), "'colour' is no setting of this preset"),
        (dict(changes={"tau": 0.2}), "did you mean route.tau"),
        (dict(changes={"renoise.eta": 2.0}), "renoise.eta=2.0 must lie between 0 and 1"),
        (dict(changes={"renoise.eta": float("nan")}), "renoise.eta=nan"),
        (dict(changes={"route.steps": 2.5}), "whole number"),
        (dict(changes={"route.steps": 0}), "between"),
        (dict(changes={"route.tau": 0.0}), "between"),
        (dict(changes={"route.tau_end": 0.5}), "lies above route.tau"),
        (dict(changes={"consistency.inner.slack": 0.0}), "consistency.inner.slack=0.0"),
        (dict(start="Middle"), "choose one of Invert, FromNoise"),
        (dict(consistency="exact"), "SpectralCG, CG, Proximal"),
        (dict(preset="paper", lowpass=LowPassCorrection, changes={}), "is no step"),
        (dict(preset="paper", changes={"lowpass.lam": 0.0}), "set lowpass=NoFilter"),
        (dict(changes={"result.prior_error": 0.0}), "set result=Consistent"),
        (dict(preset="official", encode="EncodeCorrection"), "difference of two samples"),
        (dict(preset="official", changes={"route.tau_end": 0.1}), "no setting of this preset"),
    ],
    ids=lambda v: str(v)[:50],
)
def test_refused_settings(kw, words):
    A = task("sr", SHAPE)
    with pytest.raises((ValueError, TypeError), match=words):
        next(solve(A(clip()), A, Gauss(), **kw))


class Broken(Gauss):
    def __init__(self, stage, at):
        super().__init__()
        self.stage, self.at = stage, at

    def _spoil(self, stage, v):
        spoiled = stage == self.stage and sum(c == stage for c, _ in self.calls) >= self.at
        return v * float("nan") if spoiled else v

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
        ("eps", 3, "the start"),
        ("eps", 9, "t = 241"),
        ("decode", 8, "t = 1"),
        ("encode", 3, "t = 241"),
    ],
)
def test_nan_stops_at_its_step(stage, at, where):
    A = task("sr", SHAPE)
    with pytest.raises(FloatingPointError, match=f"{stage} returned NaN or Inf at {where}"):
        last(A(clip()), A, Broken(stage, at), "paper")


def test_a_prior_of_wrong_shapes_is_named():
    class Narrow(Gauss):
        def eps(self, z, t):
            return super().eps(z, t)[:, :3]

    A = task("sr", SHAPE)
    with pytest.raises(ValueError, match="eps of the prior returned shape .* at the start"):
        last(A(clip()), A, Narrow(), "paper")


def test_refused_inputs():
    A, prior, y = task("sr", SHAPE), Gauss(), task("sr", SHAPE)(clip())
    for bad, words in (
        (y[:2], "y has shape"),
        (y * float("nan"), "NaN"),
        (y.float()[None, None], "y has shape"),
    ):
        with pytest.raises(ValueError, match=words):
            next(solve(bad, A, prior))
    with pytest.raises(TypeError, match="floats"):
        next(solve((y * 100).to(torch.uint8), A, prior))
    with pytest.raises(ValueError, match="sigma_y=-1"):
        next(solve(y, A, prior, sigma_y=-1))
    with pytest.raises(ValueError, match="resume"):
        next(solve(y, A, prior, resume=Point(281, torch.zeros(3, 4, 8, 12))))
    with pytest.raises(ValueError, match="timestep 280"):
        next(solve(y, A, prior, resume=Point(280, torch.zeros(3, 12, 8, 12))))
    with pytest.raises(ValueError, match="noise has shape"):
        next(solve(y, A, prior, "paper", noise=torch.zeros(2, 1, 12, 8, 12)))
    prior.t_max = 200
    with pytest.raises(ValueError, match="trained up to 200: choose route.tau <= 0.20"):
        next(solve(y, A, prior, "paper"))
    prior.device = torch.device("meta")
    with pytest.raises(ValueError, match="y is on cpu, the prior on meta"):
        next(solve(y, A, prior))
    with pytest.warns(UserWarning, match="check its scale"):
        next(solve(y * 100, A, Gauss()))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        next(solve(y, A, Gauss()))


def solve_body():
    tree = ast.parse(inspect.getsource(solver))
    return next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "solve")


def test_the_body_is_algorithm_1_and_nothing_else():
    "At most twenty statements, and no question but for the last timestep."
    body = solve_body()
    statements = [n for n in ast.walk(body) if isinstance(n, ast.stmt) and n is not body]
    print(len(statements), "statements, the docstring included")
    assert len(statements) <= 20
    tests = [ast.unparse(n.test) for n in ast.walk(body) if isinstance(n, (ast.If, ast.IfExp))]
    assert tests == ["s is None"]
    assert "preset" not in {
        n.id for s in body.body[4:] for n in ast.walk(s) if isinstance(n, ast.Name)
    }
    imported = [
        n.module
        for n in ast.walk(ast.parse(inspect.getsource(solver)))
        if isinstance(n, ast.ImportFrom)
    ]
    assert not any("released" in (m or "") for m in imported)


def shaky(problem, z_bar, eps, a_s, k):
    "A renoising of one's own: each frame gets a part of the noise of its own."
    n = problem.noise(k).to(z_bar)
    own = torch.cat([n.roll(i, -1) for i in range(len(z_bar))])
    return a_s**0.5 * z_bar + (1 - a_s) ** 0.5 * (0.3 * own + 0.91**0.5 * eps)


@dataclass(frozen=True)
class Shaky:
    "The same as an object with a setting."

    eta: float = 0.3

    uses_seed = True

    def bind(self, problem):
        def step(z_bar, eps, a_s, k):
            n = problem.noise(k).to(z_bar)
            own = torch.cat([n.roll(i, -1) for i in range(len(z_bar))])
            noise = self.eta * own + (1 - self.eta**2) ** 0.5 * eps
            return a_s**0.5 * z_bar + (1 - a_s) ** 0.5 * noise

        return step


def test_a_renoising_of_ones_own():
    A, prior = task("sr", SHAPE), Gauss()
    y = A(clip()).float()
    states = list(solve(y, A, prior, "paper", renoise=shaky, seed=2))
    assert not torch.equal(states[-1].x, last(y, A, prior, "paper", seed=2).x)
    assert torch.equal(last(y, A, prior, "paper", renoise=Shaky(), seed=2).x, states[-1].x)
    again = last(y, A, prior, "paper", renoise=shaky, seed=2, resume=states[2])
    assert torch.equal(again.x, states[-1].x)
    weaker = last(y, A, prior, "paper", {"renoise": Shaky(), "renoise.eta": 0.1}, seed=2)
    assert not torch.equal(weaker.x, states[-1].x)
    with pytest.raises(ValueError, match="preset is"):
        next(solve(y, A, prior, "paper", resume=states[2], seed=2))


def test_hooks_for_consistency_start_and_states():
    A, prior, seen = task("sr", SHAPE), Gauss(), []
    y = A(clip()).float()

    def nothing(problem, x_hat, a_t):
        assert problem.sigma_y == 0.1
        return x_hat

    def at_the_measurement(problem):
        return problem.prior.encode(to_size(problem.A, problem.y))

    own = dict(consistency=nothing, start=at_the_measurement, on_state=seen.append)
    states = list(solve(y, A, prior, "paper", sigma_y=0.1, **own))
    assert [s.t for s in seen] == [s.t for s in states] and seen[0].job == states[0].job
    assert torch.equal(states[0].x_bar, states[0].x_hat)
    assert torch.equal(states[0].z, prior.encode(to_size(A, y)))


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
    prior = Prior(vae, unet, place=placement("cpu"))
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
    mode = {"noise.posterior": False}
    run = solve(y, A, prior, "official", mode, noise=noise, resume=Point(81, z))
    state = next(run)
    assert (state.x_hat - x_hat).abs().max() < 1e-4 and (next(run).z - want).abs().max() < 1e-4
    assert make_schedule(prior.alpha_bar, indexing="released").a(1) == float(prior.alpha_bar[0])


def test_nothing_said_is_seed_0():
    A, runs = task("sr", SHAPE), []
    for said in ({}, {"seed": 0}, {"seed": 1}):
        *_, state = solve(A(clip()), A, Gauss(), "paper", **said)
        runs.append(state.x)
    assert runs[0].equal(runs[1]) and not runs[0].equal(runs[2])


def test_frames_are_no_channels():
    "As many of them as of channels, in the other tests, would hide one taken for the other."
    shape, told, prior = (5, 3, 16, 24), [], Gauss()
    A = task("sr", shape)
    *_, state = solve(A(clip(shape)), A, prior, "paper", progress=told.append)
    assert tuple(state.x.shape) == shape
    assert told[-1].total == told[-1].done == sum(frames for _, frames in prior.calls)
