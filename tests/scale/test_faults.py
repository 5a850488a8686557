"""What breaks in a cluster: a worker, a node, the store, the driver. The same bytes come out.

Each starts processes and ends some of them, so they are slow. `make test-all` runs them.
"""

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from short_runs import SHORT, Held, HeldCall, lives, restored_alone, until

from visionxl import video
from visionxl.app import windows
from visionxl.app.cli.main import main
from visionxl.app.files.degrade_file import degrade_file
from visionxl.app.files.restore_file import restore_file
from visionxl.prior.latent import Prior
from visionxl.scale import pool as pools
from visionxl.scale.pool import Pool

CLIPS = 200  # of a folder
pytestmark = pytest.mark.slow
OPTIONS = ["--chunk", "5", "--overlap", "2", "--quiet", "--set", "route.steps=8"]
OPTIONS += ["--codec", "ffv1", "--prior", "tiny"]
FIRST = (0, 3, 6, 9)  # frames with which the windows of the film begin
ROOT = Path(__file__).resolve().parents[2]
ENV = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def plain():
    "The bundled prior as the command line loads it."
    return Prior.load("tiny", device="cpu")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    "A blurred film of four windows, and its restoration by nobody but this process."
    return restored_alone(tmp_path_factory.mktemp("faults"), "deblur", 14, (32, 48))


@pytest.fixture
def held(tmp_path, monkeypatch):
    "Gives a function: workers are held in the middle of windows that begin with these frames."
    (tmp_path / "visits").mkdir()

    def hold(*first):
        gate = Held(tmp_path / "visits", first)
        monkeypatch.setattr(windows, "restore_window", gate)
        return gate

    return hold


def disturb(how: int, gate: Held, first: tuple = (0,)) -> threading.Thread:
    "Send a signal to the workers that are held in these windows, then let all others go on."

    def send():
        for process in [gate.wait(frame) for frame in first]:
            os.kill(process, how)
        gate.let_go()

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("workers, hit", [(2, (3,)), (3, (3, 9))])
def test_killed_workers(cluster, plain, measured, held, tmp_path, workers, hit):
    "In the middle of their windows: these alone are done again."
    y, want = measured
    gate = held(*hit)
    with Pool(plain, workers=workers, whole=True, name="tiny") as pool:
        thread = disturb(signal.SIGKILL, gate, hit)
        restore_file(y, tmp_path / "x.mkv", **SHORT | {"prior": pool})
        thread.join()
        assert pool.crew.lost == len(hit) and pool.crew.hired == workers + len(hit)
    assert (tmp_path / "x.mkv").read_bytes() == want
    assert sorted(first for _, first in gate.seen()) == sorted([*FIRST, *hit])


def test_a_worker_that_hangs(cluster, plain, measured, held, tmp_path):
    "It is stopped by a signal, and its window is done by another when the limit is over."
    y, want = measured
    gate = held(6)
    with Pool(plain, workers=2, whole=True, name="tiny", limit=30) as pool:
        thread = disturb(signal.SIGSTOP, gate, (6,))
        restore_file(y, tmp_path / "x.mkv", **SHORT | {"prior": pool})
        thread.join()
        assert pool.crew.lost >= 1
    assert (tmp_path / "x.mkv").read_bytes() == want
    hung, other = [process for process, first in gate.seen() if first == 6][:2]
    assert hung != other and until(lambda: not lives(hung))


def test_killed_while_frames_are_spread(cluster, tiny, clip, tmp_path, monkeypatch):
    "A pool that spreads frames loses a worker within a call, and another between two calls."
    z = tiny.encode(clip.repeat(20, 1, 1, 1))
    want = tiny.eps(z, 100)
    gate = HeldCall(tmp_path, after=7)
    monkeypatch.setattr(pools, "predicted", gate)
    with Pool(tiny, workers=2) as pool:
        thread = disturb(signal.SIGKILL, gate)
        assert pool.eps(z, 100).equal(want)
        thread.join()
        assert pool.crew.lost == 1 and len(gate.seen()) == len(z) + 1
        idle = next(worker.where[1] for worker, _ in pool.crew.free if worker.where)
        os.kill(idle, signal.SIGKILL)
        until(lambda: not lives(idle))
        assert pool.eps(z, 100).equal(want)
        assert pool.crew.lost == 2


def script(tmp_path, code: str, *words: str) -> subprocess.CompletedProcess:
    "A program of its own, with a cluster of its own."
    path = tmp_path / "program.py"
    path.write_text(code)
    line = [sys.executable, str(path), *words]
    return subprocess.run(line, env=ENV, capture_output=True, text=True, timeout=900)


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
import contextlib, os, signal, sys, threading
from pathlib import Path
import torch
from visionxl.scale.cluster import load_ray
ray = load_ray()
from ray.cluster_utils import Cluster
from short_runs import SHORT, Held, until
from visionxl.app import windows
from visionxl.app.files.restore_file import restore_file
from visionxl.prior.latent import Prior
from visionxl.scale.pool import Pool
torch.set_num_threads(1)
cluster = Cluster(initialize_head=True, head_node_args={
    "num_cpus": 1, "object_store_memory": 100_000_000, "include_dashboard": False})
second = cluster.add_node(num_cpus=2, object_store_memory=100_000_000)
ray.init(address=cluster.address, log_to_driver=False)
y, x, visits = sys.argv[1:]
tiny = Prior.load("tiny", device="cpu")
gate = windows.restore_window = Held(Path(visits), node=second.node_id)
with Pool(tiny, workers=3, whole=True, name="tiny") as pool:
    pool.crew.patience = 20
    until(lambda: all(w.ready() for w in pool.crew.staff))  # two of them on the second node
    def pull():
        process = gate.wait()
        cluster.remove_node(second, allow_graceful=False)
        with contextlib.suppress(ProcessLookupError):  # a machine takes all its processes along
            os.kill(process, signal.SIGKILL)
        gate.let_go()
    thread = threading.Thread(target=pull, daemon=True)
    thread.start()
    restore_file(y, x, **SHORT | {"prior": pool})
    thread.join()
    print("workers lost:", pool.crew.lost)
"""


def test_a_node_that_goes_away(measured, tmp_path):
    "A node dies while its workers are in the middle of windows: others do these again."
    y, want = measured
    x, visits = tmp_path / "x.mkv", tmp_path / "visits"
    visits.mkdir()
    done = script(tmp_path, NODE, str(y), str(x), str(visits))
    assert x.exists(), done.stdout + done.stderr[-3000:]
    assert x.read_bytes() == want
    assert int(re.search(r"workers lost: (\d+)", done.stdout)[1]) >= 1


COMMAND = """
import sys
from pathlib import Path
from short_runs import Held
from visionxl.app import windows
from visionxl.app.cli.main import main
windows.restore_window = Held(Path({folder!r}), {first!r}, {after})
sys.exit(main(sys.argv[1:]))
"""


def command(gate: Held, *words) -> list[str]:
    "The command line `visionxl`, with workers that are held."
    code = COMMAND.format(folder=str(gate.folder), first=gate.windows, after=gate.after)
    return [sys.executable, "-c", code, *map(str, words), "--ray", "--workers", "2"]


@pytest.mark.parametrize("how, code", [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_the_driver_is_stopped_and_started_again(measured, tmp_path, how, code):
    "Three windows are finished, and the last is at work: it alone is done again."
    y, want = measured
    gate = Held(tmp_path / "visits", FIRST[-1:])
    gate.folder.mkdir()
    x, kept = tmp_path / "x.mkv", tmp_path / ".x.mkv.unfinished"
    line = command(gate, "restore", y, "-o", x, *OPTIONS)
    first = subprocess.Popen(line, env=ENV, stderr=subprocess.PIPE, text=True)
    until(lambda: (kept / "00002.mkv").exists(), first)
    gate.wait(FIRST[-1])
    first.send_signal(how)
    said = first.communicate(timeout=900)[1]
    assert first.returncode == code, said
    assert not x.exists() and kept.exists()

    gate.let_go()
    second = subprocess.run(
        [*line, "--resume"], env=ENV, capture_output=True, text=True, timeout=900
    )
    assert second.returncode == 0, second.stderr
    assert sorted(at for _, at in gate.seen()) == [*FIRST, FIRST[-1]]
    assert x.read_bytes() == want and not kept.exists()


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
    gate = Held(tmp_path / "visits", after=CLIPS // 3)
    gate.folder.mkdir()
    line = command(gate, "restore", many, *ask, out)
    first = subprocess.Popen(line, env=ENV)
    until(lambda: len(list(out.glob("*.mkv"))) >= CLIPS // 4, first)
    first.kill()
    assert first.wait() == -signal.SIGKILL
    gate.let_go()
    stamps = {p: p.stat().st_mtime_ns for p in out.glob("*.mkv")}
    assert CLIPS // 4 <= len(stamps) < CLIPS
    done = subprocess.run([*line, "--resume"], env=ENV, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-2000:]
    made = sorted(p.name for p in out.iterdir())
    assert made == [f"{i:03d}.mkv" for i in range(CLIPS)], "files are missing, or some are left"
    assert all((out / n).read_bytes() == want[i % 4] for i, n in enumerate(made))
    assert all(p.stat().st_mtime_ns == t for p, t in stamps.items()), "a clip was done again"
