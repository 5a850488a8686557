"""What is accepted as a prior, what is refused and how, and what `check_prior` finds."""

import pytest
import torch
import torch.nn.functional as F

from visionxl import restore
from visionxl.app.tiles import PaddedPrior, TiledPrior
from visionxl.extras.fast import Bfloat16Prior
from visionxl.operators.tasks import task
from visionxl.prior import adapters
from visionxl.prior.check import check_prior
from visionxl.prior.latent import Prior
from visionxl.prior.protocol import PriorLike, as_prior, can_sample, factor_of
from visionxl.prior.schedule import scaled_linear
from visionxl.prior.toy import ToyPrior
from visionxl.solver import solve


@pytest.fixture(scope="module")
def tiny():
    return Prior.load("tiny", device="cpu")


class Changed:
    "A prior with some members replaced."

    def __init__(self, prior, **changes):
        self.prior = prior
        self.__dict__.update(changes)

    def __getattr__(self, name):
        return getattr(self.__dict__["prior"], name)


def test_ours_are_priors(tiny):
    assert isinstance(tiny, PriorLike) and isinstance(ToyPrior(), PriorLike)
    assert as_prior(tiny) is tiny
    assert not isinstance("tiny", PriorLike)


WRONG = {
    "a name": (lambda tiny: "tiny", r"Prior.load\('tiny'\)"),
    "a class": (lambda tiny: ToyPrior, "make one of it first"),
    "a network": (lambda tiny: tiny.unet, "lacks encode"),
    "a rising table": (lambda tiny: Changed(tiny, alpha_bar=scaled_linear().flip(0)), "rises"),
    "a table of sigma": (lambda tiny: Changed(tiny, alpha_bar=torch.arange(1.0, 9)), "sigma"),
    "a table of rows": (lambda tiny: Changed(tiny, alpha_bar=torch.ones(2, 2)), "one number for"),
    "no table": (lambda tiny: Changed(tiny, alpha_bar=None), "scaled_linear"),
}


@pytest.mark.parametrize("what", WRONG)
def test_solve_refuses_at_the_door(what, tiny):
    make, says = WRONG[what]
    A = task("sr", (2, 3, 16, 16))
    with pytest.raises((TypeError, ValueError), match=says):
        next(solve(torch.zeros(A.out_shape), A, make(tiny)))


@pytest.mark.parametrize("what", [w for w in WRONG if w != "a name"])  # restore loads names
def test_restore_refuses_likewise(what, tiny):
    make, says = WRONG[what]
    with pytest.raises((TypeError, ValueError), match=says):
        restore(torch.zeros(2, 3, 16, 16), "sr", prior=make(tiny), progress=False)


def test_an_eps_of_wrong_shape_is_named_with_its_timestep(tiny):
    wrong = Changed(tiny, eps=lambda z, t: tiny.eps(z, t)[:, :3])
    A = task("sr", (2, 3, 16, 16))
    with pytest.raises(ValueError, match="eps of the prior returned shape .* is needed"):
        next(solve(torch.zeros(A.out_shape), A, wrong))


class Eighth:
    "A prior of one's own with all that `PriorLike` lists and nothing else."

    alpha_bar = scaled_linear()

    def encode(self, x):
        return F.avg_pool2d(x, 8)

    def decode(self, z):
        return F.interpolate(z, scale_factor=8)

    def eps(self, z, t):
        return 0.1 * z

    def latent_shape(self, h, w):
        return 3, h // 8, w // 8


def test_odd_frames_and_a_prior_that_names_no_factor():
    assert factor_of(Eighth()) == factor_of(PaddedPrior(Eighth(), (19, 30))) == 8
    A = task("inpaint", (2, 3, 19, 30))
    y = A(torch.rand(2, 3, 19, 30) - 0.5)
    for tile in (None, 128):
        x = restore(y, "inpaint", prior=Eighth(), tile=tile, progress=False).x
        assert x.shape == y.shape and float((A(x) - y).abs().max()) < 1e-3
    with pytest.raises(ValueError, match="19x30 are no multiples of 8: crop .* restore"):
        list(solve(y, A, Eighth()))


@pytest.mark.parametrize(
    "latent_shape, factor",
    [
        (lambda h, w: (4, h // 8, w // 16), 16),
        (lambda h, w: (3, h, w), 1),
        (lambda h, w: (h * w // 64, 8), 1),  # no picture
        (lambda h, w: (3, 2 * h, 2 * w), 1),
        (lambda h, w: (3, 64, 64), 1),  # frames of one size alone
        (lambda h, w: {(16, 16): (3, 8, 8)}[h, w], 1),
        (lambda h, w: (4, h // 14, w // 14), 14),
        (lambda h, w: (4, -(-h // 5), -(-w // 5)), 1),  # not found: as before
    ],
)
def test_a_factor_by_the_shape_of_latents(latent_shape, factor):
    prior = Eighth()
    prior.latent_shape = latent_shape
    assert factor_of(prior) == factor
    prior.factor = 2
    assert factor_of(prior) == 2


@pytest.mark.parametrize("wrap", ["bare", "denoiser", "tiled", "fast"])
def test_official_with_an_encoder_that_has_no_spread(wrap):
    "It takes no generator, so its answer is its sample; the draws of renoising stay the same."
    prior = Eighth()
    if wrap == "denoiser":
        prior = adapters.DenoiserPrior(lambda x, sigma: x / (1 + sigma**2), prior)
    if wrap == "tiled":
        prior = TiledPrior(prior, 128)
    if wrap == "fast":
        prior = Bfloat16Prior(prior)
    A = task("sr", (2, 3, 16, 16))
    y = A(torch.rand(2, 3, 16, 16) - 0.5)
    assert not can_sample(prior if wrap != "denoiser" else prior.space)
    runs = [list(solve(y, A, prior, "official", seed=s))[-1].x for s in (1, 1, 2)]
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])


def test_an_encoder_with_a_spread_is_sampled(tiny):
    seen = []

    def encode(x, generator=None):
        seen.append(generator)
        return tiny.encode(x)

    A = task("sr", (1, 3, 16, 16))
    next(solve(torch.zeros(A.out_shape), A, Changed(tiny, encode=encode), "official"))
    assert len(seen) and all(isinstance(g, torch.Generator) for g in seen)


def test_restore_takes_a_prior_without_a_factor():
    class Plain:
        alpha_bar = scaled_linear()

        def encode(self, x):
            return x

        def decode(self, z):
            return z

        def eps(self, z, t):
            return 0.1 * z

        def latent_shape(self, h, w):
            return 3, h, w

    y = torch.zeros(2, 3, 17, 19)
    out = restore(y, "deblur", "paper", prior=Plain(), progress=False)
    assert out.x.shape == y.shape


def test_the_bundled_prior_and_the_toy_pass(tiny):
    assert check_prior(tiny).ok
    toy = ToyPrior()
    assert check_prior(toy, toy.sample(64, torch.Generator().manual_seed(1))).ok


def mean(prior):
    def clean(z, t):
        a = float(prior.alpha_bar[t])
        return (z - (1 - a) ** 0.5 * prior.eps(z, t)) / a**0.5

    return clean


def in_place(prior):
    def eps(z, t):
        return prior.eps(z.add_(0.0).mul_(1.001), t)

    return eps


MISTAKES = {  # name: what is wrong with the prior, and the finding that says so
    "range": (lambda p: {"decode": lambda z: p.decode(z) / 2 + 0.5}, "round trip"),
    "clean": (lambda p: {"eps": mean(p)}, "meaning of eps"),
    "score": (lambda p: {"eps": lambda z, t: -p.eps(z, t)}, "meaning of eps"),
    "nothing": (lambda p: {"eps": lambda z, t: 0 * z}, "meaning of eps"),
    "size": (lambda p: {"eps": lambda z, t: 4 * p.eps(z, t)}, "meaning of eps"),
    "time": (lambda p: {"eps": lambda z, t: p.eps(z, p.t_max - t)}, "meaning of t"),
    "scale": (lambda p: {"encode": lambda x: 6 * p.encode(x)}, "latents"),
    "shape": (lambda p: {"eps": lambda z, t: p.eps(z, t)[:, :3]}, "shapes"),
    "dtype": (lambda p: {"decode": lambda z: p.decode(z).double()}, "dtype, device"),
    "random": (lambda p: {"eps": lambda z, t: p.eps(z, t) + torch.randn_like(z) / 9}, "frames"),
    "frames": (lambda p: {"eps": lambda z, t: p.eps(z, t) + z.mean(0)}, "frames"),
    "in place": (lambda p: {"eps": in_place(p)}, "arguments"),
    "gradient": (
        lambda p: {"eps": lambda z, t: z / 3 + (p.eps(z, t) - z / 3).detach()},
        "gradients",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_each_mistake_is_found(name, tiny):
    changes, finding = MISTAKES[name]
    report = check_prior(Changed(tiny, **changes(tiny)), strict=False)
    assert finding in [f.name for f in report.findings if f.remedy], str(report)


def test_a_mistake_is_refused_with_its_remedy(tiny):
    changes, _ = MISTAKES["nothing"]
    with pytest.raises(ValueError, match="->"):
        check_prior(Changed(tiny, **changes(tiny)))


def test_a_prior_without_gradients_is_no_mistake(tiny):
    cut = Changed(tiny, eps=torch.no_grad()(tiny.eps))
    report = check_prior(cut)
    assert report.ok and "eps has none" in str(report)


# ---------------------------------------------------------------- adapters


def gaussian(mean, sd):
    "The best denoiser of pixels that are Gaussian, each on its own."
    return lambda x, sigma: (sd**2 * x + sigma**2 * mean) / (sd**2 + sigma**2)


@pytest.mark.parametrize("low, high", [(-1.0, 1.0), (0.0, 1.0), (0.0, 255.0)])
def test_denoisers_in_their_own_units(low, high):
    "The same denoiser in other units is the same prior, and its noise is the gradient of log p."
    scale = (high - low) / 2
    mean, sd = 0.2, 0.4
    prior = adapters.DenoiserPrior(gaussian(low + (mean + 1) * scale, sd * scale), None, low, high)
    g = torch.Generator().manual_seed(0)
    z, t = torch.randn(2, 3, 4, 5, generator=g, dtype=torch.float64), 300
    a = float(prior.alpha_bar[t])
    want = (1 - a) ** 0.5 * (z - a**0.5 * mean) / (a * sd**2 + 1 - a)
    assert (prior.eps(z, t) - want).abs().max() < 1e-9
    leaf = z.clone().requires_grad_()
    (slope,) = torch.autograd.grad(prior.eps(leaf, t).sum(), leaf)
    assert (slope - (1 - a) ** 0.5 / (a * sd**2 + 1 - a)).abs().max() < 1e-9
    x = mean + sd * torch.randn(2, 3, 24, 24, generator=g, dtype=torch.float64)
    assert check_prior(prior, x).ok


def test_denoisers_of_networks_keep_their_precision():
    net = torch.nn.Conv2d(3, 3, 3, padding=1)
    prior = adapters.DenoiserPrior(lambda x, sigma: net(x))
    with pytest.raises(RuntimeError):
        prior.eps(torch.zeros(1, 3, 8, 8, dtype=torch.float64), 100)

    class Module(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x, sigma):
            return self.net(x)

    prior = adapters.DenoiserPrior(Module())
    out = prior.eps(torch.zeros(1, 3, 8, 8, dtype=torch.float64), 100)
    assert out.dtype == torch.float64 and not out.requires_grad


def test_a_denoiser_that_detaches_refuses_gradients():
    prior = adapters.DenoiserPrior(torch.no_grad()(gaussian(0.2, 0.4)))
    z = torch.zeros(1, 3, 8, 8, requires_grad=True)
    with pytest.raises(ValueError, match="gives no gradient: it detaches"):
        prior.eps(z, 100)
    with torch.no_grad():
        assert prior.eps(z, 100).isfinite().all()


def test_a_denoiser_with_a_memory_begins_anew():
    class Warm(torch.nn.Module):
        restart, calls = True, 0

        def forward(self, x, sigma):
            self.calls = 0 if self.restart else self.calls + 1
            self.restart = False
            return x / (1 + sigma) + self.calls

    prior = adapters.from_deepinv_denoiser(Warm())
    z = torch.zeros(1, 3, 8, 8)
    assert torch.equal(prior.eps(z, 100), prior.eps(z, 100))


def test_how_far_a_denoiser_was_trained():
    prior = adapters.from_deepinv_denoiser(gaussian(0.5, 0.3), sigma_max=0.25)
    a = prior.alpha_bar
    sigma = ((1 - a) / a) ** 0.5
    assert float(sigma[prior.t_max]) <= 0.5 < float(sigma[prior.t_max + 1])
    with pytest.raises(ValueError, match="trained up to"):
        A = task("sr", (2, 3, 16, 16))
        next(solve(torch.zeros(A.out_shape), A, prior, "paper", {"route.tau": 0.9}))


def test_a_pipeline_of_diffusers_from_its_folder(tmp_path):
    from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

    torch.manual_seed(0)
    blocks = dict(down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2)
    net = UNet2DModel(in_channels=3, out_channels=3, block_out_channels=(32, 32), **blocks)
    scheduler = DDPMScheduler(prediction_type="v_prediction")
    DDPMPipeline(net, scheduler).save_pretrained(tmp_path / "ddpm")
    prior = adapters.from_diffusers(tmp_path / "ddpm")
    g = torch.Generator().manual_seed(0)
    x, t = torch.rand(2, 3, 17, 22, generator=g) * 2 - 1, 300
    a = float(scheduler.alphas_cumprod[t])
    with torch.no_grad():
        wide = torch.nn.functional.pad(x, (0, 0, 0, 1), mode="replicate")
        v = net.eval()(wide, t).sample[..., :17, :]
    assert (prior.eps(x, t) - (a**0.5 * v + (1 - a) ** 0.5 * x)).abs().max() < 1e-4
    leaf = x.clone().requires_grad_()
    assert torch.autograd.grad(prior.eps(leaf, t).sum(), leaf)[0].abs().max() > 0
    assert torch.equal(prior.decode(prior.encode(x)), x)


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda: adapters.DenoiserPrior("bm3d"), "no denoiser"),
        (lambda: adapters.DenoiserPrior(abs, low=1, high=0), "must lie below"),
        (lambda: adapters.DenoiserPrior(abs, alpha_bar=scaled_linear().flip(0)), "rises"),
        (lambda: adapters.DenoiserPrior(abs, sigma_max=1e-6), "least noise"),
        (lambda: adapters.from_diffusers(torch.nn.Identity()), "give its scheduler"),
    ],
)
def test_adapters_refuse_with_the_remedy(call, says):
    with pytest.raises((TypeError, ValueError), match=says):
        call()
