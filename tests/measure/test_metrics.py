"""Metrics against the protocol's golden values, independent oracles and degenerate input."""

import json
import math
import sys
import types

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from visionxl.extras import flow as O
from visionxl.measure import metrics as M
from visionxl.measure import networks as N


@pytest.fixture(scope="module")
def golden(data):
    folder = data / "golden"
    tensors = load_file(folder / "metrics.safetensors")
    a, b = (tensors[k].float() / 255 for k in ("video_a", "video_b"))
    return a, b, tensors, json.loads((folder / "metrics.json").read_text())


def close(got, want, tol=1e-6):
    assert np.abs(np.asarray(got) / np.asarray(want) - 1).max() < tol


def clip(seed=0, shape=(3, 3, 24, 32)):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", ["psnr", "ssim"])
def test_golden_frames_and_mean(golden, name):
    a, b, _, want = golden
    close(M.per_frame(getattr(M, name + "_frame"), a, b).mean(0), want[name + "_per_frame"])
    close(getattr(M, name)(a, b), want[name])


def test_golden_frechet_and_fvd_preprocessing(golden):
    _, _, g, want = golden
    close(M.frechet_distance(g["features_a"], g["features_b"]), want["frechet"])
    got = M.fvd_preprocess(g["fvd_input_cthw"].transpose(0, 1))[:, :2, ::16, ::16]
    assert (got - g["fvd_preprocessed_mean_cthw"]).abs().max() < 1e-6


def test_ssim_equals_a_dense_window_by_cv2():
    cv2 = pytest.importorskip("cv2")
    a, b = clip(0)[0], clip(1)[0]
    k = cv2.getGaussianKernel(11, 1.5)

    def f(x):
        return cv2.filter2D(x, -1, np.outer(k, k))[5:-5, 5:-5]

    each = []
    for u, v in zip(a.double().numpy(), b.double().numpy()):
        mu, mv = f(u), f(v)
        su, sv, suv = f(u * u) - mu**2, f(v * v) - mv**2, f(u * v) - mu * mv
        each.append(
            (
                (2 * mu * mv + 1e-4)
                * (2 * suv + 9e-4)
                / ((mu**2 + mv**2 + 1e-4) * (su + sv + 9e-4))
            ).mean()
        )
    assert abs(M.ssim_frame(a, b) - np.mean(each)) < 1e-12


def test_known_answers_of_black_against_white():
    a, b = torch.zeros(2, 3, 3, 64, 64), torch.ones(2, 3, 3, 64, 64)
    assert M.psnr(a, b) == 0
    close(M.ssim(a, b), 9.999e-5, 1e-4)


def test_frechet_equals_scipys_matrix_root():
    from scipy.linalg import sqrtm

    rng = np.random.default_rng(0)
    fa, fb = (
        rng.standard_normal((40, 6)),
        0.5 + rng.standard_normal((50, 6)) @ np.diag(np.arange(1, 7)),
    )
    sa, sb = np.cov(fa, rowvar=False), np.cov(fb, rowvar=False)
    want = np.square(fa.mean(0) - fb.mean(0)).sum() + np.trace(
        sa + sb - 2 * np.real(sqrtm(sa @ sb))
    )
    close(M.frechet_distance(fa, fb), want, 1e-9)
    assert M.frechet_distance(fa, fa) < 1e-9
    assert M.frechet_distance(fa[:1], fb[:1]) == pytest.approx(np.square(fa[0] - fb[0]).sum())


def test_identical_and_constant_clips():
    a = clip()
    assert M.psnr(a, a) == 100 and M.ssim(a, a) == 1
    grey = torch.full((2, 3, 16, 16), 0.5)
    assert M.psnr(grey, grey) == 100 and M.ssim(grey, grey) == pytest.approx(1)
    assert M.psnr(grey, grey + 0.1) == pytest.approx(20, abs=1e-4)


@pytest.mark.parametrize(
    "a,b,error,says",
    [
        (clip(), clip(shape=(2, 3, 24, 32)), ValueError, "shapes differ"),
        (clip() * 2 - 1, clip(), ValueError, "to_unit"),
        (clip() * math.nan, clip(), ValueError, "leave"),
        (clip()[:0], clip()[:0], ValueError, "no pixels"),
        (clip(shape=(2, 3, 8, 30)), clip(shape=(2, 3, 8, 30)), ValueError, "11x11"),
        (clip(shape=(2, 2, 24, 30)), clip(shape=(2, 2, 24, 30)), ValueError, "1 or 3 channels"),
        ((clip() * 255).byte(), (clip() * 255).byte(), TypeError, "divide 8-bit"),
        (clip().numpy(), clip(), TypeError, "torch.from_numpy"),
    ],
)
def test_refuses_with_the_reason(a, b, error, says):
    with pytest.raises(error, match=says):
        M.ssim(a, b)


def test_short_clips_and_single_frames():
    a = clip(shape=(1, 3, 24, 32))
    assert M.warping_error(a, a) == 0
    with pytest.raises(ValueError, match="at least 10"):
        M.fvd(a, a, i3d=lambda x: x.mean((3, 4)).flatten(1))


def test_fvd_with_any_feature_function():
    a, b = clip(0, (3, 10, 3, 24, 32)), clip(1, (3, 10, 3, 24, 32))

    def f(x):
        return x.mean((3, 4)).flatten(1)

    assert M.fvd(a, a, i3d=f) < 1e-9 < M.fvd(a, b, i3d=f)


def test_flow_follows_a_shift_and_masks_what_is_covered():
    pytest.importorskip("cv2")
    big = torch.nn.functional.interpolate(clip(0, (1, 1, 20, 30)), (80, 120), mode="bicubic").clamp(
        0, 1
    )[0]
    a, b = big[:, 8:72, 10:100], big[:, 8:72, 7:97]  # b shows a's content 3 px further right
    f = O.flow(a, b)
    assert (f[8:-8, 8:-8] - torch.tensor([3.0, 0.0])).abs().mean() < 0.2
    assert (O.warp(b, f) - a)[:, 8:-8, 8:-12].abs().mean() < 0.02
    seen = O.visible(f, O.flow(b, a))
    assert (
        not seen[:, -2:].any() and seen[8:-8, 8:-12].float().mean() > 0.9
    )  # the right edge has left the frame


def test_warping_error_grows_with_flicker_and_not_with_blur():
    pytest.importorskip("cv2")
    base = torch.nn.functional.interpolate(clip(0, (1, 3, 16, 24)), (64, 96), mode="bicubic").clamp(
        0, 1
    )[0]
    x = torch.stack([base.roll(t, -1) for t in range(4)])
    flick = (x + 0.05 * torch.tensor([1.0, -1, 1, -1]).view(4, 1, 1, 1)).clamp(0, 1)
    blur = torch.nn.functional.avg_pool2d(x, 5, 1, 2, count_include_pad=False)
    assert M.warping_error(x, blur) < 0.002 < 0.005 < M.warping_error(x, flick)


def test_spectrum_finds_a_wave_and_residual_its_distance():
    x = torch.cos(2 * math.pi * 0.25 * torch.arange(64.0)).expand(1, 1, 64, 64)
    f, p = M.spectrum(x, bins=16)
    assert abs(f[p.argmax()] - 0.25) <= 1 / 32 and p.argmax() == 8
    assert M.residual(torch.ones(2, 1, 4, 4), lambda x: x * 2, torch.zeros(2, 1, 4, 4)) == 1


def wheel():
    try:
        return N.find_weights("stlpips")
    except N.MissingWeights as e:
        pytest.skip(str(e))


def test_stlpips_equals_the_authors_module(monkeypatch):
    "Their package imports torchvision and torchsummary only for other variants: empty stand-ins are enough."
    wheel()
    for name, attrs in {
        "torchvision": {"models": types.ModuleType("models")},
        "torchsummary": {"summary": None},
        "torchvision.models": {},
        "IPython": {"embed": None},
    }.items():
        m = types.ModuleType(name)
        m.__dict__.update(attrs)
        monkeypatch.setitem(sys.modules, name, m)
    try:
        from stlpips_pytorch import stlpips
    except Exception as e:
        pytest.skip(f"the authors' package does not import: {e}")
    theirs = stlpips.LPIPS(net="alex", variant="shift_tolerant", verbose=False)
    a, b = clip(0, (1, 3, 70, 97)), clip(1, (1, 3, 70, 97))
    with torch.no_grad():
        want = theirs(a * 2 - 1, b * 2 - 1).item()
    assert N.load_stlpips()(a, b).item() == pytest.approx(want, rel=1e-5)


def test_stlpips_is_zero_for_equal_and_refuses_small():
    wheel()
    a = clip(0, (1, 3, 64, 64))
    assert M.stlpips(a, a) == 0
    with pytest.raises(ValueError, match="at least 64"):
        M.stlpips(a[..., :40, :40], a[..., :40, :40])


def alexnet(seed=0):
    g = torch.Generator().manual_seed(seed)
    shapes = [(64, 3, 11), (192, 64, 5), (384, 192, 3), (256, 384, 3), (256, 256, 3)]
    return tuple(
        (torch.randn(o, i, k, k, generator=g) * (2 / (i * k * k)) ** 0.5, torch.zeros(o))
        for o, i, k in shapes
    )


def test_alexnet_stages_equal_torch_layers():
    nn, convs = torch.nn, alexnet()
    layers = [
        nn.Conv2d(3, 64, 11, 4, 2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(),
    ]
    for layer, (w, b) in zip([m for m in layers if isinstance(m, nn.Conv2d)], convs):
        layer.weight.data, layer.bias.data = w, b
    x, want = clip(0, (1, 3, 64, 80)), []
    h = x
    with torch.no_grad():
        for layer in layers:
            h = layer(h)
            if isinstance(layer, nn.ReLU):
                want.append(h)
        for got, w in zip(N.alex_features(x, convs, False), want):
            torch.testing.assert_close(got, w)


def test_weights_given_damaged_missing_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("VISIONXL_WEIGHTS", str(tmp_path))
    with pytest.raises(
        N.MissingWeights, match="download https://huggingface.co.*VISIONXL|download https"
    ):
        N.find_weights("i3d")
    monkeypatch.setattr(
        N, "WEIGHTS", N.WEIGHTS | {"i3d": N.WEIGHTS["i3d"]._replace(url="http://127.0.0.1:9/none")}
    )
    with pytest.raises(N.MissingWeights, match="fetch it on a machine with a network"):
        N.find_weights("i3d", fetch=True)
    (tmp_path / "i3d_torchscript.pt").write_bytes(b"not a network")
    with pytest.raises(N.MissingWeights, match="damaged"):
        N.find_weights("i3d")
    with pytest.warns(UserWarning, match="cannot be compared"):
        N.find_weights("i3d", tmp_path)
    with pytest.raises(N.MissingWeights, match="does not exist"):
        N.find_weights("alexnet", tmp_path)
    with pytest.raises(ValueError, match="choose one of"):
        N.find_weights("vgg")


def test_download_is_checked_before_it_gets_its_name(tmp_path, monkeypatch):
    import hashlib

    good = tmp_path / "served.bin"
    good.write_bytes(b"weights")
    w = N.Weight("w.pt", hashlib.sha256(b"weights").hexdigest(), 0.1, good.as_uri())
    assert N.download(w, tmp_path / "cache").read_bytes() == b"weights"
    with pytest.raises(N.MissingWeights, match="expected 000"):
        N.download(w._replace(file="v.pt", sha256="0" * 64), tmp_path / "cache")
    assert [p.name for p in (tmp_path / "cache").iterdir()] == ["w.pt"]


@pytest.mark.slow
def test_known_answers_of_the_protocol_where_the_weights_are_at_hand():
    a, b = torch.zeros(8, 30, 3, 64, 64), torch.ones(8, 30, 3, 64, 64)
    try:
        nets = N.load_i3d(), N.load_lpips()
    except N.MissingWeights as e:
        pytest.skip(str(e))
    close(M.fvd(a, b, i3d=nets[0]), 151.256, 1e-4)
    close(M.perceptual(a, b, nets[1]), 0.81401, 1e-4)
