"The command line: what works, and every bad input answered by one sentence, with nothing written."

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from app.exact import Gaussian, run
from PIL import Image

from visionxl import __version__, video
from visionxl.prior.latent import Prior
from visionxl.prior.models.model_files import DEFAULT

real_load = Prior.load.__func__


@pytest.fixture(autouse=True)
def no_weights(monkeypatch):
    monkeypatch.setattr(
        Prior,
        "load",
        classmethod(lambda cls, name: Gaussian() if name == DEFAULT else real_load(cls, name)),
    )


@pytest.fixture
def clean(tmp_path, x):
    return str(video.write(tmp_path / "clean.mkv", x, 24, lossless=True))


@pytest.mark.parametrize("task", ["deblur", "inpaint+"])
@pytest.mark.parametrize("kind", [".mkv", ".mp4"])
def test_degrade_then_restore(tmp_path, clean, capsys, task, kind):
    y, out = tmp_path / f"y{kind}", tmp_path / "out.mp4"
    assert run("degrade", clean, "-o", y, "--task", task, "--seed", 3) == 0
    assert run("restore", y, "-o", out, "--task", task, "--seed", 3, "--quiet") == 0
    said = capsys.readouterr()
    assert "8 frames of 64x48" in said.out
    warned = (
        ""
        if task == "inpaint+"
        else "visionxl: seed=3 changes nothing: this preset draws no noise\n"
    )
    assert said.err == warned, "a seed without effect is said, one of a mask is not"
    p = video.probe(out)
    assert (p.frames, p.height, p.width, p.fps) == (8, 48, 64, 24)
    assert (p.codec, p.bits) == ("hevc", 10), "of 16 bits come 10"


def test_same_seed_same_bytes(tmp_path, clean):
    for name, seed in ("a", 0), ("b", 0), ("c", 1):
        assert (
            run(
                "restore",
                clean,
                "-o",
                tmp_path / f"{name}.mp4",
                "--task",
                "deblur",
                "--simulate",
                "--preset",
                "paper",
                "--seed",
                seed,
                "--frames",
                2,
                "--quiet",
            )
            == 0
        )
    a, b, c = ((tmp_path / f"{n}.mp4").read_bytes() for n in "abc")
    assert a == b and a != c


def test_simulate_prints_metrics_and_writes_a_page(tmp_path, clean, capsys):
    assert (
        run(
            "restore",
            clean,
            "-o",
            tmp_path / "frames",
            "--task",
            "sr",
            "--simulate",
            "--frames",
            3,
            "--height",
            46,
            "--width",
            64,
            "--report",
            tmp_path / "r.html",
        )
        == 0
    )
    said = capsys.readouterr()
    assert re.search(r"best +\d+\.\d+ +0\.\d+", said.out)
    assert "%" not in said.err, "no bar without a terminal"
    assert (
        len(list((tmp_path / "frames").glob("*.png"))) == 3
        and "PSNR" in (tmp_path / "r.html").read_text()
    )
    assert video.read(tmp_path / "frames").x.shape == (3, 3, 46, 64)


def test_info_evaluate_version_help(tmp_path, clean, capsys):
    assert (
        run("degrade", clean, "-o", tmp_path / "y.mkv", "--task", "sr") == 0
        and run("info", tmp_path / "y.mkv") == 0
    )
    assert "16x12" in capsys.readouterr().out
    assert (
        run("info", tmp_path / "y.mkv", "--json") == 0
        and json.loads(capsys.readouterr().out)["notes"]["task"] == "sr"
    )
    assert (
        run("evaluate", clean, clean, "--json") == 0
        and len(json.loads(capsys.readouterr().out)["rows"]) == 1
    )
    for args in (
        ["--version"],
        ["--help"],
        *([c, "--help"] for c in ("restore", "degrade", "demo", "info", "evaluate")),
    ):
        with pytest.raises(SystemExit) as e:
            run(*args)
        said = capsys.readouterr().out
        assert e.value.code == 0 and (
            __version__ in said if args == ["--version"] else "example" in said
        )


def test_demo(tmp_path, capsys):
    assert run("demo", "-o", tmp_path / "demo", "--frames", 2, "--task", "sr", "--quiet") == 0
    said = capsys.readouterr().out
    assert all(
        word in said
        for word in ("CG alone", "\nbest ", "restored.mp4", "before_after.png", "report.html")
    )


def test_as_a_module():
    p = subprocess.run(
        [sys.executable, "-m", "visionxl", "info", "nowhere.mp4"], capture_output=True, text=True
    )
    assert (
        p.returncode == 1
        and p.stdout == ""
        and p.stderr.count("\n") == 1
        and "nowhere.mp4 does not exist" in p.stderr
    )


def material(d, x):
    "Good and bad files to point the command at."

    def folder(name, sizes):
        (d / name).mkdir()
        for i, (h, w) in enumerate(sizes):
            Image.fromarray(np.full((h, w, 3), 99, np.uint8)).save(d / name / f"{i}.png")

    good = video.write(d / "good.mp4", x).read_bytes()
    (d / "cut.mp4").write_bytes(good[: len(good) // 2])
    (d / "text.mp4").write_text("Dear diary, this is no video.")
    (d / "zero.mp4").write_bytes(b"")
    (d / "taken.mp4").write_text("mine")
    folder("void", [])
    folder("mixed", [(8, 8), (8, 9)])
    folder("one", [(16, 16)])
    folder("six", [(16, 16)] * 6)
    video.write(d / "y.mkv", x, lossless=True, task="inpaint", seed=9)


R = ["restore", "-o", "out.mp4", "--quiet"]
BAD = [  # arguments, and what the sentence must say
    (R + ["nowhere.mp4", "--task", "sr"], "nowhere.mp4 does not exist"),
    (R + ["text.mp4", "--task", "sr"], "text.mp4 cannot be read as a video"),
    (R + ["zero.mp4", "--task", "sr"], "zero.mp4"),
    (R + ["cut.mp4", "--task", "sr"], "cut.mp4 is truncated"),
    (R + ["void", "--task", "sr"], "void holds no frames"),
    (R + ["mixed", "--task", "sr"], "8x9"),
    (R + ["one", "--task", "deblur+"], "1 frame cannot hold the average over 7"),
    (R + ["six", "--task", "sr+", "--simulate"], "6 frames cannot hold the average over 7"),
    (R + ["good.mp4", "--task", "upscale"], "no task 'upscale': choose one of deblur, sr"),
    (R + ["good.mp4"], "which --task?"),
    (
        R + ["good.mp4", "--task", "sr", "--preset", "swift"],
        "preset 'swift' is unknown: choose one of",
    ),
    (R + ["good.mp4", "--task", "sr", "--prior", "huge"], "no prior 'huge': choose 'white'"),
    (R + ["good.mp4", "--task", "sr", "--set", "renoise.eta=9"], "eta=9"),
    (R + ["good.mp4", "--task", "sr", "--set", "sugar=1"], "sugar"),
    (R + ["good.mp4", "--set", "route.tau=0.1", "renoise.eta=0"], "a --set of its own"),
    (R + ["good.mp4", "--task", "sr", "--start", "8"], "start=8"),
    (R + ["good.mp4", "--task", "sr", "--start", "-1"], "start=-1"),
    (R + ["good.mp4", "--task", "inpaint"], "not that of mask seed 0"),
    (R + ["y.mkv"], "not that of mask seed 9"),
    (R + ["good.mp4", "--task", "sr", "--report", "page.txt"], "ends in .html"),
    (R + ["good.mp4", "--task", "sr+", "--chunk", "7", "--overlap", "3"], "overlap=3 is too small"),
    (R + ["good.mp4", "--task", "deblur", "--sigma", "0"], "sigma=0"),
    (
        ["restore", "good.mp4", "-o", "no/such/out.mp4", "--task", "sr"],
        "the folder no/such does not exist: create it first",
    ),
    (["restore", "good.mp4", "-o", "taken.mp4", "--task", "sr"], "taken.mp4 exists"),
    (["restore", "good.mp4", "-o", "out.avi", "--task", "sr"], "cannot write .avi"),
    (
        ["restore", "good.mp4", "-o", "out.mp4", "--task", "sr", "--frames", "0"],
        "'0' is not a whole number",
    ),
    (
        ["restore", "good.mp4", "-o", "out.mp4", "--task", "sr", "--height", "tall"],
        "'tall' is not a whole number",
    ),
    (["restore", "good.mp4", "-o", "out.mp4", "--set", "eta"], "NAME=VALUE"),
    (["restore", "good.mp4"], "required"),
    (["degrade", "good.mp4", "-o", "out.gif", "--task", "sr"], "256 colours"),
    (["degrade", "good.mp4", "-o", "taken.mp4"], "--overwrite"),
    (["degrade", "six", "-o", "out.mkv"], "cannot hold the average"),
    (["degrade", "good.mp4", "-o", "out.mkv", "--task", "inpaint", "--keep", "2"], "keep=2"),
    (["degrade", "text.mp4", "-o", "out.mkv"], "text.mp4"),
    (["demo", "--clip", "bird"], "'bird'"),
    (["demo", "--task", "blur"], "'blur'"),
    (["demo", "--prior", "huge"], "'huge'"),
    (["demo", "-o", "taken.mp4"], "taken.mp4 is a file"),
    (["demo", "-o", "no/such/demo"], "the folder no/such does not exist"),
    (["evaluate", "good.mp4", "six"], "bring them to one size"),
    (["info", "text.mp4"], "text.mp4"),
    (["frobnicate"], "invalid choice"),
    ([], "required"),
]


def test_bad_input(tmp_path, x, monkeypatch, capsys):
    "One sentence, exit code 1 or 2, no traceback, nothing written and nothing replaced."
    material(tmp_path, x)
    monkeypatch.chdir(tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    for args, says in BAD:
        try:
            code = run(*args)
        except SystemExit as e:
            code = e.code
        said = capsys.readouterr()
        assert code in (1, 2), args
        assert says in said.err and said.err.count("\n") == 1 and "Traceback" not in said.err, (
            args,
            said.err,
        )
        assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before, args
        assert sum(p.is_dir() for p in tmp_path.iterdir()) == 4, args


def test_nan_from_a_prior_is_a_sentence(tmp_path, clean, monkeypatch, capsys):
    monkeypatch.setattr(Gaussian, "eps", lambda self, z, t: z * float("nan"))
    assert (
        run("restore", clean, "-o", tmp_path / "out.mp4", "--task", "sr", "--simulate", "--quiet")
        == 1
    )
    assert "NaN" in capsys.readouterr().err and not (tmp_path / "out.mp4").exists()


def test_interrupt(tmp_path, clean, monkeypatch, capsys):
    def stop(self, z, t):
        raise KeyboardInterrupt

    monkeypatch.setattr(Gaussian, "eps", stop)
    assert (
        run("restore", clean, "-o", tmp_path / "out.mp4", "--task", "sr", "--simulate", "--quiet")
        == 130
    )
    assert "--resume" in capsys.readouterr().err and not (tmp_path / "out.mp4").exists()


def test_heavy_things_are_not_imported_for_help():
    code = (
        "import sys, visionxl.app.cli.main; from visionxl.app.cli.commands import parser; "
        "from visionxl.measure.evaluate_command import parser as evaluate; "
        "parser(); evaluate(); print([m for m in "
        "('torch', 'diffusers', 'matplotlib', 'av') if m in sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip()
        == "[]"
    )


def test_tensors_with_nan_are_refused_by_the_library():  # what a file cannot hold, a tensor can
    from visionxl.app.restore import restore

    with pytest.raises(ValueError, match="NaN or Inf"):
        restore(torch.full((8, 3, 8, 8), float("inf")), "sr", progress=False)
