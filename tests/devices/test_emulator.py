"""The emulator refuses what CUDA refuses, lets right code pass, and changes no number."""

import copy
import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from devices.emulator import Emulated, emulated, largest_difference, real_card, summary
from torch import nn

pytestmark = pytest.mark.skipif(real_card(), reason="a real card refuses in its own words")


def seeded(*shape, seed=0, dtype=torch.float32):
    "Gaussian numbers on the CPU."
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.fixture
def gpu():
    with emulated() as device:
        yield device


C, D = seeded(3, 4), seeded(3, 4, seed=1)
PICTURE, GRID = seeded(2, 3, 8, 9), seeded(2, 5, 6, 2, seed=2).tanh()

# what is refused, as functions of a tensor on the device `g` and one on the CPU `c`, both (3, 4)
REFUSED = {
    "two devices in a sum": lambda g, c: g + c,
    "the other way round": lambda g, c: c * g,
    "a comparison": lambda g, c: g > c,
    "in place, device": lambda g, c: g.add_(c),
    "in place, cpu": lambda g, c: c.mul_(g),
    "an operator in place": lambda g, c: g.__isub__(c),
    "a number on the cpu changed by the device": lambda g, c: torch.tensor(1.0).add_(g.sum()),
    "out= on the cpu": lambda g, c: torch.add(g, g, out=c),
    "out= on the device": lambda g, c: torch.mul(c, c, out=g),
    "a constant of one dimension": lambda g, c: g * torch.ones(1),
    "a table from numpy": lambda g, c: g * torch.from_numpy(np.ones((3, 4), np.float32)),
    "a matrix product": lambda g, c: g @ c.T,
    "mm": lambda g, c: torch.mm(c, g.T),
    "einsum": lambda g, c: torch.einsum("ij,ij->", g, c),
    "stack": lambda g, c: torch.stack([g, c]),
    "cat": lambda g, c: torch.cat([c, g, c]),
    "stack of numbers": lambda g, c: torch.stack([g.sum(), c.sum()]),
    "where": lambda g, c: torch.where(g > 0, g, c),
    "where by a mask of the cpu": lambda g, c: torch.where(c > 0, g, g),
    "lerp": lambda g, c: torch.lerp(g, c, 0.5),
    "addcmul": lambda g, c: g.addcmul(g, c),
    "clamp by a tensor": lambda g, c: g.clamp(min=c),
    "an index on the device for a tensor on the cpu": lambda g, c: c[(g[:, 0] > 0)],
    "indices on the device": lambda g, c: c[torch.zeros(2, dtype=torch.long, device=g.device)],
    "index_select": lambda g, c: g.index_select(0, torch.tensor([0, 1])),
    "gather": lambda g, c: g.gather(0, torch.zeros(1, 4, dtype=torch.long)),
    "scatter": lambda g, c: g.scatter_(0, torch.zeros(1, 4, dtype=torch.long), c[:1]),
    "index_add": lambda g, c: g.index_add_(0, torch.zeros(3, dtype=torch.long), g),
    "index_put": lambda g, c: g.index_put_((torch.tensor([0]),), c[:1]),
    "index_put by brackets": lambda g, c: g.__setitem__([0, 1], c[:2]),
    "index_put into the cpu": lambda g, c: c.__setitem__(torch.tensor([0, 1]), g[:2]),
    "masked_fill by a mask of the cpu": lambda g, c: g.masked_fill(c > 0, 0.0),
    "numpy": lambda g, c: g.numpy(),
    "numpy of an array function": lambda g, c: np.asarray(g),
    "numpy arithmetic": lambda g, c: np.add(g, 1),
    "a generator of the cpu": lambda g, c: torch.randn(
        3, generator=torch.Generator(), device="cuda"
    ),
    "a generator of the device": lambda g, c: torch.rand(3, generator=torch.Generator("cuda")),
    "normal_ with the other generator": lambda g, c: g.normal_(generator=torch.Generator()),
    "conv2d": lambda g, c: F.conv2d(g[None, None], c[None, None, :2, :2]),
    "linear": lambda g, c: F.linear(g, c),
    "grid_sample": lambda g, c: F.grid_sample(PICTURE.to(g), GRID, align_corners=False),
    "group_norm": lambda g, c: F.group_norm(g, 2, torch.ones(4)),
    "a module that stayed": lambda g, c: nn.Linear(4, 2)(g),
    "a module that moved": lambda g, c: nn.Linear(4, 2).to(g.device)(c),
    "solve": lambda g, c: torch.linalg.solve(g[:, :3], c),
    "bincount with weights": lambda g, c: torch.bincount(torch.zeros(3, dtype=torch.long), g[:, 0]),
    "set the data": lambda g, c: setattr(c, "data", g),
    "allclose": lambda g, c: torch.allclose(g, c),
    "another card": lambda g, c: c.to("cuda:1"),
    "pinned memory": lambda g, c: g.pin_memory(),
    "a histogram": lambda g, c: torch.histogram(g, 3),
}

# what passes, as functions of two tensors (3, 4) that may be anywhere; constants follow the first
ALLOWED = {
    "arithmetic": lambda a, b: (a + b) * 2 - a / (b.abs() + 1) ** 0.5,
    "a number on the cpu": lambda a, b: torch.tensor(2.0) * a + b * torch.tensor(3.0),
    "in place": lambda a, b: a.clone().mul_(b).add_(1).clamp_(-1, 1),
    "out=": lambda a, b: torch.add(a, b, out=torch.empty_like(a)),
    "zeros where x is": lambda a, b: a + torch.zeros(3, 4, device=a.device),
    "new_": lambda a, b: a * a.new_tensor([1.0, 2.0, 3.0, 4.0]) + b.new_zeros(3, 1) + b.new_ones(4),
    "_like": lambda a, b: torch.zeros_like(a) + torch.full_like(b, 2.0) + torch.ones_like(a),
    "arange": lambda a, b: a * torch.arange(4, device=a.device),
    "tensor": lambda a, b: b * torch.tensor([1.0, 2, 3, 4], device=b.device, dtype=b.dtype),
    "as_tensor": lambda a, b: a + torch.as_tensor(np.float32([1, 2, 3, 4]), device=a.device),
    "to another tensor": lambda a, b: torch.from_numpy(np.ones((3, 4))).to(a) * b,
    "type_as": lambda a, b: torch.ones(4, dtype=torch.float64).type_as(a) * b,
    "stack": lambda a, b: torch.stack([a, b]).mean(0),
    "cat": lambda a, b: torch.cat([a, b], 1),
    "split": lambda a, b: sum(a.split(1)) + b.unbind(0)[1],
    "iteration": lambda a, b: torch.stack([u * v for u, v in zip(a, b)]),
    "slices": lambda a, b: a[1:, ::2] + b[..., 1:3][:2],
    "indices on the cpu": lambda a, b: a[torch.tensor([2, 0])] + b[[0, 1]],
    "a mask": lambda a, b: a[a > 0].sum() + b[b > 0].sum(),
    "writing into a view": lambda a, b: write(a.clone(), b),
    "where": lambda a, b: torch.where(a > b, a, 0.0),
    "sorting": lambda a, b: a.sort(1).values + b.argsort(1),
    "reductions": lambda a, b: a.sum(0) / b.square().mean() + a.amax() - torch.linalg.norm(b),
    "matrices": lambda a, b: a @ b.T @ a,
    "svd": lambda a, b: torch.linalg.svd(a, full_matrices=False)[1] + torch.linalg.svdvals(b),
    "fft": lambda a, b: torch.fft.irfft2(torch.fft.rfft2(a) * torch.fft.rfft2(b), s=a.shape),
    "complex": lambda a, b: torch.view_as_real(torch.polar(a.abs(), b).conj().resolve_conj()).sum(
        -1
    ),
    "interpolate": lambda a, b: F.interpolate(a[None, None], (6, 7), mode="bicubic"),
    "grid_sample": lambda a, b: F.grid_sample(
        a[None, None], b[None, :, :, None].expand(-1, -1, -1, 2).tanh(), align_corners=False
    ),
    "conv2d": lambda a, b: F.conv2d(a[None, None], b[None, None, :2, :2], padding=1),
    "norms": lambda a, b: F.group_norm(a, 2) + F.layer_norm(b, (4,)) + F.silu(a),
    "attention": lambda a, b: F.scaled_dot_product_attention(a[None], b[None], a[None]),
    "pad": lambda a, b: F.pad(a[None], (1, 2, 1, 0), mode="replicate") + b.sum(),
    "einsum": lambda a, b: torch.einsum("ij,kj->ik", a, b),
    "scatter": lambda a, b: torch.zeros_like(a).index_add_(0, torch.arange(3, device=a.device), b),
    "index_put": lambda a, b: a.clone().index_put_((torch.tensor([0, 1]),), b[:2], accumulate=True),
    "cumsum, flip, roll": lambda a, b: a.cumsum(1).flip(0) + b.roll(1, 0),
    "double": lambda a, b: (a.double() * b.double()).float(),
    "contiguous": lambda a, b: a.T.contiguous().T + b.movedim(0, 1).mT,
    "unfold": lambda a, b: F.unfold(a[None, None], 2) + b.mean(),
    "a Python number": lambda a, b: a * float(b.max()) + int((b > 0).sum()),
    "topk": lambda a, b: a.topk(2, 1).values + b.median(1, keepdim=True).values,
    "gradients": lambda a, b: gradient_of(a, b),
    "a module": lambda a, b: network().to(a.device)(a) + b,
    "a module in half": lambda a, b: network().to(a.device, torch.float64)(a.double()).float() + b,
    "deep copies": lambda a, b: copy.deepcopy(network().to(a.device))(copy.deepcopy(a)) + b,
    "saving and loading": lambda a, b: loaded({"a": a, "b": b}, a.device),
}


def write(a, b):
    "Slices, rows and elements set."
    a[1:] = b[:2]
    a[0, 0] = 3.0
    a[:, -1].copy_(b[:, 0])
    a[a > 1] = 0.5
    return a


def gradient_of(a, b):
    "The gradient of a small function."
    a = a.clone().requires_grad_()
    (a.sin() * b).sum().backward()
    return a.grad


def network():
    "A few layers, always with the same weights."
    net = nn.Sequential(nn.Linear(4, 8), nn.LayerNorm(8), nn.SiLU(), nn.Linear(8, 4))
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=g))
    return net.eval().requires_grad_(False)


def loaded(tensors, device):
    "Tensors that were in a file."
    f = io.BytesIO()
    torch.save(tensors, f)
    f.seek(0)
    d = torch.load(f, map_location=device, weights_only=True)
    return d["a"] * d["b"]


@pytest.mark.parametrize("name", REFUSED)
def test_refused(gpu, name):
    g, c = C.to("cuda"), D.clone()
    with pytest.raises((RuntimeError, TypeError), match="emulated device"):
        REFUSED[name](g, c)
    assert gpu.refusals


@pytest.mark.parametrize("name", ALLOWED)
def test_right_code_passes_with_the_same_numbers(name):
    want = ALLOWED[name](C.clone(), D.clone())
    with emulated() as gpu:
        got = ALLOWED[name](C.to("cuda"), D.to("cuda"))
        assert isinstance(got, Emulated) and got.device == torch.device("cuda", 0) and got.is_cuda
        assert not gpu.refusals
        assert got.dtype == want.dtype and got.shape == want.shape
        back = got.cpu()
        assert type(back) is torch.Tensor and not back.is_cuda
    assert torch.equal(back, want)


def test_the_same_functions_pass_on_the_cpu_while_it_is_on(gpu):
    for f in ALLOWED.values():
        out = f(C.clone(), D.clone())
        assert type(out) is torch.Tensor and out.device.type == "cpu"
    assert not gpu.moves and not gpu.refusals


def test_moves_are_counted_with_bytes_and_place(gpu):
    g = C.to("cuda:0")
    assert [m[:3] for m in gpu.moves] == [("to device", 48, "to")]
    assert gpu.moves[0].where.startswith("test_emulator.py:")
    gpu.moves.clear()
    g.to("cuda"), g.to(g), g.cuda(), C.cpu(), C.to("cpu")  # nothing crosses
    assert not gpu.moves
    g.cpu(), g.double().cpu(), g.sum().item(), bool(g.any()), g[0].tolist(), C.clone().copy_(g)
    float(g[0, 0]), g.clone().copy_(C), f"{g.mean():.2f}", torch.tensor(1.0, device="cuda")
    assert [(m.kind, m.bytes) for m in gpu.moves] == [
        ("to host", 48),
        ("to host", 96),
        ("number", 8),
        ("number", 1),
        ("to host", 16),
        ("to host", 48),
        ("number", 8),
        ("to device", 48),
        ("number", 4),
        ("to device", 4),
    ]
    assert sum(n for _, n in summary(gpu.moves).values()) == sum(m.bytes for m in gpu.moves)


def test_a_copy_does_not_share_memory(gpu):
    c = C.clone()
    g = c.to("cuda")
    g.add_(1)
    assert torch.equal(c, C) and torch.equal(g.cpu(), C + 1)
    back = g.cpu()
    back.zero_()
    assert g.any()
    view = g[0]
    view.zero_()
    assert not g[0].any() and g[1].any()


def test_random_numbers_of_the_device_are_others(gpu):
    a, b = (torch.Generator(d).manual_seed(0) for d in ("cpu", "cuda"))
    assert isinstance(a, torch.Generator) and b.device == torch.device("cuda", 0)
    u, v = torch.randn(9, generator=a), torch.randn(9, generator=b, device="cuda")
    assert largest_difference(u, v) > 0.1
    torch.manual_seed(0)
    u = torch.randn(9)
    torch.manual_seed(0)
    assert largest_difference(u, torch.randn(9, device="cuda")) > 0.1


def test_the_device_as_a_program_finds_it(gpu):
    assert torch.cuda.is_available() and torch.cuda.device_count() == 1
    assert torch.cuda.get_device_properties("cuda").total_memory == gpu.total
    assert torch.zeros(2, device="cuda").get_device() == 0
    assert "cuda:0" in repr(torch.zeros(2, device="cuda"))


def test_memory_is_counted():
    with emulated(memory=True) as gpu:
        a = torch.zeros(1000, device="cuda")
        b = a + 1
        view = b[10:]
        assert gpu.used == 8000
        del b
        assert gpu.used == 8000, "a view holds its memory"
        del view
        assert gpu.used == 4000 and torch.cuda.max_memory_allocated() == 8000
        torch.cuda.reset_peak_memory_stats()
        assert torch.cuda.max_memory_allocated() == 4000
        del a
        assert gpu.used == 0


def test_off_means_off():
    with emulated():
        g = C.to("cuda")
    assert not torch.cuda.is_available() and torch.zeros(1).device.type == "cpu"
    with pytest.raises(RuntimeError, match="switched off"):
        g + 1
