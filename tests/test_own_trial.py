"""The trial of a researcher who has read the site alone, again and again: `own_trial.py`."""

import importlib
import re
from pathlib import Path

import own_trial
import pytest
import torch

from visionxl import video
from visionxl.app.cli.main import main
from visionxl.app.degradation.measurement import degrade
from visionxl.app.restore import restore
from visionxl.compare.rivals import admm_tv, cg_only, motion_tv, upsample
from visionxl.measure.experiment.grid import Grid
from visionxl.operators.algebra import Compose
from visionxl.operators.known.checks import check_adjoint
from visionxl.operators.linear import Identity, LinearOperator
from visionxl.operators.tasks import task
from visionxl.presets import choose
from visionxl.prior.check import check_prior
from visionxl.prior.latent import Prior
from visionxl.solver import solve
from visionxl.steps.consistency import cg, proximal

FILE = Path(own_trial.__file__)
ROOT = FILE.parents[1]
OPERATORS = ("Interlaced", "dark_corners", "Scratched", "Fourier")
FEW = {"route.steps": 8}  # two or three steps of the loop
QUICK = FEW | {"start.what": "Regularised"}  # and a start that takes a third of the time
PRIORS = ("soft_prior", "pixel_prior", "Flat")
STEPS = {"renoise": "two_draws", "consistency": "landweber", "start": "from_the_measurement"}


@pytest.fixture(scope="module")
def x():
    return video.sample("tears", 3).x[..., 40:88, 80:144].contiguous()  # (3, 3, 48, 64)


@pytest.fixture(scope="module")
def prior():
    return Prior.load("tiny", device="cpu")


def own(name):
    return getattr(own_trial, name)


def psnr(a, b):
    return float(-10 * torch.log10(((a.clamp(-1, 1) - b) / 2).square().mean()))


def solved(*args, **kw):
    *_, last = solve(*args, **kw)
    return last.x


def run(*args):
    return main([str(a) for a in args])


def sections():
    "{thing of one's own: lines of code}."
    parts = re.split(r"^# own: (.+)$", FILE.read_text(), flags=re.M)[1:]
    return {
        name: sum(1 for line in text.splitlines() if line.strip())
        for name, text in zip(parts[::2], parts[1::2])
    }


def test_the_table_tells_the_truth():
    "CONTRIBUTING.md says how many lines each thing takes."
    text = (ROOT / "CONTRIBUTING.md").read_text()
    said = dict(re.findall(r"^\| ([a-z][^|]+?) \| (\d+) \|", text, flags=re.M))
    assert {name: int(n) for name, n in said.items()} == sections()


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_give_one_answer_by_every_way(name, x, prior):
    make = own(name)
    A = make(x.shape)
    check_adjoint(A)
    y = A(x)
    out = solved(y, A, prior, "best", QUICK)
    for said in (A, make, f"{FILE}:{name}"):
        again = restore(y, said, size=x.shape[-2:], prior=prior, changes=QUICK, progress=False).x
        assert torch.equal(again, out.clamp(*again.aminmax())) or torch.allclose(again, out)
    assert psnr(out, x) > psnr(A.AT(y), x) + 5


@pytest.mark.parametrize("name", ["Interlaced", "dark_corners"])
def test_operators_on_the_command_line(name, x, tmp_path):
    clean = video.write(tmp_path / "clean.mkv", x, 24, lossless=True)
    y, out, said = tmp_path / "y.mkv", tmp_path / "out.mkv", f"{FILE}:{name}"
    assert run("degrade", clean, "-o", y, "--task", said) == 0
    assert run("restore", y, "-o", out, "--task", said, "--quiet") == 0
    assert psnr(video.read(out).x, x) > 30


@pytest.mark.parametrize("slot, name", STEPS.items())
def test_steps(slot, name, x, prior, tmp_path):
    A = task("sr", x.shape)
    y = A(x)
    own_step = solved(y, A, prior, "paper", FEW, **{slot: own(name)})
    assert not torch.equal(own_step, solved(y, A, prior, "paper", FEW))
    few = dict(preset="paper", prior=prior, changes=FEW, progress=False)
    again = restore(y, "sr", **few, **{slot: own(name)}).x
    assert torch.equal(again, own_step)
    measured = video.write(tmp_path / "y.mkv", y, 24, lossless=True)
    changed = ["--preset", "paper", "--set", f"{slot}={FILE}:{name}", "--quiet"]
    changed += ["--set", "route.steps=8"]
    assert run("restore", measured, "-o", tmp_path / "o.mkv", "--task", "sr", *changed) == 0


def test_a_hook_sees_every_state(x, prior, tmp_path, capsys):
    y = task("sr", x.shape)(x)
    seen, wanted = [], choose("paper", changes=FEW).schedule(prior).sampling
    restore(y, "sr", preset="paper", changes=FEW, progress=False, on_state=seen.append)
    assert [s.t for s in seen] == list(wanted) and len(seen) > 1
    measured = video.write(tmp_path / "y.mkv", y, 24, lossless=True)
    asked = ["--task", "sr", "--preset", "paper", "--set", "route.steps=8", "--quiet"]
    asked += ["--on-state", f"{FILE}:watch"]
    assert run("restore", measured, "-o", tmp_path / "o.mkv", *asked) == 0
    assert capsys.readouterr().out.count("timestep") == len(seen)
    with pytest.raises(TypeError, match=r"on_state=3: give a function"):
        restore(y, "sr", on_state=3, progress=False)


@pytest.mark.parametrize("name", PRIORS)
def test_priors(name, x, tmp_path):
    A, prior = task("sr", x.shape), own(name)()
    y = A(x)
    if name != "pixel_prior":  # which is not trained, and so means nothing
        print(check_prior(prior, x))
    out = solved(y, A, prior, "paper", {"route.tau": 0.1})
    changes = {"route.tau": 0.1}
    again = restore(y, "sr", preset="paper", prior=prior, changes=changes, progress=False).x
    assert torch.equal(again, out)
    measured = video.write(tmp_path / "y.mkv", y, 24, lossless=True)
    asked = ["--task", "sr", "--quiet", "--prior", f"{FILE}:{name}", "--set", "route.tau=0.1"]
    if name != "pixel_prior":
        assert run("restore", measured, "-o", tmp_path / "o.mkv", *asked) == 0


def test_a_method_in_the_tables(x, tmp_path):
    grid = Grid(
        tmp_path,
        clips={"tears": x},
        operators=("sr", f"{FILE}:Interlaced"),
        methods=("measured", f"{FILE}:median"),
        metrics=("PSNR", "SSIM"),
        say=lambda line: None,
    )
    rows = grid.table()
    assert len(rows) == 4 and all(10 < r["PSNR"] < 60 for r in rows)
    assert str(rows).splitlines()[0].split()[:4] == ["method", "task", "prior", "PSNR"]
    assert rows._repr_markdown_() == rows.markdown() and r"\toprule" in rows.latex()
    with pytest.raises(ValueError, match="metric PSNRR is unknown: choose among PSNR"):
        Grid(tmp_path, clips={"tears": x}, metrics=("PSNRR",))


def test_an_operator_in_the_tables_is_measured_once(x, tmp_path):
    A, said = own("dark_corners")(x.shape), []
    for _ in range(2):  # the second time it knows what was found out about it
        grid = Grid(tmp_path, {"tears": x}, {"dark": A}, "cg", metrics=("PSNR",), say=said.append)
        assert grid.table()[0]["task"] == "dark"
    assert len(said) == 1


def brighter(v):
    return torch.nn.functional.avg_pool2d(1.1 * v, 3, 1, 1)


ENTRIES = {
    "solve": lambda y, f, prior: next(solve(y, f, prior)),
    "cg": lambda y, f, prior: cg(f, y, y),
    "proximal": lambda y, f, prior: proximal(f, y, None, 0.1),
    "total variation": lambda y, f, prior: admm_tv(y, f),
    "along the motion": lambda y, f, prior: motion_tv(y, f),
    "cg alone": lambda y, f, prior: cg_only(y, f),
    "measured": lambda y, f, prior: upsample(y, f),
    "dot test": lambda y, f, prior: check_adjoint(f),
    "algebra": lambda y, f, prior: Compose(Identity(y.shape), f),
}
MAKERS = {
    "restore": lambda x, f, folder: restore(x, f, progress=False),
    "degrade": lambda x, f, folder: degrade(x, f),
    "Grid": lambda x, f, folder: Grid(folder, {"a": x}, {"f": f}, "cg", say=str).table(),
}


@pytest.mark.parametrize("entry", ENTRIES)
def test_a_function_is_no_operator(entry, x, prior):
    with pytest.raises(TypeError, match=r"brighter is no operator.*from_function\(f, shape\)"):
        ENTRIES[entry](x, brighter, prior)


@pytest.mark.parametrize("entry", MAKERS)
def test_a_function_of_the_video_is_none_of_the_shape(entry, x, tmp_path):
    with pytest.raises(TypeError, match=r"function of the video.*from_function\(f, shape\)"):
        MAKERS[entry](x, brighter, tmp_path)
    with pytest.raises(ZeroDivisionError):  # its own mistake is not hidden
        MAKERS[entry](x, lambda shape: 1 / 0, tmp_path)


def test_a_class_is_no_operator(x, prior):
    with pytest.raises(TypeError, match=r"Interlaced is a class: Interlaced\(shape\) makes"):
        next(solve(x, own("Interlaced"), prior))


def test_what_was_measured_is_the_measurement_where_sizes_agree(x):
    A = LinearOperator.from_function(brighter, x.shape)
    y = A(x)
    assert torch.equal(upsample(y, A), y)
    half = LinearOperator.from_function(lambda v: 0.5 * v, x.shape)
    assert torch.allclose(upsample(half(x), half), x, atol=1e-5), "a gain is undone"


def test_a_method_in_the_bench(tmp_path, capsys):
    bench = ["--size", "48", "--frames", "3"]
    bench += ["--count", "1", "--tasks", "sr", "--methods", "measured", "--priors"]
    bench += ["--method", f"{FILE}:median", "--clips", Path(video.__file__).parent / "assets"]
    importlib.import_module("quality").main([*map(str, bench), "--out", str(tmp_path)])
    said = capsys.readouterr().out
    assert "own_trial.py:median" in said and "0 of 0" not in said


def test_guidance_through_the_bundled_prior(x, prior):
    A = task("sr", x.shape)
    y = A(x)
    free = dict(consistency=own("keep"), encode=own("keep_latents"), lowpass="NoFilter")
    led = solved(y, A, prior, "paper", renoise=own("guided"), **free)
    alone = solved(y, A, prior, "paper", **free)
    miss = [float((A(v) - y).square().mean().sqrt()) for v in (led, alone)]
    print(f"misses the measurement by {miss[0]:.4f}, the prior alone by {miss[1]:.4f}")
    assert miss[0] < 0.8 * miss[1]


def test_batches_and_types(x, prior):
    A = task("sr", x.shape)
    y = A(x)
    out = solved(y, A, prior, "paper", FEW)
    assert torch.equal(solved(torch.stack([y, y]), A, prior, "paper", FEW)[1], out)
    assert psnr(solved(y.bfloat16(), A, prior, "paper", FEW), out) > 40
    with pytest.raises(ValueError, match="looks like a batch of 2 clips: restore takes one"):
        restore(torch.stack([y, y]), "sr", progress=False)
    F = own("Fourier")(x.shape)
    with pytest.raises(TypeError, match="measures complex numbers: give them whole"):
        next(solve(F(x).real, F, prior))


def test_what_would_mislead_is_said(x, prior):
    A = task("sr", x.shape)
    y = A(x)
    with pytest.raises(FloatingPointError, match="consistency=OwnStep.*returned NaN"):
        list(solve(y, A, prior, "paper", consistency=lambda p, x_hat, a_t: x_hat / 0 * 0))
    with pytest.raises(TypeError, match=r"DenoiserPrior\(f\) makes a prior"):
        next(solve(y, A, own("soft")))
    with pytest.raises(ValueError, match=r"route.tau=0.6 starts .* choose route.tau <= 0.45"):
        next(solve(y, A, prior, "paper", {"route.tau": 0.6}))
    with pytest.raises(ValueError, match=r"consistency.inner.trust=0.2 has no effect"):
        next(solve(y, A, prior, "best", {"consistency.inner.trust": 0.2}))
    with pytest.warns(UserWarning, match="if your clip is in"):
        next(solve(A(x / 2 + 0.5), A, prior, "paper"))
