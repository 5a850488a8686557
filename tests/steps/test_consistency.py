"""Spectral CG is CG: the same iterate, in any dtype, from any start, and where CG is undefined."""

import math

import pytest
import torch

from visionxl.operators.fast.diagonal import Diagonal, without_small_gains
from visionxl.operators.fast.polynomial import (
    CGPolynomial,
    History,
    merge_eigenvalues,
    scalar_cg,
    two_point_rule,
)
from visionxl.operators.fast.spectral import cut_changes_nothing, guess_cut, spectral_cg
from visionxl.operators.tasks import (
    TASKS,
    AveragePool,
    Blur,
    Blur2d,
    FrameMix,
    Identity,
    LinearOperator,
    Mask,
    TemporalMean,
    task,
)
from visionxl.steps.consistency import cg, data_consistency, proximal


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def off(a, b):
    return float((a - b).norm() / b.norm())


TEMPORAL = ("circular", "replicate", "symmetric", "valid")
SHAPE = (5, 2, 16, 20)
CASES = [
    task(n, SHAPE, kernel_size=15, sigma=1.5, window=3, temporal=b)
    for n in TASKS
    for b in (TEMPORAL if n.endswith("+") else TEMPORAL[:1])
]
CASES += [
    Blur(SHAPE, ((0.1, 0.5, 0.2), (0.3, 0.3, 0.1, 0.2)), "circular"),
    Blur2d(SHAPE, draw(3, 5).abs() / 12, "circular") @ TemporalMean(SHAPE, 2, "replicate"),
    Mask(SHAPE, draw(16, 20)),
    Mask(SHAPE, draw(5, 1, 16, 20) > 0),
    FrameMix(SHAPE, draw(3, 5)),
    Identity(SHAPE),
    3 * AveragePool(SHAPE, 2),
    Mask.random((5, 2, 8, 10)) @ AveragePool(SHAPE, 2),
    AveragePool(SHAPE, 2).T @ AveragePool(SHAPE, 2),
    AveragePool(SHAPE, 2).T,
    task("sr", (1, 1, 4, 8)),
    task("deblur", (1, 1, 5, 7), kernel_size=3, sigma=0.6),
    task("inpaint+", (3, 1, 5, 7), window=9),
]
each = pytest.mark.parametrize("A", CASES, ids=lambda A: f"{A.name or ''} {A!r}"[:70])


class Rounded(LinearOperator):
    """The same operator, its products off by a few units in the last place, as sums of a few dozen
    terms are.
    """

    def __init__(self, A, seed):
        self.A, self.in_shape, self.out_shape, self.seed = A, A.in_shape, A.out_shape, seed

    def __call__(self, x):
        return self.A(x) * (1 + 8.9e-16 * draw(*self.out_shape, seed=self.seed).sign())

    def AT(self, y):
        return self.A.AT(y) * (1 + 8.9e-16 * draw(*self.in_shape, seed=self.seed + 1).sign())


def reproducible(A, y, x, steps):
    """How far plain CG moves when its products are rounded otherwise: no other algorithm can be
    nearer to it than that.
    """
    want = cg(A, y, x, steps)[0]
    return max(off(cg(Rounded(A, s), y, x, steps)[0], want) for s in (9, 11, 13))


def exactly(A, y, x, steps):
    "The same steps in 60 digits, for the eigenvalues and energies that the start has in float64."
    from mpmath import mp

    s = A.spectrum()
    r0 = s.forward(A.AT(y - A(x)))
    g = s.values.expand(r0.shape).flatten()
    level, index = (g / g.max()).round(decimals=11).unique(return_inverse=True)

    def sums(v):
        return torch.zeros(len(level), dtype=torch.float64).index_add_(0, index, v)

    with mp.workdps(60):
        nodes, w = (
            [mp.mpf(float(v)) for v in vs]
            for vs in (sums(g) / sums(torch.ones_like(g)), sums(r0.abs().square().flatten()))
        )
        q, r, d = [mp.mpf(0)] * len(w), [mp.mpf(1)] * len(w), [mp.mpf(1)] * len(w)

        def energy():
            return sum(a * b * b for a, b in zip(w, r))

        rr = first = energy()
        for _ in range(steps):
            curvature = sum(a * b * c * c for a, b, c in zip(w, nodes, d))
            if rr < 1e-30 * first or curvature == 0:
                break
            alpha = rr / curvature
            q, r, before = (
                [a + alpha * b for a, b in zip(q, d)],
                [a - alpha * b * c for a, b, c in zip(r, nodes, d)],
                rr,
            )
            rr = energy()
            d = [a + rr / before * b for a, b in zip(r, d)]
        p = torch.tensor([float(v) for v in q], dtype=torch.float64)[index].reshape(r0.shape)
    return x + s.inverse(torch.where(s.values > 0, r0 * p, 0 * r0))


def same_as_plain(A, y, x, steps):
    """To 1e-6; where plain CG does not keep six digits itself, as near to the exact iterate as it
    may come after other roundings.
    """
    plain, ours = cg(A, y, x, steps)[0], spectral_cg(A, y, x, steps)[0]
    if (apart := off(ours, plain)) <= 1e-6:
        return apart
    lost, moved = off(plain, want := exactly(A, y, x, steps)), reproducible(A, y, x, steps)
    assert max(apart, off(ours, want)) <= max(4 * lost, 10 * moved), (
        f"{A!r}, {steps} steps: {apart:.1e}; from the exact iterate plain CG {lost:.1e}, "
        f"ours {off(ours, want):.1e}"
    )
    return apart


@each
@pytest.mark.parametrize("steps", [0, 1, 2, 5, 10, 20])
def test_equals_plain_cg(A, steps):
    truth, y = draw(*A.in_shape, seed=1), A(draw(*A.in_shape, seed=1))
    for x in (draw(*A.in_shape, seed=2), truth + 0.01 * draw(*A.in_shape, seed=2)):
        history, ours = (solve(A, y, x, steps)[1] for solve in (cg, spectral_cg))
        assert same_as_plain(A, y, x, steps) < 1e-9
        n = min(len(history), len(ours), 4)
        assert ours[:n] == pytest.approx(history[:n], rel=1e-6, abs=1e-12 * history[0])


@each
def test_inconsistent_measurements(A):
    y, x = draw(*A.out_shape, seed=3), draw(*A.in_shape, seed=4)
    for steps in (1, 3, 6):
        assert same_as_plain(A, y, x, steps) < 1e-9


@each
def test_converged_starts_stay(A):
    x = draw(*A.in_shape, seed=1)
    for solve in (cg, spectral_cg):
        for start, y in ((x, A(x)), (torch.zeros_like(x), A(torch.zeros_like(x)))):
            got, history = solve(A, y, start, 20)
            assert got.isfinite().all() and (got - start).abs().max() < 1e-9
            assert all(h == h for h in history)
        start, y = draw(*A.in_shape, seed=5), A(x)
        first, again = (first := solve(A, y, start, 60)[0]), solve(A, y, first, 20)[0]
        left = [float((A(v) - y).norm()) for v in (start, first, again)]
        assert again.isfinite().all() and left[2] <= left[1] * (1 + 1e-9) + 1e-13 * float(y.norm())
        for before, after, distance, steps in zip(left, left[1:], (start - x, first - x), (60, 20)):
            assert after <= before * (1 + 1e-9) + 1e-13 * float(y.norm())
            assert after <= largest_gain(A) * float(distance.norm()) / (
                2 * steps + 1
            ) + 1e-13 * float(y.norm())


def largest_gain(A):
    "The norm of `A`."
    return float((A.spectrum().values.max()) ** 0.5)


LONG = [
    task(n, (25, 1, 8, 12), temporal=b, **kw)
    for n, kw in (("sr+", {}), ("inpaint+", {}), ("deblur+", dict(kernel_size=9, sigma=1.0)))
    for b in TEMPORAL
]


@pytest.mark.parametrize("A", LONG, ids=lambda A: f"{A.name} {A.temporal.boundary}")
@pytest.mark.parametrize("start", ["random", "good"])
def test_long_clips(A, start):
    "25 frames, a window of 7: many eigenvalues over time, nearly equal ones among them."
    truth = draw(*A.in_shape, seed=1)
    x = draw(*A.in_shape, seed=2) if start == "random" else truth + 0.01 * draw(*A.in_shape, seed=2)
    for steps in (1, 2, 5, 10, 20):
        same_as_plain(A, A(truth), x, steps)


def test_what_no_algorithm_reproduces():
    """`sr+` of 25 frames, ten steps from a random start: plain CG keeps five digits of its result.

    With 13 eigenvalues CG has converged at the large ones long before the small ones, and rounding
    then grows a thousandfold every other step. The same steps in 60 digits, on the same eigenvalues
    and energies, end as far away.
    """
    A = LONG[0]
    y, x = A(draw(*A.in_shape, seed=1)), draw(*A.in_shape, seed=2)
    plain, ours = cg(A, y, x, 10)[0], spectral_cg(A, y, x, 10)[0]
    moved, want = reproducible(A, y, x, 10), exactly(A, y, x, 10)
    assert moved > 1e-8, "then the others can be held to it"
    assert (
        1e-8 < off(plain, want) < 30 * moved
        and off(ours, want) < 30 * moved
        and off(ours, plain) < 30 * moved
    )
    for other in (cg(A, y, x, 5)[0], spectral_cg(A, y, x, 5)[0]):
        assert off(other, exactly(A, y, x, 5)) < 1e-12


@pytest.mark.parametrize("steps", [60, 100])
def test_isolated_eigenvalues_and_many_steps(steps, monkeypatch):
    """A wide box has a few large eigenvalues far apart, where CG's polynomial is so steep that one
    rounding of g shows.
    """
    import visionxl.operators.fast.spectral as c

    A = Blur.box((1, 1, 96, 80), 33, "circular")
    y = A(draw(*A.in_shape, seed=1).cumsum(-1).cumsum(-2))
    x = torch.zeros_like(y)

    def left(v):
        return float((A(v) - y).norm())

    want = left(cg(A, y, x, steps)[0])
    assert left(spectral_cg(A, y, x, steps)[0]) < 1.2 * want
    with monkeypatch.context() as m:  # merged as on a large frame, if that may be
        m.setattr(c.merge_eigenvalues, "__defaults__", (8192, 0))
        assert left(spectral_cg(A, y, x, steps)[0]) < 1.2 * want


@each
def test_arguments_are_not_changed(A):
    y, x = A(draw(*A.in_shape, seed=1)), draw(*A.in_shape)
    kept = y.clone(), x.clone()
    for f in (
        lambda: cg(A, y, x, 3)[0],
        lambda: spectral_cg(A, y, x, 3)[0],
        lambda: spectral_cg(A, y, x, 0)[0],
        lambda: proximal(A, y, x, 0.1),
        lambda: data_consistency(A, y, x),
    ):
        out = f()
        assert out.dtype == x.dtype and out.shape == x.shape
        out.zero_()
        assert torch.equal(y, kept[0]) and torch.equal(x, kept[1])


@each
def test_any_memory_layout(A):
    y, x = A(draw(*A.in_shape, seed=1)), draw(*A.in_shape)

    def turn(v):
        return v.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)

    def last(v):
        return v.contiguous(memory_format=torch.channels_last)

    for way in (turn, last):
        assert off(spectral_cg(A, way(y), way(x), 4)[0], spectral_cg(A, y, x, 4)[0]) < 1e-12
        assert off(proximal(A, way(y), way(x), 0.1), proximal(A, y, x, 0.1)) < 1e-12


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("start", ["random", "good"])
def test_float32_is_nearer_to_float64_than_plain(name, start):
    A = task(name, (9, 2, 32, 48), window=5)
    truth = draw(*A.in_shape, seed=1).cumsum(-1).cumsum(-2) / 50  # smooth, like pictures
    y, x = (
        A(truth).float(),
        (
            draw(*A.in_shape, seed=2)
            if start == "random"
            else truth + 0.1 * draw(*A.in_shape, seed=2)
        ).float(),
    )
    for steps in (1, 2, 5, 10):
        want = spectral_cg(A, y.double(), x.double(), steps)[0]
        plain, ours = (off(f(A, y, x, steps)[0].double(), want) for f in (cg, spectral_cg))
        assert ours <= 1.05 * plain + 1e-8, f"{steps} steps: {ours:.1e} against {plain:.1e}"


@each
@pytest.mark.parametrize("rho", [1.0, 1e-2])
def test_proximal_solves_its_equation(A, rho):
    y, x = draw(*A.out_shape, seed=1), draw(*A.in_shape, seed=2)
    got = proximal(A, y, x, rho)
    assert float((A.AT(A(got) - y) + rho * (got - x)).norm()) < 1e-9 * float(
        A.AT(y).norm() + x.norm()
    )
    none = proximal(A, y, None, rho)
    assert off(none, proximal(A, y, torch.zeros_like(x), rho)) < 1e-12
    assert off(proximal(A, y.float(), x.float(), rho).double(), got) < 1e-5


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("rho", [1e-6, 1e-9, 1e-12])
def test_proximal_for_tiny_rho_is_the_float64_answer(name, rho):
    """14 frames and a window of 7: the temporal matrix has exact zeros, which rounding must not
    wake.
    """
    A = task(name, (14, 1, 16, 16), kernel_size=9, sigma=1.0)
    y, x = A(draw(*A.in_shape, seed=1)).float(), draw(*A.in_shape, seed=2).float()
    want, got = proximal(A, y.double(), x.double(), rho), proximal(A, y, x, rho)
    assert got.dtype == torch.float32 and got.isfinite().all()
    assert off(got.double(), want) < 1e-6
    assert float((A.AT(A(want) - y.double()) + rho * (want - x.double())).norm()) < 1e-9 * float(
        x.norm()
    )


def test_proximal_limits():
    A, x = task("inpaint+", (4, 1, 6, 6), window=3), draw(4, 1, 6, 6)
    y = A(draw(4, 1, 6, 6, seed=1))
    assert off(proximal(A, y, x, 1e12), x) < 1e-9
    nearest = proximal(A, y, x, 0.0)
    assert off(A(nearest), y) < 1e-10
    M = torch.stack(
        [A(e.reshape(x.shape)).flatten() for e in torch.eye(144, dtype=torch.float64)], 1
    )
    want = x.flatten() + torch.linalg.pinv(M, rtol=1e-10) @ (y.flatten() - M @ x.flatten())
    assert off(nearest.flatten(), want) < 1e-8


def test_without_a_spectrum_it_is_cg():
    A = Blur((2, 1, 8, 9), (0.2, 0.5, 0.3), "reflect")
    x, y = draw(2, 1, 8, 9), A(draw(2, 1, 8, 9, seed=1))
    assert torch.equal(data_consistency(A, y, x, 5), cg(A, y, x, 5)[0])
    with pytest.raises(ValueError, match="no spectrum: use cg"):
        spectral_cg(A, y, x)
    with pytest.raises(ValueError, match="no spectrum"):
        data_consistency(A, y, x, method="spectral")
    M = torch.stack(
        [A(e.reshape(x.shape)).flatten() for e in torch.eye(144, dtype=torch.float64)], 1
    )
    want = torch.linalg.solve(
        M.T @ M + 0.1 * torch.eye(144, dtype=torch.float64), M.T @ y.flatten() + 0.1 * x.flatten()
    )
    assert off(proximal(A, y, x, 0.1).flatten(), want) < 1e-8
    assert off(data_consistency(A, y, x, 80, rho=0.1, method="cg").flatten(), want) < 1e-8


def test_data_consistency_chooses():
    A = task("sr+", (5, 1, 8, 8), window=3)
    x, y = draw(5, 1, 8, 8), A(draw(5, 1, 8, 8, seed=1))
    assert torch.equal(data_consistency(A, y, x, 3), spectral_cg(A, y, x, 3)[0])
    assert torch.equal(data_consistency(A, y, x, 3, method="cg"), cg(A, y, x, 3)[0])
    assert torch.equal(data_consistency(A, y, x, rho=0.1), proximal(A, y, x, 0.1))


def test_an_operator_with_a_spectrum_of_its_own():
    class Roll(LinearOperator):
        in_shape = out_shape = (2, 1, 4, 4)

        def forward(self, x):
            return 2 * x.roll(1, -1)

        def adjoint(self, y):
            return 2 * y.roll(-1, -1)

        def spectrum(self):
            return consistency_spectrum()

    from visionxl.operators.fast.factors import Spectrum

    def consistency_spectrum():
        return Spectrum(
            lambda x: x, lambda c: c, torch.full((1, 1, 1, 1), 4.0, dtype=torch.float64)
        )

    A, x = Roll(), draw(2, 1, 4, 4)
    y = A(draw(2, 1, 4, 4, seed=1))
    assert (
        off(spectral_cg(A, y, x, 1)[0], cg(A, y, x, 1)[0]) < 1e-14
        and off(proximal(A, y, x, 1.0), (x + 4 * draw(2, 1, 4, 4, seed=1)) / 5) < 1e-14
    )


def test_cg_is_scipys():
    import numpy as np
    from scipy.sparse.linalg import cg as theirs

    A = task("deblur+", (3, 1, 8, 8), kernel_size=5, sigma=0.7, window=2)
    x, y = draw(3, 1, 8, 8), A(draw(3, 1, 8, 8, seed=1))
    L = A.to_scipy()
    for steps in (1, 3, 7):
        want = theirs(
            L.T @ L, A.AT(y).numpy().ravel(), x0=x.numpy().ravel(), rtol=0, atol=0, maxiter=steps
        )[0]
        assert np.allclose(cg(A, y, x, steps)[0].numpy().ravel(), want, atol=1e-10)


def test_polynomial_is_the_difference():
    g, w = draw(6).abs(), draw(6, seed=1).abs()
    p, history = scalar_cg(g, w, 4)
    assert isinstance(p, CGPolynomial) and len(p.alpha) == len(p.beta) == 4 and len(history) == 5
    r = 1 - g * p(g)  # CG's residual polynomial
    assert history[-1] == pytest.approx(float((w * r * r).sum()) ** 0.5, rel=1e-9)
    V = torch.stack(
        [g**k for k in range(1, 5)], 1
    )  # it minimises the error in A^T A over all of its degree
    best = torch.linalg.lstsq((w / g).sqrt()[:, None] * V, (w / g).sqrt()).solution
    assert torch.allclose(r, 1 - V @ best, atol=1e-8)
    p, history = scalar_cg(g, w, 20)
    assert torch.allclose(p(g), 1 / g, rtol=1e-6), "six eigenvalues: exact after six steps"
    assert scalar_cg(g, 0 * w, 5)[1] == [0.0]


def test_merging_keeps_the_iterate():
    g = torch.linspace(0, 1, 5000, dtype=torch.float64) ** 4
    w = draw(2, 5000).square()
    for steps in (2, 10, 20):
        p = scalar_cg(g.expand_as(w), w * g, steps)[0]
        mg, mw = merge_eigenvalues(g, w, limit=0)
        q = scalar_cg(mg, mw * mg, steps)[0]
        assert torch.allclose(q(g) * g, p(g) * g, atol=1e-9)
    assert merge_eigenvalues(g, w)[0].numel() == w.numel(), "few enough: nothing merged"


def test_two_point_rule_has_the_moments():
    u, w = draw(7) * 1e-3, draw(7, seed=1).abs()
    m = torch.stack([(w * u**k).sum() for k in range(4)])[:, None, None]
    n, q = two_point_rule(m)
    for k in range(4):
        assert float((q * n**k).sum()) == pytest.approx(float(m[k]), rel=1e-9, abs=1e-20)
    n, q = two_point_rule(torch.tensor([2.0, 2e-3, 2e-6, 2e-9], dtype=torch.float64)[:, None, None])
    assert n.flatten().tolist() == pytest.approx([1e-3, 1e-3]) and float(q.sum()) == pytest.approx(
        2
    )


def test_slabs_do_not_show(monkeypatch):
    "The clip cut into many pieces and into one."
    import visionxl.operators.fast.passes as d

    for A in CASES:
        if A.factors() is None:
            continue
        y, x = A(draw(*A.in_shape, seed=1)), draw(*A.in_shape)
        want = spectral_cg(A, y, x, 3)[0]
        with monkeypatch.context() as m:
            m.setattr(d.slabs, "__defaults__", (64,))
            assert off(spectral_cg(A, y, x, 3)[0], want) < 1e-12


BAND = (5, 1, 160, 192)  # large enough for a blur of width 3 to leave frequencies out


def band_cases():
    truth = draw(*BAND).cumsum(-1).cumsum(-2)
    truth = truth / truth.abs().max()
    for name in ("deblur", "deblur+"):
        A = task(name, BAND, window=3)
        y, noise = A(truth).float().double(), draw(*BAND, seed=3)
        one = (torch.arange(5) == 1).view(-1, 1, 1, 1)
        yield name + ", near", A, y, truth + 0.1 * draw(*BAND, seed=1), True
        yield name + ", far", A, y, draw(*BAND, seed=1), True
        yield name + ", from nothing", A, y, 0 * truth, True
        yield name + ", noisy", A, y + 0.02 * noise, y, True
        yield name + ", one frame noisy", A, y + 0.1 * noise * one, y, False
        yield name + ", there already", A, A(truth), truth, None
        yield name + ", all of it left out", A, noise - A(noise), 0 * truth, False
        yield name + ", nothing", A, 0 * y, 0 * y, None


@pytest.mark.parametrize(
    "A,y,x,holds", [pytest.param(*case[1:], id=case[0]) for case in band_cases()]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_frequencies_left_out_change_nothing(A, y, x, holds, dtype, monkeypatch):
    """Calculated in float64 with the band of either type: the result with all frequencies, to an
    eighth of that type's last place.
    """
    import visionxl.operators.fast.spectral as c

    guess, holds_after, answers = c.guess_cut, c.cut_changes_nothing, []
    monkeypatch.setattr(c, "guess_cut", lambda f, y, steps: guess(f, y.to(dtype), steps))
    monkeypatch.setattr(
        c,
        "cut_changes_nothing",
        lambda op, h, rest, x: (
            answers.append((holds_after(op, h, rest, x.to(dtype)), op)) or answers[-1][0]
        ),
    )
    for steps in (1, 5, 10, 20):
        got, history = spectral_cg(A, y, x, steps)
        with monkeypatch.context() as m:
            m.setattr(c, "guess_cut", lambda *a: 0.0)
            want, full = spectral_cg(A, y, x, steps)
        last_place = (
            torch.finfo(dtype).eps if dtype == torch.float32 else 64 * torch.finfo(dtype).eps
        )
        assert float((got - want).norm()) <= last_place / 8 * max(
            float(x.norm()), float(want.norm())
        )
        assert history == pytest.approx(full, rel=1e-3, abs=1e-13 * (1 + full[0]))
    if dtype == torch.float32 and holds is not None:
        assert all(ok == holds for ok, _ in answers), [ok for ok, _ in answers]
    if dtype == torch.float32 and holds:
        assert all(
            op.coef_shape[2] < 0.75 * BAND[2] and op.coef_shape[3] < 0.75 * BAND[3]
            for _, op in answers
        )


def test_what_is_left_out_is_bounded():
    """The bound against the change itself, for residuals that lie wholly in what is left out and
    touch it hardest.
    """
    A = task("deblur", BAND)
    op = Diagonal(A.factors(), BAND, torch.float64, 1e-4)
    h, w = op.coef_shape[2:]
    g = A.factors().gains
    assert (
        float(g[h:].max()) <= 1e-4
        and float(g[:, w:].max()) <= 1e-4
        and float(g[h - 1, 0]) > 1e-4
        and float(g[0, w - 1]) > 1e-4
    )
    x = draw(*BAND)
    loud = History([1e4, 1e3], alpha=[3.0], beta=[0.25])  # p = 3 everywhere
    rest = ((1e-5 / (3 * 1e-4 * op.norm)) ** 2, 0.0)  # a p(0) |R| = 1e-5
    assert op.norm == pytest.approx(1) and op.cut == 1e-4
    assert Diagonal(
        (A @ FrameMix(BAND, 3 * torch.eye(5))).factors(), BAND, torch.float64, 1e-4
    ).norm == pytest.approx(3), "time counts, too"

    def size(s):
        return x * (s / float(x.norm()))

    eps = torch.finfo(torch.float64).eps
    assert cut_changes_nothing(op, loud, rest, size(8e-5 / eps * 1.01)) and not cut_changes_nothing(
        op, loud, rest, size(8e-5 / eps * 0.99)
    )
    assert not cut_changes_nothing(
        op, History([1e4, 1e-6 / eps**0.5], alpha=[3.0], beta=[0.25]), rest, size(1e15)
    ), "steps turned by what was left out"
    assert not cut_changes_nothing(
        op, History([1e9, 1e8], alpha=[2e8], beta=[0.0]), (0.0, 0.0), size(1e30)
    ), "p(0) is no bound there"
    heavy = (0.0, (1e-5 / (3 * 1e-8)) ** 2)  # the video's part counts with the gain squared
    assert cut_changes_nothing(
        op, loud, heavy, size(8e-5 / eps * 1.01)
    ) and not cut_changes_nothing(op, loud, heavy, size(8e-5 / eps * 0.99))


def test_first_guess_of_the_band():
    "From a silent measurement the video's own part decides, from a noisy one the noise."
    f = task("deblur", BAND).factors()
    small = torch.finfo(torch.float32).eps / 16
    for steps in (1, 10):
        cut = small**0.5 / (steps + 1)
        assert guess_cut(f, torch.ones(BAND), steps) == pytest.approx(cut)
        h, w = without_small_gains(f, BAND, cut).gains.shape
        loud = (1 - h * w / (BAND[2] * BAND[3])) ** 0.5  # of white noise
        assert guess_cut(f, draw(*BAND).float(), steps) == pytest.approx(
            small / (steps + 1) ** 2 / loud, rel=0.02
        )


def test_blurs_without_decay_keep_everything():
    for A in (
        Blur(BAND, (0.1, 0.8, 0.1)),
        Blur.gaussian(BAND, 61, 3.0, "circular"),
        task("sr", BAND),
        Identity(BAND),
    ):
        y = A(draw(*BAND))
        cut = guess_cut(A.factors(), y.float(), 10)
        assert cut == 0 or Diagonal(A.factors(), BAND, y.dtype, cut).cut == 0
    f = task("deblur", BAND).factors()
    assert guess_cut(f, y, 0) == 0 and without_small_gains(f, BAND, 0.0) is f
    silent = 0 * Blur.gaussian(BAND)
    assert torch.equal(spectral_cg(silent, silent(y), y, 3)[0], y)


@pytest.mark.parametrize("rho", [10.0, 1e-1, 1e-3, 1e-6])
def test_proximal_leaves_out_only_what_changes_nothing(rho):
    A = task("deblur", BAND)
    f, y, x = A.factors(), draw(*BAND, seed=3), draw(*BAND)
    got = proximal(A, y.float(), x.float(), rho)
    s = A.spectrum()
    want = x.float().double() + s.inverse(
        f.gains
        / (f.gains**2 + rho)
        * (s.forward(y.float().double()) - f.gains * s.forward(x.float().double()))
    )
    assert off(got.double(), want) < 2e-7
    cut = torch.finfo(torch.float32).eps / 16 * rho
    g = f.gains[f.gains <= cut]
    assert not g.numel() or float((g / (g**2 + rho)).max()) <= torch.finfo(torch.float32).eps / 16


@pytest.mark.parametrize(
    "call,error,message",
    [
        (lambda A, y, x: cg(A, y[:1], x), ValueError, r"y has shape .* needs"),
        (lambda A, y, x: spectral_cg(A, y, x[:1]), ValueError, r"x_init has shape .* needs"),
        (lambda A, y, x: cg(A, y.float(), x), ValueError, "bring both to one"),
        (lambda A, y, x: cg(A, y.int(), x), TypeError, "tensor of floats"),
        (lambda A, y, x: cg(A, y, x, -1), ValueError, "steps=-1"),
        (lambda A, y, x: spectral_cg(A, y, x, 1.5), ValueError, "whole number"),
        (lambda A, y, x: proximal(A, y, x, -1.0), ValueError, "rho=-1"),
        (lambda A, y, x: proximal(A, y, x, float("nan")), ValueError, "rho=nan"),
        (lambda A, y, x: data_consistency(A, y, x, method="best"), ValueError, "choose auto"),
        (lambda A, y, x: cg(A, y * math.nan, x), ValueError, "y holds NaN"),
        (lambda A, y, x: cg(A, y, x / 0), ValueError, "x_init holds NaN or Inf"),
        (lambda A, y, x: cg(A, y, x, math.inf), ValueError, "steps=inf"),
    ],
)
def test_refusals(call, error, message):
    A = task("sr", (2, 1, 8, 8))
    with pytest.raises(error, match=message):
        call(A, draw(2, 1, 2, 2), draw(2, 1, 8, 8))


def test_numbers_whose_squares_overflow_are_no_nan():
    A = task("sr", (2, 1, 8, 8))
    y, x = draw(2, 1, 2, 2).float(), draw(2, 1, 8, 8).float()
    y[0, 0, 0] = 3e38
    assert cg(A, y, x, 0)[0].equal(x)


def test_nan_stays_in_sight():
    "Where nothing waits for the device to ask: no solver gives back its start as if it fitted."
    A, x = task("sr", (2, 1, 8, 8)), draw(2, 1, 8, 8)
    y = A(x)
    y[0, 0, 0, 0] = math.nan
    apart = Mask((2, 1, 8, 8), draw(2, 1, 8, 8)) @ Blur.gaussian((2, 1, 8, 8), 5, 1.0)
    z = apart(x)
    z[0, 0, 0, 0] = math.nan
    found = [spectral_cg(A, y, x)[0], proximal(A, y, x, 0.1), proximal(apart, z, x, 0.1)]
    for answer in found:
        assert answer[0].isnan().any() and not answer[1].isnan().any()


def test_frames_that_do_not_mix_are_solved_alone():
    "Without a spectrum: each frame of a clip as if it were the only one, after few steps too."
    weights = draw(3, 1, 8, 8).abs() * torch.tensor([1.0, 9.0, 80.0], dtype=torch.float64).view(
        3, 1, 1, 1
    )

    def operator(w):
        return Mask(tuple(w.shape), w) @ Blur.gaussian(tuple(w.shape), 5, 1.0)

    x, start = draw(3, 1, 8, 8, seed=1), draw(3, 1, 8, 8, seed=2)
    y = operator(weights)(x)
    got = proximal(operator(weights), y, start, 0.1, steps=3)
    for k in range(3):
        one = slice(k, k + 1)
        alone = cg(operator(weights[one]), y[one], start[one], 3, 0.1)[0]
        assert off(got[one], alone) < 1e-10
