"""Shared by the tests of priors: a cache of embeddings of their own, and small models of every
family.
"""

import pytest
import torch
from prior import families


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    "Networks this small lose by a second thread, and lose much on a busy machine."
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    "Embeddings are kept in a folder of the test, never in the user's."
    monkeypatch.setenv("VISIONXL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    "A function that builds a family once and returns its folder, not to be changed."
    root = tmp_path_factory.mktemp("families")

    def built(name):
        folder = root / name
        return folder if folder.is_dir() else families.build(name, folder)

    return built
