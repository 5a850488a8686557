"""Measuring on a device: all metrics, a cell of every method, and the memory of the run."""

import math
import warnings

import pytest
import torch
from devices.emulator import emulated

from visionxl import video
from visionxl.measure import clip_metrics, evaluate_command, metrics
from visionxl.measure.experiment import grid
from visionxl.measure.experiment.methods import SOLVED
from visionxl.measure.perception.weights import MissingWeights
from visionxl.measure.reproduction import command as reproduce_command
from visionxl.operators.tasks import task

FRAMES = 11  # FVD needs ten


def moving(shape, seed):
    "Frames in [0, 1]: a texture that moves, and noise."
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(1, *shape[1:], generator=g).expand(shape).clone()
    for t in range(len(x)):
        x[t] = x[t].roll(t, -1)
    return (0.9 * x + 0.1 * torch.rand(shape, generator=g)).clamp(0, 1)


def features(v):
    "A stand-in for I3D, which is not on every machine."
    return v.flatten(1)[:, ::9973]


# each public metric as a function of two clips (T, C, H, W) in [0, 1] and an operator for them
METRICS = {
    "to_unit": lambda a, b, A: metrics.to_unit(a).mean(),
    "check_pair": lambda a, b, A: metrics.check_pair(a, b)[0].mean(),
    "psnr_frame": lambda a, b, A: metrics.psnr_frame(a[0], b[0]),
    "ssim_map": lambda a, b, A: metrics.ssim_map(a[0], b[0]).mean(),
    "ssim_frame": lambda a, b, A: metrics.ssim_frame(a[0], b[0]),
    "per_frame": lambda a, b, A: metrics.per_frame(metrics.psnr_frame, a, b).sum(),
    "psnr": lambda a, b, A: metrics.psnr(a, b),
    "ssim": lambda a, b, A: metrics.ssim(a, b),
    "perceptual": lambda a, b, A: metrics.perceptual(a[:2], b[:2]),
    "stlpips": lambda a, b, A: metrics.stlpips(a[:2], b[:2]),
    "lpips": lambda a, b, A: metrics.lpips(a[:2], b[:2]),
    "windows": lambda a, b, A: metrics.windows(a[None]).mean(),
    "fvd": lambda a, b, A: metrics.fvd(a, b, features),
    "fvd_preprocess": lambda a, b, A: metrics.fvd_preprocess(a[:2]).mean(),
    "fvd_features": lambda a, b, A: metrics.fvd_features(a[None], features).sum(),
    "warp_frame": lambda a, b, A: metrics.warp_frame((a[0], a[1]), (b[0], b[1])),
    "warping_error": lambda a, b, A: metrics.warping_error(a[:3], b[:3]),
    "residual": lambda a, b, A: metrics.residual(A(a), A, b),
    "measure": lambda a, b, A: sum(
        clip_metrics.measure(a[:2], b[:2], clip_metrics.load_networks())[0].values()
    ),
}
ELSEWHERE = {"MIN_FRAMES", "frechet_distance"}  # a number; numpy alone


def test_every_metric_is_in_the_list():
    assert set(metrics.__all__) <= METRICS.keys() | ELSEWHERE


@pytest.mark.parametrize("name", METRICS)
def test_metrics(name):
    a, b = moving((FRAMES, 3, 64, 80), 0), moving((FRAMES, 3, 64, 80), 1)
    A = task("sr", a.shape)
    try:
        want = float(METRICS[name](a, b, A))
    except MissingWeights as e:
        pytest.skip(str(e))
    with emulated() as gpu:
        got = float(METRICS[name](a.to("cuda"), b.to("cuda"), A))
        assert not gpu.refusals
    # a card sums in another order; TF32 is off in networks that judge (with it: 4e-5, H200)
    assert got == pytest.approx(want, rel=1e-5 if gpu.real else 1e-6)


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    "A cell of every method, here and on the device: {method: (row, row, peak GB)}."
    folder, clips = tmp_path_factory.mktemp("cells"), grid.default_clips("visionxl/assets")
    found = {}

    def run(where):
        g = grid.Grid(folder / where, dict(list(clips.items())[:1]), say=lambda s: None)
        few = {m: {"route.steps": 8} if m in SOLVED else {} for m in grid.NAMES}
        clip = next(iter(g.clips))
        return {m: g(grid.Cell(m, "sr", clip, 16, 2, changes=few[m])) for m in grid.NAMES}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        here = run("here")
        with emulated(memory=True):
            there = run("there")
    for m in grid.NAMES:
        found[m] = here[m], there[m]
    return found


@pytest.mark.parametrize("method", grid.NAMES)
def test_a_cell_of_every_method(cells, method):
    here, there = cells[method]
    assert here.keys() == there.keys()
    for k in ("PSNR", "SSIM", "warping", "residual"):
        assert there[k] == pytest.approx(here[k], rel=1e-2, abs=1e-6, nan_ok=True), k


def test_a_table_on_a_device(tmp_path, capsys):
    with warnings.catch_warnings(), emulated(memory=True) as gpu:
        warnings.simplefilter("ignore")
        assert (
            reproduce_command.main(
                [
                    "table4",
                    "--clips",
                    "visionxl/assets",
                    "--count",
                    "1",
                    "--size",
                    "16",
                    "--frames",
                    "2",
                    "--out",
                    str(tmp_path),
                ]
            )
            == 0
        )
        assert not gpu.refusals
    assert "GB" in capsys.readouterr().out


def test_evaluate_on_a_device(tmp_path, capsys):
    a = 2 * moving((3, 3, 32, 48), 0) - 1
    for name, x in (("a", a), ("b", a * 0.9)):
        video.write(tmp_path / f"{name}.mkv", x, lossless=True)
    with emulated():
        assert evaluate_command.main([str(tmp_path / "a.mkv"), str(tmp_path / "b.mkv")]) == 0
    assert "PSNR" in capsys.readouterr().out


def test_peak_is_that_of_the_block():
    "What was taken before does not count, nor what is still held."
    before, held = torch.ones(1 << 26), torch.ones(1 << 25)
    del before
    with grid.Peak() as small:
        torch.ones(1 << 24)
    with grid.Peak() as none:
        pass
    with grid.Peak() as large:
        torch.ones(1 << 26)
    assert held.numel()
    if not math.isnan(none.gb):
        assert none.gb < 0.01
        assert small.gb == pytest.approx(2**-4, abs=0.01)
        assert large.gb == pytest.approx(2**-2, abs=0.01)


def test_peak_on_a_device_begins_anew():
    with emulated(memory=True) as gpu:
        weights = torch.ones(1 << 20, device="cuda")
        torch.ones(1 << 24, device="cuda")
        before = torch.cuda.memory_allocated()  # on a card also cuBLAS's 32 MB and other tests'
        assert gpu.real or before == weights.nbytes
        with grid.Peak("cuda") as peak:
            torch.ones(1 << 22, device="cuda")
        assert peak.gb * 2**30 == pytest.approx(before + (1 << 24), rel=1e-6)
