"""A bench of one's own: methods, operators, priors and metrics that nobody foresaw, run once."""

import math

import pytest
import torch

from visionxl import video
from visionxl.measure import tables as T
from visionxl.measure.experiment import grid as G
from visionxl.measure.experiment import identity as I
from visionxl.measure.experiment import methods as M
from visionxl.measure.experiment import plain_priors as P
from visionxl.operators.tasks import task
from visionxl.steps.tweedie import tweedie

SMALL = {"size": 48, "frames": 3, "metrics": ("PSNR", "SSIM")}


def clips():
    x = video.sample("flower", 3).x[..., ::4, ::4].contiguous()  # (3, 3, 48, 80)
    return {"flower": x, "mirrored": x.flip(-1)}


def half(y, A):
    return 0.5 * A.AT(y)


def grid(folder, said, **kw):
    given = {"clips": clips(), "operators": ("deblur",), "methods": ("cg",)} | SMALL | kw
    return G.Grid(folder, say=said.append, **given)


def test_everything_is_run_once_and_killed_runs_go_on(tmp_path):
    said, again = [], []
    first = iter(grid(tmp_path, said, methods=("measured", "cg", half)))
    for _ in range(4):
        next(first)
    rows = list(grid(tmp_path, again, methods=("measured", "cg", half)))
    assert len(said) == 4 and len(again) == 2 and len(rows) == 6
    assert {r["method"] for r in rows} == {"measured", "cg", "half"}
    assert all(set(r) >= {"task", "clip", "PSNR", "SSIM", "seconds"} for r in rows)
    assert not list(tmp_path.glob("*.part"))


def test_a_changed_method_gets_new_rows_in_a_file_and_its_helpers_too(tmp_path):
    file, said = tmp_path / "my.py", []
    text = "K = {k}\ndef helper(y):\n    return K * y\n\n"
    text += "def f(y, A):\n    {c}return helper(A.AT(y))\n"
    values = []
    for k, comment in ((1, ""), (1, "'a docstring'\n    "), (2, "")):
        file.write_text(text.format(k=k, c=comment))
        rows = list(grid(tmp_path / "cells", said, methods={"mine": f"{file}:f"}))
        values.append(rows[0]["PSNR"])
    assert values[0] == values[1] != values[2]
    assert len(said) == 4, "a docstring changes nothing, a constant in a helper does"


def test_closures_defaults_and_partials_count():
    from functools import partial

    def make(k):
        def f(y, A, s=1):
            return k * y

        return f

    assert I.identity(make(1)) == I.identity(make(1)) != I.identity(make(2))
    assert I.identity(partial(half, A=1)) != I.identity(partial(half, A=2))
    a, b = make(1), make(1)
    b.__defaults__ = (2,)
    assert I.identity(a) != I.identity(b)


def test_identity_of_objects_is_what_they_hold():
    class Box:
        def __init__(self, v):
            self.v = v

    t = torch.arange(3.0)
    assert I.identity(Box(t)) == I.identity(Box(t.clone())) != I.identity(Box(t + 1))
    net = torch.nn.Conv2d(1, 1, 3)
    before = I.identity(net)
    net.weight.data += 1
    assert I.identity(net) != before
    loop = Box(None)
    loop.v = [loop, t]
    assert I.identity(loop) == I.identity(loop)


def test_own_operator_prior_and_metric(tmp_path):
    def bright(shape):
        return task("sr", shape, factor=2)

    def worst(x_true, x):
        return (x_true - x).abs().max()

    said = []
    g = grid(
        tmp_path,
        said,
        operators={"half size": bright},
        methods=("measured", "paper"),
        priors={"nothing": P.DenoiserPrior(P.keep), "dct": "dct prior"},
        metrics={"PSNR": "PSNR", "worst": worst},
    )
    rows = g.table()
    assert [(r["method"], r["prior"]) for r in rows] == [
        ("measured", "none"),
        ("paper", "nothing"),
        ("paper", "dct"),
    ]
    assert all(r["worst"] > 0 and "SSIM" not in r for r in rows)
    assert rows[1]["PSNR"] != rows[2]["PSNR"], "the prior must make a difference"
    assert rows[0]["PSNR se"] > 0
    assert "half size" in T.table(rows)


def test_unknown_names_say_what_there_is(tmp_path):
    with pytest.raises(ValueError, match="my_operator.py:make"):
        G.find_operator("magic")
    with pytest.raises(ValueError, match="my_method.py:f"):
        M.find_method("magic")
    with pytest.raises(TypeError, match="makes no operator"):
        G.find_operator(3)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        M.find_method(str(tmp_path / "none.py:f"))
    with pytest.raises(TypeError, match="it takes none"):
        M.run_method(half, torch.zeros(1), lambda x: x, depth=3)


def test_method_is_given_only_what_it_asks_for():
    A = task("deblur", (2, 3, 16, 16))
    y = A(torch.rand(A.in_shape))
    asked = {}

    def f(y, A, seed, prior):
        asked.update(seed=seed, prior=prior)
        return y

    M.run_method(f, y, A, prior="p", seed=7)
    assert asked == {"seed": 7, "prior": "p"}
    with pytest.raises(ValueError, match="is wanted"):
        M.run_method(lambda y, A: y[:1], y, A)


@pytest.mark.parametrize("name", ["no prior", "blur prior", "dct prior"])
def test_plain_priors_are_tweedie_of_their_denoiser(name):
    class Identity(P.DenoiserPrior):
        "An autoencoder that changes nothing, so that latents are pixels."

    space = Identity(P.keep)
    prior = P.DenoiserPrior(P.PLAIN_PRIORS[name], None if name == "dct prior" else space)
    x = torch.rand(2, 3, 24, 32) * 2 - 1
    for t in (5, 120, 400):
        a = float(prior.alpha_bar[t])
        sigma = ((1 - a) / a) ** 0.5
        z = a**0.5 * x + (1 - a) ** 0.5 * torch.randn(x.shape)
        want = P.PLAIN_PRIORS[name](z / a**0.5, sigma)
        got = prior.decode(tweedie(z, prior.eps(z, t), a))
        assert (got - want).abs().max() < 1e-4 * max(1, want.abs().max())


def test_dct_denoiser_is_orthonormal_and_denoises():
    basis = P.dct_basis().flatten(1)
    assert (basis @ basis.T - torch.eye(64)).abs().max() < 1e-12
    x = video.sample("flower", 1).x[:, :, ::2, ::2]
    noisy = x + 0.2 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    out = P.dct_threshold(noisy, 0.2)
    assert (out - x).square().mean() < 0.35 * (noisy - x).square().mean()
    assert (P.dct_threshold(x, 0.0) - x).abs().max() < 1e-5


def test_memory_is_that_of_the_run():
    with G.Peak("cpu") as first:
        big = torch.ones(2**27)  # half a GiB
    del big
    with G.Peak("cpu") as second:
        pass
    if math.isnan(first.gb):
        pytest.skip("this system does not say how much memory a process held")
    assert first.gb - second.gb > 0.4, "the mark must be set back between cells"


def test_tables_in_four_forms():
    rows = [
        {"method": "a_b", "PSNR": 30.0, "PSNR se": 0.5, "n": 3, "clips": [1]},
        {"method": "c", "PSNR": 31.0, "PSNR se": 0.25, "n": 3, "clips": [2]},
    ]
    text = T.table(rows).splitlines()
    assert text[0].split() == ["method", "PSNR", "n"] and "31.00 ± 0.25" in text[3]
    assert len({len(line) for line in text}) == 1, "columns are aligned"
    assert "| c | **31.00** ± 0.25 |" in T.markdown(rows)
    assert r"a\_b & 30.00 $\pm$ 0.50 & 3.000 \\" in T.latex(rows)
    assert r"\textbf{31.00} $\pm$ 0.25" in T.latex(rows)
    with pytest.raises(ValueError, match="at least one row"):
        T.table([])


def test_pandas_table_where_pandas_is():
    pandas = pytest.importorskip("pandas")
    found = T.frame([{"method": "a", "PSNR": 30.0, "PSNR se": 0.5, "clips": []}])
    assert isinstance(found, pandas.DataFrame)
    assert list(found.columns) == ["method", "PSNR", "PSNR se"] and found.PSNR[0] == 30.0


def test_without_pandas_the_remedy_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="pip install pandas"):
        T.frame([{"method": "a"}])
