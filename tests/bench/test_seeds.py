"The error of several seeds is what they draw, and what stays."

from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


def test_the_two_parts_of_an_error(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import seeds

    noise = torch.Generator().manual_seed(0)
    clean = torch.rand(2, 3, 16, 16, generator=noise)
    drawn = 0.1 * torch.randn(40, 2, 3, 16, 16, generator=noise)
    found = seeds.split(clean + 0.2 + drawn, clean)
    assert found["drawn"] == pytest.approx(0.01, rel=0.05)
    assert found["stays"] == pytest.approx(0.04, rel=0.05)
    assert found["error"] == pytest.approx(found["drawn"] + found["stays"])
    rows = [{"method": "m", "clip": "a", "measured": 0.045} | found]
    kept = {"task": "sr", "size": 64, "frames": 5, "seeds": 40, "prior": "tiny", "rows": rows}
    said = seeds.page(kept)
    assert "behind on 1 of 1 clips, on 1 of them by less than it draws" in said


def test_a_filter_is_added_by_name(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    import seeds

    from visionxl.compare.rivals import svi, svi_latent

    assert seeds.preset_of("svi", "sr") == svi("sr")
    assert seeds.preset_of("svi + filter", "sr") == svi_latent("sr")
