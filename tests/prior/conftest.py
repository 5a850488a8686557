"""Shared by the tests of priors: a cache of embeddings of their own, and small models of every
family.
"""

import pytest
from one_thread import one_thread  # noqa: F401
from prior import families


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
