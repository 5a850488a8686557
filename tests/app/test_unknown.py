"""What nobody measured is read off the measurement: noise, blur, window, hidden pixels."""

import pytest
import torch
from app.exact import Plain, psnr, run

from visionxl import video
from visionxl.app.degradation.masks import PictureMask, is_box
from visionxl.app.degradation.measurement import LOSS, degrade
from visionxl.app.degradation.notes import from_notes, to_notes
from visionxl.app.degradation.own import OwnOperator
from visionxl.app.degradation.tasks import Degradation
from visionxl.app.degradation.unknown import Unknown, find_out, mask_of_colour, take_unknown
from visionxl.app.files import plan
from visionxl.app.restore import restore
from visionxl.extras.estimates.blind import kernel_likeness
from visionxl.media.frames import as_in_file
from visionxl.operators.blurs import Blur2d
from visionxl.operators.cameras import Resize, motion_kernel
from visionxl.operators.tasks import TemporalMean

pytestmark = pytest.mark.usefixtures("plain_frames")


@pytest.fixture(scope="module")
def x():
    return video.fit(video.sample("flower", 9).x, 64, 96)


def test_words_become_questions():
    numbers = {"sigma_y": "estimate", "mask_color": "#102030", "window": 5}
    assert take_unknown(numbers) == ({"window": 5}, Unknown(True, None, "#102030"))
    assert take_unknown({"blind": "both"}, "deblur+") == ({}, Unknown(blind="both"))
    assert take_unknown({}, "denoise+")[1].noise and not take_unknown({}, "deblur")[1].noise
    for wrong in (dict(blind="all"), dict(colour="#12345"), dict(colour="#gggggg")):
        with pytest.raises(ValueError):
            Unknown(**wrong)


FEW = ("--set", "route.steps=2", "--set", "consistency.steps=1")


@pytest.mark.parametrize("kernel", ["box", "bicubic", "lanczos"])
def test_how_a_film_was_made_smaller(tmp_path, capsys, kernel):
    "Found on the command line, said in the result's note, and used."
    x = video.sample("tears", 2).x
    video.write(tmp_path / "y.mkv", Resize.by(tuple(x.shape), 2, kernel)(x), lossless=True)
    line = ["restore", tmp_path / "y.mkv", "-o", tmp_path / "x.mkv", "--task", "sr", "--quiet"]
    assert run(*line, "--factor", 2, "--blind", "spatial", "--preset", "paper", *FEW) == 0
    found = video.probe(tmp_path / "x.mkv").notes["found"]["operator"]
    assert found == (kernel if kernel == "box" else f"{kernel}:factor=2")
    assert video.probe(tmp_path / "x.mkv").height == 192


def test_denoise_estimates_its_noise(x):
    y = as_in_file(degrade(x, Degradation("denoise", sigma_y=0.15)))
    done = restore(y, "denoise", prior=Plain(), progress=False).x
    assert psnr(done, x) > psnr(y, x) + 6
    told = restore(y, "denoise", prior=Plain(), progress=False, sigma_y=0.15).x
    assert abs(psnr(done, x) - psnr(told, x)) < 0.5
    with pytest.raises(ValueError, match="give sigma_y"):
        degrade(x, "denoise")


def test_denoise_from_the_command_line(tmp_path, x, capsys):
    clean = video.write(tmp_path / "clean.mkv", x, lossless=True)
    assert run("degrade", clean, "-o", tmp_path / "y.mkv", "--task", "denoise") == 1
    assert "give sigma_y" in capsys.readouterr().err
    more = ["--task", "denoise", "--sigma-y", "0.15"]
    assert run("degrade", clean, "-o", tmp_path / "y.mkv", *more) == 0
    out = tmp_path / "out.mkv"
    asked = ["--task", "denoise", "--sigma-y", "estimate", "--quiet"]
    assert run("restore", tmp_path / "y.mkv", "-o", out, *asked) == 0
    assert psnr(video.read(out).x, x) > 25
    with pytest.raises(SystemExit):
        run("restore", tmp_path / "y.mkv", "-o", out, "--sigma-y", "loud")
    assert "neither a number nor estimate" in capsys.readouterr().err


def test_boxes_are_noted_with_the_file(x):
    d = Degradation("inpaint", mask=PictureMask.box("20,10,32,20", (64, 96)))
    assert from_notes(to_notes(d), (64, 96)) == d
    assert is_box("1,2,3,4") and not is_box("a.png")
    with pytest.raises(ValueError, match="does not fit"):
        PictureMask.box("90,10,32,20", (64, 96))
    with pytest.raises(ValueError, match="no pixel has the colour"):
        mask_of_colour(x, "#ff00ff")


def test_an_unknown_blur_in_a_file(tmp_path, x):
    big = video.fit(video.sample("tears", 9).x, 96, 160)
    blurred = Blur2d(tuple(big.shape), motion_kernel(7, 60))(big)
    video.write(tmp_path / "y.mkv", blurred, lossless=True)
    p = plan.plan_file(tmp_path / "y.mkv", "deblur", blind="spatial", prior=Plain())
    d = p.settings.degradation
    assert isinstance(d, OwnOperator) and d.task.startswith("motion blur: length ")
    assert d.make.blur.numbers["length"] == pytest.approx(7, abs=0.1)
    words = ["--task", "deblur", "--blind", "spatial", "--blind-kernel", "free"]
    out, report = tmp_path / "out.mp4", tmp_path / "page.html"
    video.write(tmp_path / "few.mkv", blurred[:2, :, :64, :96], lossless=True)
    more = ["--quiet", "--report", report]
    assert run("restore", tmp_path / "few.mkv", "-o", out, *words, *more) == 0
    found = video.probe(out).notes["found"]
    assert found["blur"] == "free blur: size 31.00"
    kernel = torch.tensor(found["kernel"], dtype=torch.float64)
    assert kernel_likeness(kernel, motion_kernel(7, 60)) > 0.8
    assert "kernel of 31 by 31 pixels" in report.read_text()
    with pytest.raises(ValueError, match="leave out --simulate"):
        plan.plan_file(tmp_path / "y.mkv", "deblur", blind="spatial", simulate=True)
    with pytest.raises(ValueError, match="take deblur"):
        find_out(Degradation("inpaint"), Unknown(blind="spatial"), lambda: iter(blurred))


def test_a_free_kernel_is_refused_where_the_film_cannot_tell(x, tmp_path, capsys):
    free = Unknown(blind="spatial", kernel="free")
    with pytest.raises(ValueError, match="nearly flat"):
        find_out(Degradation("deblur"), free, lambda: iter(0 * x))
    video.write(tmp_path / "y.mkv", x, lossless=True)
    words = ["--task", "deblur", "--blind-kernel", "free", "--quiet"]
    assert run("restore", tmp_path / "y.mkv", "-o", tmp_path / "out.mp4", *words) == 1
    assert "--blind spatial" in capsys.readouterr().err
    with pytest.raises(ValueError, match="choose one of any, gaussian"):
        Unknown(blind="spatial", kernel="heart")


def test_an_unknown_window():
    clip = video.fit(video.sample("tears", 25).x, 48, 80)
    y = as_in_file(TemporalMean(tuple(clip.shape), 5)(clip))
    d = find_out(Degradation("deblur+"), Unknown(blind="temporal"), lambda: iter(y))
    assert (d.task, d.window) == ("deblur+", 5)
    d = find_out(Degradation("deblur+"), Unknown(blind="temporal"), lambda: iter(as_in_file(clip)))
    assert d.task == "deblur"


def test_what_a_codec_took_is_known(tmp_path, x):
    "A deblurred mp4 is better than it was: without being told it would be full of false waves."
    blurred = degrade(x, Degradation("deblur", sigma=2))
    film, exact = tmp_path / "y.mp4", tmp_path / "y.mkv"
    video.write(film, blurred)
    video.write(exact, blurred, lossless=True)
    assert video.probe(film).lossy and not video.probe(exact).lossy
    asked = ["--task", "deblur", "--sigma", 2, "--quiet"]
    assert run("restore", film, "-o", tmp_path / "out", *asked) == 0
    done, before = (video.read(p).x for p in (tmp_path / "out", film))
    assert psnr(done, x) > psnr(before, x) + 2
    d = plan.plan_file(film, "deblur", sigma=2, prior=Plain()).settings.degradation
    assert d.sigma_y == pytest.approx((LOSS**2 + (2 / 255) ** 2 / 12) ** 0.5)
    d = plan.plan_file(exact, "deblur", sigma=2, prior=Plain()).settings.degradation
    assert d.sigma_y < 1e-5
