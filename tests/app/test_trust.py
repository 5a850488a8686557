"What people do to their files: two runs at once, edits by other programs, kills, full disks."

import json
import os
import signal
import subprocess
import sys

import av  # noqa: TID253
import numpy as np
import pytest
import torch
from app.exact import Gaussian, run
from hypothesis import given, settings
from hypothesis import strategies as st

from visionxl import video
from visionxl.app import checkpoint
from visionxl.app.degradation.measurement import degrade
from visionxl.app.degradation.notes import from_notes, to_notes
from visionxl.app.degradation.tasks import Degradation
from visionxl.app.files.degrade_file import degrade_file
from visionxl.app.files.restore_file import restore_file
from visionxl.prior.latent import Prior

pytestmark = pytest.mark.usefixtures("no_weights")


@pytest.fixture(scope="module")
def x(tears):
    return tears[:12]


@pytest.fixture
def clean(tmp_path, x):
    return video.write(tmp_path / "clean.mkv", x, 24, lossless=True)


# ------------------------------------------------------------------------ two runs, one name


def test_a_second_run_with_the_same_output(tmp_path, clean, monkeypatch, capsys):
    "The second one is refused at once and in one sentence; the first one's result is whole."
    out, ask = tmp_path / "out.mp4", ["--task", "sr", "--simulate", "--quiet"]
    eps, tried = Gaussian.eps, []

    def second_run(self, z, t):
        if not tried:
            tried.append(run("restore", clean, "-o", out, *ask, "--overwrite"))
        return eps(self, z, t)

    monkeypatch.setattr(Gaussian, "eps", second_run)
    assert run("restore", clean, "-o", out, *ask) == 0 and tried == [1]
    said = capsys.readouterr().err
    assert "another run is writing" in said and "Errno" not in said
    assert video.probe(out).frames == 12
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clean.mkv", "out.mp4"]


def test_a_name_that_appears_during_the_run(tmp_path, clean, monkeypatch, capsys):
    out, eps = tmp_path / "out.mp4", Gaussian.eps

    def takes_the_name(self, z, t):
        out.write_text("mine")
        return eps(self, z, t)

    monkeypatch.setattr(Gaussian, "eps", takes_the_name)
    assert run("restore", clean, "-o", out, "--task", "sr", "--simulate", "--quiet") == 1
    assert "the result is in" in capsys.readouterr().err and out.read_text() == "mine"
    kept = [p for p in tmp_path.iterdir() if p.name.startswith("out-")]
    assert len(kept) == 1 and video.probe(kept[0]).frames == 12


# ------------------------------------------------------------------- edits by other programs


def rewritten(source, out, size, comment=None):
    "The file as another program scales it: the comment is copied along."
    with av.open(str(source)) as a, av.open(str(out), "w") as b:
        film = b.add_stream("ffv1", 24)
        film.height, film.width = size
        film.pix_fmt = "gbrp16le"
        b.metadata["comment"] = comment or a.metadata.get("COMMENT") or a.metadata["comment"]
        for frame in a.decode(video=0):
            b.mux(film.encode(frame.reformat(size[1], size[0], "gbrp16le")))
        b.mux(film.encode())
    return out


def test_a_measurement_that_was_enlarged(tmp_path, clean, capsys):
    "It is not restored to a quarter: it is said that the note is no longer true."
    degrade_file(clean, tmp_path / "y.mkv", "sr")
    big = rewritten(tmp_path / "y.mkv", tmp_path / "big.mkv", (48, 64))
    assert run("restore", big, "-o", tmp_path / "out.mp4", "--quiet") == 1
    assert "measured by sr as 12x16, its frames are 48x64" in capsys.readouterr().err
    quick = ["--quiet", "--frames", "2", "--set", "route.steps=6"]
    assert run("restore", big, "-o", tmp_path / "out.mp4", "--task", "sr", *quick) == 0
    assert video.read(tmp_path / "out.mp4").x.shape[-2:] == (192, 256)


@pytest.mark.parametrize(
    "note",
    [
        {"task": ["sr"]},
        {"task": "sr", "factor": "many"},
        {"task": "sr", "factor": None},
        {"task": "sr", "factor": 1e400},
        {"task": "sr", "clean": "large"},
        {"task": "sr", "clean": [0, -3]},
        {"task": "inpaint", "mask": "white"},
        {"task": "deblur", "sigma_y": "loud"},
        {"size": "odd"},
        {"size": [10**9, 10**9]},
    ],
)
def test_malformed_notes_never_give_a_python_error(tmp_path, clean, capsys, note):
    degrade_file(clean, tmp_path / "y.mkv", "sr")
    comment = json.dumps({"visionxl": note})
    bad = rewritten(tmp_path / "y.mkv", tmp_path / "bad.mkv", (12, 16), comment)
    assert run("info", bad) == 0
    code = run("restore", bad, "-o", tmp_path / "out.mp4", "--quiet")
    said = capsys.readouterr().err
    assert "unexpected" not in said and "Error" not in said and said.count("\n") <= 1
    if code:
        assert "--task" in said
    assert run("restore", bad, "-o", tmp_path / "b.mp4", "--task", "sr", "--quiet") == 0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
NAMES = st.sampled_from([*to_notes(Degradation()), "clean", "mask", "size", "operator"])


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(NAMES, JSON, max_size=6), st.booleans())
def test_any_note_is_read_or_refused(note, bundled):
    note = ({"task": "sr"} | note) if bundled else note
    try:
        d = from_notes(note, (12, 16))
    except ValueError as e:
        assert str(e)
    else:
        assert d is None or isinstance(d, Degradation)


# ------------------------------------------------------------------------- the source is safe


def test_the_input_is_never_the_output(tmp_path, clean, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.link(clean, tmp_path / "hard.mkv")
    (tmp_path / "soft.mkv").symlink_to(clean)
    before = clean.read_bytes()
    for out in ("clean.mkv", "./clean.mkv", "hard.mkv", "soft.mkv"):
        for command in ("restore", "degrade"):
            assert run(command, clean, "-o", out, "--task", "sr", "--overwrite") == 1
            assert "its own source" in capsys.readouterr().err and clean.read_bytes() == before
    video.write(tmp_path / "frames", video.read(clean).x)
    assert run("restore", "frames", "-o", "frames", "--task", "sr", "--overwrite") == 1
    assert len(list((tmp_path / "frames").glob("*.png"))) == 12


def test_a_read_only_folder(tmp_path, clean, capsys):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    (tmp_path / "locked").mkdir(mode=0o555)
    assert run("restore", clean, "-o", tmp_path / "locked" / "a.mp4", "--task", "sr") == 1
    assert "not writable" in capsys.readouterr().err


def test_a_full_disk_is_said_before_the_work(tmp_path, clean, monkeypatch, capsys):
    class Usage:
        free = 1000

    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda folder: Usage)
    ask = ["--task", "sr", "--simulate", "--chunk", "6", "--overlap", "2", "--quiet"]
    assert run("restore", clean, "-o", tmp_path / "a.mp4", *ask) == 1
    assert "--scratch" in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clean.mkv"]


def test_scratch_in_another_place(tmp_path, clean, monkeypatch):
    (tmp_path / "s").mkdir()
    ask = ["--task", "sr", "--simulate", "--chunk", "6", "--overlap", "2", "--quiet"]
    seen = []
    save = checkpoint.Checkpoint.save_window

    def watched(self, i, x):
        save(self, i, x)
        seen.append(self.folder.parent)

    monkeypatch.setattr(checkpoint.Checkpoint, "save_window", watched)
    assert run("restore", clean, "-o", tmp_path / "a.mp4", *ask, "--scratch", tmp_path / "s") == 0
    assert set(seen) == {tmp_path / "s"} and not list((tmp_path / "s").iterdir())


def test_two_outputs_of_one_name_with_one_scratch_folder(tmp_path, clean, monkeypatch):
    "Each run keeps what is its own: neither begins anew by removing what the other has done."
    for name in "abs":
        (tmp_path / name).mkdir()
    ask = ["--task", "sr", "--simulate", "--chunk", "6", "--overlap", "2", "--quiet"]
    ask += ["--preset", "paper", "--set", "consistency.steps=1", "--scratch", tmp_path / "s"]
    keep, tried = checkpoint.Checkpoint.keep, []

    def second_run(self, x, windows):
        if not tried:
            tried.append(1)
            tried.append(run("restore", clean, "-o", tmp_path / "b" / "x.mp4", *ask))
        return keep(self, x, windows)

    monkeypatch.setattr(checkpoint.Checkpoint, "keep", second_run)
    assert run("restore", clean, "-o", tmp_path / "a" / "x.mp4", *ask) == 0 and tried == [1, 0]
    a, b = (tmp_path / name / "x.mp4" for name in "ab")
    assert a.read_bytes() == b.read_bytes() and not list((tmp_path / "s").iterdir())


# ------------------------------------------------------------------------------ kill, resume

STEPPED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
sys.path[:0] = {path!r}
from app.exact import Gaussian
from visionxl.app.cli.main import main
from visionxl.prior.latent import Prior
eps = Gaussian.eps
def stepped(self, z, t):
    print("call", flush=True)
    sys.stdin.readline()
    return eps(self, z, t)
Gaussian.eps = stepped
Prior.load = classmethod(lambda cls, name: Gaussian())
sys.exit(main(sys.argv[1:]))
"""


def stepped(*words, calls):
    "The command line in a process that has begun so many calls of the network, and waits in one."
    command = [sys.executable, "-c", STEPPED.format(path=[p for p in sys.path if p])]
    pipes = {name: subprocess.PIPE for name in ("stdin", "stdout", "stderr")}
    process = subprocess.Popen([*command, *map(str, words)], text=True, **pipes)
    for call in range(calls):
        if call:
            step(process)
        assert process.stdout.readline() == "call\n", process.communicate()
    return process


def step(process):
    "Let the call go on that a process waits in."
    process.stdin.write("\n")
    process.stdin.flush()


@pytest.mark.parametrize("calls", [9, 31])
def test_killed_and_resumed(tmp_path, clean, calls):
    """At different moments: decoded frames, even the bytes, are those of an undisturbed run.

    What a signal that asks does is tried in `test_many`.
    """
    ask = ["--task", "sr", "--simulate", "--chunk", "6", "--overlap", "2", "--preset", "paper"]
    ask += ["--set", "consistency.steps=1", "--quiet"]
    whole, out = tmp_path / "whole.mp4", tmp_path / "out.mp4"
    assert run("restore", clean, "-o", whole, *ask) == 0
    process = stepped("restore", clean, "-o", out, *ask, calls=calls)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == -9 and not out.exists()
    assert run("restore", clean, "-o", out, *ask, "--resume") == 0
    assert out.read_bytes() == whole.read_bytes()
    left = {p.name for p in tmp_path.iterdir()} - {"clean.mkv", "whole.mp4", "out.mp4"}
    assert not left, "what the killed writer had begun is removed by the next run"


def test_no_pickle_is_kept(tmp_path, clean, monkeypatch):
    "What lies beside an unfinished output is numbers and text."
    eps, kept = Gaussian.eps, {}

    def looks(self, z, t):
        for p in tmp_path.rglob(".out.mp4.unfinished/*"):
            kept[p.name] = p.read_bytes()[:200]
        return eps(self, z, t)

    monkeypatch.setattr(Gaussian, "eps", looks)
    ask = ["--task", "sr", "--simulate", "--chunk", "6", "--overlap", "2", "--quiet"]
    assert run("restore", clean, "-o", tmp_path / "out.mp4", *ask, "--preset", "paper") == 0
    assert {"job.json", "state.safetensors", "00000.mkv"} <= set(kept)
    assert not any(b"PK\x03\x04" in head or head[:1] == b"\x80" for head in kept.values())


# ------------------------------------------------------------------------ what goes along


def test_sound_and_uneven_times_go_along(tmp_path, x):
    "From a phone's film to its measurement to its restoration."
    from test_tracks import UNEVEN, full_film, packets

    from visionxl.media.tracks import frame_times

    source = full_film(tmp_path / "a.mkv", ms=UNEVEN)
    degrade_file(source, tmp_path / "y.mkv", "sr")
    restore_file(tmp_path / "y.mkv", tmp_path / "out.mkv", progress=False)
    for name in ("y.mkv", "out.mkv"):
        times = [1000 * float(t) for t in frame_times(tmp_path / name)]
        assert [t - times[0] for t in times] == pytest.approx(UNEVEN, abs=2)
        assert [p[1] for p in packets(tmp_path / name, "audio")][:20] == [
            p[1] for p in packets(source, "audio")
        ][:20]
    assert "task" not in video.probe(tmp_path / "out.mkv").notes


def test_what_is_lost_is_said(tmp_path, capsys):
    from test_tracks import full_film

    source = full_film(tmp_path / "a.mkv")
    ask = ["--task", "sr", "--frames", "3", "--quiet"]
    assert run("degrade", source, "-o", tmp_path / "y.mp4", "--task", "sr", "--frames", 3) == 0
    assert "the subtitle (srt)" in capsys.readouterr().err
    assert run("restore", source, "-o", tmp_path / "f", "--simulate", *ask) == 0
    said = capsys.readouterr().err
    assert "the audio (aac)" in said and "the subtitle (srt)" in said


# ----------------------------------------------------------------------------------- sizes


def test_buckets(tmp_path, clean, capsys):
    y = tmp_path / "y.mkv"
    assert run("degrade", clean, "-o", y, "--task", "sr", "--size", "bucket", "--frames", 1) == 0
    assert (video.probe(y).height, video.probe(y).width) == (224, 288)  # 896x1152, a quarter
    wide = video.write(tmp_path / "wide.mkv", torch.full((1, 3, 40, 80), 0.5), lossless=True)
    ask = ["--task", "deblur", "--size", "bucket", "--letterbox"]
    assert run("degrade", wide, "-o", tmp_path / "b.mkv", *ask, "--sigma", ".5") == 0
    b = video.read(tmp_path / "b.mkv").x
    assert b.shape[-2:] == (704, 1408) and (b - 0.5).abs().max() < 0.02, "two to one is a bucket"
    ask = ["--size", "bucket", "--height", "48"]
    assert run("degrade", clean, "-o", tmp_path / "c.mkv", *ask) == 1
    assert "leave out --height" in capsys.readouterr().err
    assert run("degrade", clean, "-o", tmp_path / "c.mkv", "--letterbox") == 1
    assert "needs --size" in capsys.readouterr().err


def test_doctor(capsys):
    assert run("doctor") == 0
    said = capsys.readouterr().out
    assert "prior white" in said and "prior tiny" in said and "bundled" in said
    assert torch.__version__.split("+")[0] in said
    assert run("doctor", "--plan", "25x768") == 1
    assert "25x768x1280" in capsys.readouterr().err


def test_doctor_plan(capsys):
    assert run("doctor", "--plan", "9x64x96", "--prior", "tiny", "--vram", "12") == 0
    assert "9 frames of 64x96" in capsys.readouterr().out


def test_time_is_not_wasted(tmp_path, clean, monkeypatch):
    "What cannot work is refused before the prior is loaded."
    loaded = []
    monkeypatch.setattr(Prior, "load", loaded.append)
    assert run("restore", clean, "-o", tmp_path / "no" / "a.mp4", "--task", "sr") == 1
    assert not loaded
    assert np.isfinite(degrade(video.read(clean).x, "sr").numpy()).all()


@pytest.mark.parametrize(
    "wrong",
    [{"sigma": None}, {"keep": "half"}, {"factor": [4]}, {"window": None}, {"seed": {}}]
    + [{"factor": True}, {"sigma_y": "0.1e"}, {"sigma_y": None}],
)
def test_a_note_with_something_else_than_a_number(wrong):
    "One sentence that names the field, not the words of Python."
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}=.* (must be a|is no) number"):
        from_notes({"task": "deblur"} | wrong)


@pytest.mark.parametrize(
    "wrong",
    [{"factor": 1e99}, {"factor": 10**400}, {"factor": float("nan")}, {"factor": 257}]
    + [{"window": 1e99}, {"kernel_size": 1e6}, {"sigma": 1e99}, {"sigma": 0}, {"sigma": 1e-99}]
    + [{"keep": 2}, {"keep": float("nan")}, {"seed": 1e99}, {"seed": 0.5}, {"sigma_y": 1e99}],
)
def test_a_note_with_an_absurd_number(wrong):
    "The value, and what is allowed; nothing is computed with it."
    (name, value), *_ = wrong.items()
    shown = "1e308 or more" if value == 10**400 else f"{value:g}"
    with pytest.raises(ValueError) as e:
        from_notes({"task": "deblur"} | wrong)
    assert str(e.value).startswith(f"{name}={shown} must be ") and " to " in str(e.value)
    whole = from_notes({"task": "sr", "factor": 4.0, "seed": 3.0})
    assert (repr(whole.factor), repr(whole.seed)) == ("4", "3")
    with pytest.raises(ValueError, match="out of range: give a number of at most 9999"):
        from_notes({"operator": "motion:length=1e99"})


def test_absurd_sizes_take_no_memory(tmp_path, clean, capsys):
    "A result that no film is as large as is refused in one sentence, before anything is computed."
    y = tmp_path / "y.mkv"
    degrade_file(clean, y, "sr")
    for words in (["--height", 10**6], ["--width", 10**30], ["--task", "box:factor=9999"]):
        assert run("restore", y, "-o", tmp_path / "a.mp4", "--quiet", *words) == 1
        said = capsys.readouterr().err
        assert "134,217,728 pixels" in said and said.count("\n") == 1, said
    assert run("degrade", clean, "-o", tmp_path / "b.mkv", "--height", 10**9) == 1
    assert "134,217,728 pixels" in capsys.readouterr().err
