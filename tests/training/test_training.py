"The autoencoder's interface, the order of the data, and a run that is killed and resumed."

import json
import math
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from visionxl.prior.autoencoder import PatchAutoencoder, ScaledUNet, fit_patches, scale_latents
from visionxl.training.loop import rate
from visionxl.training.losses import (
    alpha_bar_table,
    diffuse,
    handed_on,
    imperfect,
    levels,
    noise_loss,
    unet_loss,
)
from visionxl.training.on_device import (
    CropPool,
    Guesses,
    Loop,
    PhotoStack,
    guessed,
    measured,
    smoothed,
    solver_steps,
    spoil_all,
)
from visionxl.training.photos import generator, load_photos, read_photos, to_float, view
from visionxl.training.settings import load_config
from visionxl.training.train import main
from visionxl.training.vae import channel_weights


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "Six small smooth pictures and a configuration that trains in seconds."
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(6):
        small = rng.integers(0, 256, (6, 8 + i, 3), dtype=np.uint8)
        Image.fromarray(small).resize((96 + 8 * i, 72), Image.BICUBIC).save(
            root / f"{i}.jpg", quality=92
        )
    c = load_config()
    c |= dict(photo_short=64, val_every=3, sizes=[40, 60])
    c["vae"] |= dict(
        model=dict(width=8, encoder_blocks=1, decoder_blocks=1),
        steps=6,
        batch=2,
        crop=32,
        pool_every=3,
        warmup=2,
        save_every=2,
    )
    c["unet"] |= dict(steps=6, batch=2, crop=8, pool_every=4, warmup=2, save_every=2)
    c["finetune"] |= dict(steps=4, warmup=1, pool_every=2)
    c["unet"]["model"] |= dict(block_out_channels=[32, 32])
    (root / "config.json").write_text(json.dumps(c))
    return root


def command(folder, run, *more):
    return [
        "--config",
        str(folder / "config.json"),
        "--data",
        str(folder),
        "--run",
        str(run),
        *more,
    ]


def weights(path):
    from safetensors.torch import load_file

    return load_file(path)


def test_autoencoder_is_a_diffusers_autoencoder(tmp_path):
    torch.manual_seed(0)
    vae = PatchAutoencoder(width=8)
    x = torch.rand(2, 3, 32, 40) * 2 - 1
    vae.set_patches(*fit_patches(x))
    vae.normalise(x)
    q = vae.encode(x).latent_dist
    assert q.mode().shape == (2, 16, 8, 10) and vae.config.scaling_factor == 1.0
    assert torch.equal(q.mode(), q.sample())
    assert torch.allclose(q.mode().mean((0, 2, 3)), torch.zeros(16), atol=1e-5)
    assert torch.allclose(q.mode().std((0, 2, 3)), torch.ones(16), atol=1e-4)
    vae.save_pretrained(tmp_path)
    again = PatchAutoencoder.from_pretrained(tmp_path)
    assert torch.equal(again(x).sample, vae(x).sample)
    assert [p.suffix for p in tmp_path.iterdir() if p.name != "config.json"] == [".safetensors"]


def test_untrained_autoencoder_is_the_best_linear_code():
    "Before training it must do exactly what numpy's SVD of the patches does."
    x = torch.randn(1, 3, 32, 32, dtype=torch.float64).cumsum(2).cumsum(3).float() / 50
    vae = PatchAutoencoder(width=8)
    vae.set_patches(*fit_patches(x))
    p = torch.nn.functional.pixel_unshuffle(x, 4)[0].flatten(1).T.double().numpy()  # (64, 48)
    m = p.mean(0)
    u, s, vt = np.linalg.svd(p - m, full_matrices=False)
    best = torch.from_numpy(((u[:, :16] * s[:16]) @ vt[:16] + m).T.reshape(1, 48, 8, 8)).float()
    assert (vae(x).sample - torch.nn.functional.pixel_shuffle(best, 4)).abs().max() < 1e-4


def test_autoencoder_names_a_wrong_size():
    with pytest.raises(ValueError, match="multiple of 4: pad"):
        PatchAutoencoder(width=8).encode(torch.zeros(1, 3, 30, 32))


def test_order_of_the_data_is_a_function_of_the_step():
    a, b = (torch.rand(3, generator=generator(0, 3, 17)) for _ in range(2))
    assert torch.equal(a, b) and not torch.equal(a, torch.rand(3, generator=generator(0, 3, 18)))


def test_schedule_is_sdxls():
    from diffusers import DDIMScheduler

    c = load_config()
    assert (
        alpha_bar_table(c) - DDIMScheduler(**c["scheduler"]).alphas_cumprod.double()
    ).abs().max() < 1e-6


def test_v_gives_back_the_clean_latents():
    z, n, a = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3), torch.tensor([0.9, 0.4])
    z_t, v = diffuse(z, n, a)
    back = a.sqrt()[:, None, None, None] * z_t - (1 - a).sqrt()[:, None, None, None] * v
    assert (back - z).abs().max() < 1e-6


def test_an_imperfect_guess_still_points_at_the_clean_latents():
    z, n, spoilt, a = (
        torch.randn(2, 4, 9, 9),
        torch.randn(2, 4, 9, 9),
        torch.randn(2, 4, 9, 9),
        torch.tensor([0.9, 0.6]),
    )
    guess, scale = imperfect(z, spoilt, a, generator(1))
    sigma2, error2 = (1 - a) / a, (guess - z).square().flatten(1).mean(1)
    assert (error2 > 0).all() and torch.allclose(
        error2 + scale.flatten() ** 2 * sigma2, sigma2
    )  # together as wrong as the noise alone
    far, _ = imperfect(z, z + 1e-2 * (spoilt - z), a, generator(1))
    assert torch.allclose(
        far, z + 1e-2 * (spoilt - z), atol=1e-6
    )  # never beyond the spoilt latents
    z_t, v = diffuse(z, n, a, guess, scale)
    p, q = a.sqrt()[:, None, None, None], (1 - a).sqrt()[:, None, None, None]
    assert (p * z_t - q * v - z).abs().max() < 1e-5 and (
        z_t - p * guess - q * scale * n
    ).abs().max() < 1e-6
    assert imperfect(z, spoilt, a, generator(2))[0].ne(guess).any()


def test_channels_weigh_by_the_root_of_their_deviation():
    from visionxl.prior.autoencoder import PatchAutoencoder

    vae = PatchAutoencoder(width=8, encoder_blocks=1, decoder_blocks=1, latent_channels=4)
    vae.patch_std.copy_(torch.tensor([4.0, 1.0, 1.0, 1.0]))
    assert torch.allclose(channel_weights(vae), torch.tensor([2.0, 1.0, 1.0, 1.0]) / 1.25)

    def unet(z, t):
        return type("O", (), {"sample": torch.zeros_like(z)})()

    unet.config = type("C", (), {"in_channels": 4})()
    z, c, table = (
        torch.randn(3, 4, 8, 8),
        dict(t_max=10, spoilt=0),
        alpha_bar_table(load_config()),
    )
    plain, heavy = (
        unet_loss(unet, z, c, table, generator(3), w) for w in (None, torch.full((4,), 2.0))
    )
    assert torch.isclose(heavy, 2 * plain)


def test_rate_rises_stays_and_falls():
    c = dict(steps=100, lr=1.0, warmup=10, decay=0.5)
    assert [rate(s, c) for s in (0, 9, 40, 75, 100)] == [0.1, 1, 1, 0.5, 0]


def test_killed_and_resumed_is_the_same_run(folder, tmp_path):
    """Steps taken in pieces, with a kill in the middle of a save, against the same steps at one go:
    equal bit for bit.
    """
    main(command(folder, tmp_path / "whole"))
    for _ in range(3):
        main(command(folder, tmp_path / "pieces", "--stage", "vae", "--stop-after", "2"))
    for piece in (1, 3, 2):
        main(command(folder, tmp_path / "pieces", "--stop-after", str(piece)))
        (tmp_path / "pieces/unet.safetensors.tmp").write_bytes(b"half a file")
    assert not (tmp_path / "pieces/export").exists()
    main(command(folder, tmp_path / "pieces", "--stop-after", "3"))
    assert (tmp_path / "pieces/export/unet").is_dir()
    for name in ("vae", "unet", "finetune"):
        a, b = (weights(tmp_path / run / f"{name}.safetensors") for run in ("whole", "pieces"))
        assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a), name
    log = [
        json.loads(line)
        for line in (tmp_path / "whole/unet.safetensors.jsonl").read_text().splitlines()
    ]
    assert [r["step"] for r in log] == [2, 4, 6] and all(
        math.isfinite(r["loss"]) and r["t281"] > 0 for r in log
    )


def test_kill_at_any_moment_leaves_a_whole_checkpoint(folder, tmp_path):
    "A real process, killed without warning as soon as it has saved once, resumed to the end."
    main(command(folder, tmp_path / "whole", "--stage", "vae"))
    with subprocess.Popen(
        [
            sys.executable,
            "-m",
            "visionxl.training.train",
            *command(folder, tmp_path / "killed", "--stage", "vae"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    ) as p:
        for line in p.stdout:
            if "step=2" in line:
                break
        p.kill()
    main(command(folder, tmp_path / "killed", "--stage", "vae"))
    a, b = (weights(tmp_path / run / "vae.safetensors") for run in ("whole", "killed"))
    assert (
        max((a[k].double() - b[k].double()).abs().max() for k in a) < 1e-5
    )  # threads may differ between processes


def test_export_is_a_diffusers_folder(folder, tmp_path):
    from diffusers import DDIMScheduler, UNet2DModel

    for stage in ("vae", "unet"):
        main(command(folder, tmp_path, "--stage", stage))
    main(command(folder, tmp_path, "--stage", "export", "--out", str(tmp_path / "out")))
    unet = UNet2DModel.from_pretrained(tmp_path / "out/unet")
    vae = PatchAutoencoder.from_pretrained(tmp_path / "out/vae")
    assert (
        DDIMScheduler.from_pretrained(tmp_path / "out/scheduler").config.prediction_type
        == "v_prediction"
    )
    z = vae.float().encode(torch.zeros(1, 3, 32, 48)).latent_dist.mode()
    assert unet.float()(z, 81).sample.shape == z.shape
    assert (
        weights(tmp_path / "out/unet/diffusion_pytorch_model.safetensors")["conv_in.weight"].dtype
        == torch.float16
    )


def test_no_photos_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="VISIONXL_DATA"):
        load_photos(tmp_path)


@pytest.fixture(scope="module")
def white(folder):
    "The second configuration, small: a linear code, photos in one piece of memory."
    c = load_config("white")
    c |= dict(photo_short=64, val_every=3, sizes=[40, 60])
    c["unet"] |= dict(steps=4, batch=4, crop=4, pool_every=4, warmup=2, save_every=2, look=1)
    c["unet"] |= dict(compile=False, stack=dict(shorts=[56, 64], groups=2, size=3, steps=2))
    c["unet"]["model"] |= dict(block_out_channels=[32, 32, 32])
    del c["finetune"], c["solved"]  # the tests of later stages have their own
    (folder / "white.json").write_text(json.dumps(c))
    return folder / "white.json"


@pytest.fixture(scope="module")
def lent(folder):
    "The same with an autoencoder that was trained before, and views made on the processor."
    torch.manual_seed(0)
    vae = PatchAutoencoder(width=8, encoder_blocks=1, decoder_blocks=1)
    x = torch.stack([to_float(view(p, 48)[:, :48, :48]) for p in load_photos(folder)[0]])
    vae.set_patches(*fit_patches(x))
    vae.normalise(x)
    vae.save_pretrained(folder / "before/vae")
    c = load_config("white")
    c |= dict(photo_short=64, val_every=3, sizes=[40, 60], vae={"from": str(folder / "before")})
    c["unet"] |= dict(steps=4, batch=4, crop=8, pool_every=4, warmup=2, save_every=2, look=1)
    del c["unet"]["stack"], c["unet"]["compile"], c["finetune"], c["solved"]
    c["unet"]["model"] |= dict(block_out_channels=[32, 32, 32], in_channels=16, out_channels=16)
    (folder / "lent.json").write_text(json.dumps(c))
    return folder / "lent.json"


def scaled_vae(power, gain):
    "An autoencoder at the principal components of smooth pictures, scaled."
    torch.manual_seed(0)
    vae = PatchAutoencoder(width=8, encoder_blocks=1, decoder_blocks=1)
    x = torch.randn(2, 3, 64, 64).cumsum(2).cumsum(3) / 50
    vae.set_patches(*fit_patches(x))
    vae.normalise(x)
    return vae, x, scale_latents(vae, power, gain)


def test_one_factor_makes_noise_white_in_the_pixels():
    "Decoded unit noise has the same strength in every direction that the code keeps, 1 / gain."
    vae, x, std = scaled_vae(1, 4.5)
    z = vae.encode(x).latent_dist.mode()
    assert torch.allclose(z.std((0, 2, 3)), std, rtol=1e-3)
    n = torch.randn(1, 16, 64, 64)
    with torch.no_grad():
        p = vae.decode(n).sample - vae.decode(torch.zeros_like(n)).sample
    p = torch.nn.functional.pixel_unshuffle(p, 4)[0].flatten(1)  # (48, places)
    found = vae.directions @ p @ p.T @ vae.directions.T / p.shape[1] * 4.5**2
    assert (found - torch.eye(16)).abs().max() < 0.08
    assert ((vae.directions @ p * 4.5).reshape(n.shape[1:]) - n[0]).abs().max() < 1e-3


@pytest.mark.parametrize("power", [0, 0.5, 0.75, 1])
def test_scaling_latents_changes_no_picture(power):
    vae, x, std = scaled_vae(power, 2.0)
    before, _, ones = scaled_vae(0, 1.0)
    assert torch.allclose(vae(x).sample, before(x).sample, atol=1e-4)
    assert torch.allclose(ones, torch.ones(16)) and std[0] >= std[-1]
    own = before.patch_std * before.latent_std
    assert torch.allclose(std, 2 * own**power, rtol=1e-4)


def test_scaled_unet_sees_and_predicts_unit_variance(tmp_path):
    from diffusers import UNet2DModel

    torch.manual_seed(0)
    s = torch.tensor([15.0, 4.0, 1.0, 0.5])
    size = dict(in_channels=4, out_channels=4, block_out_channels=(32, 32))
    unet = ScaledUNet(latent_std=s.tolist(), beta_end=0.03, **size).eval()
    z, noise = s[:, None, None] * torch.randn(1, 4, 64, 64), torch.randn(1, 4, 64, 64)
    for t in (0, 100, 500, 999):
        a = unet.alpha_bar[t].float()
        z_t = a.sqrt() * z + (1 - a).sqrt() * noise
        c_in, c_skip, c_out = unet.scales(t, z_t)
        asked = (noise - c_skip * z_t) / c_out
        for v in (c_in * z_t, asked):
            assert torch.allclose(v.std((0, 2, 3)), torch.ones(4), atol=0.08), t
        flat = (asked * z_t).mean((0, 2, 3)) / z_t.std((0, 2, 3))  # nothing linear is left to say
        assert flat.abs().max() < 0.08
    unet.save_pretrained(tmp_path)
    again = ScaledUNet.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        assert torch.allclose(again(z, 100).sample, unet(z, 100).sample, atol=1e-5)
        whole = unet(z.expand(2, -1, -1, -1), torch.tensor([100, 500])).sample
        assert torch.allclose(whole[1], unet(z, 500).sample[0], atol=1e-5)
        c_in, c_skip, c_out = unet.scales(100, z)
        by_hand = c_skip * z + c_out * UNet2DModel.forward(unet, c_in * z, 100).sample
        assert torch.allclose(by_hand, unet(z, 100).sample, atol=1e-5)


def test_the_loss_is_zero_for_who_knows_and_one_for_who_is_silent():
    class Knows(ScaledUNet):
        def inner(self, z_t, t, c_in):
            a = self.alpha_bar[t][:, None, None, None].float()
            _, c_skip, c_out = self.scales(t, z_t)
            return ((z_t - a.sqrt() * z) / (1 - a).sqrt() - c_skip * z_t) / c_out

    class Silent(ScaledUNet):
        def inner(self, z_t, t, c_in):
            return torch.zeros_like(z_t)

    s = [15.0, 4.0, 1.0, 0.5]
    z = torch.tensor(s)[:, None, None] * torch.randn(256, 4, 8, 8)
    size = dict(latent_std=s, in_channels=4, out_channels=4, block_out_channels=(32, 32))
    c = dict(t_max=1000, spoilt=0.0, level_power=1.6, half=False)
    for Net, spoilt, low, high in ((Knows, 0.5, 0, 1e-4), (Silent, 0.0, 0.9, 1.1)):
        net = Net(**size)
        both = torch.cat([z, z + 0.3 * torch.randn(z.shape)], 1)
        for ways in ({}, {"ways": (0.25, 0.25)}):
            said = c | dict(spoilt=spoilt) | ways
            loss = noise_loss(net, both, said, net.alpha_bar, generator(5))
            assert low <= loss <= high


def test_levels_lean_to_the_low_ones():
    many = torch.cat([levels(8, 1000, generator(k), 2.0) for k in range(2000)])
    assert abs((many < 250).float().mean() - 0.5) < 0.01 and 0 <= many.min() <= many.max() < 1000
    even = levels(8, 450, generator(3))
    whole = (torch.arange(8) + torch.rand(8, generator=generator(3))) * (450 / 8)
    assert torch.equal(even, whole.long())


def test_packed_photos_are_the_photos(folder, tmp_path):
    main(["--data", str(folder), "--pack", str(tmp_path / "all")])
    packed, loose = read_photos(tmp_path / "all"), read_photos(folder)
    assert [p.shape for p in packed] == [p.shape for p in loose]
    wrong = [(a.float() - b.float()).square().mean() for a, b in zip(packed, loose)]
    assert max(wrong) < 255**2 / 10**4  # 40 dB
    halves = [load_photos(f, every=3) for f in (tmp_path / "all", folder)]
    assert [[len(part) for part in split] for split in halves] == [[4, 2], [4, 2]]
    with pytest.raises(ValueError, match="make it with --pack"):
        read_photos(folder / "0.jpg")


@pytest.mark.parametrize("which", ["white", "lent"])
def test_white_run_resumes_and_loads(which, folder, tmp_path, request):
    """Killed between two saves, the run over all noise levels ends with the same bits; `Prior`
    reads it.
    """
    from visionxl.prior.latent import Prior

    main(["--data", str(folder), "--pack", str(tmp_path / "photos")])
    config = str(request.getfixturevalue(which))
    common = ["--config", config, "--data", str(tmp_path / "photos"), "--run"]
    main([*common, str(tmp_path / "whole")])
    for _ in range(2):
        main([*common, str(tmp_path / "pieces"), "--stop-after", "3"])
    a, b = (weights(tmp_path / run / "unet.safetensors") for run in ("whole", "pieces"))
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    prior = Prior.load(tmp_path / "whole/export")
    assert prior.t_max == 999 and prior.prediction == "epsilon"
    assert abs(prior.alpha_bar - prior.unet.alpha_bar).max() < 1e-6
    z = prior.encode(torch.zeros(1, 3, 32, 48))
    assert torch.isfinite(prior.eps(z, 999)).all() and prior.eps(z, 999).shape == z.shape


def test_white_goes_on_with_other_guesses(white, folder, tmp_path):
    "A second stage starts from the first one's weights, has its own crops, and is what ships."
    from visionxl.prior.latent import Prior

    c = json.loads(white.read_text())
    stack = dict(shorts=[56, 64], groups=2, size=3, steps=2, noisy=0.5, smooth=0.5, again=1)
    c["finetune"] = dict(steps=2, warmup=1, spoilt=0.65, ways=[0.25, 0.25], stack=stack)
    (tmp_path / "c.json").write_text(json.dumps(c))
    common = ["--config", str(tmp_path / "c.json"), "--data", str(folder), "--run"]
    main([*common, str(tmp_path / "whole")])
    for _ in range(4):
        main([*common, str(tmp_path / "pieces"), "--stop-after", "1"])
    for _ in range(2):
        main([*common, str(tmp_path / "pieces")])
    a, b = (weights(tmp_path / run / "finetune.safetensors") for run in ("whole", "pieces"))
    first = weights(tmp_path / "whole/unet.safetensors")
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    assert any(not torch.equal(first[k], a[k]) for k in a if k.startswith("ema."))
    there = Prior.load(tmp_path / "whole/export", device="cpu").unet.state_dict()
    small = [k for k, v in there.items() if v.numel() < 20_000]  # kept in half precision
    assert all(torch.equal(there[k], a[f"ema.{k}"].half().float()) for k in small)


def test_guesses_go_through_the_network_in_a_third_stage(white, folder, tmp_path):
    "With steps of the solver in the guesses a run that stops goes on at the end of a pool."
    c = json.loads(white.read_text())
    stack = dict(shorts=[56, 64], groups=2, size=3, steps=2)
    c["finetune"] = dict(steps=2, warmup=1, stack=stack)
    c["solved"] = dict(steps=4, warmup=1, pool_every=2, save_every=2, spoilt=0.9)
    c["solved"] |= {"ways": [0.2, 0.4, 0.5], "stack": stack | {"solved": 0.8, "noisy": 0.5}}
    (tmp_path / "c.json").write_text(json.dumps(c))
    common = ["--config", str(tmp_path / "c.json"), "--data", str(folder), "--run"]
    main([*common, str(tmp_path / "whole")])
    for stage in ("unet", "finetune"):
        (tmp_path / "pieces").mkdir(exist_ok=True)
        shutil.copy(tmp_path / f"whole/{stage}.safetensors", tmp_path / "pieces")
    main([*common, str(tmp_path / "pieces"), "--stop-after", "1"])  # two steps: a whole pool
    with safe_open(tmp_path / "pieces/solved.safetensors", "pt") as f:
        assert f.metadata()["step"] == "2"
    main([*common, str(tmp_path / "pieces")])
    a, b = (weights(tmp_path / run / "solved.safetensors") for run in ("whole", "pieces"))
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    c["solved"]["save_every"] = 3
    (tmp_path / "c.json").write_text(json.dumps(c))
    with pytest.raises(ValueError, match="save_every=3.*multiple of pool_every=2"):
        main([*common, str(tmp_path / "odd")])


def test_steps_of_the_solver_agree_with_the_measurement(folder):
    "A network that knows the picture ends at it; one that says nothing stays with what was seen."
    x = PhotoStack(load_photos(folder)[0], (56,), "cpu").crops(3, 48, generator(0))
    table = alpha_bar_table(load_config("white"))

    def knows(z, t):  # the noise in z, where x is the clean picture
        a = table[t].item()
        return (z - a**0.5 * x) / (1 - a) ** 0.5

    def same(v):
        return v

    for seed in range(6):
        for share in (0.0, 1.0):
            m = measured(x, generator(seed), share)
            guess = guessed(m, 4).view_as(x)
            loop = Loop(knows, same, same, table)
            there = solver_steps(guess, m, loop, generator(seed))
            assert m.sigma or (there - x).square().mean().sqrt() < 1e-4
            assert (there - x).square().mean() <= (guess - x).square().mean()
            again = solver_steps(guess, m, loop, generator(seed))
            assert torch.equal(there, again)
    with pytest.raises(ValueError, match="solved=0.5: steps of the solver need a loop"):
        CropPool(None, same, 32, (1, 1), 0, Guesses(solved=0.5))


def test_a_crop_is_a_piece_of_a_view_and_a_guess_is_near_it(folder):
    photos = load_photos(folder)[0]
    stack = PhotoStack(photos, (56,), "cpu")
    views = [to_float(view(p, 56)) for p in photos]
    x = stack.crops(6, 48, torch.Generator().manual_seed(0))
    for crop in x:
        found = (
            torch.equal(v[:, i : i + 48, j : j + 48], c)
            for v in views
            for i in range(v.shape[1] - 47)
            for j in range(v.shape[2] - 47)
            for c in (crop, crop.flip(-1))
        )
        assert any(found)
    for seed in range(4):  # 2, 2, 4 and missing pixels
        guess = spoil_all(x, torch.Generator().manual_seed(seed), Guesses(steps=5))
        assert guess.shape == x.shape and 0 < (guess - x).square().mean().sqrt() < 0.2
    with pytest.raises(ValueError, match="the first must not be larger"):
        PhotoStack(photos, (500,), "cpu")


def test_a_noisy_guess_is_the_guess_of_a_noisy_measurement(folder):
    "It differs from the quiet one, by no more than the noise, and is the same for the same seed."
    x = PhotoStack(load_photos(folder)[0], (56,), "cpu").crops(4, 48, generator(0))
    for seed in range(4):
        quiet, again = (spoil_all(x, generator(seed), Guesses(steps=5)) for _ in range(2))
        noisy, same = (spoil_all(x, generator(seed), Guesses(5, noisy=1.0)) for _ in range(2))
        assert torch.equal(quiet, again) and torch.equal(noisy, same)
        assert 1e-5 < (noisy - quiet).square().mean().sqrt() < 0.12


def test_smooth_crops_are_smooth_as_often_as_asked():
    x = torch.rand(2, 3, 40, 40, generator=generator(1)) * 2 - 1
    seen = [smoothed(x, generator(k), 0.3) for k in range(200)]
    smooth = [v for v in seen if not torch.equal(v, x)]
    assert 40 < len(smooth) < 80
    assert all(v.std() < 0.9 * x.std() and abs(v.mean() - x.mean()) < 0.01 for v in smooth)
    stack = PhotoStack([torch.randint(256, (3, 64, 64)).byte()], (64,), "cpu")
    code = torch.nn.PixelUnshuffle(4)
    pool = CropPool(stack, code, 32, (1, 2), 0, Guesses(steps=2, smooth=1.0))
    sharp = CropPool(stack, code, 32, (1, 2), 0, Guesses(steps=2))
    clean, other = (p.group(0, 0)[:, :48] for p in (pool, sharp))
    assert clean.std() < 0.9 * other.std()  # the clean crop is smooth too: that is the answer


def test_guesses_with_more_or_less_noise_than_their_level():
    z, spoilt = torch.randn(2, 4000, 4, 2, 2, generator=generator(2))
    a = torch.full((4000,), 0.6)
    level = (0.4 / 0.6) ** 0.5

    def of(*ways):
        guess, scale, off = handed_on(z, spoilt, a, generator(3), ways)
        own = (guess - z).square().mean((1, 2, 3)).sqrt() / level
        return own, scale.flatten(), off.flatten()

    own, scale, off = of(0, 0)
    assert torch.allclose(off, torch.ones(4000), atol=1e-5)  # as `imperfect`
    assert torch.allclose(own.square() + scale.square(), off.square(), atol=1e-4)
    own, scale, off = of(1, 0)
    assert (scale == 1).all() and own.max() <= 1.5001 and (own > 1).float().mean() > 0.3
    own, scale, off = of(0, 1)
    assert 0.25 < (scale == 0).float().mean() < 0.35 and off.max() <= 1.0001
    own, scale, off = of(0.25, 0.25)
    assert abs((off > 1.001).float().mean() - 0.25) < 0.05
    assert abs((off < 0.999).float().mean() - 0.25) < 0.05
    own, scale, off = of(0, 1, 1)  # each guess as wrong as it is
    wrong = (spoilt - z).square().mean((1, 2, 3)).sqrt()
    sigma = ((1 - a) / a).sqrt().float()
    assert torch.allclose(own.flatten(), wrong / sigma, rtol=1e-3)


def test_the_linear_code_loses_nothing_and_stays_exact_in_half_precision():
    x = torch.rand(2, 3, 16, 24) * 2 - 1
    vae = PatchAutoencoder(width=0, latent_channels=48)
    vae.set_patches(*fit_patches(torch.rand(8, 3, 32, 32) * 2 - 1, channels=48))
    vae.normalise(x)
    scale_latents(vae, 1.0, 4.5)
    z = vae.encode(x).latent_dist.mode()
    with torch.autocast("cpu", torch.bfloat16):
        again = vae.decode(vae.encode(x).latent_dist.mode()).sample
    assert torch.allclose(again, x, atol=1e-5)
    assert torch.allclose(vae.decode(z).sample, x, atol=1e-5)
    shifted = vae.encode(x + 0.1).latent_dist.mode() - z  # white in latents is white in pixels
    assert abs(shifted.square().sum() / 4.5**2 / (0.1**2 * x.numel()) - 1) < 1e-4
