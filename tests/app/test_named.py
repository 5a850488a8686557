"Operators by name: in Python, in files and on the command line, there and back through the note."

import pytest
import torch
from app.exact import FEW, Plain, psnr, run

from visionxl import video
from visionxl.app.degradation.measurement import degrade
from visionxl.app.degradation.notes import from_notes, to_notes
from visionxl.app.degradation.own import as_degradation
from visionxl.app.degradation.said import what_happened
from visionxl.app.restore import restore
from visionxl.operators.fast.spectral import spectral_cg
from visionxl.operators.known.properties import describe
from visionxl.operators.linear import LinearOperator
from visionxl.operators.named import NAMED, Chain, is_chain, options_of
from visionxl.operators.tasks import ALL_TASKS
from visionxl.show.report import enlarge

LINES = [
    "gaussian:sigma=1.5:size=15",
    "motion:length=7:angle=30",
    "ellipse:along=2:across=0.8:angle=60",
    "defocus:radius=2.5",
    "pool:factor=2",
    "box:factor=1.5",
    "bicubic:factor=2.5",
    "lanczos:factor=3",
    "grey",
    "bayer:pattern=GBRG",
    "holes:keep=0.6:seed=3",
    "rolling:delay=0.9",
    "every:step=2",
    "mean:window=3:temporal=replicate",
    "motion:length=5:angle=120,bicubic:factor=1.7",
    "mean:window=3,motion:length=5",
    "rolling:delay=0.5,gaussian:sigma=1",
    "grey,lanczos:factor=2",
    "every:step=3,bayer",
]


pytestmark = pytest.mark.usefixtures("plain_frames")


@pytest.fixture(scope="module")
def x():
    return video.fit(video.sample("flower", 6).x, 48, 64)


def test_every_name_is_tried():
    assert {part.split(":")[0] for line in LINES for part in line.split(",")} == set(NAMED)
    assert not set(NAMED) & set(ALL_TASKS), "a task is no chain"


@pytest.mark.parametrize("line", LINES)
def test_there_and_back_through_a_file(tmp_path, x, line, capsys):
    clean = video.write(tmp_path / "clean.mkv", x, 24, lossless=True)
    assert run("degrade", clean, "-o", tmp_path / "y.mkv", "--task", line) == 0
    assert "--task" not in capsys.readouterr().out, "the file says what happened"
    y = video.read(tmp_path / "y.mkv")
    assert (y.x - degrade(x, line).clamp(-1, 1)).abs().max() < 1e-4
    assert y.fps == pytest.approx(24 * Chain(line).rate)
    quick = ["--preset", "paper", "--set", "consistency.steps=20", "--set", "route.steps=12"]
    quick += ["--set", "result=Consistent"]
    assert run("restore", tmp_path / "y.mkv", "-o", tmp_path / "out.mkv", *quick, "--quiet") == 0
    out = video.read(tmp_path / "out.mkv")
    T = Chain(line).clean_shape((len(y.x), 48, 64))[0]  # what was left out at the end is lost
    assert out.x.shape == x[:T].shape and out.fps == pytest.approx(24)
    A = Chain(line)(tuple(out.x.shape))
    nothing = (A(torch.zeros_like(out.x)) - y.x).square().mean()
    assert (A(out.x) - y.x).square().mean() < nothing / 10


@pytest.mark.parametrize("line", ["box:factor=1.5", "motion:length=5,bicubic:factor=2"])
def test_best_is_ahead_of_the_measurement(x, line):
    x = x[:3]
    y = degrade(x, line)
    out = restore(y, line, prior=Plain(), changes=FEW, progress=False).x
    clean = x[..., : out.shape[-2], : out.shape[-1]]
    measured = enlarge(y, *out.shape[-2:])[..., : clean.shape[-2], : clean.shape[-1]]
    assert psnr(out[..., : clean.shape[-2], : clean.shape[-1]], clean) > psnr(measured, clean) + 0.2


def test_noise_and_notes(x):
    d = what_happened("motion:length=5", sigma_y=0.05)
    assert isinstance(d.operator(tuple(x.shape)), LinearOperator) and d.sigma_y == 0.05
    assert from_notes(to_notes(d)) == d
    with pytest.raises(ValueError, match="no longer true"):
        from_notes(to_notes(as_degradation("box:factor=2")) | {"clean": [48, 64]}, (48, 64))
    with pytest.raises(ValueError, match="damaged"):
        from_notes({"operator": "motion:speed=3"})


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("motion:length=5,blurr", "no operator 'blurr': there are gaussian, motion"),
        ("motion:length", "it takes length=9.0"),
        ("grey:x=1", "it takes no numbers"),
        ("every:step=two", "needs a number"),
        ("motion:length=0", "1 pixel or more"),
        ("box:factor=0.5", "give a number from 1 to"),
        ("every:step=1.5", "must be a whole number"),
        ("gaussian:size=2.5", "must be a whole number"),
        ("holes:seed=1.5", "must be a whole number"),
        ("bicubic:factor=0", "must be 1 or more"),
        ("motion:length=9999", "too wide for frames of 48x64: give at most 64"),
        ("ellipse:along=65", "too wide"),
        ("defocus:radius=500", "too wide"),
        ("motion:length=5:length=7", "said twice"),
        ("bayer:pattern=RGGX", "four of R, G and B"),
        ("blurr", "an operator by name"),
    ],
)
def test_what_is_not_understood(tmp_path, x, line, said, capsys):
    clean = video.write(tmp_path / "clean.mkv", x[:3], lossless=True)
    assert run("degrade", clean, "-o", tmp_path / "y.mkv", "--task", line) == 1
    assert said in capsys.readouterr().err and not (tmp_path / "y.mkv").exists()


def test_words_that_are_no_chain():
    assert not any(map(is_chain, (*ALL_TASKS, "my.py:grey", "", None, 3, "Grey")))
    assert is_chain("grey") and is_chain("mean:window=3,grey")
    assert options_of("grey") == {}


@pytest.mark.parametrize("line", ["box:factor=1.5", "grey", "bicubic:factor=2"])
def test_more_steps_than_there_are_eigenvalues(x, line):
    A = Chain(line)(tuple(x.shape))
    out, history = spectral_cg(A, A(x), torch.zeros_like(x), 30)
    assert out.isfinite().all() and float((A(out) - A(x)).abs().max()) < 0.05
    assert history[-1] < history[0] / 50


@pytest.mark.parametrize("frames", [8, 9, 10])
def test_a_middle_frame_that_is_left_out(frames):
    "Every second frame, of which the middle one may be none: the operator is known all the same."
    A = Chain("every:step=2")((frames, 3, 16, 24))
    assert describe(A, "cpu").recipe == "between"


@pytest.mark.parametrize("name", ["every:step=2", "pool:factor=2,every:step=2"])
def test_frames_that_were_left_out_come_back_by_default(plain_frames, tears, name):
    "The preset `best`, whose steps see frames that nobody measured."
    x = tears[:7, :, :32, :48]
    y = degrade(x, name)
    got = restore(y, name, changes=FEW, progress=False).x
    assert got.shape == x.shape and psnr(Chain(name)(x.shape)(got), y) > 35
