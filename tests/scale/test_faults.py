"""What breaks in a cluster: a worker, a node, the store, the driver. The same bytes come out.

Each starts processes and ends some of them, so they are slow. `make test-all` runs them.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from short_runs import SHORT, at_work, restored_alone

from visionxl import video
from visionxl.app.cli.main import main
from visionxl.app.files.degrade_file import degrade_file
from visionxl.app.files.restore_file import restore_file
from visionxl.prior.latent import Prior
from visionxl.scale.pool import Pool

CLIPS = 200  # of a folder
pytestmark = pytest.mark.slow
OPTIONS = ["--chunk", "5", "--overlap", "2", "--quiet", "--set", "route.steps=8"]
OPTIONS += ["--codec", "ffv1"]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def plain():
    "The bundled prior as the command line loads it."
    return Prior.load("tiny", device="cpu")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    "A blurred film of four windows, and its restoration by nobody but this process."
    return restored_alone(tmp_path_factory.mktemp("faults"), "deblur", 14, (32, 48))


def disturb(crew, how: int, times: int) -> threading.Thread:
    "Send a signal to so many workers, each in the middle of its window."

    def send():
        hit = []
        for _ in range(times):
            hit.append(at_work(crew, hit))
            os.kill(hit[-1][1], how)

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("workers, times", [(2, 1), (3, 2)])
def test_killed_workers(cluster, plain, measured, tmp_path, workers, times):
    y, want = measured
    with Pool(plain, workers=workers, whole=True, name="tiny") as pool:
        thread = disturb(pool.crew, signal.SIGKILL, times)
        restore_file(y, tmp_path / "x.mkv", prior=pool, **SHORT)
        thread.join(10)
        assert pool.crew.lost == times and pool.crew.hired == workers + times
    assert (tmp_path / "x.mkv").read_bytes() == want


def test_a_worker_that_hangs(cluster, plain, measured, tmp_path):
    "It is stopped by a signal, and its window is done by another when the limit is over."
    y, want = measured
    with Pool(plain, workers=2, whole=True, name="tiny", limit=30) as pool:
        thread = disturb(pool.crew, signal.SIGSTOP, 1)
        restore_file(y, tmp_path / "x.mkv", prior=pool, **SHORT)
        thread.join(10)
        assert pool.crew.lost == 1
    assert (tmp_path / "x.mkv").read_bytes() == want


def test_killed_while_frames_are_spread(cluster, tiny, clip):
    "A pool that spreads frames loses a worker between two calls and within one."
    z = tiny.encode(clip.repeat(20, 1, 1, 1))
    with Pool(tiny, workers=2) as pool:
        thread = disturb(pool.crew, signal.SIGKILL, 1)
        for _ in range(4):
            assert pool.eps(z, 100).equal(tiny.eps(z, 100))
        thread.join(10)
        assert pool.crew.lost == 1


def script(tmp_path, code: str, **env) -> subprocess.CompletedProcess:
    "A program of its own, with a cluster of its own."
    path = tmp_path / "program.py"
    path.write_text(code)
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **env}
    return subprocess.run(
        [sys.executable, str(path)], env=env, capture_output=True, text=True, timeout=240
    )


FULL = """
import numpy as np, torch
from visionxl.scale.cluster import load_ray; ray = load_ray()
from visionxl.scale.cluster import RayCrew
torch.set_num_threads(1)
ray.init("local", num_cpus=2, object_store_memory=80_000_000, include_dashboard=False,
         log_to_driver=False, _node_ip_address="127.0.0.1",
         _system_config={"automatic_object_spilling_enabled": False})
hoard = [ray.put(np.zeros(55_000_000, np.uint8))]  # somebody else's
seen = []
with RayCrew(3, 2) as crew:
    run = crew.call
    def pieces():
        for i in range(8):
            yield (torch.full((5_000_000,), float(i)),)  # 20 MB
    for i, v in enumerate(crew.map(lambda thing, v: v + thing, pieces())):
        assert torch.equal(v, torch.full((5_000_000,), i + 3.0))
        seen.append(i)
    assert crew.lost == 0
print("whole", seen)
"""


def test_a_full_store(tmp_path):
    "Somebody else fills two thirds of it, and Ray may move nothing away: all results are right."
    done = script(tmp_path, FULL)
    assert "whole [0, 1, 2, 3, 4, 5, 6, 7]" in done.stdout, done.stderr[-3000:]


NODE = """
import sys, threading, time
import torch
from visionxl.scale.cluster import load_ray
ray = load_ray()
from ray.cluster_utils import Cluster
from short_runs import SHORT, at_work
from visionxl.app.files.restore_file import restore_file
from visionxl.prior.latent import Prior
from visionxl.scale.pool import Pool
torch.set_num_threads(1)
cluster = Cluster(initialize_head=True, head_node_args={
    "num_cpus": 1, "object_store_memory": 100_000_000, "include_dashboard": False})
second = cluster.add_node(num_cpus=2, object_store_memory=100_000_000)
ray.init(address=cluster.address, log_to_driver=False)
tiny = Prior.load("tiny", device="cpu")
with Pool(tiny, workers=3, whole=True, name="tiny") as pool:
    pool.crew.patience = 20
    def pull():
        while not all(w.ready() for w in pool.crew.staff):
            time.sleep(0.1)
        at_work(pool.crew)
        cluster.remove_node(second, allow_graceful=False)
    thread = threading.Thread(target=pull, daemon=True)
    thread.start()
    made, until = set(), time.time() + 150
    while (thread.is_alive() or not pool.crew.lost) and time.time() < until:
        restore_file(sys.argv[1], sys.argv[2], prior=pool, overwrite=True, **SHORT)
        made.add(open(sys.argv[2], "rb").read())
    print("workers lost:", pool.crew.lost, "different films:", len(made))
"""


def test_a_node_that_goes_away(measured, tmp_path):
    "A node dies while films are restored, one after another, by workers on two; all are the same."
    y, want = measured
    code = NODE.replace("sys.argv[1]", repr(str(y)))
    code = code.replace("sys.argv[2]", repr(str(tmp_path / "x.mkv")))
    done = script(tmp_path, code, PYTHONPATH=f"{ROOT}:{ROOT / 'tests'}")
    assert (tmp_path / "x.mkv").exists(), done.stdout + done.stderr[-3000:]
    assert (tmp_path / "x.mkv").read_bytes() == want
    lost, films = re.search(r"workers lost: (\d+) different films: (\d+)", done.stdout).groups()
    assert int(lost) >= 1 and films == "1", done.stdout


@pytest.mark.parametrize("how, code", [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_the_driver_is_stopped_and_started_again(measured, tmp_path, how, code):
    y, want = measured
    x, kept = tmp_path / "x.mkv", tmp_path / ".x.mkv.unfinished"
    command = [sys.executable, "-m", "visionxl", "restore", str(y), "-o", str(x), *OPTIONS]
    command += ["--ray", "--workers", "2"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    first = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)
    until = time.time() + 200
    while not films_in(kept) and first.poll() is None and time.time() < until:
        time.sleep(0.05)
    first.send_signal(how)
    said = first.communicate(timeout=60)[1]
    assert first.returncode == code, said
    before = films_in(kept)
    assert not x.exists() and before
    seen = {name: set() for name in before}

    second = subprocess.Popen([*command, "--resume"], env=env, stderr=subprocess.PIPE, text=True)
    while second.poll() is None:
        for name, stamp in films_in(kept).items():
            if name in seen:
                seen[name].add(stamp)
        time.sleep(0.05)
    assert second.returncode == 0, second.stderr.read()
    again = [name for name, stamps in seen.items() if stamps - {before[name]}]
    assert not again, f"finished frames were done again: {again}"
    assert x.read_bytes() == want and not kept.exists()


def films_in(folder: Path) -> dict[str, int]:
    "When each film of a folder was written: windows, and frames that no window will change."
    found = {}
    for path in folder.glob("[!.]*.mkv"):
        with contextlib.suppress(FileNotFoundError):  # joined with its neighbours since
            found[path.name] = path.stat().st_mtime_ns
    return found


def test_a_folder_is_killed_and_goes_on(tmp_path):
    "200 clips, two workers; the command is killed among them, and the same one does the rest."
    short = tmp_path / "short"
    short.mkdir()
    for i in range(4):
        clean = video.fit(video.sample("flower", 8).x, 32, 48)[2 * i : 2 * i + 2]
        video.write(tmp_path / "clean.mkv", clean, lossless=True, overwrite=True)
        degrade_file(tmp_path / "clean.mkv", short / f"{i}.mkv", "sr")
    ask = ["--quiet", "--codec", "ffv1", "--set", "route.steps=8", "-o"]
    assert main(["restore", str(short), *ask, str(tmp_path / "alone")]) == 0
    want = [(tmp_path / "alone" / f"{i}.mkv").read_bytes() for i in range(4)]
    assert len(set(want)) == 4
    many, out = tmp_path / "many", tmp_path / "out"
    many.mkdir()
    for i in range(CLIPS):
        (many / f"{i:03d}.mkv").hardlink_to(short / f"{i % 4}.mkv")
    command = [sys.executable, "-m", "visionxl", "restore", str(many), *ask, str(out)]
    command += ["--ray", "--workers", "2"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    first = subprocess.Popen(command, env=env)
    until = time.time() + 200
    while len(list(out.glob("*.mkv"))) < CLIPS // 4 and first.poll() is None:
        assert time.time() < until, "too few clips were done in 200 s"
        time.sleep(0.05)
    first.kill()
    assert first.wait(30) == -signal.SIGKILL
    stamps = {p: p.stat().st_mtime_ns for p in out.glob("*.mkv")}
    assert CLIPS // 4 <= len(stamps) < CLIPS
    done = subprocess.run([*command, "--resume"], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    made = sorted(p.name for p in out.iterdir())
    assert made == [f"{i:03d}.mkv" for i in range(CLIPS)], "files are missing, or some are left"
    assert all((out / n).read_bytes() == want[i % 4] for i, n in enumerate(made))
    assert all(p.stat().st_mtime_ns == t for p, t in stamps.items()), "a clip was done again"
