"""Metrics against the protocol's golden values, independent oracles and degenerate input."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from visionxl import video
from visionxl.extras import flow as O
from visionxl.measure import metrics as M
from visionxl.measure.clip_metrics import Networks, measure
from visionxl.show import plots


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


def test_videos_of_another_range_are_refused():
    "Clipped to [-1, 1] any two clips of 1 to 255 were white, and equal."
    with pytest.raises(TypeError, match="uint8"):
        M.to_unit((254 * clip() + 1).byte())
    with pytest.raises(ValueError, match="looks like 0 to 255"):
        M.to_unit(254 * clip() + 1)
    overshoots = 40 * clip() - 20  # a restoration that ran away is clipped, as in a file
    assert M.to_unit(overshoots).max() == 1 and M.to_unit(overshoots).min() == 0


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


def test_pairs_of_frames_across_a_cut_of_the_reference_do_not_count():
    "As if the scenes were judged apart; a cut that only the clip to judge has is its fault."
    pytest.importorskip("cv2")
    scenes = [video.fit(video.sample(name).x[:5], 48, 64) for name in ("flower", "tears")]
    light = 0.1 * torch.tensor([1.0, -1, 1, -1, 1] * 2).view(-1, 1, 1, 1)
    x = torch.cat(scenes)
    out = (x + light).clamp(-1, 1)
    apart = [M.warping_error(M.to_unit(x[s]), M.to_unit(out[s])) for s in (slice(5), slice(5, 10))]
    joined = M.warping_error(M.to_unit(x), M.to_unit(out))
    assert joined == pytest.approx(sum(apart) / 2)
    assert measure(x, out, Networks())[0]["warping"] == pytest.approx(1000 * joined)
    cut = torch.cat([scenes[0], scenes[1]])
    still = torch.cat([scenes[0], scenes[0]])
    assert M.warping_error(M.to_unit(still), M.to_unit(cut)) > 10 * M.warping_error(
        *2 * [M.to_unit(x)]
    )


def test_spectrum_finds_a_wave_and_residual_its_distance():
    x = torch.cos(2 * math.pi * 0.25 * torch.arange(64.0)).expand(1, 1, 64, 64)
    f, p = plots.radial_power(x, bins=16)
    assert abs(f[p.argmax()] - 0.25) <= 1 / 32
    assert M.residual(torch.ones(2, 1, 4, 4), lambda x: x * 2, torch.zeros(2, 1, 4, 4)) == 1


def test_windows_overlap_and_keep_their_order():
    x = torch.arange(50.0).view(2, 25, 1, 1, 1)
    w = M.windows(x)
    assert w.shape == (8, 10, 1, 1, 1)
    starts = w[:, 0].flatten().tolist()
    assert starts == [0, 25, 5, 30, 10, 35, 15, 40]
    assert (w[0].flatten() == torch.arange(10.0)).all()
    with pytest.raises(ValueError, match="hold no window"):
        M.windows(x[:, :9])
