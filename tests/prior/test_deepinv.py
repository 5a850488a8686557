"""deepinv beside this torch, both ways, in an environment of its own.

Opt in: VISIONXL_DEEPINV=1 makes the environment (some 300 MB, a minute) and keeps it for the next
time in VISIONXL_DEEPINV_VENV (default ~/.cache/visionxl/deepinv). torchvision, which deepinv
imports, has no CPU build beside torch 2.13: its wheel for CUDA is installed without its
dependencies, and `load_deepinv` declares the two operators that its import looks for. Nothing here
calls them.
"""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
NEEDED = ("deepinv==0.5.0", "torchvision", "torchmetrics", "lightning-utilities")
NEEDED += ("einops", "natsort", "h5py")


def environment() -> Path:
    "Python of an environment with deepinv, on top of the one that runs this test."
    default = Path.home() / ".cache" / "visionxl" / "deepinv"
    folder = Path(os.environ.get("VISIONXL_DEEPINV_VENV", default))
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        venv.create(folder, with_pip=True, clear=True)
        (packages,) = (folder / "lib").glob("python*/site-packages")
        below = Path(torch.__file__).parents[1]
        (packages / "below.pth").write_text(f"{below}\n")
        pip = [python, "-m", "pip", "install", "--quiet", "--no-deps", *NEEDED]
        subprocess.run(pip, check=True)
        (folder / "complete").touch()
    return python


def test_both_ways():
    if os.environ.get("VISIONXL_DEEPINV") != "1":
        pytest.skip("set VISIONXL_DEEPINV=1 to install deepinv beside torch and try it")
    script = Path(__file__).with_name("deepinv_both_ways.py")
    paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    run = subprocess.run(
        [environment(), script],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": paths},
        cwd=ROOT,
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-3000:]
    assert "all of theirs in our solver" in run.stdout
    assert "our operator in deepinv's DiffPIR: runs" in run.stdout
    print(run.stdout, file=sys.stderr)
