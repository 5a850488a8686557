"""What holds for every value and every step: values stay as they are, defaults are what is said."""

import importlib
import inspect
import pkgutil
from dataclasses import FrozenInstanceError, is_dataclass

import pytest
import torch

from visionxl import presets
from visionxl.prior.schedule import Schedule, make_schedule, scaled_linear
from visionxl.solver import prepare, solve
from visionxl.steps.inversion import FromNoise
from visionxl.steps.own import OwnStep, source_hash
from visionxl.steps.preset import Preset
from visionxl.steps.problem import Problem
from visionxl.steps.renoise import Renoise

CHANGING = {"Settings"}  # values that may change, by name
BY_IDENTITY = {"Schedule", "Problem"}  # they hold tensors: two are equal when they are one


def values():
    "Every dataclass of steps, extras, operators and priors."
    found = {}
    for folder in ("steps", "extras", "operators", "prior"):
        package = importlib.import_module(f"visionxl.{folder}")
        for each in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if each.name.endswith(".autoencoder"):  # imports diffusers
                continue
            for name, kind in vars(importlib.import_module(each.name)).items():
                if inspect.isclass(kind) and is_dataclass(kind) and kind.__module__ == each.name:
                    found[name] = kind
    return found


def test_values_do_not_change():
    found = values()
    assert len(found) > 30 and set(found) >= {"Schedule", "Problem", "AlongMotion"}
    for name, kind in found.items():
        made = object.__new__(kind)
        if name in CHANGING:
            continue
        with pytest.raises(FrozenInstanceError):
            made.anything = 1


def test_values_with_tensors_are_equal_when_they_are_one():
    a, b = (make_schedule(scaled_linear()) for _ in range(2))
    assert a == a and a != b and len({a, b}) == 2
    p, q = (Problem(torch.zeros(3), None, None, a) for _ in range(2))
    assert p == p and p != q and len({p, q}) == 2
    found = values()
    assert set(found) >= BY_IDENTITY and issubclass(found["Schedule"], Schedule)
    for name in BY_IDENTITY:
        assert found[name].__eq__ is object.__eq__
    assert Preset.__eq__ is not object.__eq__


def test_the_source_of_a_step_has_eight_characters():
    "Where there is no source its name counts: built-in functions, and objects that are called."
    from functools import partial

    found = [source_hash(f) for f in (len, max, partial(len), test_values_do_not_change)]
    assert all(len(h) == 8 and set(h) <= set("0123456789abcdef") for h in found)
    assert len(set(found)) == 4 and source_hash(len) == found[0]
    assert "len" in repr(OwnStep(len, "renoise"))


def test_solve_is_known_by_its_own_name():
    assert solve.__name__ == "solve" and solve.__module__ == "visionxl.solver"
    assert solve.__doc__.startswith("Restore a video")
    assert list(inspect.signature(solve).parameters)[:3] == ["y", "A", "prior"]


@pytest.mark.parametrize("name", ["seed", "sigma_y"])
def test_what_is_left_out_is_nought(name):
    for f in (solve, prepare):
        assert inspect.signature(f).parameters[name].default == 0


def test_a_bare_preset_is_the_papers():
    p = Preset()
    assert (p.route.steps, p.route.tau, p.route.tau_end) == (25, 0.3, 0)
    assert (p.consistency.steps, p.lowpass.lam, p.lowpass.kernel_size) == (10, 2, None)
    assert (p.renoise.eta, p.renoise.scale, p.start.steps) == (0.2, 1, None)
    bound = Problem(torch.zeros(1), None, None, make_schedule(scaled_linear()))
    assert (bound.sigma_y, bound.start_frames, bound.noise) == (0, 0, None)
    recipes = (presets.choose, presets.paper, presets.best, presets.fast)
    assert {inspect.signature(f).parameters["sigma_y"].default for f in recipes} == {0}


@pytest.mark.parametrize("eta, scale", [(0, 0), (1, 1), (0.5, 2)])
def test_shares_of_noise_that_can_be(eta, scale):
    assert (Renoise(eta, scale).eta, Renoise(eta, scale).scale) == (eta, scale)
    for wrong in (-0.01, 1.01, float("nan")):
        with pytest.raises(ValueError, match="renoise.eta"):
            Renoise(wrong)
    for wrong in (-0.01, 2.01):
        with pytest.raises(ValueError, match="renoise.scale"):
            Renoise(eta, wrong)


def test_a_start_from_noise_encodes_no_frame():
    assert FromNoise().frames(7) == 0 and FromNoise().guess(None) is None
    assert Preset().start.frames(7) >= 1
