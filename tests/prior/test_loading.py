"""A whole model in one file gives the numbers of the folder that it was made of."""

import shutil

import huggingface_hub.constants as constants
import pytest
import torch
from prior import checkpoint, families, hub_server
from safetensors.torch import load_file, save_file

from visionxl.prior.latent import Prior
from visionxl.prior.models.loading import locate
from visionxl.prior.models.single_file import FILE_TYPES, file_type

KINDS = {"sd15": "v1", "sdxl-deep": "xl_base"}


@pytest.fixture(scope="module", params=KINDS)
def made(request, tmp_path_factory):
    "A folder and the same model as one file."
    root = tmp_path_factory.mktemp("single")
    folder = families.build(request.param, root / "folder")
    file = checkpoint.single_file(folder, root / "model.safetensors")
    bare = shutil.copytree(folder, root / "bare", ignore=shutil.ignore_patterns("*.safetensors"))
    return request.param, folder, file, bare


def same(a: Prior, b: Prior):
    z = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    x = z.repeat(1, 1, 8, 8)[:, :3].clamp(-1, 1)
    mine, other = a.conditions[0], b.conditions[0]
    assert (mine.text - other.text).abs().max() < 1e-5
    if other.pooled is not None:
        assert (mine.pooled - other.pooled).abs().max() < 1e-5
    for call in (lambda p: p.eps(z, 281), lambda p: p.decode(z), lambda p: p.encode(x)):
        assert (call(a) - call(b)).abs().max() < 1e-5
    assert torch.equal(a.alpha_bar, b.alpha_bar)


def test_file_with_configurations(made):
    name, folder, file, bare = made
    assert file_type(file) == KINDS[name]
    same(Prior.load(file, device="cpu", config=bare), Prior.load(folder, device="cpu"))
    same(Prior.load(str(file), device="cpu", config=str(bare)), Prior.load(folder, device="cpu"))
    beside = shutil.copytree(bare, file.with_suffix(""))
    assert locate(file).folder == beside
    shutil.rmtree(beside)


def test_file_with_the_configurations_of_the_hub(made, monkeypatch, tmp_path):
    name, folder, file, bare = made
    with hub_server.running(monkeypatch, tmp_path / "cache-of-the-hub") as hub:
        hub.repos[FILE_TYPES[KINDS[name]]] = folder
        same(Prior.load(file, device="cpu"), Prior.load(folder, device="cpu"))
        assert not [n for n in hub.take() if n.endswith(".safetensors")]
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        Prior.load(file, device="cpu")
        assert hub.take() == []
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    with pytest.raises(FileNotFoundError, match="holds no configurations.*or pass config=FOLDER"):
        Prior.load(file, device="cpu")


def test_other_files_are_refused(made, tmp_path):
    name, folder, file, bare = made
    state = load_file(file)
    vae = {k: v for k, v in state.items() if k.startswith("first_stage_model.")}
    save_file(vae, tmp_path / "vae.safetensors")
    with pytest.raises(ValueError, match=r"no tensors model.diffusion_model.\*"):
        locate(tmp_path / "vae.safetensors")
    wide = "model.diffusion_model.input_blocks.0.0.weight"
    state[wide] = torch.zeros(32, 9, 3, 3)
    save_file(state, tmp_path / "inpainting.safetensors")
    with pytest.raises(ValueError, match="is a '.*inpaint.*' model"):
        locate(tmp_path / "inpainting.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(ValueError, match="is cut off"):
        locate(tmp_path / "cut.safetensors")
    refiner = families.build_refused("refiner", tmp_path / "refiner")
    with pytest.raises(ValueError, match="refiner"):
        Prior.load(file, device="cpu", config=refiner)
