"Runs that are killed at any moment, and a disk that is really full."

import os
import random
import signal
import subprocess
import sys
import time

import pytest
from app.exact import Gaussian, run
from app.test_trust import clean, step, stepped, x  # noqa: F401

from visionxl import video

pytestmark = pytest.mark.usefixtures("no_weights")

ASK = ["--task", "sr", "--simulate", "--chunk", "6", "--overlap", "2", "--preset", "paper"]
ASK += ["--set", "consistency.steps=1", "--quiet"]


def frames(path):
    return video.read(path).x


@pytest.mark.slow
def test_killed_at_ten_random_moments(tmp_path, clean):  # noqa: F811
    "SIGKILL, then --resume: the decoded frames are those of an undisturbed run."
    whole, out = tmp_path / "whole.mkv", tmp_path / "out.mkv"
    before = Gaussian.calls
    assert run("restore", clean, "-o", whole, *ASK) == 0
    calls, chance = Gaussian.calls - before, random.Random(0)
    for _ in range(10):
        process = stepped("restore", clean, "-o", out, *ASK, calls=chance.randrange(1, calls))
        step(process)  # it waits again in the next call, if it is not killed before
        time.sleep(chance.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        assert process.returncode == -9 and not out.exists()
        assert run("restore", clean, "-o", out, *ASK, "--resume") == 0
        assert (frames(out) == frames(whole)).all()
        out.unlink()


@pytest.fixture
def small_disk(tmp_path):
    "A disk of 2 MB in memory, which only root can have."
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no small disk can be mounted here: run this test as root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("call", [2, 9, 17, 30])
def test_a_full_disk(tmp_path, small_disk, clean, monkeypatch, capsys, call):  # noqa: F811
    "One sentence, code 1, and after some room is made the run goes on to the same frames."
    whole, out = tmp_path / "whole.mkv", small_disk / "out.mkv"
    assert run("restore", clean, "-o", whole, *ASK) == 0
    eps, calls, filler = Gaussian.eps, [], small_disk / "filler"

    def fills(self, z, t):
        calls.append(t)
        if len(calls) == call:
            with open(filler, "wb", buffering=0) as f:
                try:
                    while True:
                        f.write(bytes(4096))
                except OSError:
                    pass
        return eps(self, z, t)

    monkeypatch.setattr(Gaussian, "eps", fills)
    capsys.readouterr()
    assert run("restore", clean, "-o", out, *ASK) == 1
    said = capsys.readouterr().err
    assert "the disk is full" in said and said.count("\n") == 1, said
    assert not out.exists()
    filler.unlink()
    assert run("restore", clean, "-o", out, *ASK, "--resume") == 0
    assert (frames(out) == frames(whole)).all()
    assert [p.name for p in small_disk.iterdir()] == ["out.mkv"]


@pytest.mark.slow
def test_closed_streams(tmp_path, clean):  # noqa: F811
    "A parent that has closed all three streams, and a terminal that knows no ü."
    out, name = tmp_path / "out.mkv", tmp_path / "fünf.mkv"
    name.write_bytes(clean.read_bytes())
    line = [sys.executable, "-m", "visionxl", "restore", str(name), "-o", str(out), *ASK]
    closed = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *line]
    assert subprocess.run(closed, timeout=120).returncode == 0
    assert video.probe(out).frames == 12
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii:strict"}
    info = [sys.executable, "-m", "visionxl", "info", str(name)]
    done = subprocess.run(info, env=ascii_only, capture_output=True, timeout=120)
    assert done.returncode == 0 and rb"f\xfcnf.mkv: 12 frames" in done.stdout
