"""The frames behind the figures of a table: one small picture for each task and clip.

    python bench/row_frames.py CELLS JSON    writes the strips of a kept run from its cells

CELLS is the folder of cells that bench/quality.py keeps, JSON its quality_SIZE.json. The pictures
go into `frames` beside it, and the JSON learns where the middle frame of each row lies: under
`frames_of`, for each `task/clip`, the file, size of a tile, tiles in a row, and whose they are.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]
from kept import write_json  # noqa: E402

from visionxl.measure.experiment.plain_priors import PLAIN_PRIORS  # noqa: E402

COLUMNS = 4
ON_PIXELS = "bench/pixel_prior.py:prior"  # rows of it stand in the table of the prior on latents
QUALITY = 45
SIDE = 96  # no tile has a larger short side


def strip(
    tiles: dict,  # {method: (C, H, W) bytes}, all of one size
    path: Path,  # WebP
) -> dict:
    "Write the frames beside each other; returns what the table needs to find one."
    first = next(iter(tiles.values()))
    shrink = max(1.0, min(first.shape[1:]) / SIDE)
    h, w = (round(n / shrink) for n in first.shape[1:])
    rows = -(-len(tiles) // COLUMNS)
    page = Image.new("RGB", (COLUMNS * w, rows * h))
    file = f"{path.parent.name}/{path.name}"
    where = {"file": file, "tile": [w, h], "columns": COLUMNS, "of": list(tiles)}
    paste(page, where, tiles)
    page.save(path, quality=QUALITY, method=6)
    return where


def paste(
    page: Image.Image,
    where: dict,  # what `strip` returns
    tiles: dict,  # {method: (C, H, W) bytes}
) -> None:
    "Put frames where they belong in a strip."
    w, h = where["tile"]
    for name, frame in tiles.items():
        i = where["of"].index(name)
        tile = Image.fromarray(frame.transpose(1, 2, 0)).resize((w, h), Image.Resampling.LANCZOS)
        page.paste(tile, (i % where["columns"] * w, i // where["columns"] * h))


def repaint(
    where: dict,  # of the strip
    folder: Path,  # of the JSON
    tiles: dict,  # {method: (C, H, W) bytes}, of rows that were run anew
) -> None:
    "Put other frames into a strip that is kept."
    with Image.open(folder / where["file"]) as kept:
        page = kept.convert("RGB")
    paste(page, where, tiles)
    page.save(folder / where["file"], quality=QUALITY, method=6)


def strips(
    found: dict,  # {(task, clip): {method: (C, H, W) bytes}}, the clean clip among them
    folder: Path,  # of the JSON
    size: int | str,  # short side, or short side and name
) -> dict:  # {task/clip: where its frames are}
    "Write a strip for each task and clip."
    (folder / "frames").mkdir(exist_ok=True)
    out = {}
    for (task, clip), tiles in found.items():
        name = f"{size}_{task.replace('+', '_plus')}_{clip}.webp"
        out[f"{task}/{clip}"] = strip(tiles, folder / "frames" / name)
    return out


def from_cells(
    cells: Path,  # folder of finished cells
    kept: dict,  # the JSON of their run
) -> dict:  # {(task, clip): {method: (C, H, W) bytes}}
    "The middle frames of a run's rows, in the order of its rows; the clean ones from its clips."
    from visionxl.measure.experiment.cell import views
    from visionxl.measure.experiment.given import at_size, default_clips

    frames = {}
    for file in sorted(cells.glob("*.json")):
        c = json.loads(file.read_text())["cell"]
        method = c["method"]
        if c["prior"] in PLAIN_PRIORS:
            method += f", {c['prior']}"
        elif c["prior"] == ON_PIXELS:
            method += ", on pixels"
        others = ("none", ON_PIXELS, *PLAIN_PRIORS)
        of_run = c["prior"] in (kept.get("prior_name", c["prior"]), *others)
        where = (c["size"], c["frames"], c["seed"])
        if of_run and where == (kept["size"], kept["frames"], kept["seed"]):
            with np.load(file.with_suffix(".npz")) as f:
                frames[c["task"], c["clip"], method] = f["frame"]
    clips, out = default_clips(), {}
    clean = {n: views(at_size(clips[n], kept["size"], kept["frames"])) for n in kept["clips"]}
    for r in kept["rows"]:
        key = r["task"], r["clip"]
        tiles = out.setdefault(key, {"clean": clean[r["clip"]]["frame"]})
        frame = frames.get((*key, r["method"]))
        if frame is not None:
            tiles[r["method"]] = frame
    return out


def main(argv: list | None = None) -> None:
    "Write the strips of a kept run."
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("cells", type=Path)
    p.add_argument("json", type=Path)
    a = p.parse_args(argv)
    kept = json.loads(a.json.read_text())
    kept["frames_of"] = strips(
        from_cells(a.cells, kept), a.json.parent, a.json.stem.removeprefix("quality_")
    )
    write_json(kept, a.json, "rows")


if __name__ == "__main__":
    main()
