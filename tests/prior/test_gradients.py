"""Gradients through a prior, against differences: in float64, whatever the network predicts."""

import pytest
import torch
from prior.families import sdxl_unet, taesd, unet, vae
from torch.autograd import gradcheck

from visionxl.operators.tasks import task
from visionxl.prior.latent import Prior
from visionxl.prior.machine.memory import Placement
from visionxl.solver import solve

DOUBLE = Placement(torch.device("cpu"), torch.float64)


def draw(*shape, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=g, dtype=torch.float64)


def plain_unet(**changes):
    "A network without text, so that latents are padded to its depth."
    from diffusers import UNet2DModel

    torch.manual_seed(0)
    config = dict(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        block_out_channels=(32, 64),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=8,
    )
    return UNet2DModel(**config | changes).eval()


def slope(f, v, seed=1):
    "How far autograd lies from central differences, along one direction, relative to the slope."
    out = f(v)
    weight, way = draw(*out.shape, seed=seed), draw(*v.shape, seed=seed + 1)
    leaf = v.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((f(leaf) * weight).sum(), leaf)
    h = 1e-5
    with torch.no_grad():
        numeric = ((f(v + h * way) - f(v - h * way)) * weight).sum() / (2 * h)
    ours = (gradient * way).sum()
    return float((ours - numeric).abs() / numeric.abs())


NETWORKS = {
    "with text": (unet, {}),
    "with pooled text and sizes": (sdxl_unet, {}),
    "padded to its depth": (plain_unet, {}),
}


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("net", NETWORKS)
@pytest.mark.filterwarnings("ignore:.*zeros take the place")
def test_gradient_of_eps(net, kind):
    make, changes = NETWORKS[net]
    prior = Prior(vae(), make(**changes), {"prediction": kind}, place=DOUBLE)
    z = draw(3, 4, 5, 7)
    assert slope(lambda v: prior.eps(v, 281), z) < 1e-6
    one = Prior(prior.vae, prior.unet, {"prediction": kind}, frames_per_batch=1, place=DOUBLE)
    assert slope(lambda v: one.eps(v, 281), z) < 1e-6, "frame by frame, as checkpoints"


@pytest.mark.filterwarnings("ignore:.*zeros take the place")
def test_gradient_of_eps_under_guidance():
    texts = draw(1, 7, 32, seed=5), None
    prior = Prior(vae(), unet(), null=texts, negative=(None, None), guidance=3.0, place=DOUBLE)
    assert slope(lambda v: prior.eps(v, 121), draw(2, 4, 4, 4)) < 1e-6


@pytest.mark.parametrize("make", [vae, taesd])
@pytest.mark.parametrize("frames_per_batch", [None, 1])
def test_gradient_of_encoder_and_decoder(make, frames_per_batch):
    prior = Prior(make(), plain_unet(), frames_per_batch=frames_per_batch, place=DOUBLE)
    z = draw(2, prior.channels, 3, 4)
    x = draw(2, 3, 3 * prior.factor, 4 * prior.factor) / 3
    assert slope(prior.decode, z) < 1e-6
    assert slope(prior.encode, x) < 1e-6
    if make is vae:
        assert slope(lambda v: prior.encode(v, torch.Generator().manual_seed(3)), x) < 1e-6


def test_gradient_through_tiles():
    place = Placement(torch.device("cpu"), torch.float64, tile=64)
    prior = Prior(vae(), plain_unet(), place=place)
    assert slope(prior.decode, draw(1, 4, 4, 40)) < 1e-6
    assert slope(prior.encode, draw(1, 3, 32, 320) / 3) < 1e-6


def test_gradcheck_of_the_whole_way():
    "Every entry of the Jacobian of a decoded Tweedie estimate, on the smallest latents."
    place = Placement(torch.device("cpu"), torch.float64)
    prior = Prior(vae(block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2,
                      up_block_types=("UpDecoderBlock2D",) * 2), plain_unet(),
                  {"prediction": "v_prediction"}, place=place)  # fmt: skip
    a = float(prior.alpha_bar[281])

    def estimate(z):
        return prior.decode((z - (1 - a) ** 0.5 * prior.eps(z, 281)) / a**0.5)

    assert gradcheck(estimate, draw(1, 4, 2, 3).requires_grad_(), fast_mode=True)


def test_the_bundled_prior_in_double_precision():
    prior = Prior.load("tiny", place=DOUBLE)
    assert slope(lambda v: prior.eps(v, 281), draw(2, 16, 5, 6)) < 1e-6
    assert slope(prior.decode, draw(2, 16, 5, 6)) < 1e-6
    assert slope(prior.encode, draw(2, 3, 20, 24) / 3) < 1e-6


def test_values_are_those_without_a_graph():
    prior = Prior.load("tiny", device="cpu")
    z = draw(3, 16, 5, 6).float()
    assert torch.equal(prior.eps(z, 281), prior.eps(z.clone().requires_grad_(), 281).detach())
    assert not prior.eps(z, 281).requires_grad


def test_networks_that_leave_their_device_refuse():
    place = Placement(torch.device("cpu"), torch.float32, offload=True)
    prior = Prior(vae(), plain_unet(), place=place)
    z = torch.zeros(1, 4, 4, 4)
    assert prior.eps(z, 81).shape == z.shape
    for call in (prior.decode, lambda v: prior.eps(v, 81)):
        with pytest.raises(ValueError, match="offload=False"):
            call(z.clone().requires_grad_())
    with torch.no_grad():
        assert prior.eps(z.clone().requires_grad_(), 81).shape == z.shape


def test_solve_keeps_no_graph_and_a_step_may_ask_for_one():
    prior = Prior.load("tiny", device="cpu")
    A = task("sr", (2, 3, 32, 32))
    y = torch.zeros(A.out_shape, requires_grad=True)
    asked = []

    def guided(problem, x_hat, a_t):
        with torch.enable_grad():
            x = x_hat.clone().requires_grad_()
            z = problem.prior.encode(x)
            (gradient,) = torch.autograd.grad(problem.prior.eps(z, 81).square().sum(), x)
        asked.append(float(gradient.abs().max()))
        return x_hat

    for state in solve(y, A, prior, "paper", {"route.tau": 0.1}, consistency=guided,
                       progress=lambda p: None):  # fmt: skip
        assert not state.x.requires_grad and not state.z.requires_grad
    assert len(asked) == 2 and min(asked) > 0
