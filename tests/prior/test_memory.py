"""Memory: settings do not change numbers, tiles have no seam, the plan is what is measured."""

from dataclasses import replace

import pytest
import torch
from prior import families

from visionxl.prior.latent import Prior
from visionxl.prior.machine.cost import PeakMemory, cost, without_weights
from visionxl.prior.machine.memory import Placement, in_tiles, placement, resident, settle
from visionxl.prior.machine.plan import plan

CPU = Placement(torch.device("cpu"), torch.float32)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def worst(a, b):
    return float((a - b).abs().max())


@pytest.mark.parametrize(
    "change, tolerance",
    [
        (dict(offload=True), 0),
        (dict(host=True), 0),
        (dict(frames=1), 1e-5),
        (dict(memory_format=torch.channels_last), 1e-5),
        pytest.param(dict(compile="eager"), 1e-5, marks=pytest.mark.slow),
        (dict(tile=4096), 0),
        (dict(autocast=torch.bfloat16), 0.2),
    ],
    ids=str,
)
def test_a_setting_changes_memory_not_numbers(model, change, tolerance):
    whole = Prior.load(model("sdxl"), place=CPU)
    prior = Prior.load(model("sdxl"), place=replace(CPU, **change))
    x, z = randn(3, 3, 64, 64).clamp(-1, 1), randn(3, 4, 8, 8)
    for a, b in (
        (prior.encode(x), whole.encode(x)),
        (prior.decode(z), whole.decode(z)),
        (prior.eps(z, 281), whole.eps(z, 281)),
    ):
        assert a.dtype == torch.float32 and worst(a, b) <= tolerance
    assert prior.device.type == "cpu"


@pytest.mark.parametrize("verb", ["encode", "decode"])
@pytest.mark.parametrize("light", [False, True], ids=["kl", "tiny"])
def test_tiles_have_no_seam(model, verb, light):
    "A frame four tiles large: the step across a tile's border is no larger than elsewhere."
    vae = families.taesd() if light else None
    whole = Prior.load(model("sdxl"), vae=vae, place=replace(CPU, frames=1))
    tiled = Prior.load(model("sdxl"), vae=vae, place=replace(CPU, frames=1, tile=256))
    x = randn(1, 3, 448, 448).clamp(-1, 1) if verb == "encode" else randn(1, 4, 56, 56)
    a, b = getattr(whole, verb)(x), getattr(tiled, verb)(x)
    assert a.shape == b.shape
    assert float((b - a).abs().mean()) < 0.3 * float(a.std())
    zoom = a.shape[-1] // 56 if verb == "decode" else 1
    assert seam(a, b, [24 * zoom, 32 * zoom]) < 0.03  # tiles are cells 0 to 32 and 24 to 56


def seam(whole, tiled, borders):
    "How much larger the error's step across a border is than elsewhere, in steps of the picture."
    error = (tiled - whole)[0]
    step = (error[..., 1:] - error[..., :-1]).abs().mean((0, 1))  # across columns
    natural = float((whole[..., 1:] - whole[..., :-1]).abs().mean())
    return (max(float(step[b - 1]) for b in borders) - float(step.median())) / natural


def test_hard_tiles_would_have_one(model):
    "The measure above sees a seam where tiles are put side by side."
    prior = Prior.load(model("sdxl"), place=replace(CPU, frames=1))
    z = randn(1, 4, 32, 32)
    rows = [torch.cat([prior.decode(p) for p in r.split(16, -1)], -1) for r in z.split(16, -2)]
    assert seam(prior.decode(z), torch.cat(rows, -2), [128]) > 0.1


def test_tiles_cover_any_size():
    for h, w, tile in ((1, 1, 8), (9, 31, 8), (16, 17, 8), (8, 50, 12)):
        x = randn(2, 3, h, w)
        assert worst(in_tiles(lambda v: 2 * v, [(x, 1)], tile, 1), 2 * x) < 1e-5
    fine, coarse = randn(1, 2, 40, 24), randn(1, 2, 20, 12)
    both = in_tiles(lambda a, b: a[..., ::2, ::2] + b, [(fine, 2), (coarse, 1)], 8, 1)
    assert worst(both, fine[..., ::2, ::2] + coarse) < 1e-5


def test_drawing_from_the_posterior_in_tiles(model):
    prior = Prior.load(model("sdxl"), place=replace(CPU, tile=4096))
    x = randn(1, 3, 64, 64).clamp(-1, 1)
    whole = Prior.load(model("sdxl"), place=CPU)
    a, b = (p.encode(x, generator=torch.Generator().manual_seed(3)) for p in (prior, whole))
    assert torch.equal(a, b) and worst(a, whole.encode(x)) > 0


TILED = [  # of the others the tiles are cut in the same way
    pytest.param(name, 256, marks=pytest.mark.slow if name in ("sd15", "sdxl-taesd") else ())
    for name in ("sdxl", "sd15", "sdxl-taesd", "tiny")
]


@pytest.mark.parametrize(
    "name, tile", [*((n, None) for n in ("sdxl", "sd15", "sdxl-taesd", "tiny")), *TILED]
)
def test_the_plan_is_what_is_measured(model, name, tile):
    place = replace(CPU, frames=2, tile=tile)
    where = name if name == "tiny" else model(name)
    real, planned = Prior.load(where, place=place), without_weights(where, place)
    for verb in ("encode", "decode", "eps"):
        for size in ((64, 64), (96, 320)):
            a, b = cost(planned, verb, 3, size), cost(real, verb, 3, size)
            assert abs(a.peak - b.peak) < 0.15 * b.peak, (verb, size, a.peak, b.peak)
            assert a.flops >= b.flops > 0  # attention is counted on meta


def test_the_plan_takes_what_fits(model):
    def settings(vram):
        p = plan((9, 128, 192), model("sdxl"), vram, torch.float32)
        return p.fits, p.place.frames, p.place.offload, p.place.host, p.place.tile

    assert settings(None) == settings(64) == (True, 8, False, False, None)
    lean = plan((9, 128, 192), model("sdxl"), 1e-6, torch.float32)
    assert not lean.fits and lean.place.tile and lean.place.offload and lean.place.host
    sizes = [v for v in (settings(2.0**-k) for k in range(2, 12))]
    frames = [s[1] for s in sizes if s[0]]
    assert frames == sorted(frames, reverse=True) and frames[-1] == 1
    assert "frames at once: 8" in str(plan((9, 128, 192), model("sdxl"), 64, torch.float32))
    more = plan((18, 128, 192), model("sdxl"), None, torch.float32)
    assert abs(more.seconds() / plan((9, 128, 192), model("sdxl")).seconds() - 2) < 0.01


def test_peaks_are_counted_as_they_happen():
    a = torch.ones(1000)
    with PeakMemory([a]) as m:
        views = a[10:], a.view(10, 100), a.t()  # nothing new
        assert m.peak == 0 and len(views) == 3
        b = a + 1
        b += 1
        del b
        c = torch.cat([a, a])
    assert (m.peak, m.now) == (8000, 8000) and len(c) == 2000


def test_float16_on_a_layer_that_overflows_stays_float32():
    for dtype, got in ((torch.float16,) + (torch.float32,), (torch.float64,) * 2):
        net = settle(torch.nn.Linear(2, 2), replace(CPU, dtype=dtype), upcast=True)
        assert net.weight.dtype == got
    assert placement("cpu", torch.bfloat16).half and not CPU.half
    with resident(torch.nn.Linear(2, 2), replace(CPU, autocast=torch.bfloat16)) as net:
        assert net(torch.ones(1, 2)).dtype == torch.bfloat16
