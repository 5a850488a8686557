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
from short_runs import SHORT, restored_alone

from visionxl import video
from visionxl.app.files.degrade_file import degrade_file
from visionxl.app.files.restore_file import restore_file
from visionxl.measure.experiment.grid import Grid
from visionxl.measure.experiment.spread import fill
from visionxl.prior.latent import Prior
from visionxl.scale.command import add_crew_options, check_crew_options
from visionxl.scale.crew import Crew, DeviceWorker, Full, device_crew
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
        restore_file(y, x, prior=p, **SHORT | {"progress": told.append})
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
    assert kept == ["00000.mkv", "00001.mkv"]
    told = []
    with Pool(Prior.load("tiny", device="cpu"), devices=("cpu",) * 2, name="tiny") as pool:
        restore_file(y, x, prior=pool, resume=True, **SHORT | {"progress": told.append})
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


def test_no_ray_without_asking(measured, tmp_path):
    "A restoration with and without --devices works where ray cannot be imported at all."
    (tmp_path / "ray.py").write_text("raise ImportError('there is no ray here')")
    env = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}", "OMP_NUM_THREADS": "1"}
    y, want = measured
    x = tmp_path / "x.mkv"
    argv = ["restore", str(y), "-o", str(x), "--quiet", "--chunk", "5", "--overlap", "2"]
    argv += ["--set", "route.steps=8", "--codec", "ffv1", "--devices", "cpu,cpu"]
    command = [sys.executable, "-c", ALONE, *argv]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert x.read_bytes() == want
    command[-2:] = ["--ray", "--overwrite"]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert "pip install 'visionxl[ray]'" in done.stderr
