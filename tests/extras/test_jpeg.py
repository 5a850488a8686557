"What JPEG files say of their pictures is read from them, and the true picture agrees with it."

import io

import numpy as np
import pytest
import torch
from PIL import Image

from visionxl import video
from visionxl.extras.estimates.jpeg import clean_jpeg, into_intervals, jpeg_noise, read_jpeg


def coded(x, quality, subsampling):
    files = []
    for f in ((x + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy():
        file = io.BytesIO()
        Image.fromarray(f).save(file, "JPEG", quality=quality, subsampling=subsampling)
        files.append(file.getvalue())
    return files


def decoded(files):
    frames = [np.array(Image.open(io.BytesIO(f))) for f in files]
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2) / 127.5 - 1


def mse(a, b):
    return float((a - b).square().mean())


@pytest.fixture(scope="module")
def x():
    x = video.fit(video.sample("tears", 3).x, 62, 90)  # no multiple of 8 or 16
    return ((x.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1


@pytest.mark.parametrize("subsampling", [0, 1, 2], ids=["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("quality", [15, 50, 80])
def test_the_true_picture_lies_in_the_intervals(x, quality, subsampling):
    frames = [read_jpeg(f) for f in coded(x, quality, subsampling)]
    moved = 127.5 * (into_intervals(x, frames) - x).abs()
    assert float(moved.mean()) < 0.02 and float(moved.max()) < 3


@pytest.mark.parametrize("quality", [15, 50])
def test_no_estimate_is_moved_away_from_the_truth(x, quality):
    files = coded(x, quality, 2)
    frames, y = [read_jpeg(f) for f in files], decoded(files)
    g = torch.Generator().manual_seed(0)
    for estimate in (y, torch.zeros_like(x), y + 0.2 * torch.randn(x.shape, generator=g)):
        moved = into_intervals(estimate, frames)
        assert mse(moved, x) <= mse(estimate, x) * 1.001
        again = mse(into_intervals(moved, frames), moved)  # the rim is padded anew
        assert again <= mse(moved, estimate) / 50 + 1e-7


def test_a_cleaned_film_is_nearer_to_the_truth(x):
    files = coded(x, 30, 2)
    frames, y = [read_jpeg(f) for f in files], decoded(files)
    assert mse(clean_jpeg(y, frames), x) < 0.93 * mse(y, x)
    assert jpeg_noise(frames) == pytest.approx(float((y - x).std()), rel=0.4)


def test_refusals(x):
    png = io.BytesIO()
    Image.new("RGB", (16, 16)).save(png, "PNG")
    with pytest.raises(ValueError, match="no JPEG in three colours"):
        read_jpeg(png.getvalue())
    grey = io.BytesIO()
    Image.new("L", (16, 16)).save(grey, "JPEG")
    with pytest.raises(ValueError, match="no JPEG in three colours"):
        read_jpeg(grey.getvalue())
    with pytest.raises(ValueError, match="one for each"):
        clean_jpeg(x, [])
