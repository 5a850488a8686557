"The autoencoder's interface, the order of the data, and a run that is killed and resumed."

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from visionxl.prior.autoencoder import PatchAutoencoder, fit_patches
from visionxl.training import train as tr
from visionxl.training.loop import rate


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
    c = tr.load_config()
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
    a, b = (torch.rand(3, generator=tr.generator(0, 3, 17)) for _ in range(2))
    assert torch.equal(a, b) and not torch.equal(a, torch.rand(3, generator=tr.generator(0, 3, 18)))


def test_schedule_is_sdxls():
    from diffusers import DDIMScheduler

    c = tr.load_config()
    assert (
        tr.alpha_bar_table(c) - DDIMScheduler(**c["scheduler"]).alphas_cumprod.double()
    ).abs().max() < 1e-6


def test_v_gives_back_the_clean_latents():
    z, n, a = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3), torch.tensor([0.9, 0.4])
    z_t, v = tr.diffuse(z, n, a)
    back = a.sqrt()[:, None, None, None] * z_t - (1 - a).sqrt()[:, None, None, None] * v
    assert (back - z).abs().max() < 1e-6


def test_an_imperfect_guess_still_points_at_the_clean_latents():
    z, n, spoilt, a = (
        torch.randn(2, 4, 9, 9),
        torch.randn(2, 4, 9, 9),
        torch.randn(2, 4, 9, 9),
        torch.tensor([0.9, 0.6]),
    )
    guess, scale = tr.imperfect(z, spoilt, a, tr.generator(1))
    sigma2, error2 = (1 - a) / a, (guess - z).square().flatten(1).mean(1)
    assert (error2 > 0).all() and torch.allclose(
        error2 + scale.flatten() ** 2 * sigma2, sigma2
    )  # together as wrong as the noise alone
    far, _ = tr.imperfect(z, z + 1e-2 * (spoilt - z), a, tr.generator(1))
    assert torch.allclose(
        far, z + 1e-2 * (spoilt - z), atol=1e-6
    )  # never beyond the spoilt latents
    z_t, v = tr.diffuse(z, n, a, guess, scale)
    p, q = a.sqrt()[:, None, None, None], (1 - a).sqrt()[:, None, None, None]
    assert (p * z_t - q * v - z).abs().max() < 1e-5 and (
        z_t - p * guess - q * scale * n
    ).abs().max() < 1e-6
    assert tr.imperfect(z, spoilt, a, tr.generator(2))[0].ne(guess).any()


def test_channels_weigh_by_the_root_of_their_deviation():
    from visionxl.prior.autoencoder import PatchAutoencoder

    vae = PatchAutoencoder(width=8, encoder_blocks=1, decoder_blocks=1, latent_channels=4)
    vae.patch_std.copy_(torch.tensor([4.0, 1.0, 1.0, 1.0]))
    assert torch.allclose(tr.channel_weights(vae), torch.tensor([2.0, 1.0, 1.0, 1.0]) / 1.25)

    def unet(z, t):
        return type("O", (), {"sample": torch.zeros_like(z)})()

    unet.config = type("C", (), {"in_channels": 4})()
    z, c, table = (
        torch.randn(3, 4, 8, 8),
        dict(t_max=10, spoilt=0),
        tr.alpha_bar_table(tr.load_config()),
    )
    plain, heavy = (
        tr.unet_loss(unet, z, c, table, tr.generator(3), w) for w in (None, torch.full((4,), 2.0))
    )
    assert torch.isclose(heavy, 2 * plain)


def test_rate_rises_stays_and_falls():
    c = dict(steps=100, lr=1.0, warmup=10, decay=0.5)
    assert [rate(s, c) for s in (0, 9, 40, 75, 100)] == [0.1, 1, 1, 0.5, 0]


def test_killed_and_resumed_is_the_same_run(folder, tmp_path):
    "Steps taken in pieces, with a kill in the middle of a save, against the same steps at one go: equal bit for bit."
    tr.main(command(folder, tmp_path / "whole"))
    for _ in range(3):
        tr.main(command(folder, tmp_path / "pieces", "--stage", "vae", "--stop-after", "2"))
    for piece in (1, 3, 2):
        tr.main(command(folder, tmp_path / "pieces", "--stop-after", str(piece)))
        (tmp_path / "pieces/unet.safetensors.tmp").write_bytes(b"half a file")
    assert not (tmp_path / "pieces/export").exists()
    tr.main(command(folder, tmp_path / "pieces", "--stop-after", "3"))
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
    tr.main(command(folder, tmp_path / "whole", "--stage", "vae"))
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
    tr.main(command(folder, tmp_path / "killed", "--stage", "vae"))
    a, b = (weights(tmp_path / run / "vae.safetensors") for run in ("whole", "killed"))
    assert (
        max((a[k].double() - b[k].double()).abs().max() for k in a) < 1e-5
    )  # threads may differ between processes


def test_export_is_a_diffusers_folder(folder, tmp_path):
    from diffusers import DDIMScheduler, UNet2DModel

    for stage in ("vae", "unet"):
        tr.main(command(folder, tmp_path, "--stage", stage))
    tr.main(command(folder, tmp_path, "--stage", "export", "--out", str(tmp_path / "out")))
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
        tr.load_photos(tmp_path)
