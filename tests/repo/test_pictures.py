"""Pictures in notebooks become small and stay what they show."""

import base64
import io
import re
import sys
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import ground  # noqa: E402
import pictures  # noqa: E402


def png(rgba: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(rgba.astype(np.uint8), "RGBA").save(file, "PNG", dpi=(110, 110))
    return file.getvalue()


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGBA")).astype(int)


def photo(h: int = 240, w: int = 400) -> np.ndarray:
    "Smooth colours with a transparent border and an edge that is partly transparent."
    y, x = np.mgrid[:h, :w] / max(h, w)
    wave = [np.sin(7 * x + 3 * k) * np.cos(5 * y - k) for k in range(3)]
    rgba = np.stack([*(127 + 120 * v for v in wave), np.full((h, w), 255)], -1)
    rgba[:10] = 0
    rgba[10, :, 3] = 128
    return rgba


def noise(h: int = 300, w: int = 900) -> np.ndarray:
    rgba = np.random.default_rng(0).integers(0, 256, (h, w, 4))
    rgba[..., 3] = 255
    return rgba


def test_a_photo_keeps_its_looks_and_its_transparent_ground():
    raw = png(photo())
    small = pictures.shrink(raw, 30_000)
    assert len(small) <= 30_000 < len(raw)
    one, two = pixels(raw), pixels(small)
    assert (two[:10, :, 3] == 0).all() and (two[11:, :, 3] == 255).all()
    assert abs(two[10, :, 3] - 128).max() <= 2
    error = ((one - two)[11:, :, :3] ** 2).mean()
    assert 10 * np.log10(255**2 / error) > 33  # dB
    assert Image.open(io.BytesIO(small)).format == "WEBP"


def test_noise_is_made_smaller_and_shown_at_its_old_size():
    raw = png(noise())
    output = {"data": {"image/png": base64.b64encode(raw).decode()}, "metadata": {}}
    pictures.shrink_outputs([{"outputs": [output]}])
    small = pictures.decoded(output)
    assert len(small) <= pictures.LIMITS[0] and Image.open(io.BytesIO(small)).width < 900
    assert output["metadata"] == {"image/webp": {"width": 900}}
    assert list(output["data"]) == ["image/webp"]


def test_pictures_of_a_slider_share_a_limit_and_keep_their_width():
    one = base64.b64encode(png(noise())).decode()
    page = "".join(f'<img src="data:image/png;base64,{one}" alt="{k}">' for k in range(3))
    output = {"data": {"text/html": page}, "metadata": {}}
    assert pictures.shrink_outputs([{"outputs": [output]}]) > 0
    found = re.findall(pictures.INSIDE, output["data"]["text/html"])
    small = [base64.b64decode(text) for _, text in found]
    assert len(small) == 3 and all(Image.open(io.BytesIO(p)).width == 900 for p in small)
    before = output["data"]["text/html"]
    assert len(before) < len(page) and pictures.shrink_outputs([{"outputs": [output]}]) == 0
    assert output["data"]["text/html"] == before


def test_a_picture_that_was_coded_anew_is_not_coded_again():
    fine = io.BytesIO()
    Image.open(io.BytesIO(png(photo()))).save(fine, "WEBP", quality=95)
    small = pictures.smaller(fine.getvalue())
    assert len(small) < len(fine.getvalue()) and pictures.smaller(small) == small


def test_a_small_picture_is_left_alone():
    small = pictures.shrink(png(photo()), 30_000)
    assert pictures.shrink(small, 30_000) == small
    assert pictures.shrink(png(photo()), 30_000) == small, "the same picture gives the same bytes"


def test_a_drawing_with_few_colours_loses_nothing():
    rgba = np.zeros((200, 300, 4))
    rgba[50:60, 20:280] = (213, 94, 0, 255)
    rgba[20:180, 100:104] = (0, 114, 178, 255)
    assert (pixels(pictures.shrink(png(rgba))) == rgba).all()


def test_a_picture_wider_than_any_page_is_scaled():
    wide = np.repeat(photo(100, 400), 5, axis=1)
    assert Image.open(io.BytesIO(pictures.shrink(png(wide)))).width == pictures.WIDEST


def test_old_bytes_are_kept_only_where_the_pictures_are_the_same():
    one = photo()
    near, far = one.copy(), one.copy()
    near[50, 50, 0] += 5
    far[50:54, 50, 0] = (far[50:54, 50, 0] + 128) % 256

    def cells(rgba):
        data = {"image/png": base64.b64encode(png(rgba)).decode()}
        return [{"outputs": [{"data": data}]}]

    for other, kept in ((near, True), (far, False)):
        new, old = cells(other), cells(one)
        pictures.keep_same(new, old)
        assert (new == old) is kept


def test_a_figure_on_white_stands_on_a_dark_page():
    "The photograph keeps its colours, its letters keep their strokes, the ground is clear."
    sheet = np.full((140, 220, 3), 255, np.uint8)
    sheet[40:130, 20:100] = photo(90, 80)[..., :3]
    sheet[40:130, 120:200] = 250  # a bright photograph with a dark rim
    sheet[[40, 129], 120:200] = sheet[40:130, [120, 199]] = 30
    sheet[12:20, 60:62] = 128  # a letter
    sheet[18:20, 66:68] = 128  # a full stop
    file = io.BytesIO()
    Image.fromarray(sheet).save(file, "JPEG", quality=90)
    clear = pixels(ground.clear_ground(file.getvalue()))
    assert clear[5, 5, 3] == clear[30, 60, 3] == clear[100, 110, 3] == 0
    assert (clear[45:125, 25:95, 3] == 255).all() and (clear[45:125, 125:195, 3] == 255).all()
    assert abs(clear[45:125, 25:95, :3] - sheet[45:125, 25:95]).mean() < 8
    assert clear[16, 61, 3] > 150 and clear[19, 67, 3] > 80
