"""One list of operators through every property: an operator that is missing from the list fails the
first test.
"""

import inspect

import numpy as np
import pytest
import scipy.sparse.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from visionxl.operators import adapters, algebra, blurs, cameras, linear, sensors
from visionxl.operators import given as given_operators
from visionxl.operators import tasks as operators
from visionxl.operators.adapters import (
    from_deepinv,
    from_scipy,
    load_deepinv,
    to_deepinv,
    to_scipy,
)
from visionxl.operators.blurs import FrameFilter
from visionxl.operators.fast import bases, cosine
from visionxl.operators.fast.diagonal import Diagonal, frames_at_once, rotate
from visionxl.operators.kernels import (
    axis_bands,
    convolution,
    cosine_gains,
    extend,
    fourier_gains,
)
from visionxl.operators.known.checks import check_problem, verify
from visionxl.operators.tasks import (
    BOUNDARIES,
    TASKS,
    AveragePool,
    Blur,
    Blur2d,
    FrameMix,
    Identity,
    LinearOperator,
    Mask,
    TemporalMean,
    check_adjoint,
    check_spectrum,
    gaussian_kernel,
    task,
)

S, ODD, ONE = (
    (3, 2, 4, 6),
    (2, 1, 5, 7),
    (1, 1, 3, 4),
)  # usual; odd sizes and one channel; one frame
K, L = (0.1, 0.2, 0.3), (0.4, 0.1, 0.5, 0.2)  # lopsided kernels, one of even length


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=rng(seed), dtype=dtype)


class OnlyTwoMethods:
    "A stranger's operator: two shapes and two methods, without our base class."

    in_shape = out_shape = S
    box = Blur.box(S, 3)

    def __call__(self, x):
        return self.box(x)

    def AT(self, y):
        return self.box.AT(y)


OPERATORS = [
    Identity(S),
    Identity(ONE),
    Mask.random(S, 0.5, 3),
    Mask(S, draw(3, 1, 4, 6)),
    Mask(ODD, draw(5, 7)),
    Mask(S, draw(3, 2, 4, 6) > 0),
    AveragePool(S, 2),
    AveragePool((1, 1, 3, 9), 3),
    AveragePool(ONE, 1),
    AveragePool(S, 2).T,
    FrameMix(S, draw(5, 3)),
    FrameMix(S, draw(1, 3)),
    Blur.box(ODD, 4),
    Blur(S, (1.0,)),
    Blur(ODD, ((0.25, 0.5, 0.25), K)),
    Blur.gaussian(ODD, 61, 3.0),
]
OPERATORS += [Blur(S, (K, L), b) for b in BOUNDARIES] + [
    Blur.gaussian(ODD, 9, 1.5, b) for b in BOUNDARIES
]
OPERATORS += [Blur2d(ODD, draw(3, 4), b) for b in BOUNDARIES] + [
    Blur2d(S, torch.outer(torch.tensor([1.0, 2, 1]), torch.tensor([1.0, 3, 1]))),
    Blur2d(S, draw(11, 15)),
]
OPERATORS += [
    TemporalMean((5, 1, 2, 3), w, b) for w in (1, 2, 3, 4) for b in (*BOUNDARIES, "valid")
]
OPERATORS += [TemporalMean(S, 9, b) for b in BOUNDARIES] + [TemporalMean(ONE, 7)]
OPERATORS += [
    task(n, (5, 1, 4, 8), kernel_size=9, window=3, temporal=b)
    for n in TASKS
    for b in ("circular", "replicate", "symmetric", "valid")
]
OPERATORS += [task(n, (1, 1, 4, 8)) for n in TASKS]
OPERATORS += [
    2 * Blur.box(S, 3),
    Identity(S) + Blur.box(S, 3),
    Identity(S) - 3 * Mask.random(S),
    -Mask.random(S),
    AveragePool(S, 2) / 4,
    task("sr+", (3, 1, 8, 8)).T,
    AveragePool((3, 2, 2, 3), 1) @ AveragePool(S, 2),
    Mask.random((3, 2, 2, 3)) @ AveragePool(S, 2),
    Blur.box(S, 3) @ Blur.box(S, 5),
    AveragePool(S, 2).T @ AveragePool(S, 2),
    TemporalMean(S, 3).T @ TemporalMean(S, 2),
    Mask.random(S) @ Blur.box(S, 3),
    TemporalMean(S, 3) @ Blur.gaussian(S, 5, 1.0),
    LinearOperator.from_function(Blur.box(S, 3).forward, S),
    FrameFilter(ODD, draw(5, 7)),
    given_operators.TwoMethods(OnlyTwoMethods()),
]
OPERATORS += [
    from_scipy(np.asarray(draw(8, 144)), S, (1, 1, 2, 4)),
    from_deepinv(type("P", (), dict(A=lambda s, x: 2 * x, A_adjoint=lambda s, y: 2 * y))(), S),
]
RGB = (3, 3, 5, 6)
OPERATORS += [
    Blur2d(ODD, cameras.motion_kernel(5, 30)),
    Blur2d(S, cameras.disk_kernel(1.7)),
    Blur2d(S, cameras.ellipse_kernel(1.2, 0.5, 60), "replicate"),
    *[cameras.Resize(ODD, (2, 3), k) for k in cameras.SHAPES],
    cameras.Resize.by(S, 1.7, "lanczos"),
    cameras.Resize.by(ONE, 1.0),
    sensors.ChannelMix.grey(RGB),
    sensors.ChannelMix(S, draw(3, 2)),
    sensors.bayer(RGB),
    sensors.bayer(RGB, "GBRG"),
    sensors.RowExposure(S, 0.8),
    sensors.RowExposure(ONE, 1.0),
    sensors.every_frame((5, 1, 2, 3), 2),
    sensors.RowExposure(S) @ Blur2d(S, cameras.motion_kernel(3, 45)),
    cameras.Resize.by((3, 2, 4, 6), 1.5) @ TemporalMean(S, 3),
    sensors.ChannelMix.grey((3, 3, 2, 3)) @ cameras.Resize(RGB, (2, 3), "box"),
    task("denoise", S),
    task("denoise+", S, window=2),
]
each = pytest.mark.parametrize("A", OPERATORS, ids=lambda A: repr(A)[:60])
spectral = pytest.mark.parametrize(
    "A", [A for A in OPERATORS if A.spectrum() is not None], ids=lambda A: repr(A)[:60]
)


def dense(f, shape):
    "The matrix of `f`, one column for each pixel."
    eye = torch.eye(int(np.prod(shape)), dtype=torch.float64)
    return torch.stack([f(e.reshape(tuple(shape))).flatten() for e in eye], 1)


def test_every_operator_is_in_the_list():
    def parts(A):
        return {type(A)}.union(
            *(parts(v) for v in vars(A).values() if isinstance(v, LinearOperator) and v is not A)
        )

    seen = set().union(*map(parts, OPERATORS))
    all_ = {
        c
        for m in (operators, adapters, algebra, blurs, cameras, linear, sensors, given_operators)
        for _, c in inspect.getmembers(m, inspect.isclass)
        if issubclass(c, LinearOperator) and c is not LinearOperator
    }
    assert all_ <= seen, f"not tested: {[c.__name__ for c in all_ - seen]}"


@each
def test_dot(A):
    assert check_adjoint(A) < 1e-12


@each
def test_dense_matrix_and_autograd(A):
    M = dense(A, A.in_shape)
    x, y = draw(*A.in_shape, seed=1), draw(*A.out_shape, seed=2)
    assert torch.allclose(M @ x.flatten(), A(x).flatten(), atol=1e-12, rtol=0)
    assert torch.allclose(dense(A.AT, A.out_shape), M.T, atol=1e-12, rtol=0)
    if type(A).__name__ == "FromScipy":
        return
    vjp = torch.autograd.functional.vjp(A, x, y)[1]
    assert torch.allclose(vjp, A.AT(y), atol=1e-12, rtol=0)


@each
def test_linear_dtype_device_input(A):
    a, b = draw(*A.in_shape, seed=1), draw(*A.in_shape, seed=2)
    assert torch.allclose(A(2 * a - 3 * b), 2 * A(a) - 3 * A(b), atol=1e-12, rtol=0)
    kept = a.clone()
    out = A(a)
    assert (
        torch.equal(a, kept)
        and out.dtype == a.dtype
        and out.device == a.device
        and tuple(out.shape) == tuple(A.out_shape)
    )
    out.add_(1)
    assert torch.equal(a, kept), "the result shares memory with the input"
    for dtype in (torch.float32, torch.float64):
        assert A(a.to(dtype)).dtype == A.AT(draw(*A.out_shape, dtype=dtype)).dtype == dtype
    assert torch.allclose(A(a.float()).double(), A(a), atol=1e-5 * float(A(a).abs().max() + 1))


@each
def test_any_memory_layout(A):
    for f, shape in ((A, A.in_shape), (A.AT, A.out_shape)):
        x = draw(*shape)
        wide = torch.stack([x, x + 1], -1)[..., 0]  # every second number
        turned = x.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0)
        for v in (wide, turned, x.contiguous(memory_format=torch.channels_last)):
            assert torch.allclose(f(v), f(x), atol=1e-13, rtol=0)


@each
def test_norm_by_power_iteration(A):
    sigma = float(torch.linalg.matrix_norm(dense(A, A.in_shape), 2))
    x = draw(*A.in_shape, seed=5)
    for _ in range(100):
        x = A.AT(A(x))
        if x.norm() > 0:
            x = x / x.norm()
    assert float(A(x).norm()) <= sigma + 1e-9
    assert float(A(x).norm()) == pytest.approx(sigma, rel=5e-2)
    if (s := A.spectrum()) is not None:
        assert float(s.values.max()) == pytest.approx(sigma**2, rel=1e-9, abs=1e-12)


@spectral
def test_spectrum_against_dense_eigenvalues(A):
    assert check_spectrum(A) < 1e-10
    c = A.spectrum().forward(draw(*A.in_shape))
    ours = A.spectrum().values.expand(c.shape).flatten().sort()[0]
    M = dense(A, A.in_shape)
    assert torch.allclose(
        ours, torch.linalg.eigvalsh(M.T @ M), atol=1e-10 * max(1, float(ours.max())), rtol=0
    )


def test_which_have_a_spectrum():
    for n in TASKS:
        for b in ("circular", "replicate", "symmetric", "valid"):
            assert task(n, (9, 3, 8, 8), temporal=b).spectrum() is not None
    for b, known in (
        ("symmetric", True),
        ("circular", True),
        ("reflect", False),
        ("replicate", False),
        ("zero", False),
    ):
        assert (Blur.gaussian(S, 9, 2.0, b).spectrum() is not None) == known
        assert (Blur(S, K, b).spectrum() is not None) == (b == "circular")
    assert (Mask.random(S) @ Blur.box(S, 3)).spectrum() is None
    with pytest.raises(ValueError, match="has no spectrum"):
        check_spectrum(Blur(S, K))


# what the operators are, against definitions written another way


@pytest.mark.parametrize(
    "boundary,mode",
    [
        ("symmetric", "symmetric"),
        ("reflect", "reflect"),
        ("circular", "wrap"),
        ("replicate", "edge"),
        ("zero", "constant"),
    ],
)
@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_extension_is_numpys(boundary, mode, n):
    x = np.arange(1.0, n + 1)
    idx = extend(torch.arange(-11, n + 12), n, boundary).numpy()
    got = np.where(idx < 0, 0, x[idx.clip(0)])
    if boundary == "zero" or n > 1 or mode != "reflect":
        assert np.array_equal(got, np.pad(x, (11, 12), mode=mode))
    else:
        assert (got == 1).all()


@pytest.mark.parametrize("kernel", [K, L, (1.0,), (0.2,) * 9, (0.1,) * 12])
@pytest.mark.parametrize(
    "boundary,mode",
    [
        ("symmetric", "reflect"),
        ("reflect", "mirror"),
        ("circular", "wrap"),
        ("replicate", "nearest"),
        ("zero", "constant"),
    ],
)
def test_convolution_is_scipys(kernel, boundary, mode):
    from scipy.ndimage import convolve1d

    x = np.random.default_rng(0).standard_normal(7)
    want = convolve1d(x, kernel, mode=mode, origin=0)
    assert np.allclose(convolution(kernel, 7, boundary).numpy() @ x, want, atol=1e-13)
    from scipy.ndimage import convolve

    k2 = np.outer(kernel, K)
    x2 = np.random.default_rng(1).standard_normal((7, 5))
    v = torch.from_numpy(x2)[None, None]
    want = convolve(x2, k2, mode=mode)
    assert np.allclose(Blur((1, 1, 7, 5), (kernel, K), boundary)(v)[0, 0], want, atol=1e-12)
    assert np.allclose(Blur2d((1, 1, 7, 5), k2, boundary)(v)[0, 0], want, atol=1e-12)


def test_blur_in_bands_of_any_number():
    for n in (127, 128, 129, 300):
        v = draw(1, 1, n, 3)
        for b in BOUNDARIES:
            assert torch.allclose(
                Blur((1, 1, n, 3), ((0.1, 0.2, 0.3, 0.4), (1.0,)), b)(v)[0, 0],
                convolution((0.1, 0.2, 0.3, 0.4), n, b) @ v[0, 0],
                atol=1e-13,
            )


def test_gains_are_the_transforms_of_the_kernel():
    k = gaussian_kernel(9, 1.5)
    assert sum(k) == pytest.approx(1) and k == k[::-1] and max(k) == k[4]
    assert k[6] / k[4] == pytest.approx(np.exp(-0.5 * (2 / 1.5) ** 2))
    for n in (1, 4, 12):
        C = torch.from_numpy(__import__("scipy.fft").fft.dct(np.eye(n), axis=0, norm="ortho"))
        assert torch.allclose(
            C @ convolution(k, n, "symmetric") @ C.T, torch.diag(cosine_gains(k, n)), atol=1e-12
        )
        F = torch.fft.fft(torch.eye(n, dtype=torch.complex128), norm="ortho")
        assert torch.allclose(
            F @ convolution(L, n, "circular").to(F) @ F.conj().T,
            torch.diag(fourier_gains(L, n)),
            atol=1e-12,
        )


def test_pool_mask_identity_are_what_they_say():
    x = draw(*S)
    assert torch.allclose(AveragePool(S, 2)(x), torch.nn.functional.avg_pool2d(x, 2), atol=1e-14)
    A = Mask.random((2, 3, 64, 64), 0.3, seed=4)
    kept = A(torch.ones(2, 3, 64, 64))
    assert set(kept.unique().tolist()) == {0.0, 1.0} and float(kept.mean()) == pytest.approx(
        0.3, abs=0.03
    )
    assert torch.equal(kept, kept[:1, :1].expand_as(kept)), "one mask for all frames and channels"
    assert torch.equal(kept, Mask.random((2, 3, 64, 64), 0.3, seed=4)(torch.ones(2, 3, 64, 64)))
    assert not torch.equal(kept, Mask.random((2, 3, 64, 64), 0.3, seed=5)(torch.ones(2, 3, 64, 64)))
    assert torch.equal(Mask.random(S, 1.0)(x), x) and not Mask.random(S, 0.0)(x).any()
    assert torch.equal(Identity(S)(x), x)


def test_temporal_mean_by_hand():
    x = torch.arange(5.0).double().view(5, 1, 1, 1)

    def mean(w, b):
        return TemporalMean(x.shape, w, b)(x).flatten().tolist()

    assert mean(3, "circular") == pytest.approx([5 / 3, 1, 2, 3, 7 / 3])
    assert mean(3, "replicate") == pytest.approx([1 / 3, 1, 2, 3, 11 / 3])
    assert mean(3, "valid") == pytest.approx([1, 2, 3])
    assert mean(5, "symmetric") == pytest.approx(
        [
            (1 + 0 + 0 + 1 + 2) / 5,
            (0 + 0 + 1 + 2 + 3) / 5,
            2,
            (1 + 2 + 3 + 4 + 4) / 5,
            (2 + 3 + 4 + 4 + 3) / 5,
        ]
    )
    assert mean(5, "reflect") == pytest.approx(
        [
            (2 + 1 + 0 + 1 + 2) / 5,
            (1 + 0 + 1 + 2 + 3) / 5,
            2,
            (1 + 2 + 3 + 4 + 3) / 5,
            (2 + 3 + 4 + 3 + 2) / 5,
        ]
    )
    assert mean(2, "valid") == pytest.approx([0.5, 1.5, 2.5, 3.5]) and mean(
        2, "replicate"
    ) == pytest.approx([0.5, 1.5, 2.5, 3.5, 4])
    assert mean(10, "circular") == pytest.approx([2.0] * 5)
    assert mean(11, "circular") == pytest.approx([(20 + t) / 11 for t in range(5)])


def test_tasks_are_space_after_time():
    x = draw(9, 3, 16, 24)
    for n in TASKS:
        A = task(n, x.shape, kernel_size=9)
        assert A.name == n and (A.spatial.name is None if n.endswith("+") else A.spatial is A)
        assert (A.temporal is not None) == n.endswith("+")
        assert torch.allclose(
            A(x), A.spatial(x if A.temporal is None else A.temporal(x)), atol=1e-14
        )
    assert tuple(task("sr+", x.shape, factor=8, window=4, temporal="valid").out_shape) == (
        6,
        3,
        2,
        3,
    )
    A = task("deblur", x.shape)
    assert A.boundary == "symmetric" and A.kernels == (gaussian_kernel(61, 3.0),) * 2
    assert task("deblur", x.shape, boundary="reflect").boundary == "reflect"
    assert (
        task("inpaint+", x.shape).temporal.window == 7
        and task("inpaint+", x.shape).temporal.boundary == "circular"
    )
    assert torch.equal(
        task("inpaint", x.shape, keep=0.2, seed=7).weights, Mask.random(x.shape, 0.2, 7).weights
    )


# the algebra


def test_algebra_is_that_of_matrices():
    A, B, x = Blur(S, K), Mask(S, draw(4, 6)), draw(*S)
    assert torch.allclose((A @ B)(x), A(B(x))) and torch.allclose(A @ x, A(x))
    assert torch.allclose((A + B)(x), A(x) + B(x)) and torch.allclose((A - B)(x), A(x) - B(x))
    assert (
        torch.allclose((3 * A)(x), 3 * A(x))
        and torch.allclose((A * 3)(x), 3 * A(x))
        and torch.allclose((A / 4)(x), A(x) / 4)
        and torch.allclose((-A)(x), -A(x))
    )
    assert (
        torch.allclose((A @ B).T(x), B.AT(A.AT(x)))
        and A.T.T is A
        and torch.allclose(A.T(x), A.AT(x))
        and torch.allclose(A.T.AT(x), A(x))
    )
    for bad in (lambda: A + 1, lambda: A @ "B", lambda: "2" * A, lambda: A * A):
        with pytest.raises(TypeError):
            bad()


REFUSED = [
    (lambda: Blur(S, K)(draw(3, 2, 4, 5)), ValueError, r"Blur.*\(3, 2, 4, 5\).*\(3, 2, 4, 6\)"),
    (
        lambda: task("sr+", (5, 3, 8, 8)).AT(draw(5, 3, 8, 8)),
        ValueError,
        r"\(5, 3, 8, 8\).*\(5, 3, 2, 2\)",
    ),
    (
        lambda: AveragePool(S, 2) @ Blur(ODD, K),
        ValueError,
        r"AveragePool.*Blur.*\(3, 2, 4, 6\).*\(2, 1, 5, 7\)",
    ),
    (lambda: Blur(S, K) + AveragePool(S, 2), ValueError, "shapes must agree"),
    (lambda: Identity(S)(np.zeros(S)), TypeError, "torch tensor"),
    (lambda: Identity(S)(torch.zeros(S, dtype=torch.int32)), TypeError, "int32.*float"),
    (lambda: task("sr", (5, 3, 17, 24)), ValueError, "crop to 16x24 or pad to 20x24"),
    (lambda: AveragePool(S, 0), ValueError, "at least 1"),
    (lambda: AveragePool(S, 2.5), ValueError, "factor=2.5 must be at least 1, a whole number"),
    (lambda: TemporalMean(S, 2.5), ValueError, "window=2.5 must be at least 1, a whole number"),
    (lambda: Identity((3.7, 3, 4, 5)), ValueError, "whole numbers"),
    (lambda: Identity(S) @ np.zeros(S), TypeError, "torch.from_numpy"),
    (lambda: task("motion", S), ValueError, "choose one of deblur"),
    (lambda: task("inpaint", S, keep=1.5), ValueError, "from 0 to 1"),
    (
        lambda: task("sr+", S, window=5, temporal="valid"),
        ValueError,
        "shorten the window or use 'replicate'",
    ),
    (lambda: TemporalMean(S, 0), ValueError, "at least 1"),
    (lambda: TemporalMean(S, 3, "bounce"), ValueError, "choose one of"),
    (lambda: Blur(S, K, "mirror"), ValueError, "choose one of symmetric"),
    (lambda: Blur2d(S, torch.ones(3), "zero"), ValueError, "matrix of finite numbers"),
    (lambda: Blur2d(S, torch.ones(3, 3), "mirror"), ValueError, "choose one of"),
    (lambda: Blur(S, (float("nan"), 1.0)), ValueError, "finite"),
    (lambda: Blur(S, ()), ValueError, "at least one"),
    (lambda: Blur.box(S, 0), ValueError, "at least 1"),
    (lambda: gaussian_kernel(0, 1.0), ValueError, "at least 1"),
    (lambda: gaussian_kernel(5, 0.0), ValueError, "use Identity"),
    (lambda: Mask(S, torch.ones(5, 5)), ValueError, "give .H, W."),
    (lambda: FrameMix(S, torch.ones(2, 4)), ValueError, r"give \(T_out, 3\)"),
    (lambda: Identity((3, 4, 5)), ValueError, r"\(T, C, H, W\)"),
    (lambda: Identity((3, 0, 4, 5)), ValueError, "at least 1"),
    (lambda: from_scipy(np.eye(3), S, S), ValueError, "that needs"),
]


@pytest.mark.parametrize("call,error,message", REFUSED)
def test_refusals_name_value_and_remedy(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_composition_says_which_part_refused():
    class Liar(Identity):
        def forward(self, x):
            return x[:1]

    with pytest.raises(
        ValueError, match=r"Liar.*returned shape \(1, 2, 4, 6\).*promise \(3, 2, 4, 6\)"
    ):
        (Blur(S, K) @ Liar(S))(draw(*S))
    with pytest.raises(NotImplementedError, match="adjoint"):

        class Half(LinearOperator):
            in_shape = out_shape = S

            def forward(self, x):
                return x / 2

        Half().AT(draw(*S))


def test_checks_find_what_is_wrong():
    class Released(Blur):
        def adjoint(self, y):
            return y  # what the released code takes for A^T

    with pytest.raises(AssertionError, match="disagree"):
        check_adjoint(Released.gaussian(S, 5, 1.0))

    class Off(Blur):
        def factors(self):
            return super().factors()._replace(gains=super().factors().gains * 1.0001)

    with pytest.raises(AssertionError, match="A.T A x fails"):
        check_spectrum(Off.gaussian(S, 5, 1.0))

    class Treble(Blur):
        def factors(self):
            return super().factors()._replace(gains=super().factors().gains * 3**0.5)

    with pytest.raises(AssertionError, match="fails by 2 > 1e-10"):
        check_spectrum(Treble.gaussian(S, 5, 1.0))

    class Slightly(Blur):
        def adjoint(self, y):
            return super().adjoint(y) * (1 + 1e-7)

    with pytest.raises(AssertionError):
        check_adjoint(Slightly.gaussian(S, 5, 1.0))


def test_the_dot_test_can_be_made_again():
    "Its vectors are those of the seeds 0, 1, 2: a figure that was printed once comes back."
    seen = []

    class Watched(Identity):
        def forward(self, x):
            seen.append(x)
            return x

    check_adjoint(Watched(S))
    assert len(seen) == 3
    assert all(torch.equal(x, draw(*S, seed=k)) for k, x in enumerate(seen))


def test_a_problem_of_no_step_is_one():
    "It gives the estimate back; fewer steps than none, or half a one, are refused."
    A, x = Blur(S, K), draw(*S)
    check_problem(A, A(x), x, steps=0)
    for steps in (-1, 0.5):
        with pytest.raises(ValueError, match=f"steps={steps} must be a whole number, 0 or more"):
            check_problem(A, A(x), x, steps=steps)


def test_a_long_matrix_product_is_made_in_pieces_on_a_cpu(monkeypatch):
    "Of 2^14 columns, which stay in cache; anywhere else in one."
    made, mm = [], torch.mm

    def counted(m, a, out):
        made.append(a.shape[1])
        return mm(m, a, out=out)

    monkeypatch.setattr(torch, "mm", counted)
    m, v = draw(3, 3), draw(3, 40_000)
    assert torch.allclose(rotate(m, v), m @ v) and made == [16384, 16384, 7232]
    rotate(m, torch.empty(3, 40_000, device="meta"))
    assert made[3:] == [40_000]


def test_so_many_frames_at_once_keep_every_thread_busy():
    before = torch.get_num_threads()
    both = Blur(S, (0.25, 0.5, 0.25)), Mask(S, torch.ones(1, 1, *S[2:]))
    cosine_op, pixels_op = (Diagonal(A.factors(), S, torch.float64) for A in both)
    try:
        for threads, frames in ((1, 4), (4, 4), (6, 6)):
            torch.set_num_threads(threads)
            assert frames_at_once(cosine_op, torch.device("cpu")) == frames
            assert frames_at_once(pixels_op, torch.device("cpu")) == 1
    finally:
        torch.set_num_threads(before)
    assert frames_at_once(pixels_op, torch.device("cuda")) > 1e6


# other libraries


@pytest.mark.parametrize("name", TASKS)
def test_scipy_solvers_accept_it(name):
    A = task(name, (3, 1, 8, 8), kernel_size=5, sigma=0.8, window=2)
    x = draw(3, 1, 8, 8)
    L, b = to_scipy(A), A(x).numpy().ravel()
    assert np.allclose(A.to_scipy().matvec(x.numpy().ravel()), b, atol=1e-13)
    got = scipy.sparse.linalg.lsqr(L, b, atol=1e-14, btol=1e-14, iter_lim=2000)[0]
    assert np.allclose(L @ got, b, atol=1e-6)
    v, info = scipy.sparse.linalg.cg(
        L.T @ L + scipy.sparse.linalg.aslinearoperator(0.1 * scipy.sparse.identity(192)),
        L.rmatvec(b),
        rtol=1e-12,
    )
    M = dense(A, A.in_shape).numpy()
    assert info == 0 and np.allclose(
        v, np.linalg.solve(M.T @ M + 0.1 * np.eye(192), M.T @ b), atol=1e-9
    )
    B = from_scipy(L, A.in_shape, A.out_shape)
    assert torch.allclose(B(x), A(x)) and check_adjoint(B) < 1e-12
    assert to_scipy(A, np.float32).matvec(x.numpy().ravel()).dtype == np.float32


def test_deepinv_there_and_back():
    "In float32 and float64. The page on adapters says how to install deepinv beside torch."
    try:
        deepinv = load_deepinv()
    except ImportError as e:
        pytest.skip(str(e))
    A = task("sr", (2, 3, 8, 8))
    physics = to_deepinv(A)
    for dtype in (torch.float32, torch.float64):
        x = draw(2, 3, 8, 8, dtype=dtype)
        assert torch.allclose(physics.A(x), A(x)) and physics.A(x).dtype == dtype
        assert torch.allclose(physics.A_adjoint(A(x)), A.AT(A(x)))
        assert torch.allclose(physics.A_dagger(A(x)), 16 * A.AT(A(x)), atol=1e-3)
    for theirs in (
        deepinv.physics.Inpainting(img_size=(3, 8, 8), mask=0.5),
        deepinv.physics.BlurFFT((3, 8, 8), deepinv.physics.blur.gaussian_blur(1.0)),
        deepinv.physics.Downsampling((3, 8, 8), filter=None, factor=2),
    ):
        B = from_deepinv(theirs, (2, 3, 8, 8), torch.float32)
        x = draw(2, 3, 8, 8, dtype=torch.float32)
        assert torch.allclose(B(x), theirs.A(x)) and check_adjoint(B, tol=1e-5) < 1e-5
        assert B(x.double()).dtype == torch.float64
        verify(B)


def test_deepinv_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "deepinv", None)
    with pytest.raises(ImportError, match="pip install deepinv"):
        to_deepinv(Identity(S))


# anything else


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    T=st.integers(1, 6),
    H=st.integers(1, 9),
    W=st.integers(1, 9),
    window=st.integers(1, 9),
    boundary=st.sampled_from(BOUNDARIES),
    kernel=st.lists(st.floats(-1, 1), min_size=1, max_size=12),
    temporal=st.sampled_from(BOUNDARIES),
)
def test_any_blur_of_any_clip(T, H, W, window, boundary, kernel, temporal):
    A = Blur((T, 1, H, W), (kernel, [0.5, 0.5]), boundary) @ TemporalMean(
        (T, 1, H, W), window, temporal
    )
    check_adjoint(A, tol=1e-9)
    if A.spectrum() is not None:
        check_spectrum(A, tol=1e-9)
    B = Blur2d(
        (T, 1, H, W),
        torch.outer(torch.tensor(kernel, dtype=torch.float64), torch.tensor([0.5, 0.5])),
        boundary,
    )
    assert torch.allclose(B(draw(T, 1, H, W)), A.A(draw(T, 1, H, W)), atol=1e-11)


# the bases underneath


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (4, 6), (7, 3)])
def test_cosine_transforms_agree(shape):
    x = draw(2, 3, *shape)
    grad = x.clone().requires_grad_()
    assert torch.allclose(cosine.dct2(grad), cosine.dct2(x), atol=1e-12) and torch.allclose(
        cosine.idct2(grad), cosine.idct2(x), atol=1e-12
    )
    assert (
        torch.allclose(cosine.idct2(cosine.dct2(x)), x, atol=1e-12)
        and cosine.dct2(x.float()).dtype == torch.float32
    )
    keep = (-(-shape[0] // 2), -(-shape[1] // 2))
    low = cosine.dct2(x, keep)
    assert torch.allclose(low, cosine.dct2(x)[..., : keep[0], : keep[1]], atol=1e-12)
    full = torch.zeros_like(x)
    full[..., : keep[0], : keep[1]] = low
    assert torch.allclose(cosine.idct2(low, shape), cosine.idct2(full), atol=1e-12)
    assert torch.allclose(
        cosine.idct2(low.clone().requires_grad_(), shape), cosine.idct2(full), atol=1e-12
    )


@pytest.mark.parametrize("keep", [None, (70, 90), (1, 160), (128, 3)])
@pytest.mark.parametrize("threads", [1, 2])
def test_cosine_transforms_of_large_frames(keep, threads):
    """Frame by frame in buffers, in any layout, kept in part: scipy's numbers, and the energy of
    what was left out.
    """
    from scipy.fft import dctn, idctn

    before, x = torch.get_num_threads(), draw(3, 2, 128, 160)
    h, w = keep or (128, 160)
    want = torch.from_numpy(dctn(x.numpy(), axes=(-2, -1), norm="ortho"))
    full = torch.zeros_like(want)
    full[..., :h, :w] = want[..., :h, :w]
    back, left = (
        torch.from_numpy(idctn(full.numpy(), axes=(-2, -1), norm="ortho")),
        float((want - full).square().sum()),
    )
    kept = x.clone()
    try:
        torch.set_num_threads(threads)
        for v in (
            x,
            x.mT.contiguous().mT,
            torch.stack([x, x], -1)[..., 0],
            x.clone().requires_grad_(),
        ):
            got = cosine.dct2(v, keep, rest=(rest := []))
            assert torch.allclose(got, want[..., :h, :w], atol=1e-12) and rest == pytest.approx(
                [left], rel=1e-10, abs=1e-18
            )
            assert torch.allclose(cosine.idct2(got, (128, 160)), back, atol=1e-12)
        one = cosine.dct2(x.float(), keep, torch.float64)
        assert one.dtype == torch.float64 and torch.allclose(one, want[..., :h, :w], atol=1e-4)
        assert (
            cosine.dct2(x.float(), keep).dtype
            == cosine.idct2(one.float(), (128, 160)).dtype
            == torch.float32
        )
    finally:
        torch.set_num_threads(before)
    assert torch.equal(x, kept)


def test_blocks_are_the_means():
    x = draw(2, 3, 6, 9)
    B, full = bases.Blocks(3), bases.BlockCosine(3)
    assert torch.allclose(B.forward(x), 3 * torch.nn.functional.avg_pool2d(x, 3), atol=1e-13)
    assert torch.allclose(full.forward(x)[..., 0, 0], B.forward(x), atol=1e-12) and torch.allclose(
        full.inverse(full.forward(x)), x, atol=1e-12
    )
    c = draw(2, 3, 2, 3)
    assert torch.allclose(B.forward(B.inverse(c)), c, atol=1e-12)


@pytest.mark.parametrize("sigma", [0.4, 1.0, 1.5, 2.2, 3.0])
@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_a_narrow_gaussian_has_no_weights_too_small_for_its_precision(sigma, boundary):
    "They make a product tens of times as slow, and change it by less than rounding does."
    k = gaussian_kernel(61, sigma)
    m = convolution(k, 70, boundary)
    for transposed, matrix in ((False, m), (True, m.T)):
        for dtype, tol in ((torch.float32, 1e-6), (torch.float64, 0)):
            x = draw(2, 5, 70, dtype=dtype)
            bands = axis_bands(k, 70, boundary, transposed, x)
            weights = torch.cat([b[b != 0] for *_, b in bands.blocks]).abs()
            assert weights.min() >= torch.finfo(torch.float32).tiny or dtype == torch.float64
            off = bands.across(x).double() - x.double() @ matrix.T
            assert off.abs().max() <= max(tol, 1e-14)
        assert len(weights) == int((matrix != 0).sum())  # double precision keeps all


def test_the_gradient_of_a_kernel_passes_the_cut():
    k = torch.tensor(gaussian_kernel(31, 1.0), dtype=torch.float64).requires_grad_()
    x = draw(3, 40, dtype=torch.float32)
    axis_bands(k, 40, "symmetric", False, x).across(x).square().sum().backward()
    matrix = convolution(k, 40, "symmetric")
    (told,) = torch.autograd.grad((x.double() @ matrix.T).square().sum(), k)
    assert torch.allclose(k.grad, told, rtol=1e-4, atol=1e-4)
