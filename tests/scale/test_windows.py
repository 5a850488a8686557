"Whole windows and cells go to workers: the same bytes, few in line at a time, and no Ray unasked."

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from devices.emulator import emulated
from short_runs import SHORT, restored_alone

from visionxl import video
from visionxl.app.cli.main import main
from visionxl.app.degradation.tasks import Degradation
from visionxl.app.files.degrade_file import degrade_file
from visionxl.app.files.restore_file import restore_file
from visionxl.app.settings import settings_for
from visionxl.measure.experiment.grid import Grid
from visionxl.measure.experiment.spread import fill
from visionxl.prior.latent import Prior
from visionxl.scale.command import add_crew_options, check_crew_options
from visionxl.scale.crew import Crew, DeviceWorker, Full, device_crew
from visionxl.scale.pack import on_device
from visionxl.scale.pool import Pool

SCALE = Path(video.__file__).parent / "assets" / "scale"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    "A film of four windows with half of its pixels hidden, and its restoration by one."
    return restored_alone(tmp_path_factory.mktemp("windows"), "inpaint", 12, (34, 46))


@pytest.mark.parametrize("whole", [False, True])
def test_windows_of_a_file(measured, tmp_path, whole):
    "Two threads; what was kept by one process is taken over by a pool, and a size needs padding."
    y, want = measured
    told, x = [], tmp_path / "x.mkv"
    with Pool(
        Prior.load("tiny", device="cpu"), devices=("cpu",) * 2, whole=whole, name="tiny"
    ) as p:
        restore_file(y, x, **SHORT | {"prior": p, "progress": told.append})
    assert x.read_bytes() == want
    assert [round(t.share, 3) for t in told] == [0.25, 0.5, 0.75, 1.0]


def test_a_stopped_run_goes_on_with_workers(measured, tmp_path):
    "By itself to the second window, then with a pool: the settings count as the same."
    y, want = measured
    x = tmp_path / "x.mkv"

    def stop(progress):
        if progress.window == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore_file(y, x, **SHORT | {"progress": stop})
    kept = sorted(p.name for p in (tmp_path / ".x.mkv.unfinished").glob("*.mkv"))
    assert kept == ["00001.mkv", "done-0000000-0000002.mkv", "done-0000002-0000005.mkv"]
    waits = video.read(tmp_path / ".x.mkv.unfinished" / "00001.mkv").x
    assert len(waits) == SHORT["overlap"], "only what the next window shares"
    told = []
    with Pool(Prior.load("tiny", device="cpu"), devices=("cpu",) * 2, name="tiny") as pool:
        restore_file(y, x, resume=True, **SHORT | {"prior": pool, "progress": told.append})
    assert x.read_bytes() == want and [t.window for t in told] == [2, 3]


def test_one_window_is_spread_by_frames_or_goes_whole(tmp_path):
    clean, y = tmp_path / "clean.mkv", tmp_path / "y.mkv"
    video.write(clean, video.fit(video.sample("tears", 4).x, 32, 48), lossless=True)
    degrade_file(clean, y, "sr")
    made, tiny = [], Prior.load("tiny", device="cpu", frames_per_batch=1)
    few = {k: SHORT[k] for k in ("progress", "changes", "encoding")}
    for whole in (None, False, True):
        x = tmp_path / f"{whole}.mkv"
        with Pool(tiny, devices=("cpu", "cpu"), whole=bool(whole)) as pool:
            restore_file(y, x, prior=tiny if whole is None else pool, **few)
        made.append(x.read_bytes())
    assert made[0] == made[1] == made[2]


def test_few_windows_wait_however_many_there_are():
    "Pieces are taken from their source only when there is room, also by several jobs at once."
    alive, most, lock = set(), [0], threading.Lock()

    def pieces(job, count):
        for i in range(count):
            with lock:
                alive.add((job, i))
                most[0] = max(most[0], len(alive))
            yield (job, i)

    def work(thing, job, i):
        time.sleep(0.0002 * (i % 3))
        return job, i

    def consume(crew, job, count):
        for i, got in enumerate(crew.map(work, pieces(job, count))):
            assert got == (job, i)
            with lock:
                alive.discard(got)

    seen = {}
    for count in (10, 1000):
        with device_crew(0, ("cpu",) * 3) as crew:
            jobs = [threading.Thread(target=consume, args=(crew, j, count)) for j in range(4)]
            most[0] = 0
            for job in jobs:
                job.start()
            for job in jobs:
                job.join(60)
            assert not alive and most[0] <= crew.ahead + len(jobs)
            seen[count] = most[0]
    assert seen[1000] <= crew.ahead + 4


def test_a_source_that_fails_leaves_the_crew_whole():
    def pieces():
        yield (1,)
        raise OSError("the file is damaged")

    with device_crew(0, ("cpu", "cpu")) as crew:
        with pytest.raises(OSError, match="damaged"):
            list(crew.map(lambda thing, i: i, pieces()))
        for _ in range(3):  # no room was lost
            assert list(crew.map(lambda thing, i: i, ((i,) for i in range(9)))) == [*range(9)]
        half = crew.map(lambda thing, i: i, ((i,) for i in range(9)))
        next(half)
        half.close()
        assert list(crew.map(lambda thing, i: i, ((i,) for i in range(9)))) == [*range(9)]


def test_no_room_is_waited_for_and_not_for_ever():
    class Tight(DeviceWorker):
        times = 0

        def run(self, f, args, limit=None):
            Tight.times += 1
            if Tight.times < 3 or self.thing == "never":
                raise Full("no room")
            return super().run(f, args, limit)

    with Crew(lambda i: Tight(5, "cpu"), 1) as crew:
        assert crew.call(lambda thing: thing) == 5 and crew.lost == 0
    never = Crew(lambda i: Tight("never", "cpu"), 1, patience=0.2)
    with never as crew, pytest.raises(MemoryError, match="object store"):
        crew.call(lambda thing: thing)


OWN = """
from visionxl.prior.latent import Prior

def halved():
    return Prior.load("tiny", device="cpu", frames_per_batch=2)
"""
ASK = ["--quiet", "--chunk", "5", "--overlap", "2", "--set", "route.steps=4", "--codec", "ffv1"]
ASK += ["--prior", "tiny"]
TWO = ["--devices", "cpu,cpu"]


def test_any_prior_that_the_command_knows(measured, tmp_path, monkeypatch):
    "A file of one's own, and another autoencoder: workers get what one process would load."
    y, x = str(measured[0]), tmp_path / "x.mkv"
    (tmp_path / "mine.py").write_text(OWN)
    ask = ["restore", y, "-o", str(x), "--overwrite", "--frames", "3", *ASK]
    own = ["--prior", f"{tmp_path / 'mine.py'}:halved"]
    made = []
    for more in ([], TWO):
        assert main([*ask, *own, *more]) == 0
        made.append(x.read_bytes())
    assert made[0] == made[1]
    assert main([*ask, *own, *TWO, "--vae", "taesdxl"]) == 1
    load, seen = Prior.load, []

    def with_vae(name, vae=None, device=None):
        seen.append((name, vae, device))
        return load(name, device=device)

    monkeypatch.setattr(Prior, "load", with_vae)
    for more in ([], TWO):
        assert main([*ask, "--vae", "taesdxl", *more]) == 0
    assert seen == [("tiny", "taesdxl", None), ("tiny", "taesdxl", "cpu")]


def test_own_prior_goes_on_with_workers(measured, tmp_path, monkeypatch):
    "What one process has left is taken over: a file's text counts, not who runs it."
    (tmp_path / "mine.py").write_text(OWN)
    name = f"{tmp_path / 'mine.py'}:halved"
    with Pool(Prior.load("tiny", device="cpu"), devices=("cpu",), name=name) as pool:
        keys = {settings_for(Degradation("sr"), prior=p).key() for p in (name, pool)}
        assert len(keys) == 1
        (tmp_path / "mine.py").write_text(OWN + "# changed")
        assert settings_for(Degradation("sr"), prior=pool).key() not in keys


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    "Seven measured films, one of two windows, and an eighth that is none; all restored by one."
    folder = tmp_path_factory.mktemp("many")
    (folder / "y").mkdir()
    for i in range(7):
        clean = folder / "clean.mkv"
        x = video.fit(video.sample("tears", 7 if i == 3 else 2).x, 32, 48)
        video.write(clean, x.flip(0) if i % 2 else x, lossless=True, overwrite=True)
        degrade_file(clean, folder / "y" / f"{i}.mkv", "sr")
    (folder / "y" / "4.mkv").write_text("no film")
    assert main(["restore", str(folder / "y"), "-o", str(folder / "one"), *ASK]) == 1
    return folder


def bytes_in(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


def test_a_folder_is_shared(films, tmp_path, capsys):
    "The same files as by one; a film that is damaged stops no other; a second call does nothing."
    out, want = tmp_path / "two", bytes_in(films / "one")
    assert sorted(want) == [f"{i}.mkv" for i in (0, 1, 2, 3, 5, 6)]
    ask = ["restore", str(films / "y"), "-o", str(out), *ASK, *TWO]
    assert main([*ask, "--json"]) == 1
    assert bytes_in(out) == want
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    ends = {e: [s for s in said if s["event"] == e] for e in ("start", "done", "failed")}
    assert [len(v) for v in ends.values()] == [7, 6, 1]
    progress = [s for s in said if s["event"] == "progress"]
    assert progress[-1]["finished"] == 7 and progress[-1]["share"] == 1
    (out / "5.mkv").unlink()
    stamps = {p: p.stat().st_mtime_ns for p in out.iterdir()}
    assert main([*ask, "--resume"]) == 1
    assert bytes_in(out) == want
    assert all(p.stat().st_mtime_ns == t for p, t in stamps.items())
    table = capsys.readouterr().out.splitlines()[-7:]
    assert [line.split()[0] for line in table] == [f"{i}.mkv" for i in range(7)]


def test_a_folder_is_stopped_and_goes_on(films, tmp_path, monkeypatch):
    "Ctrl-C in the middle: finished films are whole, nothing is left open, the rest is done later."
    out, done = tmp_path / "two", []
    run = Crew.call

    def interrupted(self, f, *args):
        done.append(args)
        if len(done) == 4:
            raise KeyboardInterrupt
        return run(self, f, *args)

    ask = ["restore", str(films / "y"), "-o", str(out), *ASK, *TWO]
    monkeypatch.setattr(Crew, "call", interrupted)
    assert main(ask) == 130
    left = bytes_in(out) if out.exists() else {}
    want = bytes_in(films / "one")
    assert len(left) < 6 and all(want.get(n) == b for n, b in left.items() if n[0] != ".")
    monkeypatch.setattr(Crew, "call", run)
    assert main([*ask, "--resume"]) == 1
    assert bytes_in(out) == want


def test_grid_on_cards(tmp_path):
    "A worker's priors are loaded on its device."
    grid = Grid(tmp_path, methods=("paper",), say=lambda s: None)
    with emulated(cards=2):
        there = on_device(grid, "cuda:1")
        assert str(there.prior("tiny").device) == "cuda:1" and grid.device is None


def test_cells_of_a_grid(tmp_path):
    "Figures and arrays of cells run by workers are those of one process; times aside."
    options = {"operators": ("sr", "deblur+"), "methods": ("cg", "paper"), "frames": 8, "size": 32}
    grids = [Grid(tmp_path / n, **options, say=lambda s: None) for n in ("alone", "spread")]
    cells = grids[0].cells()[:5]
    with device_crew(grids[1].for_workers(), ("cpu", "cpu")) as crew:
        assert fill(grids[1], cells * 2, crew, progress=False) == 5
        assert fill(grids[1], cells, crew, progress=False) == 0
    for cell in cells:
        alone, spread = (g(cell) for g in grids)
        for name in alone:
            if name not in ("seconds", "init s", "GB", "features"):
                same = np.array_equal(alone[name], spread[name], equal_nan=True)
                assert same, name  # ST-LPIPS is nan where its weights are missing
        views = [g.views(cell) for g in grids]
        assert all((views[0][k] == views[1][k]).all() for k in views[0])


def test_files_for_launchers():
    "Ray's own schema for the cluster, the shell's own parser for Slurm's script."
    ray = pytest.importorskip("ray")
    import jsonschema
    import yaml

    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    config = yaml.safe_load((SCALE / "cluster.yaml").read_text())
    jsonschema.validate(config, schema)
    assert config["head_node_type"] in config["available_node_types"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(config | {"max_wrkers": 3}, schema)
    script = SCALE / "slurm.sh"
    subprocess.run(["bash", "-n", str(script)], check=True)
    known = {"job-name", "nodes", "ntasks-per-node", "gpus-per-node", "cpus-per-task", "time"}
    known |= {"signal", "requeue"}
    asked = [s[10:].split("=")[0] for s in script.read_text().splitlines() if s[:9] == "#SBATCH -"]
    assert asked and set(asked) <= known


def test_options():
    p = argparse.ArgumentParser()
    add_crew_options(p)
    assert not check_crew_options(p.parse_args([]))
    assert p.parse_args(["--ray"]).ray == "local"
    assert p.parse_args(["--ray", "auto", "--workers", "3"]).ray == "auto"
    for wrong in (["--workers", "2"], ["--ray", "--devices", "cpu"], ["--time-limit", "3"]):
        with pytest.raises(ValueError):
            check_crew_options(p.parse_args(wrong))


ALONE = """
import sys
import visionxl.scale.command, visionxl.scale.cluster, visionxl.measure.experiment.spread
from visionxl.app.cli.main import main
assert main(sys.argv[1:]) == 0
assert "ray" not in sys.modules, "ray was imported without --ray"
"""


def test_no_ray_without_asking(measured, tmp_path, monkeypatch, capsys):
    "A restoration with and without --devices works where ray cannot be imported at all."
    (tmp_path / "ray.py").write_text("raise ImportError('there is no ray here')")
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}", "OMP_NUM_THREADS": "1"}
    y, want = measured
    x = tmp_path / "x.mkv"
    argv = ["restore", str(y), "-o", str(x), "--quiet", "--chunk", "5", "--overlap", "2"]
    argv += ["--set", "route.steps=8", "--codec", "ffv1", "--prior", "tiny"]
    argv += ["--devices", "cpu,cpu"]
    command = [sys.executable, "-c", ALONE, *argv]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert x.read_bytes() == want
    monkeypatch.setitem(sys.modules, "ray", None)  # to import it is an error from now on
    assert main([*argv[:-2], "--ray", "--overwrite"]) == 1
    assert "pip install 'visionxl[ray]'" in capsys.readouterr().err
