"""The world of two numbers: its formulas against calculus, and the solver on a prior whose answers
are known.
"""

import pytest
import torch

from visionxl.operators.tasks import check_adjoint
from visionxl.prior.schedule import make_schedule
from visionxl.prior.toy import ToyPrior, Weigh, curve, frames, points, toy_alpha_bar
from visionxl.solver import solve
from visionxl.steps.consistency import Consistent
from visionxl.steps.inversion import invert
from visionxl.steps.tweedie import tweedie

PAIR = (1, 1, 2)


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def restored(prior, A, y, preset, changes=None, **kw):
    if preset == "paper":
        kw["result"] = Consistent()  # these tests ask for agreement with the measurement
    for state in solve(y, A, prior, preset, changes, **kw):
        pass
    return state.x


# ---------------------------------------------------------------- the prior


@pytest.mark.parametrize("t", [0, 1, 81, 281, 999])
def test_eps_is_the_gradient_of_the_log_density(t):
    prior, z = ToyPrior(), (0.6 * draw(40, 2, 1, 1)).requires_grad_()
    (grad,) = torch.autograd.grad(prior.log_density(z, t).sum(), z)
    ours = prior.eps(z.detach(), t)
    want = -((1 - float(prior.alpha_bar[t])) ** 0.5) * grad
    assert float((ours - want).abs().max()) < 1e-9 * float(want.abs().max())


@pytest.mark.parametrize("t", [121, 281, 601])
def test_density_is_a_density(t):
    g = torch.linspace(-4, 4, 241, dtype=torch.float64)
    mass = (
        ToyPrior().log_density(frames(torch.cartesian_prod(g, g)), t).exp().sum()
        * (g[1] - g[0]) ** 2
    )
    assert float(mass) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("t", [81, 281, 601])
def test_tweedie_is_the_posterior_mean_by_quadrature(t):
    "The clean point's mean, summed over a grid of candidates: no noise prediction in sight."
    prior, sd = ToyPrior(curve(9), sd=0.05), 0.05
    a = float(prior.alpha_bar[t])
    z = a**0.5 * prior.sample(6, torch.Generator().manual_seed(1)) + (1 - a) ** 0.5 * draw(
        6, 2, 1, 1
    )
    g = torch.linspace(-1.3, 1.3, 261, dtype=torch.float64)
    grid = torch.cartesian_prod(g, g)
    p = sum(torch.exp(-(grid - m).square().sum(-1) / (2 * sd**2)) for m in prior.means)
    w = torch.exp(-(points(z)[:, None] - a**0.5 * grid).square().sum(-1) / (2 * (1 - a))) * p
    assert (
        float(
            (points(tweedie(z, prior.eps(z, t), a)) - w @ grid / w.sum(1, keepdim=True)).abs().max()
        )
        < 1e-8
    )


def test_any_layout_and_precision():
    prior, p = ToyPrior(), curve(5).float()
    for layout in (2, 1, 1), (1, 1, 2), (1, 2, 1):
        e = prior.eps(frames(p, layout), 281)
        assert e.shape == (5, *layout) and e.dtype == torch.float32
        assert torch.equal(points(e), points(prior.eps(frames(p), 281)))
        assert prior.latent_shape(*layout[1:]) == layout


def test_samples_lie_on_the_band_and_follow_their_generator():
    prior = ToyPrior()
    x = prior.sample(4000, torch.Generator().manual_seed(0))
    assert torch.equal(x, prior.sample(4000, torch.Generator().manual_seed(0))) and x.shape == (
        4000,
        2,
        1,
        1,
    )
    assert float(torch.cdist(points(x), curve(2000)).min(1).values.mean()) < prior.sd
    assert float((points(x).mean(0) - prior.means.mean(0)).abs().max()) < 0.03
    assert prior.encode(x) is x and prior.decode(x) is x


def test_table_and_curve():
    a = toy_alpha_bar()
    assert len(a) == 1000 and bool((a.diff() < 0).all()) and 0 < float(a[-1]) < float(a[0]) < 1
    assert float((1 - a[281]) ** 0.5) == pytest.approx(0.2817, abs=1e-3)
    assert float(curve(101).abs().max()) <= 1 and torch.equal(
        curve(1), torch.zeros(1, 2, dtype=torch.float64)
    )


@pytest.mark.parametrize("w", [(1, 0), (0.5, 0.5), (-2, 0.3)])
@pytest.mark.parametrize("layout", [(2, 1, 1), PAIR])
def test_weigh_has_a_true_adjoint(w, layout):
    assert check_adjoint(Weigh(w, 3, layout)) < 1e-10


@pytest.mark.parametrize(
    "call,text",
    [
        (lambda: ToyPrior(sd=0.0), "sd=0.0"),
        (lambda: ToyPrior(torch.zeros(3)), r"\(3,\)"),
        (lambda: ToyPrior().eps(torch.zeros(1, 3, 1, 1), 1), "3 numbers"),
        (lambda: Weigh((0, 0)), "not both zero"),
        (lambda: Weigh((1, 2, 3)), "two weights"),
    ],
)
def test_refusals(call, text):
    with pytest.raises(ValueError, match=text):
        call()


# ---------------------------------------------------------------- all of Algorithm 1

MODES = 7


@pytest.mark.parametrize(
    "kw",
    [
        {"preset": "best"},
        {"preset": "paper", "changes": {"renoise.eta": 0.8}},
        {"preset": "paper", "changes": {"lowpass": "NoFilter", "renoise.scale": 0.6}},
    ],
)
def test_lands_on_the_right_mode_where_the_measurement_decides(kw):
    "Seven clean frames of two pixels, each known by its mean alone: no two have the same."
    prior, truth = ToyPrior(curve(MODES)), frames(curve(MODES), PAIR)
    A = Weigh((0.5, 0.5), MODES, PAIR)
    for seed in range(1 if kw["preset"] == "best" else 3):
        x = restored(prior, A, A(truth), seed=seed, **kw)
        assert torch.cdist(points(x), prior.means).argmin(1).tolist() == list(range(MODES))
        assert float(points(x - truth).norm(dim=1).mean()) < 0.06


@pytest.mark.parametrize(
    "kw,residual,share",
    [
        ({"preset": "best"}, 5e-3, 0.5),
        ({"preset": "paper", "changes": {"renoise.eta": 0.8}}, 1e-9, 0.35),
    ],
)
def test_result_satisfies_the_measurement_and_lies_near_the_truth(kw, residual, share):
    """`best` may miss the measurement by its slack, CG may not; both leave a fraction of the
    start's distance.
    """
    prior, truth = ToyPrior(), frames(curve(101)[10:91:10], PAIR)
    A = Weigh((0.5, 0.5), len(truth), PAIR)
    x = restored(prior, A, A(truth), **kw)
    start = points(A.AT(A(truth)) * 2 - truth).norm(dim=1).mean()
    assert float((A(x) - A(truth)).abs().max()) < residual
    assert float(points(x - truth).norm(dim=1).mean()) < share * float(start)


def test_full_noise_without_a_new_draw_remembers_where_it_began():
    "Why eta or noise_scale: with neither, the improbable start stays improbable."
    prior, truth = ToyPrior(), frames(curve(101)[10:91:10], PAIR)
    A = Weigh((0.5, 0.5), len(truth), PAIR)

    def away(scale):
        changes = {"lowpass": "NoFilter", "renoise.eta": 0.0, "renoise.scale": scale}
        x = restored(prior, A, A(truth), "paper", changes)
        return float(points(x - truth).norm(dim=1).mean())

    assert away(1.0) > 3 * away(0.6)


def test_what_the_measurement_leaves_open_the_start_decides():
    """Two clean frames that differ only in the unseen pixel: inversion keeps to the one on whose
    side it begins.
    """
    prior = ToyPrior([[0.3, -0.5], [0.3, 0.5]], sd=0.05)
    s, begin = (
        make_schedule(prior.alpha_bar),
        frames(torch.tensor([[0.3, -0.3], [0.3, 0.3]], dtype=torch.float64)),
    )
    assert points(invert(begin, prior, s))[:, 1].sign().tolist() == [-1, 1]


def test_one_start_one_answer():
    prior, truth = ToyPrior(), frames(curve(101)[20:81:20], PAIR)
    A = Weigh((0.5, 0.5), len(truth), PAIR)

    def run(seed):
        return restored(prior, A, A(truth), "paper", {"renoise.eta": 0.5}, seed=seed)

    assert torch.equal(run(1), run(1)) and not torch.equal(run(1), run(2))


def test_frames_do_not_disturb_each_other():
    """Without a temporal operator, shared noise, a start that looks along time (total variation)
    and the one share of the prior that holds for a clip, a frame's answer is the same alone and in
    company.
    """
    prior, truth = ToyPrior(), frames(curve(101)[20:81:20], PAIR)
    changes = {"result": "Consistent", "start.what": "Regularised"}
    both = restored(
        prior,
        Weigh((0.5, 0.5), 4, PAIR),
        Weigh((0.5, 0.5), 4, PAIR)(truth),
        "best",
        changes,
    )
    alone = restored(
        prior,
        Weigh((0.5, 0.5), 1, PAIR),
        Weigh((0.5, 0.5), 1, PAIR)(truth[2:3]),
        "best",
        changes,
    )
    assert float((both[2:3] - alone).abs().max()) < 1e-12
