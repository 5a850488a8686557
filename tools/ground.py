"""Take the white ground of a JPEG away, so that a figure of a lesson stands on a dark page, too.

Lessons keep photographs as JPEG, since GitHub's view of a notebook shows no WebP. A JPEG has no
transparent ground, so on the site's dark theme it would be a white sheet. Here the figure is cut
along its white gaps. A large piece is a photograph and stays as it is; a thin one is a line of
letters, which are unmixed from the white. The rest becomes transparent. The result is a WebP.
"""

import io
from collections.abc import Iterator

import numpy as np
from PIL import Image

WHITE = 205  # from this level on a pixel may be ground: JPEG blurs letters and photographs into it
GAP = 1  # rows or columns of ground that are no gap
THIN = 30  # pixels: letters are no higher
PALE = 0.1  # a letter's share of ink below which it is only what JPEG has blurred
INK = 136  # grey of letters: legible on a light and on a dark page

Box = tuple[int, int, int, int]  # top, bottom, left, right


def runs(full: np.ndarray) -> list[tuple[int, int]]:
    "Where a line of booleans holds something; gaps shorter than `GAP` are bridged."
    at = np.flatnonzero(full)
    if not len(at):
        return []
    cuts = np.flatnonzero(np.diff(at) > GAP)
    starts, ends = np.r_[at[0], at[cuts + 1]], np.r_[at[cuts], at[-1]]
    return [(int(a), int(b) + 1) for a, b in zip(starts, ends)]


def pieces(ink: np.ndarray, box: Box, down: bool = True, stuck: bool = False) -> Iterator[Box]:
    "Cut a figure along its gaps, rows and columns in turns, until nothing can be cut."
    # a line of letters is not cut: a pale full stop would be lost
    top, bottom, left, right = box
    if min(bottom - top, right - left) <= THIN:
        yield box
        return
    found = runs(np.asarray(ink[top:bottom, left:right].any(1 if down else 0)))
    if len(found) == 1 and stuck:
        a, b = found[0]
        yield (top + a, top + b, left, right) if down else (top, bottom, left + a, left + b)
        return
    for a, b in found:
        part = (top + a, top + b, left, right) if down else (top, bottom, left + a, left + b)
        yield from pieces(ink, part, not down, len(found) == 1)


def clear_ground(
    jpeg: bytes,  # a figure on white
    quality: int = 80,  # of the WebP
) -> bytes:  # the same on a transparent ground
    "Return a figure as WebP whose white ground is transparent."
    rgb = np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))
    dark = rgb.min(2)
    rgba = np.concatenate([rgb, np.zeros_like(rgb[..., :1])], 2)
    for top, bottom, left, right in pieces(dark < WHITE, (0, len(rgb), 0, rgb.shape[1])):
        large = min(bottom - top, right - left) > THIN
        edge = 0 if large else 1  # letters fade out over a pixel
        rows = slice(max(0, top - edge), bottom + edge)
        here = rows, slice(max(0, left - edge), right + edge)
        if large:
            rgba[here][..., 3] = 255
            continue
        deep = np.quantile(dark[here][dark[here] < WHITE], 0.2)  # of ink that nothing has thinned
        share = ((255.0 - dark[here]) / (255.0 - deep)).clip(0, 1) ** 0.8
        rgba[here][..., :3] = INK
        rgba[here][..., 3] = 255 * np.where(share < PALE, 0, share)
    out = io.BytesIO()
    Image.fromarray(rgba, "RGBA").save(out, "WEBP", quality=quality, method=4)
    return out.getvalue()
