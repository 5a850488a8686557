"""The paper's metric protocol, written out plainly with numpy, OpenCV and torch layers; ours must
agree on clips of any size and number.
"""

import math

import numpy as np
import pytest
import torch
from measure.alexnet import torch_layers
from safetensors.torch import save_file

from visionxl.measure import metrics as M
from visionxl.measure.perception.weights import WEIGHTS

SHAPES = [
    (1, 1, 3, 12, 13),
    (2, 3, 3, 24, 32),
    (1, 4, 1, 11, 40),
    (3, 2, 3, 33, 17),
    (1, 2, 3, 11, 11),
]


def clips(shape, seed=0):
    """A clip and one that is smoother, lighter and noisier: values at both ends of the range
    included.
    """
    rng = np.random.default_rng(seed)
    a = np.clip(rng.normal(0.5, 0.4, shape), 0, 1)
    b = np.clip(0.9 * a + 0.05 + rng.normal(0, 0.08, shape), 0, 1)
    b[0, -1] = a[0, -1] if seed == 1 else b[0, -1]  # one frame without any error
    return a.astype(np.float32), b.astype(np.float32)


def psnr(a, b):
    out = []
    for u, v in zip(a.reshape(-1, *a.shape[2:]), b.reshape(-1, *b.shape[2:])):
        mse = float(np.mean((u.astype(np.float64) - v) ** 2))
        out.append(100 if mse < 1e-10 else 20 * math.log10(1 / math.sqrt(mse)))
    return out


def ssim(a, b):
    "A window of 121 weights laid over every place where it fits, one place after the other."
    g = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    w, out = np.outer(g, g) / g.sum() ** 2, []
    for u, v in zip(
        a.reshape(-1, *a.shape[2:]).astype(np.float64),
        b.reshape(-1, *b.shape[2:]).astype(np.float64),
    ):
        values = []
        for p, q in zip(u, v):
            for i in range(p.shape[0] - 10):
                for j in range(p.shape[1] - 10):
                    x, y = p[i : i + 11, j : j + 11], q[i : i + 11, j : j + 11]
                    mx, my = (w * x).sum(), (w * y).sum()
                    sx, sy, sxy = (
                        (w * x * x).sum() - mx**2,
                        (w * y * y).sum() - my**2,
                        (w * x * y).sum() - mx * my,
                    )
                    values.append(
                        (2 * mx * my + 1e-4)
                        * (2 * sxy + 9e-4)
                        / ((mx**2 + my**2 + 1e-4) * (sx + sy + 9e-4))
                    )
        out.append(np.mean(values))
    return out


@pytest.mark.parametrize("seed", (0, 1))
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_psnr_and_ssim(shape, seed):
    a, b = clips(shape, seed)
    ta, tb = torch.from_numpy(a), torch.from_numpy(b)
    for ours, theirs in ((M.psnr, psnr(a, b)), (M.ssim, ssim(a, b))):
        assert ours(ta, tb) == pytest.approx(np.mean(theirs), rel=1e-6)
        assert ours(ta.double(), tb.double()) == pytest.approx(np.mean(theirs), rel=1e-6)
    assert np.abs(M.per_frame(M.psnr_frame, ta, tb).ravel() / psnr(a, b) - 1).max() < 1e-6
    if seed:
        assert M.per_frame(M.psnr_frame, ta, tb)[0, -1] == 100


@pytest.mark.parametrize(
    "shape",
    [(3, 2, 12, 13), (3, 1, 64, 96), (3, 2, 96, 50), (1, 2, 37, 37), (3, 1, 225, 240)],
    ids=str,
)
def test_fvd_preparation(shape):
    """Short side to 224 by straight lines between pixel centres, the middle cut out, [-1, 1]; loops
    instead of interpolate.
    """
    x = clips((1, *shape), 2)[0][0]
    c, t, h, w = shape
    scale = 224 / min(h, w)
    H, W = (224, math.ceil(w * scale)) if h < w else (math.ceil(h * scale), 224)

    def between(n, m):
        at = np.clip((np.arange(m) + 0.5) * n / m - 0.5, 0, n - 1)
        low = np.minimum(at.astype(int), n - 1)
        return low, np.minimum(low + 1, n - 1), at - low

    (r0, r1, fr), (c0, c1, fc) = between(h, H), between(w, W)
    rows = x[:, :, r0] * (1 - fr)[:, None] + x[:, :, r1] * fr[:, None]
    big = rows[..., c0] * (1 - fc) + rows[..., c1] * fc
    top, left = (H - 224) // 2, (W - 224) // 2
    want = (big[:, :, top : top + 224, left : left + 224] - 0.5) * 2
    x = torch.from_numpy(x).transpose(0, 1)
    for v, tol in (
        (x.double(), 1e-6),
        (x, 1e-4),
    ):  # in float32 torch rounds the places between pixels too
        got = M.fvd_preprocess(v).numpy()
        assert got.shape == (3, t, 224, 224) and np.abs(got - want).max() < tol


def frechet(fa, fb):
    from scipy.linalg import sqrtm

    m = np.square(fa.mean(0) - fb.mean(0)).sum()
    if len(fa) < 2:
        return m
    sa, sb = np.cov(fa, rowvar=False), np.cov(fb, rowvar=False)
    return np.real(m + np.trace(sa + sb - 2 * sqrtm(sa @ sb)))


@pytest.mark.parametrize("n,d", [(12, 5), (40, 20), (30, 2), (1, 7)])
def test_frechet_distance(n, d):
    rng = np.random.default_rng(n)
    fa, fb = (
        rng.standard_normal((n, d)),
        0.3 + rng.standard_normal((n, d)) @ rng.standard_normal((d, d)),
    )
    assert M.frechet_distance(fa, fb) == pytest.approx(frechet(fa, fb), rel=1e-6)


@pytest.mark.parametrize("n", (3, 8))
def test_frechet_distance_of_fewer_clips_than_features(n):
    """The matrix root of a singular product is good to half the digits only; ours has all of them,
    seen with the rank taken out by hand.
    """
    rng = np.random.default_rng(n)
    basis = np.linalg.qr(rng.standard_normal((30, 2 * n)))[
        0
    ]  # both sets lie in the span of 2n directions
    fa, fb = (rng.standard_normal((n, 2 * n)) for _ in range(2))
    both = M.frechet_distance(fa @ basis.T, fb @ basis.T)
    assert both == pytest.approx(M.frechet_distance(fa, fb), rel=1e-9) and both == pytest.approx(
        frechet(fa, fb), rel=1e-4
    )


@pytest.mark.parametrize("frames,size", [(10, (12, 13)), (12, (40, 24))])
def test_fvd(frames, size):
    """Features are the network's answer to each prepared clip; here a network of one random layer
    stands for it.
    """
    a, b = clips((5, frames, 3, *size), 3)
    w = np.random.default_rng(0).standard_normal((3 * frames, 3))

    def net(x):
        return x.mean((3, 4)).flatten(1).double() @ torch.from_numpy(w)

    fa, fb = (
        np.stack(
            [
                M.fvd_preprocess(torch.from_numpy(v)).mean((2, 3)).double().numpy().ravel() @ w
                for v in x
            ]
        )
        for x in (a, b)
    )
    assert M.fvd(torch.from_numpy(a), torch.from_numpy(b), i3d=net) == pytest.approx(
        frechet(fa, fb), rel=1e-6
    )


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    "LPIPS's file with random weights, and the same network from torch's own layers."
    folder, g = tmp_path_factory.mktemp("lpips"), torch.Generator().manual_seed(0)
    layers = torch_layers()
    for p in layers.parameters():
        p.data = torch.randn(p.shape, generator=g) * (2 / max(1, p[0].numel())) ** 0.5
    heads = [torch.rand(1, n, 1, 1, generator=g) for n in (64, 192, 384, 256, 256)]
    state = {f"features.{k}": v for k, v in layers.state_dict().items()}
    state |= {f"lin{i}.model.1.weight": h for i, h in enumerate(heads)}
    save_file(state, folder / WEIGHTS["lpips_float32"].file)
    return folder, layers, heads


@torch.no_grad()
def lpips(layers, heads, a, b):
    """LPIPS as its authors describe it, with maps brought to full size: mean over places of the
    weighted squared distance of unit features.
    """
    shift, scale = (
        torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1),
        torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1),
    )
    total, h, out = (
        0,
        [
            ((x.repeat(1, 4 - x.shape[1] if x.shape[1] == 1 else 1, 1, 1) * 2 - 1) - shift) / scale
            for x in (a, b)
        ],
        [],
    )
    for layer in layers:
        h = [layer(x) for x in h]
        if isinstance(layer, torch.nn.ReLU):
            out.append(h)
    for (u, v), w in zip(out, heads):
        u, v = (x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10) for x in (u, v))
        d = ((u - v) ** 2 * w).sum(1, keepdim=True)
        total = (
            total
            + torch.nn.functional.interpolate(
                d, a.shape[-2:], mode="bilinear", align_corners=False
            ).mean()
        )
    return total.item()


@pytest.mark.filterwarnings("ignore:.*cannot be compared with published ones")
@pytest.mark.parametrize(
    "shape", [(1, 1, 3, 64, 64), (2, 2, 3, 33, 70), (1, 2, 1, 45, 40)], ids=str
)
def test_lpips_with_the_networks_own_layers(judge, shape):
    folder, layers, heads = judge
    a, b = map(torch.from_numpy, clips(shape, 4))
    want = np.mean(
        [lpips(layers, heads, u[None], v[None]) for u, v in zip(a.flatten(0, 1), b.flatten(0, 1))]
    )
    assert M.lpips(a, b, path=folder) == pytest.approx(want, rel=1e-5)
