"""Models from the hub: what is fetched and when, what serves offline, what broken downloads say."""

import json
import shutil
from pathlib import Path

import huggingface_hub.constants as constants
import pytest
import torch
from prior import families, hub_server

from visionxl.prior.latent import Prior
from visionxl.prior.models.hub import complete, from_hub
from visionxl.prior.models.model_files import is_whole, missing_files, weight_files

NAME = "owner/model"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    "A hub with an SDXL, which holds what nobody here needs, too."
    with hub_server.running(monkeypatch, tmp_path / "cache-of-the-hub") as found:
        yield found


@pytest.fixture
def published(model, tmp_path):
    "An SDXL folder as on the hub: two precisions, pickles, other formats."
    folder = shutil.copytree(model("sdxl"), tmp_path / "published")
    for path in list(folder.rglob("*.safetensors")):
        half = {k: v.half() for k, v in _load(path).items()}
        _save(half, path.with_name(path.name.replace(".safetensors", ".fp16.safetensors")))
        path.with_suffix(".bin").write_bytes(b"a pickle")
    (folder / "README.md").write_text("# a card")
    (folder / "unet" / "model.onnx").write_bytes(b"another format")
    return folder


def _load(path):
    from safetensors.torch import load_file

    return load_file(path)


def _save(tensors, path):
    from safetensors.torch import save_file

    save_file(tensors, path, metadata={"format": "pt"})


def kinds(names):
    return sorted({Path(n).suffix for n in names})


def offline(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def test_configurations_come_first_and_half_precision_is_enough(hub, published):
    hub.repos[NAME] = published
    prior = Prior.load(NAME, device="cpu")
    seen = hub.take()
    first = next(i for i, n in enumerate(seen) if n.endswith(".safetensors"))
    assert set(kinds(seen[:first])) <= {".json", ".txt"}
    weights = [n for n in seen if n.endswith(".safetensors")]
    assert len(weights) == 4 and all(".fp16." in n for n in weights), weights
    assert not {".bin", ".onnx", ".md"} & set(kinds(seen))
    same = Prior.load(published, device="cpu")
    assert torch.equal(prior.conditions[0].text, same.conditions[0].text)
    z = torch.randn(1, 4, 8, 8)
    assert torch.equal(prior.eps(z, 281), same.eps(z, 281))
    Prior.load(NAME, device="cpu")
    assert hub.take() == []  # the second time asks nothing


@pytest.mark.parametrize("name", families.REFUSED)
def test_nothing_is_downloaded_of_what_cannot_serve(hub, name, tmp_path):
    hub.repos[NAME] = families.build_refused(name, tmp_path / name, weights=True)
    with pytest.raises(ValueError, match=families.REFUSED[name][2]):
        Prior.load(NAME, device="cpu")
    assert kinds(hub.take()) == [".json"]


def test_offline_from_a_cache_that_a_download_made(hub, published, monkeypatch):
    hub.repos[NAME] = published
    Prior.load(NAME, device="cpu")
    hub.take()
    offline(monkeypatch)
    Prior.load(NAME, device="cpu")
    assert hub.take() == []


def by_hand(cache: Path, folder: Path, listing=True, leave=lambda name: False) -> Path:
    "The layout of huggingface_hub 2.4: refs, blobs, snapshots of links, and a list of all files."
    root = cache / "models--owner--model"
    snapshot = root / "snapshots" / hub_server.COMMIT
    names = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    for name, path in names.items():
        if leave(name):
            continue
        blob = root / "blobs" / f"{abs(hash(name)):x}"
        blob.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, blob)
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(blob)
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(hub_server.COMMIT)
    if listing:
        (root / "trees").mkdir()
        tree = {n: {"size": p.stat().st_size, "blob_id": "0" * 40} for n, p in names.items()}
        text = json.dumps({"format_version": 1, "files": tree})
        (root / "trees" / f"{hub_server.COMMIT}.json").write_text(text)
    return snapshot


@pytest.mark.parametrize("listing", [True, False], ids=["listing", "no listing"])
@pytest.mark.parametrize("precision", ["fp16", "full"])
def test_a_cache_made_by_hand_serves_offline(hub, published, monkeypatch, listing, precision):
    "Only what is needed is there: the client calls that incomplete, and it is not."

    def leave(name):
        other = (".fp16." in name) == (precision == "full") and name.endswith(".safetensors")
        return other or name.endswith((".bin", ".onnx", ".md"))

    by_hand(hub.cache, published, listing, leave)
    offline(monkeypatch)
    prior = Prior.load(NAME, device="cpu")
    assert prior.conditions[0].text.any() and hub.take() == []


LOST = [
    "unet/diffusion_pytorch_model.fp16.safetensors",
    "vae/diffusion_pytorch_model.fp16.safetensors",
    "text_encoder/model.fp16.safetensors",
    "text_encoder_2/model.fp16.safetensors",
    "tokenizer/vocab.json",
    "scheduler/scheduler_config.json",
    "unet/config.json",
]


def named(lost):
    "Older clients keep no list of a repository's files: then the plain name stands for it."
    return lost.replace(".fp16", "(.fp16)?")


@pytest.mark.parametrize("lost", LOST)
def test_what_is_missing_is_named_and_completed(hub, published, monkeypatch, lost):
    def leave(name):
        precise = name.endswith(".safetensors") and ".fp16." not in name
        words = lost.endswith("vocab.json") and name == "tokenizer/tokenizer.json"
        return name == lost or precise or words or name.endswith((".bin", ".onnx", ".md"))

    by_hand(hub.cache, published, leave=leave)
    with monkeypatch.context() as patch:
        offline(patch)
        with pytest.raises(
            FileNotFoundError, match=rf"incomplete: these files are missing: .*{named(lost)}"
        ):
            Prior.load(NAME, device="cpu")
    hub.repos[NAME] = published
    Prior.load(NAME, device="cpu")
    fetched = hub.take()
    assert f"{NAME}/{lost}" in fetched, "the missing file was not fetched"
    assert sum(n.endswith(".safetensors") for n in fetched) == lost.endswith(".safetensors")


def test_a_file_that_was_cut_off_is_found_out_and_fetched_again(hub, published, monkeypatch):
    hub.repos[NAME] = published
    Prior.load(NAME, device="cpu")
    hub.take()
    broken = hub.snapshot(NAME) / LOST[0]
    real = broken.resolve()
    real.write_bytes(real.read_bytes()[:-100])
    with monkeypatch.context() as patch:
        offline(patch)
        patch.setattr(hub, "repos", {})  # an older client has made its connection already
        with pytest.raises(FileNotFoundError, match=f"files are missing: {named(LOST[0])}"):
            Prior.load(NAME, device="cpu")
    Prior.load(NAME, device="cpu")
    assert [n for n in hub.take() if n.endswith(".safetensors")] == [f"{NAME}/{LOST[0]}"]
    assert is_whole(broken)


def test_text_encoders_are_not_fetched_for_a_known_null_text(hub, published):
    hub.repos[NAME] = published
    Prior.load(NAME, device="cpu")
    shutil.rmtree(hub.cache)
    hub.take()
    prior = Prior.load(NAME, device="cpu")
    assert not [n for n in hub.take() if "text_encoder" in n and n.endswith(".safetensors")]
    assert prior.conditions[0].text.any()


def test_another_autoencoder_from_the_hub(hub, published, tmp_path):
    hub.repos[NAME] = published
    hub.repos["owner/taesdxl"] = tmp_path / "taesd"
    families.taesd().save_pretrained(tmp_path / "taesd")
    prior = Prior.load(NAME, device="cpu", vae="owner/taesdxl")
    assert type(prior.vae).__name__ == "AutoencoderTiny"
    assert not [n for n in hub.take() if f"{NAME}/vae" in n and n.endswith(".safetensors")]


def test_the_alias_is_two_models(hub, published, tmp_path):
    from diffusers import AutoencoderKL

    hub.repos["stabilityai/stable-diffusion-xl-base-1.0"] = published
    hub.repos["madebyollin/sdxl-vae-fp16-fix"] = tmp_path / "vae"
    other = families.vae(scaling_factor=0.13025, force_upcast=False)
    other.save_pretrained(tmp_path / "vae")
    assert isinstance(other, AutoencoderKL)
    for name in ("sdxl", "stabilityai/stable-diffusion-xl-base-1.0"):
        prior = Prior.load(name, device="cpu", dtype=torch.float16)
        assert prior.vae.dtype == torch.float16 and not prior.vae.config.force_upcast
    assert Prior.load(name, device="cpu").vae.config.force_upcast  # float32 needs no other one


def test_without_the_repaired_autoencoder_its_own_stays_in_float32(hub, published):
    base = "stabilityai/stable-diffusion-xl-base-1.0"
    hub.repos[base] = published
    prior = Prior.load(base, device="cpu", dtype=torch.float16)
    assert prior.vae.dtype == torch.float32 and prior.unet.dtype == torch.float16


def test_errors_of_the_hub_have_remedies(hub, published):
    hub.gated.add("owner/gated")
    for name, words in (("owner/gated", "accept its licence at"), ("owner/none", "check the name")):
        with pytest.raises(FileNotFoundError, match=words):
            Prior.load(name, device="cpu")


def test_pickles_are_not_fetched(hub, published):
    for path in published.rglob("*.safetensors"):
        path.unlink()
    hub.repos[NAME] = published
    with pytest.raises(FileNotFoundError, match="pickles .* are not read.*safe_serialization=True"):
        Prior.load(NAME, device="cpu")
    assert ".bin" not in kinds(hub.take())
    with pytest.raises(FileNotFoundError, match="pickles .* are not read"):
        Prior.load(published, device="cpu")


def test_shards(hub, model, tmp_path):
    from diffusers import UNet2DConditionModel

    folder = shutil.copytree(model("sd15"), tmp_path / "sharded")
    net = UNet2DConditionModel.from_pretrained(folder, subfolder="unet")
    shutil.rmtree(folder / "unet")
    net.save_pretrained(folder / "unet", max_shard_size="300KB")
    parts = sorted(p.name for p in (folder / "unet").glob("*.safetensors"))
    assert len(parts) > 2 and weight_files(parts[1:], "unet")[:-1] == parts
    hub.repos[NAME] = folder
    prior = Prior.load(NAME, device="cpu")
    z = torch.randn(1, 4, 8, 8)
    whole = Prior.load(model("sd15"), device="cpu")
    assert float((prior.eps(z, 1) - whole.eps(z, 1)).abs().max()) < 1e-5
    source = from_hub(NAME)
    (source.folder / "unet" / parts[1]).unlink()
    assert missing_files(source.folder, ["unet"]) == [f"unet/{parts[1]}"]
    complete(source, ["unet"])
    assert missing_files(source.folder, ["unet"]) == []


@pytest.mark.parametrize(
    "name, words",
    [
        ("https://huggingface.co/owner/model", "pass the hub id 'owner/model'"),
        ("https://example.org/model.safetensors", "is a URL: download it"),
        ("model.ckpt", "is a pickle"),
    ],
)
def test_names_that_are_no_models(name, words):
    with pytest.raises(ValueError, match=words):
        Prior.load(name, device="cpu")
