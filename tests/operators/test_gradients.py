"""Operators and solvers under autograd, in batches, in short and complex types."""

import pytest
import torch
from own_operators import Bayer, Plain, Radial, slanted
from steps.test_consistency import draw, off
from torch.autograd import gradcheck as full_gradcheck

from visionxl.extras.photographs.photo_spectrum import smooth_step
from visionxl.operators.fast.spectral import spectral_cg
from visionxl.operators.given import as_operator
from visionxl.operators.known.checks import verify
from visionxl.operators.known.properties import describe
from visionxl.operators.linear import LinearOperator
from visionxl.operators.tasks import (
    TASKS,
    AveragePool,
    Blur,
    Blur2d,
    FrameMix,
    Mask,
    check_adjoint,
    task,
)
from visionxl.steps.consistency import cg, data_consistency, proximal

SHAPE = (3, 1, 4, 4)
SIX = {n: task(n, SHAPE, window=3, kernel_size=3, sigma=0.8) for n in TASKS}


def gradcheck(f, inputs, **kw):
    "Along one random direction: all of them would take minutes."
    return full_gradcheck(f, inputs, fast_mode=True, **kw)


def asked(v):
    return v.clone().requires_grad_(True)


@pytest.mark.parametrize("name", TASKS)
def test_operators_and_solvers_in_their_videos(name):
    A = SIX[name]
    y, x = asked(draw(*A.out_shape)), asked(draw(*SHAPE, seed=1))
    assert gradcheck(A, (x,)) and gradcheck(A.AT, (y,))
    assert gradcheck(lambda y, x: proximal(A, y, x, 0.3), (y, x))
    assert gradcheck(lambda y, x: spectral_cg(A, y, x, 2)[0], (y, x))
    assert gradcheck(lambda y, x: cg(A, y, x, 2)[0], (y, x))
    assert gradcheck(lambda y, x: smooth_step(A, y, x, 0.3, 60), (y, x), atol=1e-4)
    for rho in (None, 0.3):
        with torch.no_grad():
            want = data_consistency(A, y, x, 3, rho)
        assert off(data_consistency(A, y, x, 3, rho).detach(), want) < 1e-8


MAKERS = {
    "mask": (draw(4, 4).abs(), lambda w: Mask(SHAPE, w)),
    "frame mix": (draw(2, 3), lambda m: FrameMix(SHAPE, m)),
    "blur": (draw(3).abs(), lambda k: Blur(SHAPE, k, "reflect")),
    "two blurs": (draw(3).abs(), lambda k: Blur(SHAPE, (k, k.flip(0)), "circular")),
    "kernel": (draw(3, 3).abs() / 5, lambda k: Blur2d(SHAPE, k, "symmetric")),
    "kernel in a ring": (draw(3, 3).abs() / 5, lambda k: Blur2d(SHAPE, k, "circular")),
    "after a mean": (
        draw(3, 3).abs() / 5,
        lambda k: AveragePool(SHAPE, 2) @ Blur2d(SHAPE, k, "replicate"),
    ),
    "a function": (
        draw(1, 1, 3, 3),
        lambda k: LinearOperator.from_function(
            lambda x: torch.nn.functional.conv2d(x, k.to(x), padding=1), SHAPE
        ),
    ),
}


@pytest.mark.parametrize("name", MAKERS)
def test_in_what_an_operator_is_made_of(name):
    value, make = MAKERS[name]
    A = make(value)
    y, x = draw(*A.out_shape, seed=2), draw(*SHAPE, seed=1)
    p = asked(value)
    assert gradcheck(lambda p: make(p)(x), (p,))
    assert gradcheck(lambda p: make(p).AT(y), (p,))
    assert gradcheck(lambda p: cg(make(p), y, x, 2, 0.2)[0], (p,))
    assert gradcheck(lambda p: proximal(make(p), y, x, 0.3, 4), (p,))
    with torch.no_grad():
        assert off(make(p)(x), A(x)) < 1e-12


def test_a_found_operator_does_not_swallow_a_gradient():
    "What is recognised as a blur still asks the function itself where its kernel learns."
    k = asked(torch.full((1, 1, 3, 3), 1 / 9, dtype=torch.float64))
    A = LinearOperator.from_function(
        lambda x: torch.nn.functional.conv2d(x, k.to(x), padding=1), (2, 1, 16, 16)
    )
    y, x = draw(2, 1, 16, 16), draw(2, 1, 16, 16, seed=1)
    proximal(A, y, x, 0.5, 5).square().sum().backward()
    assert k.grad is not None and float(k.grad.norm()) > 0
    d = describe(A)
    assert d.operator is A and d.kind == "blur"


@pytest.mark.parametrize("name", TASKS)
def test_a_batch_is_its_clips(name):
    A = SIX[name]
    xs = draw(2, *SHAPE)
    ys = A(xs)
    assert torch.equal(ys, torch.stack([A(x) for x in xs])) and A.AT(ys).shape == xs.shape
    for f in (
        lambda y, x: proximal(A, y, x, 0.3),
        lambda y, x: data_consistency(A, y, x, 3),
        lambda y, x: cg(A, y, x, 3)[0],
        lambda y, x: smooth_step(A, y, x, 0.3),
    ):
        got = f(ys, -xs)
        assert torch.equal(got, torch.stack([f(y, -x) for y, x in zip(ys, xs)]))
    assert torch.equal(proximal(A, ys, None, 0.3)[1], proximal(A, ys[1], None, 0.3))
    histories = cg(A, ys, -xs, 3)[1]
    assert [len(h) for h in histories] == [len(cg(A, y, -x, 3)[1]) for y, x in zip(ys, xs)]
    assert A(xs[:0]).shape == (0, *A.out_shape)
    with pytest.raises(ValueError, match="give one each"):
        proximal(A, ys, xs[:1], 0.3)


@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_short_floats(name, dtype):
    A = SIX[name]
    x = draw(*SHAPE).to(dtype)
    y = A(x)
    assert y.dtype == dtype and A.AT(y).dtype == dtype
    for got, want in (
        (y, A(x.float())),
        (proximal(A, y, x, 0.1), proximal(A, y.float(), x.float(), 0.1)),
        (data_consistency(A, y, x, 2), data_consistency(A, y.float(), x.float(), 2)),
        (smooth_step(A, y, x, 0.1), smooth_step(A, y.float(), x.float(), 0.1)),
    ):
        assert got.dtype == dtype and off(got.float(), want) < 0.01


class Spectral(LinearOperator):
    "Every second row of frequencies, as complex numbers."

    def __init__(self, shape):
        T, C, H, W = shape
        self.in_shape, self.out_shape = tuple(shape), (T, C, H // 2, W)

    def forward(self, x):
        return torch.fft.fft2(x, norm="ortho")[..., ::2, :]

    def adjoint(self, y):
        full = torch.zeros(self.in_shape, dtype=y.dtype)
        full[..., ::2, :] = y
        return torch.fft.ifft2(full, norm="ortho").real


def test_complex_measurements():
    A, x = Spectral((2, 1, 8, 6)), draw(2, 1, 8, 6)
    verify(A)
    y, start = A(x), draw(2, 1, 8, 6, seed=1)
    assert y.is_complex()
    got = proximal(A, y, start, 0.1)
    assert got.dtype == torch.float64
    assert float((A.AT(A(got) - y) + 0.1 * (got - start)).norm()) < 1e-9
    assert off(cg(A, y, start, 30, 0.1)[0], got) < 1e-8
    assert off(A(smooth_step(A, y, start, 1e-3)), y) < 0.01
    assert describe(A).kind == "frequencies"
    with pytest.raises(TypeError, match="a video is real"):
        A(x + 0j)
    with pytest.raises(ValueError, match="bring both to one"):
        cg(A, y, start.float())
    F = LinearOperator.from_function(A.forward, A.in_shape)
    verify(F)
    assert off(F.AT(y), A.AT(y)) < 1e-12


def test_from_function_is_an_operator():
    k = slanted(5)[None, None].expand(3, 1, 5, 5)

    def blurred(x):
        return torch.nn.functional.conv2d(x, k.to(x), padding=2, groups=3)[..., ::2]

    A = LinearOperator.from_function(blurred, (2, 3, 12, 16))
    assert A.out_shape == (2, 3, 12, 8) and check_adjoint(A) < 1e-12
    x = draw(2, 3, 12, 16).float()
    assert A(x).dtype == torch.float32 and not A.AT(A(x)).requires_grad
    with torch.inference_mode():
        inside = A.AT(A(x))
    assert torch.equal(inside.clone(), A.AT(A(x)))
    assert repr(A) == "from_function(blurred, 2x3x12x16 -> 2x3x12x8)"


def test_to_moves_what_an_operator_holds():
    A = Bayer((2, 3, 8, 8))
    describe(A)
    B = A.to(dtype=torch.float32)
    assert B.kept.dtype == torch.float32 and A.kept.dtype == torch.float64 and B is not A
    P = Plain(A).to(dtype=torch.float32)
    assert P.inner.kept.dtype == torch.float32
    assert SIX["sr"].to("cpu") is SIX["sr"]
    assert B.to("meta").kept.device.type == "meta"
    assert Radial((1, 1, 8, 8)).to(dtype=torch.float32).kept.dtype == torch.bool


@pytest.mark.parametrize(
    "given,message",
    [
        (lambda x: x, "from_function"),
        (torch.nn.Conv2d(1, 1, 3), "from_function"),
        (torch.eye(3), "from_scipy"),
        ("sr", "task"),
        (type("P", (), {"A": 1, "A_adjoint": 2})(), "from_deepinv"),
        ({"task": "sr"}, "derive its class"),
    ],
)
def test_what_is_no_operator_says_how_to_make_one(given, message):
    for call in (as_operator, verify, describe):
        with pytest.raises(TypeError, match=message):
            call(given)
    with pytest.raises(TypeError, match=message):
        proximal(given, draw(3), draw(3), 0.1)
