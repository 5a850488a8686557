"""The schedule against the released code's own indexing, for every number of steps."""

from dataclasses import FrozenInstanceError

import as_released
import pytest
import torch

from visionxl.prior.schedule import ddim_step, make_schedule, scaled_linear


class Nets:
    "What `as_released.invert` asks of networks, with a formula in their place."

    alphas_cumprod = scaled_linear()

    def encode(self, x):
        return x

    def eps(self, z, t):
        return torch.sin(z + 0.01 * t)


@pytest.mark.parametrize("steps", [1, 25, 50, 333, 500, 501, 600, 1000])
def test_inversion_as_released(steps):
    "Above 500 steps that code starts from a row of its own, where alpha is 1: a real step."
    nets, first = Nets(), torch.linspace(-1, 1, 6, dtype=torch.float64).view(1, 1, 2, 3)
    want = as_released.invert(first, nets, steps, time=60)
    schedule = make_schedule(nets.alphas_cumprod, steps, tau=0.06, indexing="released")
    z = first
    for t, s in schedule.inversion:
        z = ddim_step(z, nets.eps(z, schedule.inversion_at(t, s)), schedule.a(t), schedule.a(s))
    assert float((z - want).abs().max()) < 1e-6  # that code keeps its 1 in float32
    assert len(schedule.inversion) == len(range(1, 61, 1000 // steps))


def test_the_first_step_of_many_counts():
    "Standing still there, as with fewer steps, would be another latent by 2.8e-2."
    fine = make_schedule(scaled_linear(), 600, indexing="released")
    assert fine.inversion[0] == (0, 1) and fine.a(0) == 1
    assert make_schedule(scaled_linear(), 500, indexing="released").inversion[0] == (1, 1)
    z = torch.ones(1, dtype=torch.float64)
    moved = ddim_step(z, -z, fine.a(0), fine.a(1)) - ddim_step(z, -z, fine.a(1), fine.a(1))
    assert abs(float(moved)) > 2.5e-2


@pytest.mark.parametrize(
    "asked, said",
    [
        ({"tau": 0}, "tau=0 is a fraction of the whole way"),
        ({"tau": -0.5}, "tau=-0.5 is a fraction of the whole way"),
        ({"tau": 1.01}, "tau=1.01 is a fraction of the whole way"),
        ({"tau": 0.0005}, "choose at least 0.001"),
        ({"steps": 0}, "steps=0 must lie between 1 and 1000"),
        ({"steps": 1001}, "steps=1001 must lie between 1 and 1000"),
        ({"inversion_steps": 0}, "inversion_steps=0 must be at least 1"),
        ({"indexing": "mine"}, "choose one of"),
        ({"tau_end": 0.29}, r"leaves no timestep of .*: choose at most 0.281"),
    ],
)
def test_what_cannot_be_laid(asked, said):
    with pytest.raises(ValueError, match=said):
        make_schedule(scaled_linear(), **asked)


def test_the_ends_of_what_can_be_laid():
    table = scaled_linear()
    assert make_schedule(table, tau=1).sampling[0] == 961
    assert make_schedule(table, tau=0.001).sampling == (1,)
    assert make_schedule(table, steps=1000, tau=0.003).sampling == (3, 2, 1)
    assert make_schedule(table, tau_end=0.1).sampling == (281, 241, 201, 161, 121)
    assert make_schedule(table, inversion_steps=1).inversion == ((1, 281),)
    assert len(make_schedule(table, inversion_steps=3).inversion) == 3
    paper, released = (make_schedule(table, indexing=name) for name in ("paper", "released"))
    assert released.a(0) == 1 and released.a(1) == float(table[0]) == paper.a(0)
    for schedule, t in ((paper, -1), (paper, 1000), (released, -1), (released, 1001)):
        with pytest.raises(IndexError, match=f"timestep {t} is not in the table"):
            schedule.a(t)
    assert paper.steps[-1] == (1, None) and paper.steps[0] == (281, 241)
    assert paper.inversion_at(1, 41) == 1 and released.inversion_at(1, 41) == 41


def test_a_schedule_is_a_value():
    schedule = make_schedule(scaled_linear())
    with pytest.raises(FrozenInstanceError):
        schedule.tau = 0.5
