"""What the tests of the extras look at."""

import pytest

from visionxl import video


@pytest.fixture(scope="module", params=["tears", "flower"])
def x(request):
    return video.fit(video.sample(request.param, 9).x, 96, 160)
