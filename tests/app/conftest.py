"Shared by the tests of the app: a prior without weights, and a clip that is decoded once."

import pytest
from app.exact import Gaussian, Plain

from visionxl import video
from visionxl.prior.latent import Prior


@pytest.fixture
def no_weights(monkeypatch):
    "Every name of a prior gives an exact one; a module asks for it by a mark."
    load = classmethod(lambda cls, name, vae=None: Gaussian())
    monkeypatch.setattr(Prior, "load", load)


@pytest.fixture
def plain_frames(monkeypatch):
    "Every name of a prior gives one that believes everything."
    monkeypatch.setattr(Prior, "load", classmethod(lambda cls, name: Plain()))


@pytest.fixture(scope="session")
def tears():
    "The 25 frames of a bundled clip at 48x64: tests take the first few."
    return video.fit(video.sample("tears").x, 48, 64)


@pytest.fixture(scope="module")
def x(tears):
    "Eight frames."
    return tears[:8]
