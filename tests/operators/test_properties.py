"""What `describe` finds out about operators that declare nothing, and what `verify` refuses."""

import pytest
import torch
import torch.nn.functional as F
from own_operators import Bayer, Kernel, Plain, Radial, Rows, slanted
from steps.test_consistency import draw, off

from visionxl.extras.photographs.photo_spectrum import smooth_step
from visionxl.operators.blurs import FrameFilter
from visionxl.operators.fast.bases import Fourier
from visionxl.operators.fast.frames import cg_by_frame, frames_apart
from visionxl.operators.known.checks import verify, working_type
from visionxl.operators.known.probing import from_gram
from visionxl.operators.known.properties import describe, has_one_gain, kind_of
from visionxl.operators.sensors import bayer
from visionxl.operators.tasks import (
    TASKS,
    Blur,
    Blur2d,
    FrameMix,
    Mask,
    TemporalMean,
    check_adjoint,
    task,
)
from visionxl.steps.consistency import cg, proximal

SHAPE = (5, 3, 32, 48)


WRAPPED = {n: task(n, SHAPE, window=3, kernel_size=21) for n in TASKS}


@pytest.mark.parametrize("name", TASKS)
def test_a_task_without_declarations_is_recognised(name):
    A = WRAPPED[name]
    P = Plain(A)
    d = describe(P)
    assert (d.recipe, d.kind, d.temporal) == (name, kind_of(A), name.endswith("+"))
    x = draw(*SHAPE, seed=7)
    y, start = A(x), draw(*SHAPE, seed=8)
    assert off(d.operator(x), A(x)) < 1e-10 and d.measurement(y) is y
    check_adjoint(d.operator)
    calls = P.calls
    assert describe(P) is d and P.calls == calls <= 20, "tried once, and at low cost"
    for rho in (1e-2, 1e-8):
        assert off(proximal(P, y, start, rho), proximal(A, y, start, rho)) < 1e-6
        assert off(smooth_step(P, y, start, rho), smooth_step(A, y, start, rho)) < 1e-6
    if has_one_gain(A.spatial):
        assert has_one_gain(d.operator.spatial or d.operator), "gains are equal, not nearly equal"


@pytest.mark.parametrize("name", TASKS)
def test_a_bundled_task_is_believed(name):
    d = describe(WRAPPED[name])
    assert d.operator is WRAPPED[name] and d.recipe == name
    y = draw(*WRAPPED[name].out_shape)
    assert d.measurement(y) is y


OWN = {
    "slanted": (Kernel(SHAPE, slanted()), "blur", "blur"),
    "Bayer": (Bayer(SHAPE), "holes", "mosaic"),
    "rows": (Rows(SHAPE), "holes", "inpaint"),
    "radial": (Radial(SHAPE), "frequencies", "frequencies"),
    "flickering": (Plain(Mask(SHAPE, draw(5, 1, 32, 48) > 0)), "holes", "inpaint"),
    "circular": (Plain(Blur2d(SHAPE, draw(3, 5).abs() / 8, "circular")), "blur", "deblur"),
    "fourfold": (Plain(4 * task("sr", SHAPE)), "pooling", "sr"),
    "halved": (Plain(task("sr", SHAPE, factor=2)), "pooling", "halved"),
}


@pytest.mark.parametrize("name", OWN)
def test_operators_of_ones_own(name):
    A, kind, recipe = OWN[name]
    d = describe(A)
    assert (d.kind, d.recipe, d.temporal) == (kind, recipe, False)
    x, start = draw(*SHAPE, seed=7), draw(*SHAPE, seed=8)
    y = A(x)
    assert off(d.operator(x), d.measurement(y)) < 1e-9
    assert off(d.operator.AT(d.operator(x)), A.AT(y)) < 1e-9
    got = proximal(A, y, start, 0.1)
    gradient = A.AT(A(got) - y) + 0.1 * (got - start)
    assert float(gradient.norm()) < 1e-6 * float(A.AT(y).norm() + start.norm())
    smooth = smooth_step(A, y, start, 0.1)
    assert off(A(smooth), y) < off(A(start), y)


def test_a_mosaic_and_a_single_frame_are_no_usual_masks():
    mosaic, one = bayer(SHAPE), (1, *SHAPE[1:])
    for A in (mosaic, Plain(mosaic), mosaic @ Mask.random(SHAPE), bayer(one)):
        assert describe(A).recipe == "mosaic"
    assert describe(mosaic @ TemporalMean(SHAPE, 3)).recipe == "mosaic+"
    grey = (SHAPE[0], 1, *SHAPE[2:])
    for A in (task("inpaint", SHAPE), task("inpaint", grey)):
        assert describe(A).recipe == "inpaint", "all colours have the same holes"
    for A in (task("inpaint", one), Plain(task("inpaint", one))):
        assert describe(A).recipe == "still"
    assert describe(task("sr", one)).recipe == "sr"


def test_fewer_frames_than_before():
    A = task("inpaint+", (6, 1, 8, 8), window=3, temporal="valid")
    d = describe(Plain(A))
    x = draw(6, 1, 8, 8)
    assert d.recipe == "inpaint+" and off(d.operator(x), A(x)) < 1e-10
    assert has_one_gain(d.operator.spatial)
    product = Blur.gaussian((4, 1, 8, 8), 5, 1.0) @ FrameMix((6, 1, 8, 8), A.temporal.matrix)
    d = describe(product)
    assert d.recipe == "deblur+" and d.operator.spatial is not None, "its parts are found"


def test_gains_are_read_where_no_frequency_vanishes():
    """Frames of 9x9: the cosine of frequency 3 is 0 in the second pixel of each row and column, so
    only the first pixel tells all gains.
    """
    A = Blur.gaussian((2, 1, 9, 9), 3, 0.5)
    x = draw(2, 1, 9, 9)
    B, measured = from_gram(Plain(A), x)
    assert off(B.AT(B(x)), A.AT(A(x))) < 1e-9 and off(measured(A(x)), B(x)) < 1e-9
    d = describe(Plain(A))
    assert d.kind == "blur" and off(d.operator(x), A(x)) < 1e-9


def test_the_same_problem_with_noise():
    "A measurement that comes from A^T y keeps the noise's variance."
    for A in (Bayer(SHAPE), Rows(SHAPE)):
        d = describe(A)
        noise = draw(*A.out_shape, seed=3)
        kept = d.measurement(noise)
        assert float(kept.norm()) == pytest.approx(float(noise.norm()))


def test_what_fits_nothing_is_used_as_it_is():
    A = Plain(Mask.random(SHAPE) @ Blur.gaussian(SHAPE, 5, 1.0))
    d = describe(A)
    assert d.operator is A and d.kind == "blur" and d.recipe == "blur"
    x, y = draw(*SHAPE), A(draw(*SHAPE, seed=1))
    assert torch.equal(proximal(A, y, x, 0.1, 5), cg_by_frame(A, y, x, 5, 0.1)), "frames are apart"
    mixed = Plain(A.inner @ TemporalMean(SHAPE, 3))
    assert torch.equal(proximal(mixed, y, x, 0.1, 5), cg(mixed, y, x, 5, 0.1)[0])


def test_declared_kinds():
    A = Plain(Mask.random(SHAPE) @ Blur.gaussian(SHAPE, 5, 1.0))
    A.kind = "holes"
    assert describe(A).recipe == "inpaint" and A.calls == 0
    A = Plain(FrameMix(SHAPE, torch.eye(5)))
    A.kind = "holey"
    with pytest.raises(ValueError, match="choose one of blur"):
        describe(A)


def test_an_operator_in_float32_only():
    class Single(Plain):
        def forward(self, x):
            return F.conv2d(x, torch.full((3, 1, 3, 3), 1 / 9), groups=3, padding=1)

        def adjoint(self, y):
            return self.forward(y)

    A = Single(task("deblur", SHAPE))
    assert working_type(A).dtype == torch.float32
    d = describe(A)
    x = draw(*SHAPE).float()
    assert d.kind == "blur" and off(d.operator(x), A(x)) < 1e-5


def test_frame_filter_is_its_factors():
    A = FrameFilter((2, 1, 6, 5), torch.fft.fft2(draw(6, 5)), Fourier())
    check_adjoint(A)
    assert (
        off(
            A.spectrum().inverse(A.spectrum().values * A.spectrum().forward(draw(2, 1, 6, 5))),
            A.AT(A(draw(2, 1, 6, 5))),
        )
        < 1e-12
    )


class Clamped(Plain):
    def forward(self, x):
        return self.inner(x).clamp(-1, 1)


class Offset(Plain):
    def forward(self, x):
        return self.inner(x) + 0.1


class Halved(Plain):
    def adjoint(self, y):
        return self.inner.AT(y) / 2


@pytest.mark.parametrize(
    "make,message", [(Clamped, "is not linear"), (Offset, "is not linear"), (Halved, "adjoint")]
)
def test_wrong_operators_are_refused(make, message):
    A = make(task("sr", SHAPE))
    for call in (verify, describe):
        with pytest.raises(ValueError, match=message):
            call(A)
    with pytest.raises(ValueError, match="A.verified = True"):
        proximal(A, draw(*A.out_shape), draw(*SHAPE), 0.1)
    A.verified = True
    verify(A)
    assert describe(A).kind in ("pooling", "blur", "other")


class Bent(Plain):
    def forward(self, x):
        y = self.inner(x)
        return y + 1e-6 * (y / self.size).abs() * y


@pytest.mark.parametrize("size", [1e-9, 1.0, 1e9])
def test_the_size_of_an_operator_does_not_matter(size):
    "A straight one passes and a slightly bent one does not, in any unit of its measurement."
    straight, bent = (make(size * task("sr", SHAPE)) for make in (Plain, Bent))
    bent.size = size
    verify(straight)
    with pytest.raises(ValueError, match="is not linear"):
        verify(bent)


def test_bundled_operators_are_not_tried():
    for A in (*WRAPPED.values(), Blur.gaussian(SHAPE, 5, 1.0, "reflect"), 2 * WRAPPED["sr"]):
        assert A.verified
    assert not Plain(WRAPPED["sr"]).verified and not (2 * Plain(WRAPPED["sr"])).verified


def test_frames_that_are_mixed_are_found():
    "Whichever two frames disturb each other, and however little."
    for i, j in ((0, 1), (0, 2), (1, 3), (0, 4), (3, 4)):
        matrix = torch.eye(5, dtype=torch.float64)
        matrix[i, j] = 1e-3
        assert not frames_apart(Plain(FrameMix(SHAPE, matrix))), f"frames {i} and {j}"
    assert frames_apart(Plain(FrameMix(SHAPE, torch.eye(5)))) and frames_apart(Bayer(SHAPE))
    assert frames_apart(Plain(Blur((1, *SHAPE[1:]), (0.2, 0.8)))), "one frame has no other"


def test_frames_of_their_own_agree_with_the_matrix():
    A = Plain(Blur((3, 1, 6, 8), (0.5, 0.3, 0.2), "reflect"))
    y, x = draw(*A.out_shape), draw(*A.in_shape, seed=1)
    eye = torch.eye(48, dtype=torch.float64).view(48, 1, 6, 8)
    M = torch.cat([Blur((1, 1, 6, 8), (0.5, 0.3, 0.2), "reflect")(e[None]) for e in eye]).flatten(1)
    want = torch.linalg.solve(
        M @ M.T + 0.1 * torch.eye(48, dtype=torch.float64),
        (y.flatten(1) @ M.T + 0.1 * x.flatten(1)).T,
    ).T
    found = cg_by_frame(A, y, x, 200, 0.1).flatten(1)
    assert float((found - want).abs().max()) < 1e-10
    y[1] = 0
    x[1] = 0
    assert not cg_by_frame(A, y, x, 5)[1].any(), "a frame that is solved already stays as it is"
