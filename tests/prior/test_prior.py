"""Priors: against the networks called by hand, whatever they predict, in any batch; and what is
refused.
"""

import hashlib
import json
import shutil
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import visionxl
from visionxl import video
from visionxl.prior.latent import Prior, to_eps
from visionxl.prior.machine.memory import Placement, frames_for, placement
from visionxl.prior.machine.plan import plan
from visionxl.prior.models.conditioning import Condition
from visionxl.prior.models.loading import find_model
from visionxl.prior.schedule import ddim_step, make_schedule, scaled_linear

TINY = Path(visionxl.__file__).parent / "assets" / "tiny"
WHITE = TINY.parent / "white"


@pytest.fixture(scope="module")
def tiny():
    return Prior.load("tiny", device="cpu")


@pytest.fixture(scope="module")
def x():
    return torch.rand(3, 3, 44, 60, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_tiny_loads_in_float32_whatever_is_on_disk(tiny):
    assert next(tiny.unet.parameters()).dtype == next(tiny.vae.parameters()).dtype == torch.float32
    assert tiny.factor == 4 and tiny.channels == 16 and tiny.latent_shape(44, 60) == (16, 11, 15)
    assert 440 <= tiny.t_max < 1000 and tiny.alpha_bar.dtype == torch.float64


def test_batches_do_not_matter(tiny, x):
    one = Prior.load("tiny", device="cpu", frames_per_batch=1)
    z = tiny.encode(x)
    for a, b in (
        (one.encode(x), z),
        (one.decode(z), tiny.decode(z)),
        (one.eps(z, 81), tiny.eps(z, 81)),
    ):
        assert (a - b).abs().max() < 1e-5


def test_odd_latents_are_padded_inside_and_cropped(tiny, x):
    z = tiny.encode(x)  # 11 x 15
    assert tiny.eps(z, 81).shape == z.shape
    even = z[..., :8, :12]
    with torch.no_grad():
        by_hand = tiny.unet(even, 81).sample
    want = to_eps(by_hand, even, float(tiny.alpha_bar[81]), tiny.prediction)
    assert (tiny.eps(even, 81) - want).abs().max() < 1e-4


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_any_prediction_becomes_noise(kind):
    g = torch.Generator().manual_seed(0)
    z0, e, a = torch.randn(2, 4, 8, 8, generator=g), torch.randn(2, 4, 8, 8, generator=g), 0.7
    z = a**0.5 * z0 + (1 - a) ** 0.5 * e
    out = dict(epsilon=e, sample=z0, v_prediction=a**0.5 * e - (1 - a) ** 0.5 * z0)[kind]
    assert (to_eps(out, z, a, kind) - e).abs().max() < 1e-5


def test_refused(tiny, x):
    z = tiny.encode(x)
    for call, words in (
        (lambda: tiny.encode(x[..., :-1]), "multiples of 4"),
        (lambda: tiny.encode(x[:, :1]), "video has shape"),
        (lambda: tiny.decode(z[:, :4]), "latent has shape"),
        (lambda: tiny.eps(z, 1000), "timestep 1000"),
        (lambda: tiny.eps(z, -1), "timestep -1"),
        (lambda: tiny.decode(z.to("meta")), "move it there"),
        (lambda: Prior.load("tiny", frames_per_batch=0), "at least 1"),
    ):
        with pytest.raises(ValueError, match=words):
            call()


def test_bundled_weights_are_those_of_the_cards():
    for folder in (TINY, WHITE):
        files, card = list(folder.rglob("*.safetensors")), (folder / "README.md").read_text()
        assert {f.parent.name for f in files} == {"unet", "vae"}
        assert all(hashlib.sha256(f.read_bytes()).hexdigest() in card for f in files)


def test_white_loses_nothing_and_knows_all_levels(tiny):
    white = Prior.load("white", device="cpu")
    x = video.sample("flower", frames=1).x[..., 60:108, 96:160].contiguous()
    z, a = white.encode(x), white.alpha_bar
    assert (white.decode(z) - x).abs().max() < 1e-5 < (tiny.decode(tiny.encode(x)) - x).abs().max()
    step = white.encode(x + 0.1) - z  # the length of a change is the same everywhere
    assert abs(step.square().sum() / (0.1**2 * x.numel()) / 4.5**2 - 1) < 1e-4
    assert (white.t_max, white.prediction, white.channels) == (999, "epsilon", 48)
    planned = plan((9, 64, 96), "white", vram=12)
    assert planned.fits and planned.place.dtype == torch.float32  # as it is loaded on a GPU
    assert (a - white.unet.alpha_bar).abs().max() < 1e-6 and a[-1] < 1e-5
    noise = torch.randn(z.shape, generator=torch.Generator().manual_seed(1))
    for t, least in ((300, 0.85), (990, 0.99)):
        found = white.eps((a[t] ** 0.5 * z + (1 - a[t]) ** 0.5 * noise).float(), t)
        assert torch.nn.functional.cosine_similarity(found.flatten(), noise.flatten(), 0) > least


def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="choose 'white', 'tiny', 'sdxl'"):
        find_model("tinny")
    with pytest.raises(FileNotFoundError, match="unet/, vae/ and scheduler/"):
        Prior.load(tmp_path)
    shutil.copytree(TINY, tmp_path / "m")
    for f in (tmp_path / "m" / "unet").glob("*.safetensors"):
        f.unlink()
    with pytest.raises(FileNotFoundError, match="no weights in"):
        Prior.load(tmp_path / "m")


def test_sdxl_without_weights_answers_at_once(monkeypatch, tmp_path):
    import huggingface_hub.constants as hub

    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path))
    start = time.process_time()
    with pytest.raises(FileNotFoundError, match="go online and try again, or copy the model here"):
        Prior.load("sdxl", device="cpu")
    assert time.process_time() - start < 20


def test_a_folder_of_ones_own(tmp_path):
    shutil.copytree(TINY, tmp_path / "m")
    config = tmp_path / "m" / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | dict(prediction_type="sample")))
    assert Prior.load(tmp_path / "m", device="cpu").prediction == "sample"


def test_placement_is_decided_once():
    assert placement("cpu", large=True) == Placement(torch.device("cpu"), torch.float32)
    assert frames_for(768 * 1280, "cpu") == 1 and frames_for(64 * 64, "cpu") > 1


def test_text_conditioning_of_an_sdxl_shaped_model(data):
    golden = data / "golden"
    i, want = load_file(golden / "inputs.safetensors"), load_file(golden / "sr.safetensors")
    args = dict(text=i["prompt_embeds"], pooled=i["pooled_prompt_embeds"])
    p = Prior.load(golden / "tiny_sdxl", device="cpu", **args)
    s, z = make_schedule(p.alpha_bar, indexing="released"), want["z"][0]
    x0 = p.decode((z - (1 - s.a(281)) ** 0.5 * p.eps(z, 281)) / s.a(281) ** 0.5)
    assert (x0 - want["x0_first"]).abs().max() < 1e-4
    with pytest.warns(UserWarning, match="zeros take the place"):
        zeros = Prior.load(golden / "tiny_sdxl", device="cpu")  # they are another text
    assert (zeros.eps(z[:1], 281) - p.eps(z[:1], 281)).abs().max() > 1e-4
    with pytest.raises(ValueError, match="pooled embedding has width 3"):
        Prior.load(
            golden / "tiny_sdxl", device="cpu", text=i["prompt_embeds"], pooled=torch.zeros(1, 3)
        )


@pytest.mark.parametrize(
    "size, want", [(None, [44, 60, 0, 0, 44, 60]), (128, [512, 512, 0, 0, 44, 60])]
)
def test_sizes_that_sdxl_is_told(size, want):
    c = Condition(torch.zeros(1, 77, 8), torch.zeros(1, 8), size and size * 4)
    assert c.args(1, (44, 60))["added_cond_kwargs"]["time_ids"][0].tolist() == want


def test_schedule_against_diffusers():
    from diffusers import DDIMScheduler

    ref = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    ref.set_timesteps(25)
    assert (scaled_linear() - ref.alphas_cumprod).abs().max() < 1e-6
    s = make_schedule(ref.alphas_cumprod, tau=1.0)
    assert list(s.sampling) == ref.timesteps.tolist()
    g = torch.Generator().manual_seed(0)
    z, e = torch.randn(1, 4, 8, 8, generator=g), torch.randn(1, 4, 8, 8, generator=g)
    assert (
        max(
            float((ddim_step(z, e, s.a(t), s.a(n)) - ref.step(e, t, z).prev_sample).abs().max())
            for t, n in s.steps[:-1]
        )
        < 1e-5
    )
