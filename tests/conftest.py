"""Shared by all tests: where the data lies, and one thread policy."""

import os
from collections import Counter
from pathlib import Path

import pytest

# A thread that waits sleeps: on a busy machine two that spin take the time of the one that works.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
import torch  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", min(2, os.cpu_count() or 1))))


@pytest.fixture(scope="session")
def data():
    "The folder of $VISIONXL_DATA (default ../shared/data), or a skip that says how to get it."
    path = Path(os.environ.get("VISIONXL_DATA", ROOT / ".." / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"no data folder at {path}: set VISIONXL_DATA to run this test")
    return path.resolve()


SECONDS: Counter = Counter()


def pytest_runtest_logreport(report):
    "Add up what the tests of each folder take."
    parts = Path(report.nodeid.partition("::")[0]).parts
    SECONDS["/".join(parts[:2])] += report.duration


def pytest_terminal_summary(terminalreporter):
    "Print the time by folder, the longest first."
    terminalreporter.section("time by folder")
    for folder, seconds in SECONDS.most_common():
        terminalreporter.write_line(f"{seconds:7.1f} s  {folder}")
