"No window straddles a cut; memory is that of one window; windows meet without a seam."

import os
import re
import subprocess
import sys

import pytest
import torch

from visionxl import video
from visionxl.app import scenes as app_scenes
from visionxl.app.cli.main import main
from visionxl.app.files.plan import plan_file
from visionxl.app.files.restore_file import restore_file
from visionxl.media.cuts import find_cuts

pytestmark = pytest.mark.usefixtures("no_weights")


@pytest.fixture(scope="module")
def film():
    "Three scenes: 11 frames of one clip, 9 of another, 6 of the first one again."
    a, b = (video.fit(video.sample(name).x, 48, 64) for name in ("flower", "tears"))
    return torch.cat([a[:11], b[:9], a[11:17]])


QUICK = {"preset": "paper", "changes": {"route.steps": 3, "consistency.steps": 2}}


def test_cuts_are_found(film):
    assert find_cuts(film) == (11, 20)
    noise = torch.randn(film.shape, generator=torch.Generator().manual_seed(1))
    assert find_cuts((film + 0.1 * noise).clamp(-1, 1)) == (11, 20)
    for name in video.SAMPLES:
        assert find_cuts(video.sample(name).x) == (), "a camera that moves is no cut"
    assert find_cuts(film[:1]) == ()


def test_the_old_place_works_for_one_version_more():
    with pytest.warns(DeprecationWarning, match="take find_cuts from visionxl.media.cuts"):
        assert app_scenes.find_cuts is find_cuts


@pytest.mark.parametrize("name", ["sr", "deblur", "inpaint"])
def test_no_window_straddles_a_cut(tmp_path, film, name):
    video.write(tmp_path / "a.mkv", film, 24, lossless=True)
    plan = plan_file(tmp_path / "a.mkv", name, simulate=True, chunk=6, overlap=2)
    assert plan.cuts == (11, 20)
    for a, b in plan.windows:
        assert not any(a < cut < b for cut in plan.cuts)
    covered = sorted({i for a, b in plan.windows for i in range(a, b)})
    assert covered == list(range(26))
    whole = plan_file(tmp_path / "a.mkv", name, simulate=True, cuts="ignore")
    assert whole.cuts == () and whole.windows != plan.windows


def test_a_film_is_looked_through_once(tmp_path, film, monkeypatch):
    "Its frames are counted and its cuts found while it is read once; one more frame is measured."
    video.write(tmp_path / "a.mkv", film, 24, lossless=True)
    read, seen = video.read_frames, []

    def counted(*args):
        for x in read(*args):
            seen.append(x)
            yield x

    monkeypatch.setattr(video, "read_frames", counted)
    assert plan_file(tmp_path / "a.mkv", "denoise", sigma_y=0.1).cuts == (11, 20)
    assert len(seen) <= len(film) + 1


def test_a_scene_is_restored_as_if_alone(tmp_path, film):
    "Frames of the middle scene do not depend on what lies on the other side of its cuts."
    video.write(tmp_path / "a.mkv", film, 24, lossless=True)
    video.write(tmp_path / "b.mkv", film[11:20], 24, lossless=True)
    options = QUICK | {"progress": False, "chunk": 5, "overlap": 2}
    for name in ("a", "b"):
        restore_file(tmp_path / f"{name}.mkv", tmp_path / f"{name}-out", "sr", **options)
    together, alone = (video.read(tmp_path / f"{name}-out").x for name in "ab")
    assert len(together) == 26 and together[11:20].equal(alone)


def test_after_a_mean_over_time_cuts_are_not_used(tmp_path, film):
    video.write(tmp_path / "a.mkv", film, 24, lossless=True)
    assert plan_file(tmp_path / "a.mkv", "sr+", simulate=True).cuts == ()
    with pytest.raises(ValueError, match="choose find or ignore"):
        plan_file(tmp_path / "a.mkv", "sr", simulate=True, cuts="maybe")


def test_cuts_from_the_command_line(tmp_path, film):
    video.write(tmp_path / "a.mkv", film, 24, lossless=True)
    ask = ["restore", str(tmp_path / "a.mkv"), "--task", "inpaint", "--simulate", "--quiet"]
    ask += ["--preset", "paper", "--set", "route.steps=2", "--set", "consistency.steps=1"]
    for name, more in (("find", []), ("ignore", ["--cuts", "ignore"])):
        assert main([*ask, "-o", str(tmp_path / name), *more]) == 0
    found, ignored = (video.read(tmp_path / name).x for name in ("find", "ignore"))
    assert found.shape == ignored.shape == (26, 3, 48, 64)


PEAK = """
import resource, sys
sys.path[:0] = {path!r}
import torch
from app.exact import Gaussian
from visionxl.app.cli.main import main
from visionxl.prior.latent import Prior
Prior.load = classmethod(lambda cls, name: Gaussian())
for film in sys.argv[1:3]:
    assert main(["restore", film, "-o", film + ".mkv", *sys.argv[3:]]) == 0
    print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow  # test_restore counts the tensors that live after three and fifteen windows
@pytest.mark.skipif(os.name == "nt", reason="peak memory is asked of a Unix")
def test_memory_is_flat(tmp_path):
    "50 frames, then 200 in the same process: the peak grows by at most 5 %."
    frames = video.fit(video.sample("tears").x, 48, 64)
    films = [tmp_path / "50.mp4", tmp_path / "200.mp4"]
    for film, repeats in zip(films, (2, 8)):
        with video.writer(film, 24) as add:
            for k in range(repeats):
                add(frames if k % 2 == 0 else frames.flip(0))
    ask = ["--task", "denoise", "--sigma-y", "0.1", "--preset", "paper", "--chunk", "12"]
    ask += ["--set", "route.steps=1", "--set", "consistency.steps=1", "--quiet"]
    code = PEAK.format(path=[p for p in sys.path if p])
    command = [sys.executable, "-c", code, *map(str, films), *ask]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    peaks = [int(n) for n in re.findall(r"^peak (\d+)$", done.stdout, flags=re.M)]
    print(peaks)
    assert peaks[1] < 1.05 * peaks[0], f"peak memory in kB: {peaks}"
