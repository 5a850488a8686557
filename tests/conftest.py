"""Shared by all tests: where the data lies, and one thread policy."""

import os
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", min(2, os.cpu_count() or 1))))


@pytest.fixture(scope="session")
def data():
    "The folder of $VISIONXL_DATA (default ../shared/data), or a skip that says how to get it."
    path = Path(os.environ.get("VISIONXL_DATA", ROOT / ".." / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"no data folder at {path}: set VISIONXL_DATA to run this test")
    return path.resolve()
