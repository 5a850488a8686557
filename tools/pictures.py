"""Small pictures for notebooks: a drawing is a PNG with a palette, a photograph is a WebP.

A photograph takes three quarters of the bytes as WebP and has no steps in its colours. JupyterLab,
VS Code and the site show it. GitHub's own view of a notebook is made by nbconvert, which knows PNG
and JPEG but no WebP (7.17), and prints the name of the Python object in its place. So in lessons
and how-to pages, which are opened there, a photograph is a JPEG on white, since a JPEG has no
transparent ground, or a PNG where that is no larger.
"""

import base64
import functools
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

LIMITS = (30_000, 26_000, 22_000, 18_000)  # bytes of a picture
SLIDER = 80_000  # bytes of all pictures of one slider
PLAIN_LIMITS = (40_000, 36_000, 32_000, 28_000, 24_000, 20_000)  # where photographs are no WebP
PLAIN_NOTEBOOK = 325_000  # bytes of such a notebook
NOTEBOOK = 400_000  # bytes of a notebook, which decide about the limit of its pictures
WIDEST = 1470  # pixels: 1.5 times the width of a page in JupyterLab
RUNGS = (  # colours and size of each attempt, best first; only noise needs the smaller sizes
    (224, 1.0),
    (160, 1.0),
    (112, 1.0),
    (80, 1.0),
    (64, 1.0),
    (48, 1.0),
    (36, 1.0),
    (64, 0.7),
    (48, 0.6),
    (48, 0.5),
)
PLAIN = (  # quality of a JPEG, colours of a PNG, and size: photographs without WebP
    (56, 112, 1.0),
    (50, 96, 1.0),
    (44, 80, 1.0),
    (44, 80, 0.8),
    (44, 80, 0.6),
    (44, 80, 0.5),
)
COLOURS = 4096  # a picture of more is a photograph
QUALITIES = (  # of WebP, and size
    (62, 1.0),
    (56, 1.0),
    (50, 1.0),
    (50, 0.7),
    (50, 0.5),
)
MIMES = {"PNG": "image/png", "WEBP": "image/webp", "JPEG": "image/jpeg"}
INSIDE = r'(<img src="data:)image/\w+;base64,([^"]+)'  # a picture in a page: sliders have them
SAMPLE = 20_000  # pixels from which the colours of a palette are found
ROUNDS = 6  # of k-means
SOFT = 12, 48  # colours, least and most, for edges of letters and lines: partly transparent
SAME = 24  # levels of 255: pictures that differ by no more are the same picture


def nearest(pixels: np.ndarray, colours: np.ndarray) -> np.ndarray:
    "The index of the nearest colour (M, channels) for each pixel (N, channels)."
    lengths, found = (colours**2).sum(1), []
    for part in np.array_split(pixels, -(-len(pixels) // 65_536)):
        found.append(np.argmin(lengths - 2 * part @ colours.T, axis=1))
    return np.concatenate(found)


def palette(pixels: np.ndarray, colours: int) -> np.ndarray:
    "At most so many colours (M, channels) that stand for the pixels: median cut, then k-means."
    some = pixels[:: -(-len(pixels) // SAMPLE)]
    mode = {3: "RGB", 4: "RGBA"}[pixels.shape[1]]
    method = {3: Image.Quantize.MEDIANCUT, 4: Image.Quantize.FASTOCTREE}[pixels.shape[1]]
    image = Image.fromarray(np.ascontiguousarray(some[None]).astype(np.uint8), mode)
    first = image.quantize(colours, method=method, dither=Image.Dither.NONE)
    index, table = np.asarray(first)[0], some[:1]
    for _ in range(ROUNDS):
        table = np.array([some[index == k].mean(0) for k in np.unique(index)])
        index = nearest(some, table)
    return np.unique(table.round(), axis=0)


def quantised(image: Image.Image, colours: int) -> bytes:
    "A PNG of at most so many colours, one of them transparent."
    rgba = np.asarray(image.convert("RGBA"))
    flat = rgba.reshape(-1, 4).astype(np.float32)
    solid = flat[:, 3] == 255
    soft = (flat[:, 3] > 0) & ~solid
    index, table = np.zeros(len(flat), np.uint8), np.zeros((1, 4))
    if soft.any():
        few = palette(flat[soft], min(max(SOFT[0], colours // 4), SOFT[1]))
        index[soft] = nearest(flat[soft], few) + len(table)
        table = np.concatenate([table, few])
    if solid.any():
        few = palette(flat[solid, :3], colours - len(table))
        index[solid] = nearest(flat[solid, :3], few) + len(table)
        table = np.concatenate([table, np.c_[few, np.full(len(few), 255)]])
    table = table.astype(np.uint8)
    out, file = Image.fromarray(index.reshape(rgba.shape[:2]), "P"), io.BytesIO()
    out.putpalette(table[:, :3].tobytes())
    kept = {"dpi": image.info["dpi"]} if "dpi" in image.info else {}
    out.save(file, "PNG", optimize=True, transparency=table[:, 3].tobytes(), **kept)
    return file.getvalue()


def scaled(image: Image.Image, scale: float) -> Image.Image:
    "The picture at another size, never wider than a page needs."
    scale = min(scale, WIDEST / image.width)
    if scale >= 1:
        return image
    size = [max(1, round(n * scale)) for n in image.size]
    new = image.convert("RGBA").resize(size, Image.Resampling.LANCZOS)
    new.info.update(image.info)
    return new


def webp(image: Image.Image, quality: int) -> bytes:
    "A WebP with an exact transparent ground."
    file = io.BytesIO()
    image.convert("RGBA").save(file, "WEBP", quality=quality, method=5)
    return file.getvalue()


def plain(image: Image.Image, quality: int, colours: int) -> bytes:
    "A JPEG on white, or a PNG where that is no larger."
    rgba, file = image.convert("RGBA"), io.BytesIO()
    ground = Image.new("RGBA", rgba.size, "white")
    ground.alpha_composite(rgba)
    ground.convert("RGB").save(file, "JPEG", quality=quality, optimize=True, progressive=True)
    drawn = quantised(image, colours)
    return min(drawn, file.getvalue(), key=len)


def on_github(path: Path) -> bool:
    "Whether a notebook is one that students open on GitHub, where no WebP is shown."
    return path.name == "index.ipynb" or path.parent.name in ("course", "howto")


@functools.cache
def attempt(picture: bytes, rung: int, webps: bool) -> bytes | None:
    "The picture at one rung of its ladder, each of fewer bytes; None below the last."
    image = Image.open(io.BytesIO(picture))
    photo = image.convert("RGBA").getcolors(COLOURS) is None
    of_photos: tuple = (QUALITIES, webp) if webps else (PLAIN, plain)
    ladder, make = of_photos if photo else (RUNGS, quantised)
    if rung == len(ladder):
        return None
    *how, scale = ladder[rung]
    return make(scaled(image, scale), *how)


def attempts(picture: bytes, webps: bool = True) -> Iterator[bytes]:
    "The picture in fewer and fewer bytes."
    rung = 0
    while (small := attempt(picture, rung, webps)) is not None:
        yield small
        rung += 1


def shrink(picture: bytes, limit: int = LIMITS[0], webps: bool = True) -> bytes:
    "A picture that looks the same in at most `limit` bytes, or in as few as the last attempt has."
    image = Image.open(io.BytesIO(picture))
    allowed = image.width <= WIDEST and (webps or image.format != "WEBP")
    done = image.mode == "P" or image.format in ("WEBP", "JPEG")
    if allowed and done and len(picture) <= limit:
        return picture
    small = picture
    for small in attempts(picture, webps):
        if len(small) <= limit:
            break
    return min(small, picture, key=len) if allowed else small


def smaller(picture: bytes) -> bytes:
    """A picture that an earlier run has left, as WebP where that saves much; a PNG without loss.

    A WebP is coded anew only when it was of a clearly better quality, so not a second time.
    """
    image = Image.open(io.BytesIO(picture))
    if image.format == "WEBP":
        lossy = webp(image, QUALITIES[0][0])
        return lossy if len(lossy) < 0.85 * len(picture) else picture
    if len(picture) < 8000:
        return picture
    file = io.BytesIO()
    image.convert("RGBA").save(file, "WEBP", lossless=True, method=4)
    lossy, exact = webp(image, QUALITIES[0][0]), file.getvalue()
    if len(lossy) < 0.75 * min(len(picture), len(exact)):
        return lossy
    return exact if len(exact) < 0.92 * len(picture) else picture


def same(a: bytes, b: bytes) -> bool:
    "Whether two pictures show the same: no channel of any pixel differs visibly."
    one, two = (Image.open(io.BytesIO(x)).convert("RGBA") for x in (a, b))
    if one.size != two.size:
        return False
    apart = np.asarray(one).astype(int) - np.asarray(two).astype(int)
    return int(np.abs(apart).max()) <= SAME


def decoded(output: dict) -> bytes | None:
    "The picture in an output of a notebook, or None."
    data = output.get("data", {})
    text = next((data[mime] for mime in MIMES.values() if mime in data), None)
    if text is None:
        return None
    return base64.b64decode("".join(text) if isinstance(text, list) else text)


def put(output: dict, old: bytes, picture: bytes) -> None:
    "Store a picture in an output; one that has become smaller is shown at its old size."
    before, after = (Image.open(io.BytesIO(x)) for x in (old, picture))
    mime = MIMES[after.format or "PNG"]
    shown = [m["width"] for m in output.get("metadata", {}).values() if "width" in m]
    if shown or after.width < before.width <= WIDEST:
        output["metadata"] = {mime: {"width": (shown or [before.width])[0]}}
    for other in MIMES.values():
        output["data"].pop(other, None)
    output["data"][mime] = base64.b64encode(picture).decode()


def shrink_pages(cells: list[dict]) -> int:
    """Make the pictures inside HTML outputs small, in place; returns how many bytes that saved.

    The pictures of one output share `SLIDER` bytes. They keep their width.
    """
    saved = 0
    for output in (o for c in cells for o in c.get("outputs", [])):
        page = "".join(output.get("data", {}).get("text/html", ""))
        limit = SLIDER // max(1, len(re.findall(INSIDE, page)))

        def new(found: re.Match, limit: int = limit) -> str:
            old = base64.b64decode(found[2])
            small = webp_within(old, limit)
            return f"{found[1]}image/webp;base64,{base64.b64encode(small).decode()}"

        small = re.sub(INSIDE, new, page)
        if len(small) < len(page):
            output["data"]["text/html"] = small
            saved += len(page) - len(small)
    return saved


def webp_within(picture: bytes, limit: int) -> bytes:
    "A picture of at most `limit` bytes at its own size if a lower quality reaches that."
    if len(picture) <= limit:
        return picture
    image, small = Image.open(io.BytesIO(picture)), picture
    for quality, scale in QUALITIES:
        if scale == 1 and len(small) > limit:
            small = min(small, webp(image, quality), key=len)
    return small if len(small) < 0.85 * len(picture) else picture  # else it was coded before


def shrink_outputs(cells: list[dict], old: bool = False, webps: bool = True) -> int:
    """Make the pictures of a notebook's cells small, in place; returns how many bytes that saved.

    `old` pictures, which an earlier run has left, are coded anew as well where that helps. Without
    `webps` a photograph becomes a JPEG or PNG, but for those inside a page, such as a slider.
    """
    saved = shrink_pages(cells)
    found = [o for c in cells for o in c.get("outputs", []) if decoded(o)]
    before = [picture for picture in map(decoded, found) if picture]
    start = [smaller(p) for p in before] if old and webps else before
    rest = len(json.dumps(cells)) - sum(map(len, before)) * 4 / 3
    small = start
    limits, full = (LIMITS, NOTEBOOK) if webps else (PLAIN_LIMITS, PLAIN_NOTEBOOK)
    for limit in limits:
        small = [shrink(picture, limit, webps) for picture in start]
        if rest + sum(map(len, small)) * 4 / 3 <= full:
            break
    for output, picture, new in zip(found, before, small, strict=True):
        put(output, picture, new)
    return saved + sum(map(len, before)) - sum(map(len, small))


def keep_same(new: list[dict], old: list[dict], webps: bool = True) -> None:
    "Take the bytes of an old picture where the new one, at the same place, shows the same."
    for cell, before in zip(new, old, strict=False):
        pairs = zip(cell.get("outputs", []), before.get("outputs", []), strict=False)
        for output, kept in pairs:
            one, two = decoded(output), decoded(kept)
            if not webps and "image/webp" in kept.get("data", {}):
                continue
            if one and two and one != two and same(one, two):
                put(output, two, two)
