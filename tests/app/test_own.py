"Operators, masks and steps of one's own: in Python, in files, and on the command line."

import dataclasses
import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from app.exact import FEW, psnr, run
from PIL import Image

from visionxl import video
from visionxl.app.degradation.masks import PictureMask
from visionxl.app.degradation.measurement import degrade
from visionxl.app.degradation.notes import to_notes
from visionxl.app.degradation.own import as_degradation
from visionxl.app.degradation.said import what_happened
from visionxl.app.degradation.tasks import Degradation
from visionxl.app.files.degrade_file import degrade_file
from visionxl.app.restore import restore
from visionxl.app.settings import settings_for
from visionxl.operators.linear import LinearOperator
from visionxl.operators.tasks import AveragePool, Blur, Mask, TemporalMean, task

pytestmark = pytest.mark.usefixtures("no_weights")


@pytest.fixture
def clean(tmp_path, x):
    return video.write(tmp_path / "clean.mkv", x, 24, lossless=True)


class Shake(LinearOperator):
    "Five pixels sideways, with a border of zeros: two methods, nothing declared."

    def __init__(self, shape):
        self.in_shape = self.out_shape = tuple(shape)

    def forward(self, x):
        p = torch.nn.functional.pad(x, (2, 2))
        return sum(p[..., i : i + x.shape[-1]] for i in range(5)) / 5

    adjoint = forward


class Spectrum(LinearOperator):
    "Not a video at all: real and imaginary parts of every second row of the Fourier transform."

    def __init__(self, shape):
        T, C, H, W = self.in_shape = tuple(shape)
        self.out_shape = (2, T, C, H // 2, W)

    def forward(self, x):
        f = torch.fft.fft2(x, norm="ortho")[..., ::2, :]
        return torch.stack([f.real, f.imag])

    def adjoint(self, y):
        f = torch.zeros(self.in_shape, dtype=torch.complex64)
        f[..., ::2, :] = torch.complex(y[0], y[1])
        return torch.fft.ifft2(f, norm="ortho").real


class Wandering(LinearOperator):
    "A mask that knows how many frames there are: windows of it would be another mask."

    def __init__(self, shape):
        self.in_shape = self.out_shape = tuple(shape)
        T, _, H, W = shape
        self.keep = torch.ones(T, 1, H, W)
        for i in range(T):
            self.keep[i, :, :, (5 * i) % W : (5 * i) % W + 5] = 0

    def forward(self, x):
        return x * self.keep

    adjoint = forward


OWN_FILE = """
import torch
from visionxl.operators.tasks import Blur, AveragePool, TemporalMean

def make(shape):
    return Blur(shape, ([1.0], [0.2] * 5))

def small(shape):
    return AveragePool(shape, 2)

def smear(shape):
    return TemporalMean(shape, 3, "replicate")

def loud(shape):
    return 3 * Blur(shape, ([1.0], [1.0]))

def number(shape):
    return 3

fixed = Blur((8, 3, 48, 64), ([1.0], [0.2] * 5))
"""


@pytest.fixture
def own(tmp_path):
    (tmp_path / "my_operator.py").write_text(OWN_FILE)
    return f"{tmp_path}/my_operator.py"


def test_any_operator_is_restored(x):
    x = x[:4]
    for A in (Shake(x.shape), Blur(x.shape, ([1.0], [0.2] * 5)), Wandering(x.shape)):
        y = A(x)
        out = restore(y, A, changes=FEW, progress=False).x
        assert out.shape == x.shape and psnr(out, x) > psnr(y, x) + 1
        assert (A(out) - y).abs().mean() < 0.01


def test_a_function_of_the_shape(x):
    x = x[:3]
    y = Shake(x.shape)(x)
    quick = {"preset": "paper", "changes": {"route.steps": 6}, "progress": False}
    made = []

    def make(shape):
        made.append(shape)
        return Shake(shape)

    a, b = restore(y, make, **quick).x, restore(y, Shake(x.shape), **quick).x
    assert torch.equal(a, b) and made[-1] == tuple(x.shape)
    assert torch.equal(restore(y, Shake, **quick).x, b), "a class is a function of the shape"


def test_measurements_that_are_no_videos(x):
    A = Spectrum(x.shape)
    out = restore(A(x), A, progress=False).x
    assert out.shape == x.shape and torch.isfinite(out).all()


def test_sizes_that_change(x):
    y = AveragePool(x.shape, 2)(x)
    out = restore(y, lambda shape: AveragePool(shape, 2), size=(48, 64), progress=False).x
    assert out.shape == x.shape
    with pytest.raises(ValueError, match="say the size of the clean clip"):
        restore(y, lambda shape: AveragePool(shape, 2), progress=False)


def test_windows_only_where_frames_are_alike(x):
    "A long clip is cut where that changes nothing, and restored whole where it would."
    long = torch.cat([x, x.flip(0), x, x.flip(0)])
    kw = dict(preset="paper", changes={"consistency.steps": 1}, progress=False)
    for make, alike in ((Shake, True), (Wandering, False)):
        windows = settings_for(as_degradation(make)).windows(len(long), (48, 64))
        assert (len(windows) > 1) == alike
        out = restore(make(long.shape)(long), make, **kw).x
        assert out.shape == long.shape


def test_what_is_no_operator(x):
    for wrong, says in (
        (lambda shape: 3, "must return an operator"),
        (lambda shape: Shake((1, 3, 8, 8)), "must take the clip's shape"),
        (3.5, "does not say what happened"),
        (Shake((2, 3, 48, 64)), "but the measurement is"),
        (Shake((8, 1, 48, 64)), "priors need 3"),
    ):
        with pytest.raises((TypeError, ValueError), match=says):
            restore(x, wrong, progress=False)
    with pytest.raises(ValueError, match="factor does not belong"):
        restore(x, Shake(x.shape), factor=2, progress=False)
    with pytest.raises(TypeError, match="not a list"):
        restore([1.0], Shake(x.shape), progress=False)


def test_noise_of_ones_own_operator_is_known(x):
    A = Shake(x[:4].shape)
    y = A(x[:4]) + 0.1 * torch.randn(A.out_shape, generator=torch.Generator().manual_seed(0))
    quick = {"changes": FEW, "progress": False}
    told = restore(y, A, sigma_y=0.1, **quick).x
    assert psnr(told, x[:4]) > psnr(restore(y, A, **quick).x, x[:4]) + 1


@pytest.mark.parametrize("name", ["make", "fixed"])
def test_an_operator_from_a_file(tmp_path, clean, own, capsys, x, name):
    y, out = tmp_path / "y.mkv", tmp_path / "out.mp4"
    assert run("degrade", clean, "-o", y, "--task", f"{own}:{name}") == 0
    assert f"--task {own}:{name}" in capsys.readouterr().out
    assert (video.read(y).x - degrade(x, f"{own}:{name}")).abs().max() < 1e-4
    assert run("restore", y, "-o", out, "--quiet") == 1
    assert "operator of its own" in capsys.readouterr().err
    assert run("restore", y, "-o", out, "--task", f"{own}:{name}", "--quiet") == 0
    assert psnr(video.read(out).x, x) > psnr(video.read(y).x, x) + 1


def test_an_operator_that_changes_the_size(tmp_path, clean, own, capsys):
    y = tmp_path / "y.mkv"
    assert run("degrade", clean, "-o", y, "--task", f"{own}:small") == 0
    assert run("restore", y, "-o", tmp_path / "a.mp4", "--task", f"{own}:small", "--quiet") == 0
    assert video.read(tmp_path / "a.mp4").x.shape == (8, 3, 48, 64), "the file knows the clean size"


def test_simulated_with_a_report(tmp_path, clean, own, capsys):
    page = tmp_path / "r.html"
    ask = ["--task", f"{own}:smear", "--simulate", "--report", page, "--quiet"]
    assert run("restore", clean, "-o", tmp_path / "a.mp4", *ask) == 0
    said = capsys.readouterr().out
    assert "\nbest " in said and "measurement" in said and "PSNR" in page.read_text()


@pytest.mark.parametrize(
    "name, says",
    [
        ("nothing", "defines no nothing: there are make, small, smear, loud, number"),
        ("number", "must return an operator"),
        ("loud", "a file holds [-1, 1]"),
    ],
)
def test_files_that_do_not_serve(tmp_path, clean, own, capsys, name, says):
    assert run("degrade", clean, "-o", tmp_path / "y.mkv", "--task", f"{own}:{name}") == 1
    assert says in capsys.readouterr().err and not (tmp_path / "y.mkv").exists()


def test_a_file_that_does_not_run(tmp_path, clean, capsys):
    (tmp_path / "bad.py").write_text("import nowhere_to_be_found")
    assert run("degrade", clean, "-o", tmp_path / "y.mkv", "--task", f"{tmp_path}/bad.py:make") == 1
    assert "does not run: ModuleNotFoundError" in capsys.readouterr().err
    assert run("degrade", clean, "-o", tmp_path / "y.mkv", "--task", "gone.py:make") == 1
    assert "gone.py does not exist" in capsys.readouterr().err


@dataclasses.dataclass(frozen=True)
class Worse(Degradation):
    "A subclass of the bundled degradation that does something else."

    def operator(self, shape):
        return Shake(shape)


def test_what_is_ones_own_is_never_noted_as_a_task(tmp_path, clean):
    for own in (Worse("deblur"), Shake, as_degradation(Shake((8, 3, 48, 64)))):
        degrade_file(clean, tmp_path / "y.mkv", own, overwrite=True)
        notes = video.probe(tmp_path / "y.mkv").notes
        assert "task" not in notes and notes["operator"]
        with pytest.raises(ValueError, match="operator of its own"):
            restore(tmp_path / "y.mkv", progress=False)
    assert "task" in to_notes(Degradation("deblur"))


# ----------------------------------------------------------------------------------- masks


@pytest.fixture
def scratch(tmp_path):
    a = np.full((48, 64), 255, np.uint8)
    a[20:26] = 0
    Image.fromarray(a).save(tmp_path / "mask.png")
    return tmp_path / "mask.png"


def bars(T, H=48, W=64):
    "White frames with a black bar that wanders."
    m = torch.ones(T, 3, H, W)
    for i in range(T):
        m[i, :, :, 6 * i : 6 * i + 6] = -1
    return m


@pytest.mark.parametrize("name", ["inpaint", "inpaint+"])
def test_a_mask_that_is_a_picture(tmp_path, clean, scratch, x, name, capsys):
    y, out = tmp_path / "y.mkv", tmp_path / "out.mp4"
    assert run("degrade", clean, "-o", y, "--mask", scratch, "--task", name) == 0
    back = video.read(y).x
    assert back[..., 20:26, :].abs().max() < 1e-4 and back[..., :20, :].abs().max() > 0.1
    assert run("restore", y, "-o", out, "--quiet") == 0, "the file knows its mask"
    assert video.read(out).x[..., 20:26, :].abs().mean() > 0.01
    scratch.rename(tmp_path / "elsewhere.png")
    assert run("restore", y, "-o", out, "--quiet", "--overwrite") == 1
    assert "give it with --mask" in capsys.readouterr().err
    ask = ["--mask", tmp_path / "elsewhere.png", "--task", name, "--quiet", "--overwrite"]
    assert run("restore", y, "-o", out, *ask) == 0


@pytest.mark.parametrize("kind", ["mask.mp4", "mask"])
def test_a_mask_that_moves(tmp_path, clean, x, kind):
    video.write(tmp_path / kind, bars(8))
    y = tmp_path / "y.mkv"
    assert run("degrade", clean, "-o", y, "--mask", tmp_path / kind) == 0
    back = video.read(y).x
    for i in range(8):
        assert back[i, :, :, 6 * i : 6 * i + 6].abs().max() < 1e-4
    assert run("restore", y, "-o", tmp_path / "out.mp4", "--quiet") == 0
    assert psnr(video.read(tmp_path / "out.mp4").x, x) > psnr(back, x) + 3


@pytest.mark.parametrize(
    ("name", "temporal"),
    [
        ("inpaint", "circular"),
        pytest.param("inpaint+", "circular", marks=pytest.mark.slow),
        ("inpaint+", "replicate"),
    ],
)
def test_a_moving_mask_over_windows(tmp_path, x, name, temporal):
    "Windows of a long clip take their own part of the mask, and degrading in pieces does too."
    long = torch.cat([x, x.flip(0), x])
    video.write(tmp_path / "mask.mkv", bars(24, 48, 200)[..., :64], lossless=True)
    d = Degradation(name, mask=PictureMask.read(tmp_path / "mask.mkv"), temporal=temporal)
    whole = degrade(long, d)
    src = video.write(tmp_path / "long.mkv", long, lossless=True)
    degrade_file(src, tmp_path / "y.mkv", d)
    assert (video.read(tmp_path / "y.mkv").x - whole).abs().max() < 1e-4
    out = restore(whole, d, chunk=16, overlap=8, progress=False).x
    assert psnr(out, long) > psnr(whole, long) + 3


def test_masks_that_do_not_fit(tmp_path, clean, scratch, capsys):
    Image.new("L", (32, 32), 255).save(tmp_path / "small.png")
    Image.new("L", (64, 48), 0).save(tmp_path / "black.png")
    video.write(tmp_path / "short.mp4", bars(5))
    for name, says in (
        ("small.png", "is 32x32, the frames are 48x64"),
        ("black.png", "black everywhere"),
        ("short.mp4", "has 5 frames, the clip has 8"),
        ("gone.png", "gone.png does not exist"),
    ):
        assert run("degrade", clean, "-o", tmp_path / "y.mkv", "--mask", tmp_path / name) == 1
        assert says in capsys.readouterr().err and not (tmp_path / "y.mkv").exists()
    assert run("degrade", clean, "-o", tmp_path / "y.mkv", "--mask", scratch, "--task", "sr") == 1
    assert "a mask belongs to inpaint" in capsys.readouterr().err


def test_a_mask_in_python(x, scratch):
    A = Mask(x.shape, (bars(8)[:, :1] > 0).double())
    d = what_happened(mask=scratch)
    assert d.task == "inpaint" and torch.equal(
        degrade(x, d)[..., 20:26, :], torch.zeros(8, 3, 6, 64)
    )
    assert psnr(restore(A(x), A, progress=False).x, x) > psnr(A(x), x) + 3


# ----------------------------------------------------------------------------------- steps

STEPS = """
from dataclasses import dataclass

def rule(problem, z_bar, eps, a_s, k):
    return a_s**0.5 * z_bar + (1 - a_s) ** 0.5 * eps

@dataclass(frozen=True)
class Half:
    share: float = 0.5

    def bind(self, problem):
        return lambda z_bar, eps, a_s, k: a_s**0.5 * z_bar + (self.share * (1 - a_s)) ** 0.5 * eps
"""


def test_steps_from_a_file(tmp_path, clean, x, capsys):
    (tmp_path / "my_steps.py").write_text(textwrap.dedent(STEPS))
    y = degrade(x, "sr")
    results = {}
    for name in ("rule", "Half"):
        step = f"{tmp_path}/my_steps.py:{name}"
        results[name] = restore(y, "sr", preset="paper", renoise=step, progress=False).x
        degrade_file(clean, tmp_path / "y.mkv", "sr", overwrite=True)
        out = tmp_path / f"{name}.mp4"
        ask = ["--preset", "paper", "--set", f"renoise={step}", "--quiet"]
        assert run("restore", tmp_path / "y.mkv", "-o", out, *ask) == 0
        assert psnr(video.read(out).x, results[name].clamp(-1, 1)) > 30
    assert not torch.equal(results["rule"], results["Half"])
    plain = restore(y, "sr", preset="paper", progress=False).x
    assert not torch.equal(results["rule"], plain)


def test_dotted_settings(tmp_path, clean, x, capsys):
    ask = ["restore", clean, "-o", tmp_path / "a.mp4", "--task", "sr", "--simulate", "--quiet"]
    assert run(*ask, "--set", "route.tau=.2", "--set", "renoise.scale=.5") == 0
    assert run(*ask, "--overwrite", "--set", "lowpass=NoFilter", "--preset", "paper") == 0
    capsys.readouterr()
    for wrong, says in (
        ("tau=.2", "route.tau"),
        ("lowpass=Nothing", "NoFilter"),
        ("sugar=1", "sugar"),
    ):
        assert run(*ask, "--overwrite", "--set", wrong) == 1
        assert says in capsys.readouterr().err


def test_another_step_is_another_job(tmp_path, clean):
    "A stopped run is not resumed with another rule, even under the same name."
    file = tmp_path / "my_steps.py"
    keys = set()
    for body in ("eps", "0.5 * eps"):
        file.write_text(f"def rule(problem, z_bar, eps, a_s, k):\n    return z_bar + {body}\n")
        keys.add(settings_for(Degradation("sr"), "paper", renoise=f"{file}:rule").key())
    assert len(keys) == 2
    operator = tmp_path / "op.py"
    for size in (3, 5):
        operator.write_text(
            "from visionxl.operators.tasks import Blur\ndef make(s):\n    return "
            f"Blur.box(s, {size})\n"
        )
        keys.add(settings_for(as_degradation(f"{operator}:make")).key())
    assert len(keys) == 4


OWN = """
from visionxl.operators.tasks import Blur
from visionxl.steps.renoise import Renoise
SIZE = 3
class Plain:
    def __init__(self):
        self.inner = Renoise()
    def bind(self, problem):
        return self.inner.bind(problem)
def make(shape):
    return Blur.box(shape, SIZE)
"""
KEYS = """
import sys
import torch
from visionxl.app.degradation.own import OwnOperator, as_degradation
from visionxl.app.degradation.unknown import FoundOperator
from visionxl.app.settings import settings_for
from visionxl.extras.estimates.blind import FoundBlur
file = sys.argv[1]
blur = FoundBlur("motion", {"length": 9.0, "angle": 30.0}, torch.ones(3, 3) / 9, 1.0, 2.0)
found = OwnOperator("a blur", FoundOperator(blur), "motion 9 30")
print(settings_for(as_degradation(f"{file}:make")).key())
print(settings_for(found).key())
print(settings_for(as_degradation("denoise"), "paper", renoise=f"{file}:Plain").key())
"""


def test_keys_are_the_same_in_another_process(tmp_path):
    "Addresses of functions and objects were in them, so such a run could never be resumed."
    file = tmp_path / "mine.py"

    def keys():
        ask = [sys.executable, "-c", KEYS, str(file)]
        return subprocess.run(ask, capture_output=True, text=True, check=True).stdout.split()

    file.write_text(OWN)
    first = keys()
    assert keys() == first and len(set(first)) == 3
    other = OWN.replace("SIZE = 3", "SIZE = 5").replace("self.inner.bind", "Renoise().bind")
    file.write_text(other)
    assert [a == b for a, b in zip(keys(), first)] == [False, True, False]


def test_a_task_given_as_operator_is_nearly_as_good(x):
    "What `best` knows about a task it mostly finds out about the operator."
    A = task("inpaint", x.shape)
    y = A(x)
    named, plain = restore(y, "inpaint", progress=False).x, restore(y, A, progress=False).x
    assert psnr(plain, x) > psnr(named, x) - 2 and json.dumps(to_notes(as_degradation(A)))
    mean = TemporalMean(x.shape, 3)
    assert psnr(restore(mean(x), mean, progress=False).x, x) > psnr(mean(x), x)
