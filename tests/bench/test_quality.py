"""The table of bench/quality.py, made again: another seed, its frames, and the public page."""

import json
import re
from pathlib import Path

import pytest

from visionxl import video
from visionxl.measure.experiment.methods import about_the_top
from visionxl.measure.tables import best_of, number, swapped
from visionxl.prior.latent import Prior

ROOT = Path(__file__).resolve().parents[2]
ASSETS = Path(video.__file__).parent / "assets"
KEPT = sorted(
    f
    for kind in ("quality", "solvers", "patches")
    for f in ROOT.glob(f"bench/results/{kind}_*.json")
)


@pytest.fixture(autouse=True)
def paths(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    monkeypatch.syspath_prepend(str(ROOT / "tools"))


def made(folder, seed):
    "A small table: one clip, inpainting, three rows."
    import quality

    asked = f"--size 48 --frames 3 --count 1 --tasks inpaint --seed {seed} --priors"
    asked += f" --methods measured admm_tv best --clips {ASSETS} --out {folder}"
    folder.mkdir(exist_ok=True)
    assert quality.main(asked.split()) == 0
    return json.loads((folder / "quality_48.json").read_text())


def test_another_seed_is_another_mask_and_the_same_ordering(tmp_path, capsys):
    import reseeded

    first, other = made(tmp_path / "a", 0), made(tmp_path / "b", 1)
    figures = [{r["method"]: r["PSNR"] for r in run["rows"]} for run in (first, other)]
    assert all(figures[0][m] != figures[1][m] for m in figures[0])
    for by in figures:
        assert sorted(by, key=by.get) == ["measured", "admm_tv", "best"]
    spreads = reseeded.compare([first, other])
    assert (spreads["seeds"], spreads["turned"]) == ([0, 1], [])
    row = next(r for r in spreads["rows"] if (r["method"], r["metric"]) == ("best", "PSNR"))
    gap = figures[0]["best"] - figures[1]["best"]
    assert row["spread"] == pytest.approx(abs(gap) / 2**0.5)  # the deviation of two figures
    assert "Pairs of methods that change their order with the seed: 0 of" in reseeded.page(spreads)
    row |= {"means": [30.0, 31.0], "se": 0.5}
    assert reseeded.moved_far(row) == "best on inpaint in PSNR (1.00)"
    assert not reseeded.moved_far(row | {"se": 1.5})
    with pytest.raises(ValueError, match="differ in size"):
        reseeded.compare([first, other | {"size": 47}])
    again = made(tmp_path / "c", 0)
    for a, b in zip(first["rows"], again["rows"]):
        assert a | {"seconds": 0} == b | {"seconds": 0}, "the same seed is the same table"


def test_frames_lie_behind_every_row(tmp_path):
    import results
    from PIL import Image

    run = made(tmp_path / "a", 0)
    (strip,) = run["frames_of"].values()
    assert strip["of"] == ["clean", "measured", "admm_tv", "best"]
    image = Image.open(tmp_path / "a" / strip["file"])
    assert image.width == strip["columns"] * strip["tile"][0]
    page = results.write(tmp_path / "page", [tmp_path / "a" / "quality_48.json"])
    assert (tmp_path / "page" / strip["file"]).is_file()
    data = embedded(page)
    assert [r[:3] for r in data["rows"]] == [
        ["inpaint", r["clip"], r["method"]] for r in run["rows"]
    ]
    assert set(data["frames"]) == {"48 rows, 3 frames, seed 0/inpaint/" + run["rows"][0]["clip"]}


def test_rows_in_patches_are_named_and_found_again():
    import quality

    asked = ["--methods", "svi", "diffir2vr", "best", "--priors", "--patches", "64"]
    a = quality.parser().parse_args(asked)
    lines = quality.lines_of(a)
    keys = ["svi", "diffir2vr", "best", "svi, patches of 64", "diffir2vr, patches of 64"]
    assert [line.key for line in lines] == keys
    assert [quality.line_of(line.key).label for line in lines] == [line.label for line in lines]
    assert [line.changes for line in lines[3:]] == [
        {"networks": quality.InPatches(64)},
        {"networks.side": 64},
    ]


def test_best_without_its_network_keeps_what_belongs_to_the_prior():
    import torch
    from without_network import in_place

    from visionxl.extras.best import best
    from visionxl.presets import choose

    white, x = Prior.load("white"), torch.rand(1, 3, 16, 16) * 2 - 1
    found = in_place(white)
    z = white.encode(x)
    for prior in found.values():
        assert choose(best, "sr", prior=prior) == choose(best, "sr", prior=white)
        assert torch.equal(prior.encode(x), z)
    a = float(white.alpha_bar[200])
    assert found["no prior"].eps(a**0.5 * z, 200).abs().max() < 1e-5
    # on the pixels a constant frame has no detail to lose
    grey = white.encode(torch.full_like(x, 0.3))
    for prior in found.values():
        assert prior.eps(a**0.5 * grey, 200).abs().max() < 1e-4
    assert "white" not in vars(in_place(Prior.load("tiny"))["no prior"])


def test_every_kept_table_is_that_of_its_figures(tmp_path, capsys):
    import tables

    assert tables.main(["--check"]) == 0, capsys.readouterr().out + "run python bench/tables.py"
    kept = json.loads((ROOT / "bench/results/quality_384_white.json").read_text())
    kept["rows"][0]["PSNR"] += 1
    (tmp_path / "quality_384_white.json").write_text(json.dumps(kept))
    asked = ["--folder", str(tmp_path)]
    assert tables.main([*asked, "--check"]) == 1 and not list(tmp_path.glob("*.md"))
    assert (tables.main(asked), tables.main([*asked, "--check"])) == (0, 0)


@pytest.mark.parametrize("file", KEPT, ids=lambda f: f.stem)
def test_every_kept_table_has_the_perceptual_metrics(file):
    from visionxl.measure.metrics import MIN_FRAMES

    kept = json.loads(file.read_text())
    assert all("LPIPS" in r for r in kept["rows"])
    if kept["frames"] >= MIN_FRAMES:
        assert set(kept["fvd"]) == {f"{r['task']}/{r['method']}" for r in kept["rows"]}
    # a mean is of all clips in every row
    clips: dict = {}
    for r in kept["rows"]:
        clips.setdefault((r["task"], r["method"]), []).append(r["clip"])
    assert all(mine == kept["clips"] for mine in clips.values())


def test_a_table_of_the_paper_is_kept_with_its_page(tmp_path, capsys):
    import tables

    from visionxl.measure.reproduction.paper import TABLE2
    from visionxl.measure.reproduction.report import report

    rows = [
        {"row": r.label, "PSNR (paper)": r.paper["PSNR"], "PSNR": 30 + i / 3, "each": []}
        for i, r in enumerate(TABLE2.rows)
    ]
    report("table2", TABLE2, rows, ["Seed 0."], tmp_path)
    asked = ["--keep", str(tmp_path / "table2.json"), "paper_table2", "--folder", str(tmp_path)]
    assert tables.main(asked) == 0
    page = (tmp_path / "paper_table2.md").read_text()
    assert page == (tmp_path / "table2.md").read_text()
    assert "inversion beats batch-synchronised noise: agrees in PSNR (+0.33)" in page
    assert '"PSNR": 30.3333,' in (tmp_path / "paper_table2.json").read_text()


def test_table_3_by_layouts_is_that_of_the_kept_figures(tmp_path):
    import quality
    import tables
    from kept import write_json

    results = ROOT / "bench/results"
    kept = json.loads((results / "quality_192_white.json").read_text())
    for name in quality.LAYOUTS:
        made = tmp_path / f"paper_table3_{name}.json"
        write_json(tables.table3(kept, name), made, "rows", "orderings")
        assert made.read_text() == (results / made.name).read_text(), (
            "run --layouts quality_192_white"
        )


def embedded(page):
    "The rows inside the page."
    text = re.search(r'type="application/json">(.*?)</script>', page.read_text(), re.S)[1]
    return json.loads(text)


def test_the_public_page_has_every_kept_row_and_needs_no_network(tmp_path):
    import results

    page = results.write(tmp_path)
    text, data = page.read_text(), embedded(page)
    files = [f for kind in results.KINDS for f in (ROOT / "bench/results").glob(f"{kind}_*.json")]
    kept = [json.loads(f.read_text()) for f in files]
    clips = [r for r in data["rows"] if r[1] != results.MEAN]
    assert len(clips) == sum(len(run["rows"]) for run in kept)
    assert not re.search(r"""(src|href)=["']?(https?:)?//|import\(|fetch\(""", text)
    for strip in data["frames"].values():
        assert (tmp_path / strip["file"]).is_file()
    means = [r for r in data["rows"] if r[1] == results.MEAN]
    assert len(means) == len({(r[0], r[2], r[3]) for r in clips})


def test_rows_of_others_are_added_or_refused_with_a_remedy(tmp_path, capsys):
    import results

    mine = {"size": 96, "frames": 9, "seed": 0}
    mine["rows"] = [{"task": "sr", "method": "mine", "clip": "coffee", "PSNR": 30.0}]
    (tmp_path / "mine.json").write_text(json.dumps(mine))
    data = embedded(results.write(tmp_path / "page", [tmp_path / "mine.json"]))
    assert data["rows"] == [
        ["sr", "coffee", "mine", "96 rows, 9 frames, seed 0", 30.0] + [None] * 8
    ]
    del mine["rows"][0]["clip"]
    (tmp_path / "mine.json").write_text(json.dumps(mine))
    assert results.main([str(tmp_path / "mine.json"), "-o", str(tmp_path / "page")]) == 1
    assert "row 0 of" in capsys.readouterr().err


@pytest.mark.parametrize("width", [390, 1400])
def test_the_page_sorts_filters_and_shows_frames(tmp_path, width):
    import results
    from repo.browser import errors, open_chromium, screen

    page = results.write(tmp_path)
    browser = open_chromium(width)
    try:
        screen(browser, width, mobile=width < 500)
        browser.get(page.as_uri())
        find = browser.find_elements
        assert len(find("css selector", "tbody tr")) > 5
        wide = browser.execute_script("return document.documentElement.scrollWidth")
        assert wide <= browser.execute_script("return innerWidth"), "the page scrolls sideways"
        for name, value in (("task", "sr"), ("clip", "coffee"), ("metric", "PSNR")):
            (option,) = find("css selector", f"select[name='{name}'] option[value='{value}']")
            option.click()
        psnr = [float(td.text) for td in find("css selector", "tbody td.n")]
        assert len(psnr) > 5 and psnr == sorted(psnr, reverse=True)
        for head in find("css selector", "thead button"):
            if head.text.startswith("PSNR"):
                head.click()
                break
        assert [float(td.text) for td in find("css selector", "tbody td.n")] == sorted(psnr)
        find("css selector", "tbody a")[0].click()
        assert browser.execute_script("return document.querySelector('dialog').open")
        assert len(find("css selector", "dialog figure")) >= 2
        assert not errors(browser)
    finally:
        browser.quit()


def test_small_figures_do_not_print_as_zero():
    assert [number(v, "residual") for v in (6.1e-8, 0.0, 0.0123)] == ["6e-8", "0.0000", "0.0123"]
    assert best_of([{"residual": 6e-8}, {"residual": 2e-8}]) == {"residual": "0.0000"}


def test_orderings_that_differ_are_named():
    rows = [
        {"method": "a", "LPIPS": 0.1, "ST-LPIPS": 0.3},
        {"method": "b", "LPIPS": 0.2, "ST-LPIPS": 0.2},
        {"method": "c", "LPIPS": 0.3, "ST-LPIPS": 0.4},
        {"method": "d", "LPIPS": float("nan"), "ST-LPIPS": 0.1},
    ]
    assert swapped(rows) == (["a before b"], 3)


def test_a_prior_that_ends_below_pure_noise_is_named():
    tiny = Prior.load("tiny", device="cpu")
    (said,) = about_the_top(tiny, ["svi", "best", "dps"])
    assert "ends at timestep 449 of 1000: svi, dps start at 441" in said
    assert about_the_top(tiny, ["best", "paper"]) == []
