"""The released code's recorded numbers, reproduced twice: by a plain transcription, and by the preset `official`."""
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "bench"))
import as_released  # noqa: E402

FILES = {"deblur": "deblur", "deblur+": "plus_deblur", "sr": "sr", "inpaint": "inpainting", "inpaint+": "plus_inpainting"}


@pytest.fixture(scope="module")
def golden(data):
    if not (data / "golden" / "tiny_sdxl").is_dir(): pytest.skip(f"no golden/tiny_sdxl under {data}: set VISIONXL_DATA")
    return data / "golden"


@pytest.fixture(scope="module")
def inputs(golden): return load_file(golden / "inputs.safetensors")


def largest(seen: dict, want: dict) -> dict:
    "The largest absolute difference of each recorded quantity."
    return {k: float((seen[k] - want[k]).abs().max()) for k in ("z_tau", "z", "x0_first", "output")}


@pytest.mark.parametrize("task", FILES)
def test_transcription(golden, inputs, task):
    want = load_file(golden / f"{FILES[task]}.safetensors")
    h, w = inputs["video"].shape[-2:]
    nets = as_released.Nets.load(golden / "tiny_sdxl", inputs["prompt_embeds"], inputs["pooled_prompt_embeds"], (1024, 1024, 0, 0, h, w))
    y = as_released.measure(inputs["video"], task, want.get("mask"))
    assert (y - want["measurement"]).abs().max() < 1e-5
    seen = as_released.restore(y, task, nets, want["renoise_noise"], want.get("mask"))
    worst = largest(seen, want)
    assert max(worst.values()) < 1e-4, worst
    print(task, worst)
