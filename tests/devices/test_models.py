"""Every family of models answers on a device as on the CPU, resident or brought there in turns."""

from dataclasses import replace

import pytest
import torch
from devices.emulator import emulated
from prior import families

from visionxl.prior.latent import Prior
from visionxl.prior.machine.memory import placement


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    "Embeddings of empty prompts are kept in a folder of the test."
    monkeypatch.setenv("VISIONXL_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module", params=families.SERVED)
def folder(request, tmp_path_factory):
    "A small model of a family."
    return families.build(request.param, tmp_path_factory.mktemp(request.param) / "model")


def numbers(*shape):
    "Gaussian numbers on the CPU."
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def answers(prior, device, generator=True):
    "What a prior says to a clip and to a latent, on the CPU."
    x, z = numbers(2, 3, 32, 48).clamp(-1, 1).to(device), numbers(2, 4, 4, 6).to(device)
    given = {"generator": torch.Generator().manual_seed(1)} if generator else {}
    out = prior.encode(x), prior.encode(x, **given), prior.decode(z), prior.eps(z, 281)
    assert all(v.device == x.device for v in out)
    return [v.cpu() for v in out]


def test_the_same_answers(folder):
    want = answers(Prior.load(folder, device="cpu"), "cpu")
    with emulated() as gpu:
        got = answers(Prior.load(folder), "cuda")
        assert not gpu.refusals
    for a, b in zip(got, want):
        assert (a - b).abs().max() <= (0.02 if gpu.real else 0)


# what a card may differ by: TF32 in convolutions has 10 bits, bfloat16 7 (0.065 on an H200)
ROUNDING = {torch.float32: 0.05, torch.bfloat16: 0.15}


@pytest.mark.parametrize("dtype", ROUNDING)
def test_networks_that_take_turns(tmp_path, dtype):
    "Model offload: each network is on the device for its turn alone, in any precision."
    folder = families.build("sdxl", tmp_path / "sdxl")
    here = Prior.load(folder, device="cpu", dtype=dtype)
    want = answers(here, "cpu")
    with emulated() as gpu:
        place = replace(placement("cuda", dtype), offload=True)
        c = here.conditions[0]
        there = Prior(here.vae, here.unet, None, (c.text, c.pooled), place=place)
        got = answers(there, "cuda")
        assert not gpu.refusals
        assert next(there.unet.parameters()).device.type == "cpu"
    for a, b in zip(got, want):
        assert (a - b).abs().max() <= (ROUNDING[dtype] if gpu.real else 0)
        assert (a - b).square().mean().sqrt() <= ROUNDING[dtype] / 5
