"""Each bench runs at its smallest, with the settings that its page names."""

import importlib
import json
import sys
from pathlib import Path

import pytest

from visionxl import video

BENCH = Path(__file__).resolve().parents[2] / "bench"
DATA = video.data_dir()
photos = pytest.mark.skipif(
    DATA is None or not (DATA / "train").exists(), reason="needs the photos (VISIONXL_DATA)"
)


@pytest.fixture
def run(monkeypatch):
    "Run a bench in this process with these arguments."
    monkeypatch.syspath_prepend(str(BENCH))

    def call(name, *argv):
        monkeypatch.setattr(sys, "argv", [name, *map(str, argv)])
        module = importlib.import_module(name)
        return module.main()

    return call


def test_tune(run, tmp_path, capsys):
    small = ("--tasks", "sr", "--clips", "flower 3", "--frames", 2, "--size", 32, 48)
    run("tune", *small, "--fields", "renoise.scale", "--out", tmp_path / "tune")
    lines = (tmp_path / "tune.md").read_text().splitlines()
    assert [line.split("|")[2].strip() for line in lines[6:]] == [
        "ADMM-TV = tuned",
        "nothing",
        "renoise.scale = 0.4",
        "renoise.scale = 0.8",
    ]
    assert "dB with Preset(" in capsys.readouterr().out


@photos
def test_prior_trial(run, tmp_path):
    small = ("--clips", "flower 60", "--frames", 2, "--size", 32, 48, "--tasks", "sr")
    changed = ("--set", "renoise.eta=1", "renoise.scale=1")
    run("prior_trial", "tiny", "none", *small, *changed, "--out", tmp_path / "trial.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "trial.jsonl").read_text().splitlines()]
    assert [r["prior"] for r in rows] == ["tiny", "none"]
    assert rows[0]["set"] == {"renoise.eta": 1, "renoise.scale": 1}
    assert 15 < rows[0]["clips"]["flower 60"][0] < 50


def test_white(run, tmp_path):
    small = ("tasks", "--tasks", "sr", "--clips", "flower", "--frames", 2, "--size", 32)
    kept = tmp_path / "white.json"
    run("white", *small, "--priors", "white", "--cells", tmp_path / "cells", "--out", kept)
    alone, ours = json.loads(kept.read_text())["tasks"]
    assert (alone["prior"], ours["prior"], ours["way"]) == ("none", "white", "paper")
    assert 15 < ours["PSNR"] < 40 and 0 < ours["LPIPS"] < 1


def test_operators(run, tmp_path):
    small = ("--shape", 3, 32, 48, "--tasks", "sr+", "--steps", 2, "--threads", 1)
    assert run("operators", *small, "--out", tmp_path / "operators") == 0
    (row,) = json.loads((tmp_path / "operators.json").read_text())["rows"]
    assert row["error_ours"] < 1e-4


def test_blurs(run, tmp_path):
    small = ("--frames", 2, "--size", 24, 32, "--sigmas", 1, 3, "--rounds", 1)
    assert run("blurs", *small, "--out", tmp_path / "blurs.txt") == 0
    narrow, wide = (tmp_path / "blurs.txt").read_text().splitlines()[2:]
    assert [line.split()[0] for line in (narrow, wide)] == ["1.00", "3.00"]
    assert all(float(line.split()[-1]) < 1e-7 for line in (narrow, wide))


def test_solver(run, tmp_path):
    small = ("--prior", "tiny", "--tasks", "sr", "--shape", 2, 32, 48, "--repeat", 1)
    run("solver", *small, "--no-memory", "--out", tmp_path / "solver.json")
    rows = json.loads((tmp_path / "solver.json").read_text())["rows"]
    assert {r["method"] for r in rows} >= {"as released", "official", "best"}
    assert all(r["total"] > 0 for r in rows)


@photos
def test_measurements(run, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    bench = importlib.import_module("measurements")
    monkeypatch.setattr(bench, "RESULTS", tmp_path)
    run("measurements", "estimate", "--only", "flower 20")
    cells = json.loads((tmp_path / "measurements.json").read_text())["estimate"]
    assert 22 < cells["flower 20, 25"]["file"] < 28 and len(cells) == 10
    assert "mean, sample clips" in (tmp_path / "measurements.md").read_text()
    x = bench.clips("sample")["flower 20"][:3]
    assert 15 < bench.quantiser_step(bench.h264_file(x, 23)) < 25
    y = bench.by_jpeg(x, 30)
    assert bench.psnr_of(bench.by_steps(x, y, "JPEG 30"), x) > bench.psnr_of(y, x) + 0.2
    assert bench.deblocked(y).shape == y.shape
    assert float(bench.bent_path(15, 0).sum()) == pytest.approx(1)


def test_the_page_of_the_card(run, tmp_path):
    "bench/results/gpu.md is written from the rows beside it, and leaves out what measured nothing."
    results = BENCH / "results"
    run("gpu", "table", results / "gpu.json", "--out", tmp_path)
    for name in ("gpu.json", "gpu.md"):
        assert (tmp_path / name).read_text() == (results / name).read_text()
    rows = json.loads((results / "gpu.json").read_text())["rows"]
    (tmp_path / "more.jsonl").write_text(
        "".join(json.dumps(r) + "\n" for r in [*rows, {"part": "agree", "error": "no time left"}])
    )
    run("gpu", "table", tmp_path / "more.jsonl", "--date", "today", "--out", tmp_path / "again")
    assert json.loads((tmp_path / "again" / "gpu.json").read_text())["rows"] == rows
