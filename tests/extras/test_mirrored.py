"""`Mirrored` where frames are padded, tiled, alone, with workers, or in another precision."""

import pytest
import torch

from visionxl import Prior, solve, task, video
from visionxl.app.tiles import PaddedPrior, TiledPrior
from visionxl.extras.mirrored import SIDES, Mirrored, MirroredPrior
from visionxl.scale.pool import Pool
from visionxl.steps.problem import Batched


@pytest.fixture(scope="module")
def white():
    return Prior.load("white", device="cpu")


def clip(frames, h, w):
    "Some frames of a sample, of a size."
    return video.sample("flower").x[:frames, :, :h, :w].contiguous()


def last(prior, x, **parts):
    "What `best` makes of sr."
    A = task("sr", x.shape)
    *_, state = solve(A(x), A, prior, "best", **parts)
    return state.x


def test_frames_come_back_as_they_were(white):
    there, z = MirroredPrior(white), white.encode(clip(5, 32, 48))
    for share in (0.0, 0.3, 1.0):
        torch.testing.assert_close(there.turned(there.turned(z, share), share), z)


def test_a_mirror_of_latents_is_one_of_the_frames(white):
    there, x = MirroredPrior(white), clip(8, 32, 48)
    seen = white.decode(there.turned(white.encode(x), 1.0))
    for i, frame in enumerate(seen):
        torch.testing.assert_close(frame, x[i].flip(SIDES[i % 4] or ()), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "around", [lambda p: PaddedPrior(p, (30, 45)), lambda p: TiledPrior(p, 128)]
)
def test_what_pads_or_tiles_has_the_same_mirrors(white, around):
    for mine, bare in zip(MirroredPrior(around(white)).mirrors, MirroredPrior(white).mirrors):
        assert (mine is None) == (bare is None)
        for a, b in zip(mine[1:] if mine else (), bare[1:] if bare else ()):
            assert torch.equal(a, b)


def test_one_frame_is_not_mirrored(white):
    x = clip(1, 32, 48)
    assert torch.equal(last(white, x), last(white, x, networks=Batched()))


def test_two_workers_give_the_bits_of_one(white):
    x = clip(6, 32, 48)
    with Pool(white, devices=("cpu", "cpu")) as pool:
        assert torch.equal(last(pool, x), last(white, x))


def test_the_precision_of_latents_stays(white):
    z = white.encode(clip(4, 32, 48)).double()
    out = MirroredPrior(white).turned(z, 1.0)
    assert out.dtype == torch.float64
    torch.testing.assert_close(out[0], z[0])


def test_other_latents_are_refused():
    x = clip(4, 32, 48)
    with pytest.raises(ValueError, match="networks=Mirrored.*prior='white'"):
        last(Prior.load("tiny", device="cpu"), x, networks=Mirrored())
