"A pool gives the bits of the prior inside, whoever its workers are."

import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from devices.emulator import EmulatedMode, emulated
from short_runs import restored

from visionxl.app.windows import PaddedPrior
from visionxl.prior.latent import Prior
from visionxl.prior.protocol import as_prior
from visionxl.scale import pack
from visionxl.scale.crew import DeviceWorker
from visionxl.scale.pack import on_device, packed, unpacked
from visionxl.scale.pool import Pool


@pytest.mark.parametrize("preset", ["paper", "best"])
@pytest.mark.parametrize("report", [False, True])
def test_threads(tiny, clip, preset, report):
    "With and without a report of progress, which cuts the calls."
    told = []
    options = {"progress": told.append} if report else {}
    with Pool(tiny, devices=("cpu", "cpu", "cpu")) as pool:
        assert as_prior(pool) is pool
        assert torch.equal(restored(pool, clip, preset, **options), restored(tiny, clip, preset))
    assert not told or told[-1].done == told[-1].total


def test_batches_are_those_of_the_prior(clip):
    "Frames go in whole batches, wherever a call begins."
    prior, seen = Prior.load("tiny", device="cpu", frames_per_batch=2), []
    prior.unet.register_forward_pre_hook(lambda net, args: seen.append(len(args[0])))
    z = prior.encode(clip)
    want = prior.eps(z, 100)
    single, seen[:] = list(seen), []
    with Pool(prior, devices=("cpu", "cpu")) as pool:
        assert torch.equal(pool.eps(z, 100), want)
    assert sorted(seen) == sorted(single) == [1, 2, 2]


def test_samples_and_padding(tiny, clip):
    "A sample of the posterior is that of one worker, and the generator goes on as far."
    g, h = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    with Pool(tiny, devices=("cpu", "cpu")) as pool:
        assert torch.equal(pool.encode(clip, generator=g), tiny.encode(clip, generator=h))
        assert torch.equal(torch.rand(3, generator=g), torch.rand(3, generator=h))
        odd = clip[..., :30, :45]
        padded, alone = (PaddedPrior(p, odd.shape[-2:]) for p in (pool, tiny))
        assert torch.equal(padded.encode(odd), alone.encode(odd))
        assert torch.equal(padded.decode(alone.encode(odd)), alone.decode(alone.encode(odd)))
        assert pool.t_max == tiny.t_max and pool.factor == tiny.factor


def test_two_cards(tiny, clip, monkeypatch):
    "Two emulated cards in one process: each worker computes on its own, the result is that of one."
    run, places = DeviceWorker.run, set()

    def run_there(self, f, args, limit=None):
        with mode:  # the emulator sees one thread only
            out = run(self, f, args, limit)
            places.add(str(out.device))
            return out

    monkeypatch.setattr(DeviceWorker, "run", run_there)
    with emulated(cards=2) as gpu:
        mode = EmulatedMode.active
        first = Prior.load("tiny", device="cuda:0", frames_per_batch=1)
        x = clip.to("cuda:0")
        with Pool(first, devices=("cuda:0", "cuda:1")) as pool:
            z = pool.encode(x)
            eps, back = pool.eps(z, 200), pool.decode(z)
            assert {str(t.device) for t in (z, eps, back)} == {"cuda:0"}
        assert places == {"cuda:0", "cuda:1"} and not gpu.refusals
        got = [t.cpu() for t in (z, eps, back)]
    z = tiny.encode(clip)
    assert all(torch.equal(a, b) for a, b in zip(got, (z, tiny.eps(z, 200), tiny.decode(z))))


def test_errors_come_through(tiny, clip):
    with Pool(tiny, devices=("cpu", "cpu")) as pool:
        with pytest.raises(ValueError, match="outside the model's"):
            pool.eps(tiny.encode(clip), 10**6)
        assert pool.encode(clip).shape == tiny.encode(clip).shape


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float16, torch.bfloat16, torch.bool, torch.int64]
)
def test_parcels(dtype):
    "Every kind of number, shape and memory layout."
    pytest.importorskip("ray")
    for shape in ((), (0, 3), (2, 3, 4, 5)):
        t = (10 * torch.rand(shape)).to(dtype)
        t = t.to(memory_format=torch.channels_last) if t.ndim == 4 else t
        back = unpacked(packed({"t": t, "n": np.arange(3)}))
        assert torch.equal(back["t"], t) and back["t"].dtype == dtype
    w = torch.nn.Linear(2, 2).requires_grad_(False)
    w.again = w.weight
    back = unpacked(packed(w))
    assert back.again is back.weight and not back.weight.requires_grad
    assert unpacked(packed(torch.channels_last)) is torch.channels_last


def test_moved_prior_has_networks_of_its_own(tiny):
    with emulated():
        other = on_device(tiny, "cuda:0")
        assert str(other.device) == "cuda:0" and str(tiny.device) == "cpu"
        assert next(tiny.unet.parameters()).device.type == "cpu"


def test_large_priors_travel_in_half_precision(tiny, clip, monkeypatch):
    "A prior loaded in main memory for workers on GPUs has the precision that it has on one GPU."
    assert pack.in_precision_of(tiny, "cuda:0") is tiny
    monkeypatch.setattr(pack, "LARGE", 1000)
    assert pack.in_precision_of(tiny, "cpu") is tiny
    with emulated() as gpu:
        half = pack.in_precision_of(tiny, "cuda:0")
        assert str(half.device) == "cpu" and half.unet.conv_in.weight.dtype == torch.float16
        there, own = on_device(half, "cuda:0"), Prior.load("tiny", "cuda:0", torch.float16)
        assert there.place == own.place
        z = own.encode(clip.to("cuda:0"))
        for p, q in zip(there.unet.parameters(), own.unet.parameters(), strict=True):
            assert torch.equal(p, q)
        error = (there.eps(z, 100) - own.eps(z, 100)).abs().max()
        assert error <= (1e-2 if gpu.real else 0)  # cuDNN need not choose one algorithm for both
    assert tiny.unet.conv_in.weight.dtype == torch.float32


@pytest.mark.slow  # Ray takes half a minute to start on a busy machine
def test_ray(cluster, tiny, clip):
    "Two processes: the same bits for each call, a sample and a whole run; errors keep their type."

    def memory_of_weights(prior):
        at = prior.unet.conv_in.weight.data_ptr()
        for line in Path("/proc/self/maps").read_text().splitlines():
            low, high = (int(n, 16) for n in line.split()[0].split("-"))
            if low <= at < high:
                return line

    with Pool(tiny, workers=2) as pool:
        while not all(worker.ready() for worker in pool.crew.staff):
            time.sleep(0.1)
        where = set(pool.crew.map(lambda prior: os.getpid(), (() for _ in range(20))))
        assert len(where) == 2 and os.getpid() not in where
        places = [pool.crew.call(memory_of_weights) for _ in range(4)]
        assert all("plasma" in p for p in places), "weights were copied out of shared memory"
        for preset in ("paper", "best"):
            assert torch.equal(restored(pool, clip, preset), restored(tiny, clip, preset))
        g, h = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
        assert torch.equal(pool.encode(clip, generator=g), tiny.encode(clip, generator=h))
        with pytest.raises(ValueError, match="outside the model's"):
            pool.eps(tiny.encode(clip), 10**6)
    assert cluster.is_initialized(), "a pool ends only the cluster that it started"
