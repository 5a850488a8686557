"""Cells that are run on a card elsewhere come back as the cells that bench/quality.py looks for."""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from visionxl import video
from visionxl.measure.clip_metrics import Networks

ROOT = Path(__file__).resolve().parents[2]
ASSETS = Path(video.__file__).parent / "assets"


@pytest.fixture
def on_card(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import on_card

    monkeypatch.setattr(on_card, "nets_of", lambda folder: Networks())
    monkeypatch.setattr(on_card, "FRAMES", {48: 3})
    tiny = "--size 48 --frames 3 --priors --tasks sr --methods measured cg --count 1"
    monkeypatch.setattr(on_card, "RUNS", {"48": [tiny]})
    return on_card


def test_weights_travel_in_half_precision_and_vectors_in_full(on_card, tmp_path):
    state = {
        "conv.weight": torch.linspace(-3, 3, 60).view(4, 3, 5),
        "bn.running_var": 70000 * torch.rand(7),
    }
    np.savez_compressed(tmp_path / "w.npz", **on_card.packed(state))
    found = on_card.unpacked(tmp_path / "w.npz")
    gap = (found["conv.weight"] - state["conv.weight"]).abs() / state["conv.weight"].abs()
    assert 0 < gap.max() < 2**-10.9
    assert torch.equal(found["bn.running_var"], state["bn.running_var"])


def test_cells_come_back_under_their_names(on_card, tmp_path):
    sample = {"flower": ASSETS / "flower.mp4"}
    on_card.pack_frames(tmp_path / "pack" / "frames_48", 48, 3, sample)
    a = on_card.parser().parse_args(["run", str(tmp_path / "pack"), "--out", str(tmp_path / "out")])
    left = list(on_card.todo(a, Networks()))
    assert [c.method for _, c, _ in left] == ["measured", "cg"]
    on_card.begin(a.pack, "cpu", time.time() + 60)
    zips = on_card.Zips(a.out)
    made = {path.stem: (cell, *on_card.work(cell)) for _, cell, path in left}
    for stem, (cell, row, kept, said) in made.items():
        assert not said
        assert zips.add(stem, cell, row, kept)
    back = argparse.Namespace(out=a.out, cells=tmp_path / "cells", pack=a.pack, prior=None)
    assert on_card.unpack(back) == 0
    for stem, (cell, row, kept, _) in made.items():
        assert json.loads((back.cells / f"{stem}.json").read_text())["row"] == row
        with np.load(back.cells / f"{stem}.npz") as f:
            for name in on_card.VIEWS:  # with loss
                assert f[name].shape == kept[name].shape
                assert np.abs(f[name].astype(int) - kept[name]).mean() < 8
    grid = on_card.grid_of(a.pack, 48, None, Networks())
    grid.folder = back.cells
    asked = on_card.quality.asked(on_card.options(on_card.RUNS["48"][0], a))
    assert on_card.complete(asked, grid) == ["sr"], "a table of these cells runs nothing"


def test_rows_that_were_run_anew_are_put_into_a_kept_table(on_card, tmp_path):
    import row_frames
    from PIL import Image

    cells = {n: on_card.Cell("best", "sr", n, 48, 3, 0, "white") for n in ("a", "b")}
    dots = np.zeros((3, 3, 3), np.uint8)
    rng = np.random.default_rng(0)
    sides = {
        f"{s} {k}": rng.normal(size=(4, 5)) for s in ("ref", "out") for k in ("clip", "windows")
    }
    zips = on_card.Zips(tmp_path / "out")
    for name, cell in cells.items():
        kept = sides | dict.fromkeys(on_card.VIEWS, dots)
        zips.add(name, cell, {"PSNR": 31.5, "seconds": 9.0}, kept)
    old = [
        {"task": "sr", "method": m, "clip": n, "PSNR": 30.0} for m in ("cg", "best") for n in cells
    ]
    where = {"size": 48, "frames": 3, "seed": 0, "prior_name": "white", "clips": [*cells]}
    (tmp_path / "frames").mkdir()
    grey = dict.fromkeys(("clean", "best"), np.full((3, 8, 8), 128, np.uint8))
    strips = {"sr/a": row_frames.strip(grey, tmp_path / "frames" / "a.webp")}
    table = where | {"rows": old, "notes": ["two clips"], "fvd": {}, "fvd_of": {}}
    table["frames_of"] = strips
    file = tmp_path / "quality_48_white.json"
    file.write_text(json.dumps(table))
    given = ["put", str(zips.folder), file.stem, "--results", str(tmp_path), "--note", "on a CPU"]
    assert on_card.main(given) == 0
    made = json.loads(file.read_text())
    assert [r["PSNR"] for r in made["rows"]] == [30.0, 30.0, 31.5, 31.5]
    assert made["fvd"]["sr/best"]["FVD"] >= 0 and made["notes"] == ["on a CPU", "two clips"]
    with Image.open(tmp_path / "frames" / "a.webp") as page:
        levels = np.asarray(page.convert("L"))[:, :16].astype(int)
    assert abs(levels[:, :8].mean() - 128) < 4 and levels[:, 8:].mean() < 4, "best is black now"
    file.write_text(json.dumps(table | {"clips": ["a", "b", "c"]}))
    with pytest.raises(SystemExit, match="best on sr lacks c"):
        on_card.main(given)


def test_a_cell_that_fails_on_the_card_is_run_on_the_processor(on_card, tmp_path):
    on_card.pack_frames(tmp_path / "frames_48", 48, 3, {"flower": ASSETS / "flower.mp4"})
    on_card.begin(tmp_path, "cuda:99", time.time() + 60)
    cell = on_card.Cell("measured", "inpaint", "flower", 48, 3, 0, "none")
    row, _, said = on_card.work(cell)
    assert row["PSNR"] > 5 and "cuda:99" in said
    on_card.begin(tmp_path, "cpu", time.time() - 1)
    assert on_card.work(cell) is None, "the time is over"
