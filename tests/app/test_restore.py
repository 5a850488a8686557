"""From clip to clip and from file to file: any length, any size, the same bytes again, and on after
a stop.
"""

import gc
import json
import warnings

import numpy as np
import pytest
import torch
from app.exact import Gaussian, psnr

from visionxl import video
from visionxl.app import clips, restore, windows
from visionxl.app.degradation.measurement import degrade
from visionxl.app.degradation.notes import from_notes
from visionxl.app.degradation.said import what_happened
from visionxl.app.degradation.tasks import Degradation
from visionxl.app.demo import demo
from visionxl.app.files.clip import Clip
from visionxl.app.files.degrade_file import degrade_file
from visionxl.app.files.restore_file import restore_file
from visionxl.app.files.simulate_file import simulate_file
from visionxl.app.settings import RestoreSettings, settings_for
from visionxl.extras.best_white import best_white
from visionxl.operators.known.properties import describe
from visionxl.operators.tasks import TASKS
from visionxl.presets import choose
from visionxl.solver import solve

pytestmark = pytest.mark.usefixtures("no_weights")


@pytest.fixture(scope="module")
def x(tears):
    return tears


def run(y, task, **kw):
    return restore.restore(y, task, progress=False, **kw).x


@pytest.mark.parametrize("seed", [np.int64(3), torch.tensor(3)])
def test_a_seed_is_a_number_of_any_package(seed):
    x, noisy = torch.zeros(2, 3, 16, 16), Degradation("denoise", sigma_y=0.1)
    assert torch.equal(degrade(x, noisy, seed=3), degrade(x, noisy, seed=seed))
    theirs, ours = (RestoreSettings(noisy, seed=s) for s in (seed, 3))
    assert theirs == ours and theirs.key() == ours.key()
    with pytest.raises(ValueError, match="seed=1.5 must be a whole number"):
        RestoreSettings(noisy, seed=1.5)
    many = np.int64(2**62 + 1)  # of a mask, which may be larger
    assert Degradation("inpaint", seed=many).seed == 2**62 + 1


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("temporal", ["circular", "replicate"])
def test_degrading_in_pieces_is_degrading(name, temporal):
    x = torch.rand(40, 3, 16, 20) * 2 - 1
    for window in (7, 6):
        d = Degradation(name, window=window, temporal=temporal)
        whole = degrade(x, d)
        for chunk in (3, 11):
            assert (
                torch.cat(list(clips.degrade_frames(lambda: iter(x), 40, d, (16, 20), chunk)))
                - whole
            ).abs().max() < 1e-6


@pytest.mark.parametrize("name", ["deblur+", "sr+", "inpaint+", "sr"])
@pytest.mark.parametrize("temporal", ["circular", "replicate"])
def test_a_windows_operator_is_that_of_the_clip(name, temporal):
    x = torch.rand(60, 3, 16, 20) * 2 - 1
    d = Degradation(name, temporal=temporal)
    y = degrade(x, d)
    for a, b in clips.plan_windows(60):
        A = clips.window_operator(d, (a, b), 60, (16, 20))
        known = A.temporal.matrix.abs().sum(1) > 0 if A.temporal is not None else slice(None)
        assert torch.allclose(A(x[a:b])[known], y[a:b][known], atol=1e-6)
        if d.reach:
            assert int(known.sum()) >= b - a - 6


@pytest.mark.parametrize("name", ["deblur+", "sr+", "inpaint+", "sr"])
@pytest.mark.parametrize("temporal", ["circular", "replicate"])
@pytest.mark.parametrize("cut, a, b", [((True, True), 20, 32), ((False, True), 0, 12)])
def test_the_operator_of_a_part_of_a_file(name, temporal, cut, a, b):
    "A part is restored without its surroundings: its ends look at frames that are not there."
    x = torch.rand(60, 3, 16, 20) * 2 - 1
    d = Degradation(name, temporal=temporal)
    A = clips.window_operator(d, (0, b - a), b - a, (16, 20), cut)
    known = torch.ones(b - a, dtype=bool)
    if d.reach:
        known = A.temporal.matrix.abs().sum(1) > 0
        left = 3 if cut[0] or temporal == "circular" else 0
        assert known.tolist() == [left <= i < 9 for i in range(12)]
    assert torch.allclose(A(x[a:b])[known], degrade(x, d)[a:b][known], atol=1e-6)


@pytest.mark.parametrize("total", [1, 7, 24, 25, 26, 27, 60, 101])
@pytest.mark.parametrize("chunk, overlap", [(25, 8), (8, 7), (10, 0)])
def test_windows_cover_and_blend_to_one(total, chunk, overlap):
    x, windows = torch.rand(total, 1, 2, 2), clips.plan_windows(total, chunk, overlap)
    assert len({b - a for a, b in windows}) == 1 and max(b - a for a, b in windows) <= chunk
    pieces = list(
        clips.crossfade(
            (
                (w, clips.fade_weights(w, total, overlap, overlap // 3), x[w[0] : w[1]])
                for w in windows
            ),
            [a for a, _ in windows],
        )
    )
    assert torch.allclose(torch.cat(pieces), x, atol=1e-6) and max(len(p) for p in pieces) <= chunk


def bytes_alive():
    "How much all tensors hold; none is held longer by looking."
    tensors = [t for t in gc.get_objects() if type(t) is torch.Tensor]
    return sum(t.untyped_storage().nbytes() for t in tensors)


def test_memory_does_not_grow_with_the_film():
    "As many tensors are alive after 15 windows as after 3."
    settings = RestoreSettings(
        Degradation("sr"), "paper", prior=Gaussian(), chunk=5, overlap=1, changes={"route.steps": 2}
    )
    y, alive = (torch.linspace(-1, 1, 72).view(3, 4, 6) for _ in range(70)), []
    for i, _ in enumerate(windows.restore_frames(y, 70, (16, 24), settings, progress=False)):
        if i in (3, 15):
            gc.collect()
            alive.append(bytes_alive())
    assert len(alive) == 2 and alive[1] - alive[0] <= 5 * 3 * 16 * 24 * 4, alive


def test_a_reel_forgets():
    reel = clips.FrameBuffer(iter(torch.arange(100.0)[:, None]))
    assert reel.take(10, 13).flatten().tolist() == [10, 11, 12] and reel.take(12, 20)[0] == 12
    assert len(reel.kept) == 8
    with pytest.raises(ValueError, match="ends at frame 100"):
        reel.take(90, 101)


@pytest.mark.parametrize("name", TASKS)
def test_restored_videos_agree_with_their_measurement(x, name):
    d, x = Degradation(name), x[:8]
    y = degrade(x, d)
    out = run(y, name)
    assert out.shape == x.shape and (d.operator(x.shape)(out) - y).abs().mean() < 0.01


@pytest.mark.parametrize(
    "name, size", [("sr", (33, 47)), ("sr", (62, 30)), ("deblur+", (33, 47)), ("inpaint", (62, 30))]
)
def test_any_size(tmp_path, name, size):
    src = video.write(tmp_path / "x.mkv", video.fit(video.sample("tears", 8).x, *size), 12.5)
    T, h, w = degrade_file(src, tmp_path / "y.mkv", name)
    assert (h, w) == ((-(-size[0] // 4), -(-size[1] // 4)) if name == "sr" else size)
    done = restore_file(tmp_path / "y.mkv", tmp_path / "out.mp4", progress=False)
    back = video.read(tmp_path / "out.mp4")
    assert back.x.shape == (8, 3, *size) == (done.frames, 3, *done.size) and back.fps == 12.5
    sim = simulate_file(src, tmp_path / "sim.mp4", name, progress=False)
    assert sim.size == size and {r["method"] for r in sim.rows} == {
        "measurement brought to size",
        "best",
    }


class White(Gaussian):
    "The same prior, which says that its noise is white in the pixels."

    white = True


@pytest.mark.parametrize("name", ["sr", "deblur", "inpaint"])
@pytest.mark.parametrize("options", [{}, {"tile": 128}], ids=["whole", "in tiles"])
def test_the_settings_are_those_of_the_loaded_prior(x, name, options):
    "`best` has others for a prior whose noise is white in the pixels: `solve` and `restore` agree."
    A = Degradation(name).operator(x[:8].shape)
    for prior in (Gaussian(), White()):
        for state in solve(A(x[:8]), A, prior, "best"):
            pass
        assert torch.equal(run(A(x[:8]), name, prior=prior, **options), state.x)


def test_one_frame(x):
    assert run(degrade(x[:1], "sr"), "sr").shape == x[:1].shape
    with pytest.raises(ValueError, match="1 frame cannot hold the average over 7"):
        run(x[:1], "deblur+")
    with pytest.raises(ValueError, match="6 frames cannot hold"):
        run(x[:6], "inpaint+")


def test_holes_in_one_frame_have_a_recipe_of_their_own():
    settings = RestoreSettings(Degradation("inpaint"))
    for frames, recipe in ((1, "still"), (2, "inpaint")):
        A = Degradation("inpaint").operator((frames, 3, 32, 32))
        assert settings.chosen(A) == best_white(recipe)
        assert choose("best", describe(A).recipe, prior="white") == best_white(recipe), "as `solve`"


def test_the_same_seed_gives_the_same_video(x):
    y = degrade(x[:3], "deblur")
    a, b, c = (
        run(y, "deblur", preset="paper", changes={"consistency.steps": 2}, seed=s)
        for s in (0, 0, 1)
    )
    assert torch.equal(a, b) and not torch.equal(a, c)


@pytest.mark.parametrize("name", ["sr", "deblur+"])
def test_windows_give_what_the_whole_clip_gives(x, name):
    y = degrade(x, Degradation(name, temporal="replicate"))
    kw = (
        dict(preset="paper", changes={"consistency.steps": 1}) if name == "sr" else {}
    )  # frame by frame: then nothing may differ
    whole, parts = (run(y, name, temporal="replicate", chunk=c, overlap=8, **kw) for c in (25, 14))
    assert psnr(whole, parts) > (60 if name == "sr" else 25)


HELD = {
    "consistency.inner.slack": 1e-3,
    "consistency.inner.last_slack": 1e-3,
    "start.what": "Regularised",
}


@pytest.mark.parametrize("kind", ["y.mkv", "y.mp4", "y.webm", "frames"])
@pytest.mark.parametrize("name", TASKS)
def test_through_a_file_is_nearly_as_good_as_without(tmp_path, x, kind, name):
    if kind != "y.mkv" and name != "deblur+":
        pytest.skip("one task is enough for this format")
    src = video.write(tmp_path / "x.mkv", x[:8], lossless=True)
    degrade_file(src, tmp_path / kind, Degradation(name, seed=5))
    kw = (
        dict(changes=HELD) if name.startswith("deblur") else {}
    )  # a prior that knows nothing: hold it a little
    out = restore.restore(tmp_path / kind, seed=5, progress=False, **kw).x
    direct = run(degrade(x[:8], Degradation(name, seed=5)), Degradation(name, seed=5), **kw)
    loss = psnr(direct, x[:8]) - psnr(out, x[:8])
    worst = (
        {"y.mkv": 0.3, "y.mp4": 1.5}.get(kind, 5) if name.startswith("deblur") else 0.3
    )  # 16, 12 and 8 bits
    assert loss < worst, f"{loss:.2f} dB lost on the way through {kind}"


@pytest.mark.parametrize("windows", [{}, {"chunk": 2, "overlap": 1}], ids=["one", "several"])
def test_a_sharp_film_that_is_said_to_be_blurred(tmp_path, x, windows):
    "Its details explode. The sentence says what to look at, and no film is written."
    clip = video.write(tmp_path / "sharp.mkv", x[:3], 24, lossless=True)
    with pytest.raises(ValueError, match="deblur with these numbers has not happened to it"):
        restore_file(clip, tmp_path / "out.mp4", "deblur", progress=False, **windows)
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize("preset", ["paper", "official"])
def test_a_preset_that_knows_no_noise_says_so(x, preset):
    "It gave a noisy film back as it was, without a word."
    with pytest.warns(UserWarning, match="sigma_y=0.1 changes nothing: this preset"):
        settings_for(Degradation("denoise", sigma_y=0.1), preset)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        settings_for(Degradation("denoise", sigma_y=0.1), "best")
        settings_for(Degradation("deblur"), preset)


def test_the_file_knows_its_mask(tmp_path, x):
    src = video.write(tmp_path / "x.mkv", x[:3], lossless=True)
    degrade_file(src, tmp_path / "y.mkv", Degradation("inpaint", seed=3, keep=0.4))
    y = video.read(tmp_path / "y.mkv").x
    assert torch.equal(
        restore.restore(tmp_path / "y.mkv", progress=False).x,
        restore.restore(tmp_path / "y.mkv", "inpaint", progress=False).x,
    )
    run(y, "inpaint", mask_seed=3, keep=0.4)
    with pytest.raises(ValueError, match="not that of mask seed 0"):
        run(y, "inpaint", keep=0.4)


class Stop(Exception):
    pass


@pytest.mark.parametrize("chunk, calls", [(12, 25), (6, 50)])
def test_a_stopped_run_goes_on(tmp_path, x, monkeypatch, chunk, calls):
    """Stopped inside a window, in the first or a later one: the same bytes as without the stop, and
    less work.
    """
    src = video.write(tmp_path / "x.mkv", x[:12], lossless=True)
    kw = dict(
        task="sr",
        progress=False,
        chunk=chunk,
        overlap=2,
        preset="paper",
        changes={"consistency.steps": 2},
    )
    whole = simulate_file(src, tmp_path / "a.mp4", **kw).path.read_bytes()
    eps, Gaussian.calls = Gaussian.eps, 0

    def stops(self, z, t):
        if Gaussian.calls >= calls:
            raise Stop
        return eps(self, z, t)

    monkeypatch.setattr(Gaussian, "eps", stops)
    with pytest.raises(Stop):
        simulate_file(src, tmp_path / "b.mp4", **kw)
    assert not (tmp_path / "b.mp4").exists()
    monkeypatch.setattr(Gaussian, "eps", eps)
    with pytest.raises(ValueError, match="other settings"):
        simulate_file(src, tmp_path / "b.mp4", resume=True, **kw | {"seed": 7})
    Gaussian.calls = 0
    assert simulate_file(src, tmp_path / "b.mp4", resume=True, **kw).path.read_bytes() == whole
    assert Gaussian.calls < {12: 45, 6: 90}[chunk] - calls / 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "b.mp4", "x.mkv"]


def test_memory_is_that_of_a_window(tmp_path, x):
    "Forty frames in windows of ten: the reel never holds more than a window."
    long = torch.cat([x, x.flip(0)[:15]])
    most = []

    class Watched(clips.FrameBuffer):
        def take(self, a, b):
            out = super().take(a, b)
            most.append(len(self.kept))
            return out

    old, windows.FrameBuffer = windows.FrameBuffer, Watched
    try:
        out = run(degrade(long, "sr"), "sr", chunk=10, overlap=2)
    finally:
        windows.FrameBuffer = old
    assert out.shape == long.shape and max(most) <= 10


@pytest.mark.parametrize(
    "y, kw, error, says",
    [
        (torch.zeros(8, 3, 8, 8), dict(task="upscale"), ValueError, "choose one of deblur"),
        (torch.zeros(8, 3, 8, 8), dict(), ValueError, "which --task"),
        (torch.zeros(8, 3, 8, 8), dict(task="sr", preset="swift"), ValueError, "choose one of"),
        (torch.zeros(8, 3, 8, 8), dict(task="sr", flavour=3), ValueError, "flavour"),
        (torch.zeros(8, 3, 8, 8), dict(task="sr", overlap=25), ValueError, "overlap"),
        (torch.zeros(30, 3, 8, 8), dict(task="sr+", overlap=3), ValueError, "at least 7"),
        (torch.zeros(8, 3, 8, 8), dict(task="sr", factor=0), ValueError, "factor"),
        (torch.zeros(8, 3, 8, 8), dict(task="sr", sigma_y=-1.0), ValueError, "sigma_y"),
        (torch.zeros(8, 3, 8, 8), dict(task="sr", changes={"renoise.eta": 2.0}), ValueError, "eta"),
        (torch.zeros(8, 3, 8, 8), dict(task="sr+", temporal="valid"), ValueError, "temporal"),
        (torch.full((8, 3, 8, 8), float("nan")), dict(task="sr"), ValueError, "NaN"),
        (torch.zeros(8, 3, 8, 8).byte(), dict(task="sr"), TypeError, "127.5"),
        (torch.full((8, 3, 8, 8), 100.0), dict(task="sr"), ValueError, "127.5"),
        (torch.zeros(3, 8, 8), dict(task="sr"), ValueError, "T, C, H, W"),
        ("nowhere.mp4", dict(task="sr"), FileNotFoundError, "does not exist"),
    ],
)
def test_what_cannot_be_restored(y, kw, error, says):
    with pytest.raises(error, match=says):
        restore.restore(y, progress=False, **kw)


def test_gray_videos_are_restored_as_colour(x):
    assert run(degrade(x[:2, :1], "sr"), "sr").shape == (2, 3, 48, 64)


def test_notes_of_another_task_are_not_used(tmp_path, x):
    src = video.write(tmp_path / "x.mkv", x[:2], lossless=True)
    degrade_file(src, tmp_path / "y.mkv", Degradation("deblur", sigma=2.0))
    info = video.probe(tmp_path / "y.mkv")
    assert from_notes(info.notes) == Degradation("deblur", sigma=2.0)
    assert what_happened(None, info.notes).sigma == 2.0
    assert what_happened("deblur", info.notes, sigma=1.0).sigma == 1.0
    assert what_happened("sr", info.notes) == Degradation("sr")


def test_degrading_is_lossless_and_noted(tmp_path, x):
    src = video.write(tmp_path / "x.mkv", x[:8], 30, lossless=True)
    degrade_file(src, tmp_path / "y.mkv", Degradation("sr+", factor=2, window=3))
    y, info = video.read(tmp_path / "y.mkv").x, video.probe(tmp_path / "y.mkv")
    assert (y - degrade(x[:8], Degradation("sr+", factor=2, window=3))).abs().max() < 1e-4
    assert info.notes["clean"] == [48, 64] and info.notes["factor"] == 2 and info.fps == 30
    with pytest.raises(FileExistsError):
        degrade_file(src, tmp_path / "y.mkv", "sr")


def test_size_asked_for_is_that_of_the_result(tmp_path, x):
    src = video.write(tmp_path / "y.mkv", degrade(x[:2], "sr"), lossless=True)
    for kw, size in (
        (dict(height=48, width=64), (48, 64)),
        (dict(height=46, width=62), (46, 62)),
        (dict(height=24), (24, 32)),
    ):
        assert (
            restore_file(
                Clip(src, **kw), tmp_path / "o.mp4", "sr", progress=False, overwrite=True
            ).size
            == size
        )


def test_noise_is_known(tmp_path, x):
    d = Degradation("deblur", sigma_y=0.05)
    y = degrade(x[:3], d)
    assert psnr(run(y, d), x[:3]) > psnr(run(y, "deblur"), x[:3]) + 3
    drawn = [RestoreSettings(d).chosen().start.scale for d in (d, Degradation("deblur"))]
    assert drawn == [1, 0]


def test_report_and_demo(tmp_path, monkeypatch):
    lines = "\n".join(demo(tmp_path / "demo", task="sr", frames=3, progress=False))
    assert all(
        m in lines for m in ("PSNR", "SSIM", "measurement brought to size", "CG alone", "\nbest ")
    )
    assert sorted(p.name for p in (tmp_path / "demo").iterdir()) == [
        "before_after.png",
        "report.html",
        "restored.mp4",
    ]
    page = (tmp_path / "demo" / "report.html").read_text()
    assert (
        "http" not in page.replace("http://www.w3.org", "") and "srcdoc" in page and "PSNR" in page
    )
    assert video.probe(tmp_path / "demo" / "restored.mp4").frames == 3
    list(demo(tmp_path / "demo", task="sr", frames=3, progress=False))  # again, over the first


def test_json_notes_survive_mp4(tmp_path, x):
    video.write(tmp_path / "y.mp4", x[:1], lossless=True, task="sr", text='quotes " and ümläuts')
    assert (
        json.loads(json.dumps(video.probe(tmp_path / "y.mp4").notes))["text"]
        == 'quotes " and ümläuts'
    )
