"""The ablation goes from `paper` to `best` and nowhere else, and counts what the network does."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "bench"))
import ablation  # noqa: E402

from visionxl.operators.tasks import TASKS, task  # noqa: E402
from visionxl.presets import choose, paper  # noqa: E402
from visionxl.prior.latent import Prior  # noqa: E402
from visionxl.solver import solve  # noqa: E402


@pytest.mark.parametrize("prior", ["white", "tiny"])
@pytest.mark.parametrize("name", TASKS)
def test_all_changes_make_best_and_none_makes_paper(name, prior):
    "Each change alone differs from both, is a preset that holds, and so does its opposite."
    every, ours = frozenset(ablation.CHANGES), choose("best", name, prior=prior)
    assert ablation.changed(name, every, prior) == ours
    assert ablation.changed(name, frozenset(), prior) == paper(name)
    for c in ablation.changes_of(name, prior):
        for some in (frozenset([c]), every - {c}):
            assert ablation.changed(name, some, prior) not in (ours, paper(name))


def test_a_change_that_changes_nothing_is_no_row():
    "`best` inverts with `tiny`, without mirrors; with `white` every choice is another."
    for name in ("sr", "deblur", "inpaint"):
        assert not {"no inversion", "mirrored frames"} & set(ablation.changes_of(name, "tiny"))
        assert set(ablation.changes_of(name, "white")) == set(ablation.CHANGES)
    rows = {line.label for line in ablation.lines_of({"diffusion": "tiny"}, "inpaint")}
    assert "best - route" in rows and "best - no inversion" not in rows


class Counted:
    "A prior that counts the frames that its network looks at."

    def __init__(self, prior):
        self.prior, self.count = prior, 0

    def __getattr__(self, name):
        return getattr(self.prior, name)

    def eps(self, z, t):
        self.count += len(z)
        return self.prior.eps(z, t)


@pytest.mark.parametrize("changes", [frozenset(), frozenset(ablation.CHANGES)])
@pytest.mark.parametrize("kind", ["deblur", "sr", "inpaint"])
@pytest.mark.parametrize("name", ["white", "tiny"])
def test_evaluations_are_those_that_happen(changes, name, kind):
    "The column says what a run does, for each frame."
    prior = Counted(Prior.load(name))
    x = torch.rand(2, 3, 32, 48) * 2 - 1
    A = task(kind, tuple(x.shape))
    for _ in solve(A(x), A, prior, ablation.changed(kind, changes, prior)):
        pass
    line = ablation.Line("group", "label", "method", changes=changes)
    assert prior.count == 2 * ablation.evaluations(line, kind, prior)


def test_a_matched_denoiser_sees_the_noise_levels_in_pixels():
    "It takes Gaussian noise of the level off again, and its levels are the prior's times the gain."
    alpha_bar = torch.tensor([0.99, 0.5], dtype=torch.float64)
    seen = []

    def denoise(x, sigma):
        seen.append(sigma)
        return x * 0

    prior = ablation.Matched(denoise, alpha_bar, 1, 0.5)
    noise = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    a = float(prior.alpha_bar[1])
    found = prior.eps((1 - a) ** 0.5 * noise, 1)
    assert seen == [pytest.approx(0.5)]
    assert (found - noise).abs().max() < 1e-5


def test_the_share_is_the_paired_gap():
    "Mean and standard error are those of the differences, clip by clip."
    row = {"each": {"a": {"PSNR": 3.0}, "b": {"PSNR": 5.0}}}
    other = {"each": {"a": {"PSNR": 2.0}, "b": {"PSNR": 2.0}}}
    assert ablation.gap(row, other) == (pytest.approx(2.0), pytest.approx(1.0))
