"Many clips, previews, lines of JSON, configurations, names of all kinds, signals."

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from app.exact import Gaussian
from app.test_trust import stepped
from hypothesis import given, settings
from hypothesis import strategies as st

from visionxl import video
from visionxl.app.cli.commands import command_parser, parser
from visionxl.app.cli.config import with_config
from visionxl.app.cli.main import main
from visionxl.app.cli.options import preset_change, value_of
from visionxl.app.files.clip import Clip
from visionxl.app.files.many import jobs_for
from visionxl.app.files.plan import plan_file
from visionxl.app.files.restore_file import restore_file
from visionxl.app.settings import settings_for
from visionxl.prior.latent import Prior
from visionxl.prior.models.model_files import DEFAULT

pytestmark = pytest.mark.usefixtures("no_weights")


@pytest.fixture
def clip(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x = video.fit(video.sample("tears", 7).x, 32, 48)
    return video.write("clip.mkv", x, 24)


def run(*args):
    try:
        return main([str(a) for a in args])
    except SystemExit as e:
        return e.code


ASK = ["--task", "sr", "--preset", "paper"]
ASK += ["--set", "route.steps=2", "--set", "consistency.steps=1"]
FFV1 = video.Encoding("ffv1")

# ------------------------------------------------------------------------------- many clips


def test_a_folder_of_clips(tmp_path, clip, capsys):
    "One is broken, one is a gif, two have one stem: the others are done, a table is said."
    x = video.read(clip).x
    os.mkdir("clips")
    for name in ("a.mp4", "a.mkv", "b.webm", "c.gif"):
        video.write(f"clips/{name}", x[:2])
    (tmp_path / "clips" / "bad.mp4").write_text("no film")
    (tmp_path / "clips" / "notes.txt").write_text("mine")
    video.write("frames", x[:2])
    assert run("restore", "clips", "frames", "-o", "out", *ASK, "--quiet") == 1
    said = capsys.readouterr()
    made = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert made == ["a.mkv", "a.mp4", "b.webm", "c.gif", "frames.mp4"]
    assert all(video.read(f"out/{name}").x.shape == (2, 3, 128, 192) for name in made)
    assert "bad.mp4 cannot be read" in said.err and said.out.count("bad.mp4") >= 1
    table = said.out.strip().split("\n")[-6:]
    assert [line.split()[0] for line in table] == [
        *("a.mkv", "a.mp4", "b.webm", "bad.mp4", "c.gif", "frames")
    ]
    os.remove("out/b.webm")
    os.remove("clips/bad.mp4")
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()}
    assert run("restore", "clips", "frames", "-o", "out", *ASK, "--quiet", "--resume") == 0
    after = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()}
    assert len(after) == 5 and all(after[n] == t for n, t in before.items())


def test_clips_of_other_cameras(tmp_path):
    "A folder of avi, mts and the like is a folder of clips; their results are mp4."
    for name in ("b.MTS", "a.avi", "c.mpg", "notes.txt"):
        (tmp_path / name).touch()
    jobs = jobs_for([str(tmp_path)], str(tmp_path / "out"))
    assert [(j.source.name, j.out.name) for j in jobs] == [
        *(("a.avi", "a.mp4"), ("b.MTS", "b.mp4"), ("c.mpg", "c.mp4"))
    ]


def test_several_clips_need_a_folder(clip, capsys):
    video.write("b.mp4", video.read(clip).x)
    assert run("restore", clip, "b.mp4", "-o", "out.mp4", *ASK) == 1
    assert "need a folder" in capsys.readouterr().err
    assert run("restore", clip, clip, "-o", "out", *ASK) == 1
    assert "two results would be called clip.mkv" in capsys.readouterr().err
    assert run("restore", clip, "b.mp4", "-o", "out", *ASK, "--report", "r.html") == 1
    assert "belongs to one clip" in capsys.readouterr().err and not os.path.exists("out")


# -------------------------------------------------------------------------- for programs


def test_lines_of_json(clip, capsys):
    code = run("restore", clip, "-o", "out.mp4", *ASK, "--json", "--simulate", "--preview", "3")
    assert code == 0
    said = capsys.readouterr()
    lines = [json.loads(line) for line in said.out.splitlines()]
    events = [line["event"] for line in lines]
    assert events[0] == "start" and events[-1] == "done" and "preview" in events
    assert "progress" in events and said.err == ""
    shares = [line["share"] for line in lines if line["event"] == "progress"]
    assert shares[-1] == 1 and all(0 < s <= 1 for s in shares)
    assert lines[-1]["frames"] == 7 and lines[-1]["metrics"][1]["PSNR"] > 15
    assert run("restore", "no.mp4", "-o", "x.mp4", *ASK, "--json") == 1
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert last["event"] == "failed" and "does not exist" in last["error"]


def test_a_preview_from_the_middle(clip):
    assert run("restore", clip, "-o", "out.mkv", *ASK, "--preview", "3") == 0
    few, whole = video.read("out-preview.mkv").x, video.read("out.mkv").x
    assert few.shape == (3, 3, 128, 192) and len(whole) == 7
    assert (few - whole[2:5]).abs().mean() < 0.03 < (few - whole[:3]).abs().mean() + 0.03


def test_a_preview_never_stops_the_whole(clip, capsys):
    "With --resume one that is there is kept; one that a part cannot have is said and left out."
    Path("out-preview.mkv").write_bytes(b"done before")
    assert run("restore", clip, "-o", "out.mkv", *ASK, "--preview", "3", "--resume") == 0
    assert Path("out-preview.mkv").read_bytes() == b"done before"
    assert video.probe("out.mkv").frames == 7
    assert run("degrade", clip, "-o", "mean.mkv", "--task", "deblur+", "--window", "5") == 0
    capsys.readouterr()
    assert run("restore", "mean.mkv", "-o", "whole.mkv", "--preview", "3", "--quiet") == 0
    assert "no preview of mean.mkv" in capsys.readouterr().err
    assert video.probe("whole.mkv").frames == 7


def moving_mask(frames, height, width):
    "A film in which a black column stands one pixel further right in each frame."
    m = torch.ones(frames, 3, height, width)
    for i in range(frames):
        m[i, :, :, 8 + i] = -1
    return video.write("mask.mkv", m, 24, lossless=True)


def test_a_film_as_mask_is_cut_like_the_clip(clip, capsys):
    "The part 2 to 4 of 7 frames has the mask's frames 2 to 4; a mask of 3 is taken as it is."
    mask = moving_mask(7, 32, 48)
    plan = plan_file(Clip(clip, start=2, frames=3), "inpaint", mask=str(mask))
    assert [int(w[0, 0].argmin()) for w in plan.settings.degradation.mask.weights] == [10, 11, 12]
    plan = plan_file(Clip(clip, start=4), "inpaint", mask=str(mask), simulate=True)
    assert [int(w[0, 0].argmin()) for w in plan.settings.degradation.mask.weights] == [12, 13, 14]
    mask.unlink()
    few = moving_mask(3, 32, 48)
    plan = plan_file(Clip(clip, start=2, frames=3), "inpaint", mask=str(few))
    assert [int(w[0, 0].argmin()) for w in plan.settings.degradation.mask.weights] == [8, 9, 10]
    with pytest.raises(ValueError, match="has 3 frames, the clip has 4"):
        plan_file(Clip(clip, start=2, frames=4), "inpaint", mask=str(few))


def test_a_part_is_degraded_with_a_part_of_the_mask(clip, capsys):
    "The note says which frames of the mask they are, so `restore` is told nothing."
    mask = moving_mask(7, 32, 48)
    part = ["--start", "2", "--frames", "3"]
    assert run("degrade", clip, "-o", "y.mkv", "--mask", mask, *part) == 0
    x, y = video.read(clip).x[2:5], video.read("y.mkv").x
    hidden = torch.zeros(3, 48, dtype=torch.bool)
    for i in range(3):
        hidden[i, 10 + i] = True
    lost = (y - x).abs().amax((1, 2)) > 0.01
    assert not (lost & ~hidden).any() and lost.any(1).all()
    assert video.probe("y.mkv").notes["mask"]["frames"] == [2, 5]
    for start, columns in ((0, [10, 11, 12]), (1, [11, 12])):
        plan = plan_file(Clip(Path("y.mkv"), start=start))
        assert [int(w[0, 0].argmin()) for w in plan.settings.degradation.mask.weights] == columns
    assert run("restore", "y.mkv", "-o", "x.mkv", *ASK[2:], "--codec", "ffv1", "--quiet") == 0
    assert (video.read("x.mkv").x - y).abs().amax((1, 2))[~hidden].max() < 0.01
    mask.unlink()
    few = moving_mask(3, 32, 48)
    assert run("degrade", clip, "-o", "z.mkv", "--mask", few, *part) == 0
    assert "frames" not in video.probe("z.mkv").notes["mask"], "it has as many as the part"
    assert run("degrade", clip, "-o", "w.mkv", "--mask", few, "--start", "1") == 1
    assert "has 3 frames, the clip has 6" in capsys.readouterr().err


def test_a_preview_with_a_film_as_mask(clip, capsys):
    "Pixels that the mask shows are those of the measurement, in the preview's own frames."
    y = video.read(video.write("y.mkv", video.read(clip).x, 24, lossless=True)).x
    ask = ["--preset", "paper", "--set", "route.steps=2", "--set", "consistency.steps=1"]
    ask += ["--mask", moving_mask(7, 32, 48), "--preview", "3", "--codec", "ffv1", "--quiet"]
    assert run("restore", "y.mkv", "-o", "out.mkv", *ask) == 0
    assert "no preview" not in capsys.readouterr().err
    few = video.read("out-preview.mkv").x
    assert len(few) == 3 and video.probe("out.mkv").frames == 7
    away = (few - y[2:5]).abs().amax((1, 2))  # of each column
    for i, column in enumerate(away):
        assert column.argmax() == 10 + i and (column > 0.01).sum() == 1


@pytest.mark.parametrize("temporal", ["circular", "replicate"])
def test_a_part_of_a_mean_over_time(clip, temporal):
    "Each frame of a part comes nearer to the clean one; taken as a ring, the part was refused."
    x = video.fit(video.sample("tears", 25).x, 32, 48)
    video.write("clean.mkv", x, 24, lossless=True)
    blur = ["--task", "deblur+", "--window", "5", "--sigma", "1", "--temporal", temporal]
    assert run("degrade", "clean.mkv", "-o", "y.mkv", *blur) == 0
    for start, frames in ((8, 12), (0, 12), (13, None)):
        part = Clip(Path("y.mkv"), start=start, frames=frames)
        plan = plan_file(part)
        assert plan.cut == (start > 0, frames is not None)
        restore_file(part, "part.mkv", overwrite=True, progress=False, encoding=FFV1)
        there = slice(start, start + 12)
        before = (video.read("y.mkv").x[there] - x[there]).square().mean((1, 2, 3))
        after = (video.read("part.mkv").x - x[there]).square().mean((1, 2, 3))
        assert (before / after).min() > 2
    assert run("restore", "y.mkv", "-o", "o.mkv", "--preview", "9", "--quiet") == 0
    assert video.probe("o-preview.mkv").frames == 9 and video.probe("o.mkv").frames == 25
    even = Clip(Path("y.mkv"), start=2, frames=6)
    with pytest.raises(ValueError, match="6 frames out of a longer clip .* at least 7"):
        plan_file(even, "deblur+", window=6, temporal=temporal)
    assert plan_file("y.mkv").cut == (False, False)
    named = f"gaussian:sigma=1,mean:window=5:temporal={temporal}"  # it makes no operator of a part
    with pytest.raises(ValueError, match="takes means over time.* restore it whole"):
        plan_file(even, named)
    assert plan_file("y.mkv", named).total == 25 and plan_file(even, "gaussian:sigma=1").total == 6


def test_a_log_has_no_bar(clip, capsys):
    assert run("degrade", clip, "-o", "y.mkv", "--task", "sr") == 0
    assert capsys.readouterr().err == "", "nobody watches: the stream is no terminal"


def test_json_of_info_is_json(clip, capsys):
    note = '{"visionxl": {"task": "sr", "factor": NaN, "sigma": 1e400}}'
    import av

    with av.open(str(clip)) as a, av.open("b.mkv", "w") as b:
        film = b.add_stream("ffv1", 24)
        film.height, film.width, film.pix_fmt = 32, 48, "bgr0"
        b.metadata["comment"] = note
        for frame in a.decode(video=0):
            b.mux(film.encode(frame.reformat(format="bgr0")))
        b.mux(film.encode())
    assert run("info", "b.mkv", "--json") == 0

    def refuse(name):
        raise AssertionError(name)

    found = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert found["notes"] == {"task": "sr", "factor": None, "sigma": None}


# --------------------------------------------------------------------------- configuration


def test_a_configuration_is_flags(clip, capsys, tmp_path):
    text = """
input = "clip.mkv"
out = "a.mkv"
[what]
task = "sr"
factor = 2
[how]
seed = 3
quiet = true
[set]
"route.steps" = 2
"renoise.eta" = 0.25
"""
    (tmp_path / "run.toml").write_text(text)
    assert run("restore", "--config", "run.toml") == 0
    line = ["--task", "sr", "--factor", "2", "--seed", "3", "--quiet"]
    line += ["--set", "route.steps=2", "--set", "renoise.eta=0.25"]
    assert run("restore", "clip.mkv", "-o", "b.mkv", *line) == 0
    assert (tmp_path / "a.mkv").read_bytes() == (tmp_path / "b.mkv").read_bytes()
    assert run("restore", "--config=run.toml", "-o", "c.mkv", "--factor", "4") == 0
    assert video.probe("c.mkv").width == 192, "the command line counts more"
    video.write("other.mkv", video.read(clip).x[:2])
    assert run("restore", "other.mkv", "--config", "run.toml", "-o", "d.mkv") == 0
    assert video.probe("d.mkv").frames == 2


@pytest.mark.parametrize(
    "text, code, says",
    [
        ("task = ", 1, "is no TOML"),
        ('tusk = "sr"', 2, "--tusk"),
        ('task = ["sr"]', 1, "is no flag"),
        ("factor = 'many'", 2, "'many' is not a whole number"),
        ('config = "run.toml"', 1, "is no flag"),
        ("when = 2026-01-01", 2, "--when"),
        (None, 1, "does not exist"),
    ],
)
def test_configurations_that_do_not_serve(clip, capsys, tmp_path, text, code, says):
    if text is not None:
        (tmp_path / "run.toml").write_text(text)
    assert run("restore", "clip.mkv", "-o", "a.mkv", "--config", "run.toml") == code
    said = capsys.readouterr().err
    assert says in said and said.count("\n") == 1 and not (tmp_path / "a.mkv").exists()


WORD = st.text(st.characters(codec="utf-8", exclude_characters="\x00\r\n"), max_size=8)


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(WORD.filter(bool), WORD | st.booleans() | st.integers() | st.floats()))
def test_any_configuration_is_flags_or_refused(tmp_path_factory, lines):
    def value(v):
        return json.dumps(v) if isinstance(v, str | bool) else repr(v)

    path = tmp_path_factory.mktemp("c") / "run.toml"
    path.write_text("\n".join(f"{json.dumps(k)} = {value(v)}" for k, v in lines.items()))
    try:
        words = with_config(["--config", str(path)], command_parser(parser(), "restore"))
    except ValueError as e:
        assert str(e)
    else:
        assert all(isinstance(word, str) for word in words)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=12))
def test_any_text_is_a_value_or_refused(text):
    import argparse

    value_of(text)
    try:
        name, _ = preset_change(text)
    except argparse.ArgumentTypeError as e:
        assert "NAME=VALUE" in str(e)
    else:
        assert name


# --------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    "name",
    ["a b.mkv", "it's.mkv", 'a"b.mkv', "glück-東京.mkv", "a%20b.mkv", "$HOME.mkv", "x²3.mkv"],
)
def test_names_of_all_kinds(clip, name, tmp_path):
    os.rename(clip, name)
    assert run("restore", name, "-o", f"out {name}", *ASK, "--quiet") == 0
    assert video.probe(f"out {name}").frames == 7
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, f"out {name}"])


def test_names_with_a_dash(clip, capsys):
    os.rename(clip, "-in.mkv")
    assert run("info", "--", "-in.mkv") == 0 and run("info", "./-in.mkv") == 0
    assert run("restore", *ASK, "--quiet", "-o=-out.mkv", "--", "-in.mkv") == 0
    assert video.probe("-out.mkv").frames == 7
    assert run("restore", *ASK, "-o", "-out.mkv", "--", "-in.mkv") == 2
    assert "expected one argument" in capsys.readouterr().err


# ---------------------------------------------------------------------- sizes that do not fit


@pytest.mark.parametrize("size, factor", [((83, 200), 4), ((31, 33), 2), ((20, 21), 4)])
def test_super_resolution_of_what_the_user_holds(tmp_path, size, factor):
    "200x83 by four is 800x332: padded for the network, cropped back."
    x = video.fit(video.sample("tears", 2).x, *size)
    video.write(tmp_path / "small.mkv", x, lossless=True)
    ask = ["--task", "sr", "--factor", factor, "--quiet", "--set", "route.steps=2"]
    assert run("restore", tmp_path / "small.mkv", "-o", tmp_path / "large.mkv", *ask) == 0
    info = video.probe(tmp_path / "large.mkv")
    assert (info.height, info.width) == (size[0] * factor, size[1] * factor)
    y = torch.nn.functional.avg_pool2d(video.read(tmp_path / "large.mkv").x, factor)
    assert (y - x).abs().mean() < 0.02, "its means are the measurement, edges included"


def test_frames_that_this_machine_does_not_hold(tmp_path, capsys, monkeypatch):
    "A machine of 268 MB; frames that no machine holds are refused by their pixels."
    monkeypatch.setattr("visionxl.app.files.plan.os.sysconf", lambda name: 1 << 14)
    video.write(tmp_path / "a.mp4", video.fit(video.sample("tears", 2).x, 64, 64))
    for factor, says in (("40", "GB at least"), ("200", "134,217,728 pixels")):
        ask = ["--task", "sr", "--factor", factor, "--quiet"]
        assert run("restore", tmp_path / "a.mp4", "-o", tmp_path / "b.mp4", *ask) == 1
        assert says in capsys.readouterr().err


# --------------------------------------------------------------------------------- signals


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_wish_to_end(clip, tmp_path, how):
    "One sentence, code 130, and the run goes on later to the same bytes."
    ask = ["--task", "sr", "--simulate", "--chunk", "4", "--overlap", "1", "--preset", "paper"]
    ask += ["--set", "consistency.steps=1"]
    assert run("restore", clip, "-o", "whole.mp4", *ask) == 0
    process = stepped("restore", clip, "-o", "out.mp4", *ask, calls=8)
    process.send_signal(how)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and said.count("\n") == 1 and "--resume" in said
    assert run("restore", clip, "-o", "out.mp4", *ask, "--resume") == 0
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "whole.mp4").read_bytes()


def test_another_autoencoder(clip, monkeypatch):
    "`--vae` reaches the prior, and a run with another one is another run."
    seen = []

    def load(cls, name, vae=None):
        seen.append((name, vae))
        return Gaussian()

    monkeypatch.setattr(Prior, "load", classmethod(load))
    assert run("restore", clip, "-o", "a.mkv", *ASK, "--vae", "madebyollin/taesdxl") == 0
    assert seen == [(DEFAULT, "madebyollin/taesdxl")]
    d = plan_file(clip, "sr").settings.degradation
    keys = {settings_for(d, vae=vae).key() for vae in (None, "a", "b")}
    assert len(keys) == 3


def test_what_goes_along_is_said(tmp_path, capsys):
    from test_tracks import UNEVEN, full_film

    full_film(tmp_path / "a.mkv", ms=UNEVEN)
    assert run("info", tmp_path / "a.mkv") == 0
    said = capsys.readouterr().out
    for words in ("audio (aac, deu)", "subtitle (srt)", "2 chapters", "tags title", "uneven times"):
        assert words in said
    assert "does not go into a .mp4" in said and "does not go into a .webm" in said
    assert run("info", tmp_path / "a.mkv", "-o", "x.mkv") == 0
    assert "lost" not in capsys.readouterr().out


def test_refusals_come_before_the_prior(clip, monkeypatch):
    loaded = []
    monkeypatch.setattr(Prior, "load", loaded.append)
    assert run("restore", clip, "-o", "a.mp4", "--task", "sr", "--codec", "prores") == 1
    assert not loaded


def test_json_of_evaluate_is_json(clip, capsys):
    "A metric that was not measured is null, not a bare NaN."
    video.write("one.mp4", video.read(clip).x[:1])
    assert run("evaluate", "one.mp4", "one.mp4", "--json") == 0
    said = capsys.readouterr().out

    def refuse(name):
        raise AssertionError(name)

    row = json.loads(said, parse_constant=refuse)["rows"][0]
    assert row["PSNR"] == 100 and None in row.values()
