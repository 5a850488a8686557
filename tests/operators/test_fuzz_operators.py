"""Operators, kernels, masks, windows and boundaries at random (fixed seeds): true adjoints, true
spectra, and spectral CG is CG.
"""

import random

import pytest
import torch
from steps.test_consistency import draw, off, same_as_plain

from visionxl.operators.fast.spectral import spectral_cg
from visionxl.operators.tasks import (
    BOUNDARIES,
    TASKS,
    AveragePool,
    Blur,
    Blur2d,
    FrameMix,
    Identity,
    Mask,
    TemporalMean,
    check_adjoint,
    check_spectrum,
    task,
)
from visionxl.steps.consistency import cg, data_consistency, proximal

TEMPORAL = (*BOUNDARIES, "valid")


def even(d, n):
    "A lopsided-looking but even kernel of 2 n + 1 taps, of either sign."
    half = [d.uniform(-0.3, 1) for _ in range(n)]
    return half + [1.0] + half[::-1]


def space(d, s):
    "Something that acts on each frame of shape `s`."
    T, C, H, W = s
    f = d.choice([f for f in range(1, 5) if H % f == 0 and W % f == 0])
    seed = d.randrange(1000)
    return d.choice(
        [
            lambda: Blur(s, (even(d, d.randrange(4)), even(d, d.randrange(9)))),
            lambda: Blur.gaussian(s, d.randrange(1, 40), d.uniform(0.3, 4)),
            lambda: Blur(
                s,
                ([d.uniform(-1, 1) for _ in range(d.randrange(1, 12))], [0.2, 0.5, 0.1, 0.4]),
                "circular",
            ),
            lambda: Blur.box(s, d.randrange(1, 9), d.choice(BOUNDARIES)),
            lambda: Blur2d(
                s, draw(d.randrange(1, 7), d.randrange(1, 9), seed=seed), d.choice(BOUNDARIES)
            ),
            lambda: AveragePool(s, f),
            lambda: Identity(s),
            lambda: Mask.random(s, d.random(), seed),
            lambda: Mask(s, draw(H, W, seed=seed)),
            lambda: Mask(s, draw(T, 1, H, W, seed=seed) > 0),
            lambda: d.uniform(-2, 2) * AveragePool(s, f),
        ]
    )()


def anything(seed):
    d = random.Random(seed)
    s = (d.choice([1, 2, 3, 5, 8, 11]), d.randrange(1, 3), d.randrange(1, 13), d.randrange(1, 15))
    if seed % 3 == 0:
        s = (*s[:2], 4 * d.randrange(1, 5), 4 * d.randrange(1, 5))
        return task(
            d.choice(TASKS),
            s,
            d.choice([1, 2, 4]),
            d.randrange(1, 22),
            d.uniform(0.4, 3),
            d.random(),
            d.randrange(1, s[0] + 1),
            seed,
            d.choice(("symmetric", "circular")),
            d.choice(("circular", "replicate", "symmetric", "valid")),
        )
    if seed % 3 == 1:
        return space(d, s)
    T = (
        FrameMix(s, draw(d.randrange(1, 7), s[0], seed=seed))
        if d.random() < 0.3
        else TemporalMean(s, d.randrange(1, s[0] + 1), d.choice(TEMPORAL))
    )
    return space(d, T.out_shape) @ T


@pytest.mark.parametrize("seed", range(90))
def test_anything(seed):
    A = anything(seed)
    truth, other = draw(*A.in_shape, seed=seed + 1), draw(*A.in_shape, seed=seed + 2)
    check_adjoint(A)
    y = A(truth)
    assert off(A(truth - 2 * other), y - 2 * A(other)) < 1e-10 or not y.any()
    vjp = torch.autograd.functional.vjp(A, truth, y)[1]
    assert torch.allclose(vjp, A.AT(y), atol=1e-11 * float(1 + vjp.abs().max()), rtol=0)
    if A.spectrum() is None:
        return
    check_spectrum(A)
    for start in (other, truth + 0.01 * other):
        for steps in (1, 2, 5, 10, 20):
            same_as_plain(A, y, start, steps)
        assert off(data_consistency(A, y, start, 5), spectral_cg(A, y, start, 5)[0]) < 1e-11
    for steps in (1, 20):  # nothing left to do
        assert (
            off(spectral_cg(A, y, truth, steps)[0], truth) < 1e-8
            and off(cg(A, y, truth, steps)[0], truth) < 1e-8
        )
        assert not spectral_cg(A, 0 * y, 0 * truth, steps)[0].any()
    noisy = y + draw(*A.out_shape, seed=seed + 3)
    for rho in (0.3, 1e-3):
        v = proximal(A, noisy, other, rho)
        assert float((A.AT(A(v) - noisy) + rho * (v - other)).norm()) < 1e-9 * float(
            A.AT(noisy).norm() + other.norm()
        )
        assert off(data_consistency(A, noisy, other, rho=rho), v) < 1e-12
