"""Every family of models against diffusers' own pipeline, and what cannot serve refused before its
weights are read.
"""

import json
import shutil
import warnings

import pytest
import torch
from prior import families

from visionxl.prior.latent import Prior
from visionxl.prior.models.families import recognise
from visionxl.prior.models.model_files import Source
from visionxl.prior.protocol import check_table
from visionxl.prior.schedule import make_schedule

TOLERANCE = 1e-5


def worst(a, b):
    return float((a - b).detach().abs().max())


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Theirs:
    "A family as diffusers' own pipeline runs it, in float32."

    def __init__(self, folder, name):
        from diffusers import DiffusionPipeline

        half = "fp16" if "fp16" in name else None
        self.pipe = DiffusionPipeline.from_pretrained(folder, variant=half)
        self.pipe.to(dtype=torch.float32)
        self.xl = "sdxl" in name
        self.alpha_bar = self.pipe.scheduler.alphas_cumprod.double()

    def text(self, prompt="", guided=False):
        "Embedding, pooled embedding, and those of the other text with guidance."
        out = self.pipe.encode_prompt(
            prompt, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=guided
        )
        return out if self.xl else (out[0], out[1], None, None)

    @torch.no_grad()
    def encode(self, x):
        out = self.pipe.vae.encode(x)
        z = out.latent_dist.mode() if hasattr(out, "latent_dist") else out.latents
        return z * self.pipe.vae.config.scaling_factor

    @torch.no_grad()
    def decode(self, z):
        return self.pipe.vae.decode(z / self.pipe.vae.config.scaling_factor).sample

    @torch.no_grad()
    def predict(self, z, t, text, pooled=None, w=0.0):
        """The UNet as the pipeline calls it, its answer turned into noise by the definition of each
        kind.
        """
        config, options = self.pipe.unet.config, {}
        if self.xl:
            size = z.shape[-2] * 8, z.shape[-1] * 8
            ids = self.pipe._get_add_time_ids((128, 128), (0, 0), size, z.dtype, pooled.shape[-1])
            n = len(z)
            options["added_cond_kwargs"] = {
                "text_embeds": pooled.expand(n, -1),
                "time_ids": ids.expand(n, -1),
            }
        if config.time_cond_proj_dim:
            w = torch.tensor([w]).repeat(len(z))
            embed = self.pipe.get_guidance_scale_embedding
            options["timestep_cond"] = embed(w, config.time_cond_proj_dim)
        text = text.expand(len(z), -1, -1)
        return self.pipe.unet(z, t, encoder_hidden_states=text, **options).sample

    def eps(self, z, t, out):
        if self.pipe.scheduler.config.prediction_type == "epsilon":
            return out
        a = self.alpha_bar[t]
        return (a**0.5 * out + (1 - a) ** 0.5 * z).to(z)


@pytest.fixture(scope="module", params=families.SERVED)
def case(request, model, tmp_path_factory):
    folder = model(request.param)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        patch.setenv("VISIONXL_CACHE", str(tmp_path_factory.mktemp("cache")))
        prior = Prior.load(folder, device="cpu")
    return request.param, prior, Theirs(folder, request.param)


def test_empty_prompt(case):
    _, prior, theirs = case
    text, _, pooled, _ = theirs.text("")
    (mine,) = prior.conditions
    assert mine.text.shape == text.shape and worst(mine.text, text) < TOLERANCE
    if theirs.xl:
        assert worst(mine.pooled, pooled) < TOLERANCE
    else:
        assert mine.pooled is None


def test_encode_and_decode(case):
    _, prior, theirs = case
    x = randn(2, 3, 64, 96).clamp(-1, 1)
    assert worst(prior.encode(x), theirs.encode(x)) < TOLERANCE
    z = randn(2, 4, 8, 12)
    assert worst(prior.decode(z), theirs.decode(z)) < TOLERANCE


@pytest.mark.parametrize("size", [(8, 12), (9, 13)], ids=["even", "odd"])
def test_eps(case, size):
    "Also for latents whose sides the UNet's depth does not divide: diffusers does not pad them."
    _, prior, theirs = case
    text, _, pooled, _ = theirs.text("")
    for t in (281, 1, 700):
        z = randn(2, 4, *size, seed=t)
        want = theirs.eps(z, t, theirs.predict(z, t, text, pooled))
        assert worst(prior.eps(z, t), want) < TOLERANCE
    if prior.prediction != "sample":  # the text matters: zeros are another answer
        zeros = None if pooled is None else torch.zeros_like(pooled)
        other = theirs.eps(z, t, theirs.predict(z, t, torch.zeros_like(text), zeros))
        assert worst(prior.eps(z, t), other) > 10 * TOLERANCE


def test_table(case):
    name, prior, theirs = case
    assert worst(prior.alpha_bar, theirs.alpha_bar) < TOLERANCE
    assert prior.t_max == 999 and prior.alpha_bar.dtype == torch.float64
    check_table(prior.alpha_bar)  # what `solve` asks; `zero-snr` ends in noise alone
    assert (float(prior.alpha_bar[-1]) == 2.0**-24) == (name == "zero-snr")
    assert abs(float(prior.alpha_bar[281]) - (0.49 if name == "zero-snr" else 0.6221)) < 0.15
    assert make_schedule(prior.alpha_bar).sampling == (281, 241, 201, 161, 121, 81, 41, 1)


@pytest.mark.parametrize("name", ["sdxl", "sd15", "sd21-v", "lcm"])
def test_a_text_and_guidance(model, name):
    prompt, g = "a red flower, close up", 5.0
    theirs = Theirs(model(name), name)
    prior = Prior.load(model(name), device="cpu", prompt=prompt, guidance=g)
    text, other, pooled, other_pooled = theirs.text(prompt, guided=True)
    z = randn(2, 4, 8, 12)
    if name == "lcm":  # it is told how strongly to follow, and asked once
        want = theirs.predict(z, 281, text, w=g - 1)
    else:
        a, b = (theirs.predict(z, 281, *p) for p in ((other, other_pooled), (text, pooled)))
        want = a + g * (b - a)
    assert worst(prior.eps(z, 281), theirs.eps(z, 281, want)) < 5 * TOLERANCE
    plain = Prior.load(model(name), device="cpu", prompt=prompt)
    assert len(plain.conditions) == 1 and worst(plain.conditions[0].text, text) < TOLERANCE


@pytest.mark.parametrize(
    "given,says",
    [
        (dict(prompt="a flower"), "prompt='a flower' has no effect.*Prior.load.'sdxl'"),
        (dict(guidance=5.0), "guidance=5 has no effect"),
        (dict(text=torch.zeros(1, 77, 8)), "text= and pooled= have no effect"),
    ],
)
@pytest.mark.parametrize("name", ["white", "tiny"])
def test_a_model_that_reads_no_text_says_so(name, given, says):
    with pytest.raises(ValueError, match=says):
        Prior.load(name, device="cpu", **given)


def test_another_autoencoder(model, tmp_path):
    net = families.taesd()
    net.save_pretrained(tmp_path / "taesd")
    x = randn(1, 3, 64, 64).clamp(-1, 1)
    for vae in (tmp_path / "taesd", str(tmp_path / "taesd"), net):
        prior = Prior.load(model("sdxl"), device="cpu", vae=vae)
        with torch.no_grad():
            assert worst(prior.encode(x), net.encode(x).latents) < TOLERANCE
        drawn = prior.encode(x, generator=torch.Generator().manual_seed(0))
        assert torch.equal(drawn, prior.encode(x))  # it has no spread to draw from
        assert prior.factor == 8 and prior.channels == 4
    prior = Prior.load(model("sdxl"), device="cpu", vae=model("sd15"))  # a whole model's own
    assert prior.vae.config.scaling_factor == 0.18215


@pytest.mark.parametrize("name", families.REFUSED)
def test_refused_by_configurations_alone(name, tmp_path):
    folder = families.build_refused(name, tmp_path / name)
    assert not list(folder.rglob("*.safetensors"))
    _, found, why = families.REFUSED[name]
    with pytest.raises(ValueError) as caught:
        Prior.load(folder, device="cpu")
    said = str(caught.value)
    assert found in said and why in said, said
    assert "what can: a UNet2DConditionModel" in said and "SDXL" in said


def test_networks_by_themselves(tmp_path):
    families.vae().save_pretrained(tmp_path / "vae")
    with pytest.raises(
        ValueError, match=r"an autoencoder \(AutoencoderKL\) by itself: pass it as vae="
    ):
        Prior.load(tmp_path / "vae", device="cpu")
    families.build_refused("pixels", tmp_path / "pixels")  # older ones lie at the top of the folder
    top = shutil.copytree(tmp_path / "pixels" / "unet", tmp_path / "top")
    with pytest.raises(ValueError, match="UNet2DModel.* cannot serve"):
        Prior.load(top, device="cpu")


def test_the_name_decides_nothing(model, tmp_path):
    "A folder by the name of another model is what its configurations say."
    folder = shutil.copytree(model("sd15"), tmp_path / "stable-diffusion-xl-base-1.0")
    assert recognise(Source(folder)).text == "clip"
    (folder / "model_index.json").unlink()
    assert recognise(Source(folder)).text == "clip"
    assert recognise(Source(model("sdxl"))).text == "sdxl"


def test_without_text_encoders(model, tmp_path):
    def stripped(name):
        folder = shutil.copytree(model(name), tmp_path / name)
        for part in ("text_encoder", "text_encoder_2"):
            shutil.rmtree(folder / part, ignore_errors=True)
        return folder

    with pytest.raises(ValueError, match=r"copy it and tokenizer/.*or pass the embedding"):
        Prior.load(stripped("sd15"), device="cpu")
    text = Prior.load(model("sd15"), device="cpu").conditions[0].text
    given = Prior.load(tmp_path / "sd15", device="cpu", text=text)
    assert torch.equal(given.conditions[0].text, text)
    with pytest.warns(UserWarning, match="zeros take the place of the null text"):
        prior = Prior.load(stripped("sdxl"), device="cpu")
    assert not prior.conditions[0].text.any()
    with (
        pytest.warns(UserWarning),
        pytest.raises(ValueError, match="prompt='a flower' cannot be read"),
    ):
        Prior.load(tmp_path / "sdxl", device="cpu", prompt="a flower")


def test_other_text_encoders_are_named(model, tmp_path):
    folder = shutil.copytree(model("sd15"), tmp_path / "m")
    path = folder / "text_encoder" / "config.json"
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"architectures": ["T5EncoderModel"]})
    )
    with pytest.raises(ValueError, match="its text_encoder is a T5EncoderModel"):
        Prior.load(folder, device="cpu")


def test_encoders_are_read_once_ever(model, tmp_path, monkeypatch, own_cache):
    folder = shutil.copytree(model("sdxl"), tmp_path / "m", copy_function=shutil.copy2)
    first = Prior.load(folder, device="cpu")
    assert len(list(own_cache.rglob("*.safetensors"))) == 1

    def forbidden(*args, **kwargs):
        raise AssertionError("a text encoder was read again")

    import transformers

    for cls in ("CLIPTextModel", "CLIPTextModelWithProjection", "CLIPTokenizer"):
        monkeypatch.setattr(getattr(transformers, cls), "from_pretrained", forbidden)
    again = Prior.load(folder, device="cpu").conditions[0]
    assert torch.equal(again.text, first.conditions[0].text)
    assert torch.equal(again.pooled, first.conditions[0].pooled)
    with pytest.raises(AssertionError):  # another text is another embedding
        Prior.load(folder, device="cpu", prompt="a flower")
    file = next(own_cache.rglob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:100])  # a cache that was cut off is asked again
    with pytest.raises(AssertionError):
        Prior.load(folder, device="cpu")


def test_other_weights_are_another_embedding(model, tmp_path):
    folder = shutil.copytree(model("sd15"), tmp_path / "m")
    before = Prior.load(folder, device="cpu").conditions[0].text
    other = families.text_encoder(32, layers=2)
    other.save_pretrained(folder / "text_encoder")
    assert worst(Prior.load(folder, device="cpu").conditions[0].text, before) > 1e-3


def test_float64_is_float64_everywhere(model):
    single = Prior.load(model("sdxl"), device="cpu")
    double = Prior.load(model("sdxl"), device="cpu", dtype=torch.float64)
    for net in (double.vae, double.unet):
        assert {p.dtype for p in net.parameters()} == {torch.float64}
    x = randn(1, 3, 64, 64).clamp(-1, 1).double()
    z = double.encode(x)
    assert z.dtype == torch.float64
    assert 0 < worst(single.encode(x), z) < 1e-4  # a float32 VAE would give zero
    assert 0 < worst(single.decode(z), double.decode(z)) < 1e-4


@pytest.mark.parametrize("dtype, vae", [(torch.float16, torch.float32), (torch.bfloat16,) * 2])
def test_half_precision(model, dtype, vae):
    """SDXL's own autoencoder overflows in float16 and stays in float32; the clip keeps its
    precision.
    """
    prior = Prior.load(model("sdxl"), device="cpu", dtype=dtype)
    assert prior.unet.dtype == dtype and prior.vae.dtype == vae
    z = randn(1, 4, 8, 8)
    full = Prior.load(model("sdxl"), device="cpu")
    for half, exact in ((prior.eps(z, 281), full.eps(z, 281)), (prior.decode(z), full.decode(z))):
        assert half.dtype == torch.float32 and worst(half, exact) < 0.2 * float(exact.std())
    assert prior.alpha_bar.dtype == torch.float64


def test_overflow_is_named(model):
    prior = Prior.load(model("sdxl"), device="cpu", dtype=torch.bfloat16)
    z = randn(1, 4, 8, 8)
    z[0, 0, 0, 0] = float("inf")
    with pytest.raises(
        FloatingPointError, match=r"eps at timestep 281 .*bfloat16.*sdxl-vae-fp16-fix"
    ):
        prior.eps(z, 281)
    with pytest.raises(FloatingPointError, match="decode returned"):
        prior.decode(z)
    with pytest.raises(FloatingPointError, match="encode returned"):
        prior.encode(torch.full((1, 3, 64, 64), float("nan")))


def test_the_solver_names_the_step(model, monkeypatch):
    from visionxl.operators.tasks import task
    from visionxl.solver import solve

    prior = Prior.load(model("sdxl"), device="cpu", dtype=torch.bfloat16)
    decode, calls = prior.vae.decode, []

    def overflows(z, *args, **kwargs):
        calls.append(1)
        return decode(z * float("inf") if len(calls) == 2 else z, *args, **kwargs)

    monkeypatch.setattr(prior.vae, "decode", overflows)
    A = task("sr", (1, 3, 64, 64))
    run = solve(torch.zeros(A.out_shape), A, prior, "paper")
    with pytest.raises(FloatingPointError, match="at t = 241: decode returned .*vae-fp16-fix"):
        list(run)
