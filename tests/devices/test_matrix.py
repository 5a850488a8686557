"""What works on a CPU works on a device: the same tasks, presets and rivals, the same numbers."""

import warnings
from functools import partial

import pytest
import torch
from devices.emulator import emulated, largest_difference, moves_so_far, summary

from tests.operators.test_operators import OPERATORS, draw
from visionxl import video
from visionxl.app.cli.main import main
from visionxl.app.degradation.measurement import degrade
from visionxl.app.degradation.tasks import Degradation
from visionxl.app.restore import restore
from visionxl.compare.rivals import RIVALS
from visionxl.extras.photographs.photo_spectrum import smooth_step
from visionxl.extras.photographs.tv import admm
from visionxl.measure.experiment import grid
from visionxl.measure.experiment.methods import find_method, run_method
from visionxl.operators.blurs import Blur, Blur2d, FrameFilter
from visionxl.operators.sensors import ChannelMix
from visionxl.operators.tasks import TASKS, FrameMix, Mask, task
from visionxl.presets import PRESETS, VARIANTS
from visionxl.prior.latent import Prior
from visionxl.prior.toy import ToyPrior
from visionxl.solver import solve
from visionxl.steps.consistency import cg, data_consistency, proximal
from visionxl.steps.inversion import to_size

T, SIZE = 4, (24, 32)
FEWER = {"paper": {"route.steps": 8}, "official": {"route.steps": 8}}  # steps of the same kind
TOLERANCE = {"official": 0.0, "paper": 1e-6}
PARTS = [  # `calls` has the variants of `networks` once more
    (slot, v.__name__) for slot, vs in VARIANTS.items() if slot != "calls" for v in vs
]
WAITING = {  # modules with a stop criterion, a check for NaN, or energies that decide a cut
    *("progress.py", "frames.py", "consistency.py", "spectral.py", "bases.py", "photo_spectrum.py"),
    *("released_operators.py", "polynomial.py", "cosine.py"),
}
ENERGIES = "polynomial.py"  # scalar CG, whose steps and stop criterion are Python's
# Root mean square difference that rounding may cause. Flow and thresholds amplify it: to 0.0032
# with PyTorch 2.4, to less than 0.002 with 2.13.
LOOSE = 4e-3


def total_variation(A, x, y):
    "Two turns of ADMM."
    turns = admm(y, A, x, 1e-2, 1e-1)
    next(turns)
    return next(turns)


def at_y(f, A, x, y, where):
    "`f` with `x` brought to the device of `y`."
    return f(A, x.to(y), y)


ON_OPERATORS = {
    "A": lambda A, x, y: A(x),
    "A.AT": lambda A, x, y: A.AT(y),
    "cg": lambda A, x, y: cg(A, y, x, 2, 0.1)[0],
    "data_consistency": lambda A, x, y: data_consistency(A, y, x, 3),
    "proximal": lambda A, x, y: proximal(A, y, x, 0.1, 3),
    "smooth_step": lambda A, x, y: smooth_step(A, y, x, 0.1, 2),
    "to_size": lambda A, x, y: to_size(A, y, width=0.7),
    "total variation": total_variation,
}


@pytest.fixture(scope="module")
def clip():
    return video.fit(video.sample("flower", T).x, *SIZE)


@pytest.fixture(scope="module")
def priors():
    "The bundled prior on the CPU and on the device."
    with emulated():
        there = Prior.load("tiny")
        assert there.device.type == "cuda", "Prior.load takes the card that it finds"
    return Prior.load("tiny", device="cpu"), there


@pytest.fixture(scope="module")
def default():
    "The default prior, likewise: `best` has other settings for it."
    with emulated():
        there = Prior.load()
    return Prior.load(device="cpu"), there


def both(f, y, priors, tolerance=0.0):
    """`f(y, prior)` here and there: the same numbers or the same refusal. Gives the record.

    The difference is the root mean square beside the largest value or 1.
    """
    try:
        want, said = f(y, priors[0]), None
    except ValueError as e:
        said = str(e)[:40]
    with emulated() as gpu:
        there = y.to("cuda")
        if said is not None:
            with pytest.raises(ValueError) as refused:
                f(there, priors[1])
            assert str(refused.value)[:40] == said
            return gpu
        got = f(there, priors[1])
        assert got.device == torch.device("cuda", 0), "the result has left the device"
        got = got.cpu()
    assert got.dtype == want.dtype and torch.isfinite(got).all()
    tolerance = max(tolerance, LOOSE) if gpu.real else tolerance  # a card rounds in its own way
    error = (got - want).square().mean().sqrt() / max(1.0, want.abs().max())
    assert error <= tolerance
    return gpu


def check_preset(clip, priors, preset, name, tolerance):
    "A preset gives the same numbers there, and its loop leaves the clip there."
    A = task(name, clip.shape, window=3)
    steps = []

    def run(y, prior):
        for state in solve(y, A, prior, preset, FEWER.get(preset)):
            steps.append(len(moves_so_far()))
        return state.x

    gpu = both(run, A(clip), priors, tolerance)
    if steps and not gpu.real:
        n = len(steps) // 2  # the second half are those on the device
        check_moves(gpu.moves[steps[n] : steps[-1]], n - 1, clip.nbytes)


@pytest.mark.parametrize("name", TASKS)
# `fast` is `best` with fewer steps
@pytest.mark.parametrize("preset", sorted({*PRESETS} - {"fast"}))
def test_presets(clip, priors, preset, name):
    check_preset(clip, priors, preset, name, TOLERANCE.get(preset, LOOSE))


@pytest.mark.parametrize("name", TASKS)
def test_best_with_the_default_prior(clip, default, name):
    check_preset(clip, default, "best", name, LOOSE)


def check_moves(moves, steps, clip):
    "Inside the loop: constants and noise go up, and Python waits for stop criteria alone."
    down = [m for m in moves if m.kind == "to host"]
    other = [m for m in down if m.where.split(":")[0] != ENERGIES]
    assert not other, f"the loop brings tensors to the CPU: {summary(other)}"
    assert sum(m.bytes for m in down) <= 0.25 * steps * clip, summary(down)
    up = sum(m.bytes for m in moves if m.kind == "to device")
    assert up <= 1.5 * steps * clip, f"{up} bytes in {steps} steps: {summary(moves)}"
    numbers = [m for m in moves if m.kind == "number"]
    assert {m.where.split(":")[0] for m in numbers} <= WAITING, summary(numbers)
    assert len(numbers) <= 64 * steps, summary(numbers)


@pytest.mark.parametrize("slot, variant", PARTS)
def test_variants(clip, priors, slot, variant):
    "Every variant of a step that can be named, in a preset where it has an effect."
    preset = "best" if slot == "inner" else "paper"
    changes = {} if slot == "route" else {"route.steps": 8}
    key = {"what": "start.what", "inner": "consistency.inner"}.get(slot, slot)
    A = task("deblur", clip[:2].shape)

    def run(y, prior):
        for state in solve(y, A, prior, preset, changes | {key: variant}):
            pass
        return state.x

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        both(run, A(clip[:2]), priors, LOOSE)


TWO = ("sr", "deblur+")  # for presets of others, whose operators are tried above with ours
PAIRS = [
    pytest.param(m, n, marks=[pytest.mark.slow] if m in RIVALS and n not in TWO else [])
    for m in grid.NAMES
    for n in TASKS
    if m not in PRESETS
]


@pytest.mark.parametrize("method, name", PAIRS)
def test_rivals(clip, priors, method, name):
    A = task(name, clip.shape, window=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        changes = {"route.steps": 8} if method in RIVALS else {}
        f = find_method(method)
        both(lambda y, prior: run_method(f, y, A, prior, **changes), A(clip), priors, LOOSE)


@pytest.mark.parametrize("name", TASKS)
def test_restore(clip, priors, name):
    "A clip in host memory, two windows where the task allows it; the result comes back."
    d = Degradation(name, window=3)
    y = degrade(clip, d)
    few = {"preset": "paper", "changes": FEWER["paper"]}  # all presets are tried above
    few |= {} if d.reach else {"chunk": 3, "overlap": 2}

    def run(prior):
        return restore(y, d, prior=prior, progress=False, **few).x

    want = run(priors[0])
    with emulated() as gpu:
        got = run(priors[1])
        assert not got.is_cuda and not gpu.refusals
    assert (got - want).square().mean().sqrt() < LOOSE


def test_commands(tmp_path, capsys, monkeypatch):
    "The command line on the card that it finds: degrade, restore with a report, demo and the rest."
    clean, y, x = (tmp_path / f"{n}.mkv" for n in ("clean", "y", "x"))
    video.write(clean, video.fit(video.sample("flower", 3).x, 32, 48), lossless=True)
    monkeypatch.setattr(video, "sample_file", lambda name: clean)
    with emulated() as gpu:
        for argv in (
            ["degrade", clean, "-o", y, "--task", "inpaint"],
            ["restore", y, "-o", x, "--report", tmp_path / "x.html"],
            ["restore", y, "-o", tmp_path / "paper.mkv", "--preset", "paper"],
            ["evaluate", clean, x],
            ["demo", "--task", "deblur", "-o", tmp_path / "demo"],
            ["info", x],
            ["doctor"],
        ):
            assert main(list(map(str, argv))) == 0, capsys.readouterr().err
        assert not gpu.refusals and (gpu.real or gpu.moves)
    assert (tmp_path / "demo" / "report.html").is_file()


@pytest.mark.parametrize("A", OPERATORS, ids=lambda A: repr(A)[:60])
def test_operators(A):
    "Every operator of the property tests, and everything that is built on operators."
    x, y = draw(*A.in_shape, seed=1), draw(*A.out_shape, seed=2)
    for f in ON_OPERATORS.values():
        both(partial(at_y, f, A, x), y, ("cpu", "cuda"), 1e-7)


def numbers(*shape):
    "Numbers between 0 and 1, some of them 0."
    return torch.rand(shape, generator=torch.Generator().manual_seed(0)).sub(0.3).clamp_min(0)


class OwnFactors(Mask):
    "A person's operator that keeps its weights where they were made, and declares its factors."

    verified = False

    def __init__(self, shape, weights):
        self.in_shape = self.out_shape = shape
        self.weights = weights.double()[None, None]


class OwnBlur(FrameFilter):
    "The same with gains of frequencies."

    def __init__(self, shape, gains):
        super().__init__(shape, gains)
        self.gains = gains


CLIP = (3, 3, 12, 16)
EVEN = torch.tensor([0.25, 0.5, 0.25])
MADE = {  # operators made of tensors; `to` brings these to a device
    "mask": lambda to: Mask(CLIP, to(numbers(12, 16))),
    "mask of ones": lambda to: Mask(CLIP, to(numbers(12, 16) > 0)),
    "mask by frames": lambda to: Mask(CLIP, to(numbers(3, 1, 12, 16))),
    "frames": lambda to: FrameMix(CLIP, to(numbers(3, 3))),
    "blur": lambda to: Blur(CLIP, to(EVEN)),
    "blur, circular": lambda to: Blur(CLIP, (to(numbers(4)), to(EVEN)), "circular"),
    "blur2d": lambda to: Blur2d(CLIP, to(EVEN[:, None] * EVEN)),
    "blur2d, circular": lambda to: Blur2d(CLIP, to(numbers(3, 3)), "circular"),
    "filter": lambda to: FrameFilter(CLIP, to(numbers(12, 16).double())),
    "colours": lambda to: ChannelMix(CLIP, to(numbers(2, 3))),
    "mask of frames": lambda to: (
        2 * Mask(CLIP, to(numbers(12, 16))) @ FrameMix(CLIP, numbers(3, 3))
    ),
    "own": lambda to: OwnFactors(CLIP, to(numbers(12, 16))),
    "own blur": lambda to: OwnBlur(CLIP, to(numbers(12, 16).double())),
    "own of frames": lambda to: (
        OwnFactors(CLIP, to(numbers(12, 16))) @ FrameMix(CLIP, numbers(3, 3))
    ),
}


@pytest.mark.parametrize("name", MADE)
def test_operators_made_on_the_device(name):
    "Where the tensors lie that an operator is made of changes no number and mixes no devices."
    A = MADE[name](torch.Tensor.clone)
    x, y = draw(*A.in_shape, seed=1), draw(*A.out_shape, seed=2)
    wants = {k: f(A, x, y) for k, f in ON_OPERATORS.items()}
    with emulated() as gpu:
        B = MADE[name](partial(torch.Tensor.to, device="cuda"))
        for key, f in ON_OPERATORS.items():
            got = f(B, x.to("cuda"), y.to("cuda"))
            assert got.is_cuda and largest_difference(got, wants[key]) <= 1e-9  # in float64
            if not name.startswith("own"):  # ours serve a clip on the CPU as well
                assert largest_difference(f(B, x, y), wants[key]) <= 1e-12
        assert not gpu.refusals


def test_operators_of_tensors_on_an_apple_gpu():
    "It has no float64, in which operators keep their constants: these go to the CPU first."
    x = numbers(*CLIP)
    for name in MADE.keys() - {"filter", "own", "own blur", "own of frames"}:
        want = MADE[name](torch.Tensor.clone)(x)
        with emulated(kind="mps") as gpu:
            A = MADE[name](partial(torch.Tensor.to, device="cpu" if gpu.real else "mps"))
            assert torch.equal(A(x), want) and not gpu.refusals


def test_a_kernel_on_the_device_learns():
    "Its gradient comes back to where the kernel lies."
    x = numbers(*CLIP)
    with emulated():
        for shape, make in ((3, Blur), ((3, 3), Blur2d), ((12, 16), Mask)):
            k = torch.ones(shape, dtype=torch.float64).to("cuda").requires_grad_()
            make(CLIP, k)(x.to("cuda")).square().sum().backward()
            assert k.grad.is_cuda and k.grad.abs().min() > 0


def test_toy_prior():
    prior, z = ToyPrior(), draw(3, 2, 1, 1)
    want = prior.eps(z, 300)
    with emulated() as gpu:
        got, log = prior.eps(z.to("cuda"), 300), prior.log_density(z.to("cuda"), 300)
        bound = 1e-12 if gpu.real else 0  # exp and sums in float64, in a card's own order
        assert largest_difference(got, want) <= bound * want.abs().max()
        want = prior.log_density(z, 300)
        assert largest_difference(log, want) <= bound * want.abs().max()
