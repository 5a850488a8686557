"Large frames: networks see tiles, and the result is that of whole frames."

import pytest
import torch
from app.exact import Gaussian

from visionxl import restore, video
from visionxl.app.cli.main import main
from visionxl.app.files.restore_file import restore_file
from visionxl.app.tiles import TiledPrior

pytestmark = pytest.mark.usefixtures("no_weights")

FEW = {"route.steps": 3, "consistency.steps": 2}


@pytest.mark.parametrize("name, factor", [("sr", 2), ("deblur", None)])
def test_any_number_of_tiles_gives_whole_frames(name, factor):
    "A local prior gives the same up to rounding, for operators that mix pixels too."
    y = video.fit(video.sample("tears", 2).x, 104, 152)
    sizes = {"factor": factor} if factor else {}
    what = {"preset": "paper", "changes": FEW, "progress": False, **sizes}
    whole = restore(y, name, **what).x
    for tile in (128, 136, 150):
        assert (restore(y, name, **what, tile=tile).x - whole).abs().max() < 1e-4
    assert torch.equal(restore(y, name, **what, tile=400).x, whole)


def test_tiles_by_the_command_line(tmp_path, capsys, monkeypatch):
    seen = []
    eps = Gaussian.eps
    monkeypatch.setattr(Gaussian, "eps", lambda self, z, t: seen.append(z.shape) or eps(self, z, t))
    x = video.fit(video.sample("tears", 2).x, 96, 160)
    video.write(tmp_path / "y.mkv", x, 24)
    line = ["restore", tmp_path / "y.mkv", "-o", tmp_path / "x.mkv", "--task", "sr", "--factor", 2]
    line += ["--preset", "paper", "--set", "route.steps=2", "--quiet", "--tile"]
    assert main([str(word) for word in [*line, 128]]) == 0
    assert {s[-2:] for s in seen} == {(32, 32)}
    assert main([str(word) for word in [*line, 60, "--overwrite"]]) == 1
    assert "tile=60 is too small" in capsys.readouterr().err


def test_a_run_with_other_tiles_is_another_run(tmp_path):
    x = video.fit(video.sample("tears", 2).x, 96, 160)
    video.write(tmp_path / "y.mkv", x, 24)
    options = {"preset": "paper", "changes": FEW, "progress": False}
    keys = {
        restore_file(
            tmp_path / "y.mkv", tmp_path / "x.mkv", "deblur", overwrite=True, **options, tile=tile
        ).plan.settings.key()
        for tile in (None, 128)
    }
    assert len(keys) == 2
    assert TiledPrior(Gaussian(), 128).latent_shape(96, 160) == (48, 24, 40)
