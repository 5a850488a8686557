"""Outside a mask of one's own every pixel comes back bit for bit, where the result has no loss.

Films and pictures of 8 and more bits, in RGB and in YUV, with odd sides, and every kind of mask.
"""

import av  # noqa: TID253
import numpy as np
import pytest
import torch
from app.exact import run

from visionxl import video

pytestmark = pytest.mark.usefixtures("plain_frames")
FFV1, DEEP = ["out.mkv", "--codec", "ffv1"], ["out.mkv", "--codec", "ffv1", "--bits", "16"]
PNG = ["out"]
CASES = [  # (codec, pixels) of the film or None for pictures, (H, W), mask, how it is written
    (None, (64, 96), "box", PNG),
    (None, (65, 97), "picture", FFV1),
    (("ffv1", "yuv420p"), (65, 97), "film", FFV1),
    (("libx264", "yuv420p"), (64, 96), "picture", FFV1),
    (("libx264", "yuv444p"), (65, 97), "colour", FFV1),
    (("libx264rgb", "rgb24"), (64, 97), "film", FFV1),
    (("libx264", "yuv420p10le"), (64, 96), "picture", DEEP),
    (("ffv1", "yuv420p10le"), (65, 97), "colour", DEEP),
    (("ffv1", "gbrp10le"), (65, 97), "box", FFV1),
    (("ffv1", "gbrp16le"), (65, 97), "colour", DEEP),
]


def film(path, x, codec, pixels):
    "A film without loss, by PyAV alone."
    deep = pixels.endswith("le")
    top, kind = (65535, np.uint16) if deep else (255, np.uint8)
    with av.open(str(path), "w") as box:
        stream = box.add_stream(codec, rate=24, options={"qp": "0"} if "264" in codec else {})
        stream.width, stream.height, stream.pix_fmt = x.shape[-1], x.shape[-2], pixels
        for f in x:
            a = ((f + 1) / 2 * top).round().permute(1, 2, 0).contiguous().numpy().astype(kind)
            frame = av.VideoFrame.from_ndarray(a, "rgb48le" if deep else "rgb24")
            box.mux(stream.encode(frame.reformat(format=pixels)))
        box.mux(stream.encode())


def levels(path):
    "The frames as whole numbers of 16 bits."
    return ((video.read(path).x.double() + 1) / 2 * 65535).round()


@pytest.mark.parametrize(
    ("source", "size", "mask", "out"), CASES, ids=lambda v: str(v).replace(" ", "")
)
def test_every_bit_outside_the_mask(tmp_path, source, size, mask, out):
    (H, W), T = size, 3
    top, low, left, right = H // 4, H // 2, W // 3, W // 2
    x = video.fit(video.sample("flower", T).x, H, W).clone()
    x[..., top:low, left:right] = torch.tensor([-1.0, 1.0, -1.0]).view(3, 1, 1)
    if source is None:
        y = video.write(tmp_path / "y", x)
    else:
        y = tmp_path / "y.mkv"
        film(y, x, *source)
    weights = torch.ones(T, 3, H, W)
    weights[..., top:low, left:right] = -1
    video.write(tmp_path / "mask", weights[:1])
    if mask == "film":
        video.write(tmp_path / "mask.mp4", weights)
    words = {
        "picture": ["--mask", tmp_path / "mask" / "00000.png"],
        "film": ["--mask", tmp_path / "mask.mp4"],
        "box": ["--mask", f"{left},{top},{right - left},{low - top}"],
        "colour": ["--mask-color", "#00ff00"],
    }[mask]
    name, *more = out
    few = ["--set", "route.steps=6", "--set", "start.what=Regularised"]
    asked = [*words, *more, *few, "--preset", "best", "--quiet"]
    assert run("restore", y, "-o", tmp_path / name, *asked) == 0
    before, after = levels(y), levels(tmp_path / name)
    rim = 4 if mask == "colour" else 0  # what is hidden of a colour has a margin
    kept = torch.ones(H, W, dtype=torch.bool)
    kept[top - rim : low + rim, left - rim : right + rim] = False
    assert torch.equal(after[..., kept], before[..., kept])
    inside = (slice(top + 3, low - 3), slice(left + 3, right - 3))
    gone = (after - before)[(..., *inside)].abs().mean()
    assert gone > 0.1 * 65535, "the green is still there"
