"""One small cluster for all tests here, with one thread for each worker: the clips are tiny."""

import pytest
import short_runs
from one_thread import one_thread  # noqa: F401

from visionxl import video
from visionxl.prior.latent import Prior


@pytest.fixture(scope="session")
def cluster():
    "A cluster of this machine with a small object store, ended after the last test."
    ray = pytest.importorskip("ray")
    from visionxl.scale.cluster import connect

    if ray.is_initialized():
        ray.shutdown()
    ray.cloudpickle.register_pickle_by_value(short_runs)  # workers do not look among the tests
    connect(workers=4, store=0.3)
    yield ray
    ray.shutdown()


@pytest.fixture(scope="session")
def tiny():
    "The bundled prior, one frame at a time."
    return Prior.load("tiny", device="cpu", frames_per_batch=1)


@pytest.fixture(scope="session")
def clip():
    "Five real frames."
    return video.fit(video.sample("flower", 5).x, 32, 48)
