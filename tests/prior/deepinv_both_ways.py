"""deepinv and visionxl, both ways, in float32 and float64. Run by test_deepinv.py in an environment
that has both; it prints what it found.
"""

import torch

from visionxl.operators.adapters import from_deepinv, load_deepinv, to_deepinv
from visionxl.operators.tasks import task
from visionxl.prior.adapters import from_deepinv_denoiser
from visionxl.prior.check import check_prior
from visionxl.solver import solve

torch.set_num_threads(1)
deepinv = load_deepinv()
SHAPE = (2, 3, 32, 48)
g = torch.Generator().manual_seed(0)
wide = torch.nn.functional.interpolate(torch.randn(2, 3, 9, 13, generator=g), SHAPE[2:])
x = torch.nn.functional.avg_pool2d(wide.clamp(-1, 1), 3, 1, 1)  # blocks with soft rims


def last(y, A, prior, *args, **kw):
    for state in solve(y, A, prior, *args, **kw):
        pass
    return state.x


def psnr(v):
    return 10 * float(torch.log10(4 / (v - x).square().mean()))


# their physics as our operator
kernel = torch.ones(1, 1, 3, 3) / 9
theirs = {
    "inpainting": deepinv.physics.Inpainting(img_size=SHAPE[1:], mask=0.5),
    "blur": deepinv.physics.BlurFFT(SHAPE[1:], kernel),
    "downsampling": deepinv.physics.Downsampling(SHAPE[1:], filter=None, factor=2),
}
for name, physics in theirs.items():
    A = from_deepinv(physics, SHAPE, torch.float32)
    y = A(x)
    u, v = torch.randn(SHAPE, generator=g), torch.randn(A.out_shape, generator=g)
    left, right = (A(u) * v).sum(), (u * A.AT(v)).sum()
    gap = float((left - right).abs() / (A(u).norm() * v.norm()))
    assert y.dtype == torch.float32 and A.AT(y).shape == x.shape
    assert gap < 1e-5, f"{name}: adjoint off by {gap:.1e}"
    print(f"{name}: adjoint to {gap:.0e}, dtype {y.dtype}")

# our operator as their physics, float32 and float64
for dtype, limit in ((torch.float32, 1e-4), (torch.float64, 1e-9)):
    A = task("sr", SHAPE)
    physics = to_deepinv(A)
    u = torch.randn(SHAPE, generator=g, dtype=dtype)
    v = torch.randn(A.out_shape, generator=g, dtype=dtype)
    assert torch.equal(physics.A(u), A(u)) and physics.A(u).dtype == dtype
    left, right = (physics.A(u) * v).sum(), (u * physics.A_adjoint(v)).sum()
    assert float((left - right).abs()) < limit * float(left.abs() + 1)
    fit = physics.A_dagger(physics.A(u))
    assert float((physics.A(fit) - physics.A(u)).abs().max()) < 1e-3
print("our operator as their physics: adjoint and pseudo-inverse agree")

# their denoisers as our prior
torch.manual_seed(0)
denoisers = {
    "TV": deepinv.models.TVDenoiser(n_it_max=40),
    "median": deepinv.models.MedianFilter(),
    "DnCNN": deepinv.models.DnCNN(3, 3, depth=4, pretrained=None),
    "DRUNet": deepinv.models.DRUNet(3, 3, nc=(8, 8, 16, 16), nb=1, pretrained=None),
}
A = task("sr", SHAPE)
y = A(x)
for name, denoiser in denoisers.items():
    prior = from_deepinv_denoiser(denoiser.eval())
    z = x + 0.1 * torch.randn(SHAPE, generator=g)
    a = float(prior.alpha_bar[100])
    if hasattr(denoiser, "restart"):
        denoiser.restart = True  # it would begin where it ended
    clean = denoiser((z / a**0.5 + 1) / 2, ((1 - a) / a) ** 0.5 / 2) * 2 - 1
    want = (z / a**0.5 - clean) / ((1 - a) / a) ** 0.5
    assert float((prior.eps(z, 100) - want).detach().abs().max()) < 1e-3, name
    assert prior.eps(z.double(), 100).dtype == torch.float64, name
    for preset in ("paper", "best"):
        out = last(y, A, prior, preset)
        assert out.dtype == torch.float32 and out.isfinite().all(), name
        print(f"{name} in {preset}: {psnr(out):.2f} dB")
report = check_prior(from_deepinv_denoiser(denoisers["TV"]), x, strict=False)
print(report)
failed = [f.name for f in report.findings if f.remedy]
assert not failed, failed

# and our algorithm on their physics with their denoiser
A = from_deepinv(theirs["inpainting"], SHAPE, torch.float32)
tv = last(A(x), A, from_deepinv_denoiser(denoisers["TV"]), "paper")
assert psnr(tv) > psnr(A(x)) + 3
print(f"all of theirs in our solver: {psnr(A(x)):.2f} -> {psnr(tv):.2f} dB")

# their diffusion sampler with our operator and their denoiser
sampler = deepinv.sampling.DiffPIR(
    denoisers["DRUNet"], deepinv.optim.L2(), sigma=0.05, max_iter=3, device="cpu"
)
ours = to_deepinv(task("deblur", SHAPE, kernel_size=5, sigma=1.0))
out = sampler((ours.A((x + 1) / 2)), ours)
assert out.shape == x.shape and out.isfinite().all()
print("our operator in deepinv's DiffPIR: runs")
