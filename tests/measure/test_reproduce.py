"""Evaluate and reproduce: files in, tables out, and a killed run goes on where it was."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from visionxl import video
from visionxl.measure import clip_metrics, evaluate_command
from visionxl.measure import evaluate as E
from visionxl.measure import metrics as M
from visionxl.measure import tables as T
from visionxl.measure.experiment import grid as C
from visionxl.measure.reproduction import command as command
from visionxl.measure.reproduction import judge as J
from visionxl.measure.reproduction import reproduce as R
from visionxl.prior.schedule import scaled_linear

CHANGE = "lowpass.lam"  # a setting of `paper` whose default is 2


class Blocks:
    """A prior without weights: latents are 4x4 means, the noise predicted is what the latents are
    above their blur.
    """

    alpha_bar, t_max, factor, channels, device = scaled_linear(), 450, 4, 3, torch.device("cpu")

    def latent_shape(self, h, w):
        return self.channels, h // 4, w // 4

    def encode(self, x, generator=None):
        return F.avg_pool2d(x, 4)

    def decode(self, z):
        return F.interpolate(z, scale_factor=4, mode="bilinear")

    def eps(self, z, t):
        a = float(self.alpha_bar[t])
        return (z - F.avg_pool2d(z, 3, 1, 1, count_include_pad=False)) / (1 - a) ** 0.5


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    for name in ("flower", "tears"):
        video.write(folder / f"{name}.mp4", video.sample(name, 8).x[..., ::3, ::3], lossless=True)
    return folder


@pytest.fixture
def prior(monkeypatch):
    from visionxl.prior import latent as prior

    monkeypatch.setattr(prior.Prior, "load", classmethod(lambda cls, name="tiny", **kw: Blocks()))
    monkeypatch.setattr(C, "prior_identity", lambda prior: "blocks")


def test_evaluate_equals_the_metrics_and_names_what_is_missing(clips, tmp_path, capsys):
    x = video.read(clips / "flower.mp4").x
    video.write(tmp_path / "noisy.mp4", x + 0.1, lossless=True)
    asked = [str(clips / "flower.mp4"), str(tmp_path / "noisy.mp4"), "--json"]
    assert evaluate_command.main(asked) == 0
    found = json.loads(capsys.readouterr().out)
    row, out = found["rows"][0], video.read(tmp_path / "noisy.mp4").x
    assert row["PSNR"] == pytest.approx(M.psnr(M.to_unit(x), M.to_unit(out)))
    assert row["SSIM"] == pytest.approx(M.ssim(M.to_unit(x), M.to_unit(out)))
    assert row["warping"] == pytest.approx(1000 * M.warping_error(M.to_unit(x), M.to_unit(out)))
    missing = clip_metrics.load_networks().missing
    assert (
        all(any(name in n for n in found["notes"]) for name in missing)
        and found["warping_of_reference"] >= 0
    )


def test_evaluate_folders_of_clips(clips, tmp_path, capsys):
    for name in ("flower", "tears"):
        video.write(tmp_path / f"{name}.mkv", -video.read(clips / f"{name}.mp4").x)
    evaluate_command.main([str(clips), str(clips), str(tmp_path), "--markdown"])
    text = capsys.readouterr().out
    assert text.splitlines()[0].startswith("| method | PSNR | SSIM") and "**100.00**" in text
    (tmp_path / "tears.mkv").rename(tmp_path / "other.mkv")
    with pytest.raises(ValueError, match="names must agree"):
        E.evaluate(clips, tmp_path, E.Networks())


def test_clips_of_one_stem_and_clips_in_another_order(tmp_path):
    "a.mp4 beside a.mkv are two clips; a folder of frames sorts elsewhere than a file of its name."
    x = torch.zeros(2, 3, 32, 48)
    for folder, names in (("1", ("a", "a-b.mkv")), ("2", ("a-b.mkv", "a.mkv"))):
        (tmp_path / folder).mkdir()
        for name in names:
            video.write(tmp_path / folder / name, x + (0.5 if "b" in name else 0), lossless=True)
    rows = E.evaluate(tmp_path / "1", tmp_path / "2", E.Networks())["clips"]
    assert {r["clip"]: r["PSNR"] > 50 for r in rows} == {"a": True, "a-b": True}
    video.write(tmp_path / "2" / "a.mp4", x)
    (tmp_path / "2" / "._a.mp4").write_bytes(b"of another system")
    assert [*E.clips_in(tmp_path / "2")] == ["a-b", "a.mkv", "a.mp4"]


def test_evaluate_refuses_lengths_and_sizes_that_differ(clips, tmp_path):
    x = video.read(clips / "flower.mp4").x
    for name, y, says in (
        ("short", x[:5], "ends after 5 frames"),
        ("small", x[..., :40, :], "one size"),
    ):
        video.write(tmp_path / f"{name}.mkv", y)
        with pytest.raises(ValueError, match=says):
            E.evaluate(clips / "flower.mp4", tmp_path / f"{name}.mkv", E.Networks())
    with pytest.raises(FileNotFoundError, match="does not exist"):
        E.evaluate(clips, tmp_path / "none", E.Networks())


def test_tiny_frames_and_single_frames_are_defined():
    x = torch.rand(1, 3, 8, 8) * 2 - 1
    row, features = E.measure(x, x, E.Networks())
    assert row["PSNR"] == 100 and math.isnan(row["SSIM"]) and features == ()
    assert math.isnan(row["warping"]), "one frame does not flicker, and is not calm either"


def test_evaluate_says_what_one_frame_cannot_tell(clips, tmp_path, capsys):
    x = video.read(clips / "flower.mp4").x
    names = [str(tmp_path / n) for n in ("one.mkv", "two.mkv")]
    for n, name in enumerate(names):
        video.write(name, x[: n + 1], lossless=True)
    assert evaluate_command.main([names[0], names[0]]) == 0
    said = capsys.readouterr().out
    assert "warping not measured: it needs two frames" in said and "nan" not in said
    assert "FVD not measured" in said and "at least 10 frames" in said
    assert "warping of the reference" not in said
    with pytest.raises(ValueError, match="ends after 1 frame, the other"):
        evaluate_command.main(names)
    both = [tmp_path / "both", tmp_path / "same"]
    for folder in both:
        folder.mkdir()
        for name in names:
            shutil.copy(name, folder)
    row = E.evaluate(*both, E.Networks())
    one, two = row["clips"]
    assert math.isnan(one["warping"]) and row["warping"] == two["warping"] >= 0


def test_markdown_marks_the_best():
    text = T.markdown(
        [{"m": "a", "PSNR": 30.0, "warping": 2.0}, {"m": "b", "PSNR": 31.0, "warping": math.nan}]
    )
    assert "| a | 30.00 | **2.00** |" in text and "| b | **31.00** | - |" in text


def grid(folder, clips, said=None, **kw):
    say = said.append if said is not None else (lambda s: None)
    return C.Grid(folder, C.default_clips(clips), say=say, **kw)


def test_a_killed_run_goes_on_where_it_was(clips, tmp_path, prior):
    table, stop = R.TABLES["table2"], []
    todo = R.cells_of(table, ["flower", "tears"], 48, 8, "tiny", 0)

    def kill(line):
        stop.append(line)
        if len(stop) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        R.run(table, C.Grid(tmp_path / "cells", C.default_clips(clips), say=kill), todo)
    again = []
    rows = R.run(table, grid(tmp_path / "cells", clips, again), todo)
    assert len(again) == 6 - 3 and len(rows) == 3
    whole = R.run(table, grid(tmp_path / "other", clips), todo)
    for a, b in zip(rows, whole):
        for k in ("PSNR", "SSIM", "warping"):
            assert a[k] == b[k], "a resumed table is the same table"
    assert all(0 < r["init s"] < 60 * r["min"] for r in whole), "the start is a part of the whole"
    assert not list((tmp_path / "cells").glob("*.part"))


def test_other_settings_are_other_cells(clips, tmp_path, prior):
    g = grid(tmp_path, clips)
    base = C.Cell("paper", "sr+", "flower", 48, 8)
    others = [
        C.Cell("paper", "sr+", "flower", 48, 8, seed=1),
        C.Cell("paper", "sr+", "flower", 48, 8, changes={CHANGE: 1.0}),
        C.Cell("paper", "sr+", "flower", 48, 9),
        C.Cell("paper", "sr", "flower", 48, 8),
        C.Cell("best", "sr+", "flower", 48, 8),
    ]
    assert len({g.path(c) for c in (base, *others)}) == 6
    labelled = C.Cell("paper", "sr+", "flower", 48, 8, label="ours")
    assert g.path(labelled) == g.path(base)
    same = C.Cell("paper", "sr+", "flower", 48, 8, changes={CHANGE: 2.0})
    assert g.path(same) == g.path(base), "the same settings by another way"
    with pytest.raises(ValueError, match="choose one of"):
        g.path(C.Cell("magic", "sr+", "flower", 48, 8))


def test_a_retrained_prior_makes_other_cells_of_those_that_use_it(clips, tmp_path, monkeypatch):
    paths = []
    for weights in ("old", "new"):
        monkeypatch.setattr(C, "prior_identity", lambda prior, w=weights: w)
        g = grid(tmp_path, clips)
        paths.append([g.path(C.Cell(m, "sr", "flower", 48, 8)) for m in ("paper", "cg")])
    assert paths[0][0] != paths[1][0] and paths[0][1] == paths[1][1]


def test_another_clip_of_the_same_name_and_another_judge_are_other_cells(clips, tmp_path):
    video.write(tmp_path / "flower.mp4", -video.read(clips / "flower.mp4").x, lossless=True)
    cell = C.Cell("cg", "sr", "flower", 48, 8)
    here, there = grid(tmp_path / "cells", clips), grid(tmp_path / "cells", tmp_path)
    assert here(cell)["PSNR"] != there(cell)["PSNR"] and here.path(cell) != there.path(cell)
    known = here.path(cell)
    here.nets.nets["another judge"] = None
    assert here.path(cell) != known, "once a network is there, its column must not stay empty"


@pytest.mark.parametrize("name", ["table2", "table4", "table7"])
def test_reproduce_prints_and_writes(name, clips, tmp_path, prior, capsys):
    args = [
        name,
        "--clips",
        str(clips),
        "--size",
        "48",
        "--frames",
        "8",
        "--count",
        "1",
        "-o",
        str(tmp_path),
    ]
    assert command.main(args) == 0
    text = capsys.readouterr().out
    assert "Clips: flower at short side 48, 8 frames" in text and "the paper: SDXL" in text
    found = json.loads((tmp_path / f"{name}.json").read_text())
    assert len(found["rows"]) == len(R.TABLES[name].rows) and (
        tmp_path / f"{name}.md"
    ).read_text().startswith("# Table")
    assert {r["ours"] for r in found["orderings"]} <= {"agree", "differ", "cannot be told"}
    assert found["orderings"] and r"\toprule" in (tmp_path / f"{name}.tex").read_text()
    from PIL import Image

    png = next(tmp_path.glob(f"{name}_*.png"))
    assert Image.open(png).width > 100
    assert command.main(args) == 0
    assert capsys.readouterr().err == "", "nothing is computed twice"


def test_the_papers_figures_are_those_of_the_paper():
    "A few cells of each table, and the orderings that the paper itself shows."
    five_steps = {"FVD": 241.0, "LPIPS": 0.197, "PSNR": 30.69, "SSIM": 0.839}
    assert R.TABLES["table6"].rows[1].paper == five_steps
    first, second, *_ = R.TABLES["table3"].rows
    assert first.paper["FVD"] == 196.4 and second.paper == {}
    for table in (R.TABLES["table2"], R.TABLES["table5"], R.TABLES["table6"]):
        rows = [
            {"row": r.label} | r.paper | {f"{k} (paper)": v for k, v in r.paper.items()}
            for r in table.rows
        ]
        for verdict in J.judge(table, rows):
            if verdict["metric"] in ("FVD", "PSNR"):
                assert verdict["ours"] == "agree" and verdict["paper"] == "yes", verdict


def test_fvd_of_a_row_uses_the_features_of_all_clips():
    def side(v):
        return [[v], [v, v]]  # one clip, two windows

    rows = [{"PSNR": p, "features": (side([p, 0.0]), side([0.0, p]))} for p in (1.0, 2.0, 3.0)]
    a = np.array([[1.0, 0], [2, 0], [3, 0]])
    found = C.mean_row(rows)
    assert found["FVD"] == pytest.approx(M.frechet_distance(a, a[:, ::-1]))
    assert found["PSNR"] == 2 and found["PSNR se"] == pytest.approx(1 / 3**0.5)


def test_wrong_requests_are_refused(clips, tmp_path, capsys):
    with pytest.raises(ValueError, match="1 or more"):
        command.main(["table2", "--size", "-4", "-o", str(tmp_path)])
    with pytest.raises(SystemExit):
        command.main(["table9"])
    (line,) = capsys.readouterr().err.splitlines()
    assert "there is no table9, give table2" in line and "table6 or table7" in line


def test_davis_layout_exact_crops_and_lists_of_names(tmp_path, prior, capsys):
    from PIL import Image

    for name, count in (("bear", 3), ("camel", 2), ("cows", 2)):
        folder = tmp_path / "DAVIS" / "JPEGImages" / "480p" / name
        folder.mkdir(parents=True)
        for k in range(count):
            Image.new("RGB", (96, 64), (40 * k, 90, 120)).save(folder / f"{k:05d}.jpg")
    davis = tmp_path / "DAVIS"
    assert list(C.default_clips(davis)) == ["bear", "camel", "cows"]
    lists = davis / "ImageSets" / "2017"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("cows\nbear\n")
    assert list(C.default_clips(davis)) == ["cows", "bear"]
    (tmp_path / "ids").write_text("bear")
    assert list(C.default_clips(davis, tmp_path / "ids")) == ["bear"]
    (tmp_path / "ids").write_text("lion")
    with pytest.raises(FileNotFoundError, match="lacks the clips lion"):
        C.default_clips(davis, tmp_path / "ids")
    (lists / "val.txt").write_text("cows\nlion\n")
    with pytest.raises(FileNotFoundError, match="lacks the sequences lion"):
        C.default_clips(davis)
    (lists / "val.txt").write_text("cows")
    args = ["table3", "--dataset", "davis", str(davis), "--size", "32x48"]
    args += ["--frames", "2", "-o", str(tmp_path / "out")]
    assert command.main([*args, "--plan"]) == 0
    text = capsys.readouterr().out
    assert "frames through networks" in text and not list((tmp_path / "out").glob("table3*"))
    assert command.main([*args, "--figure", "cows"]) == 0
    text = capsys.readouterr().out
    for name in ("sr", "inpaint_plus"):
        assert (tmp_path / "out" / f"table3_{name}_cows.pdf").read_bytes().startswith(b"%PDF")
        assert (tmp_path / "out" / f"table3_{name}_cows.png").exists()
    assert "paper: davis" in text and "228.6" in text and "cows at 32x48 pixels, 2 frames" in text
    found = json.loads((tmp_path / "out" / "table3.json").read_text())
    assert found["rows"][0]["LPIPS (paper)"] == 0.292


def test_pexels_is_a_folder_of_files_and_a_list_of_ids(tmp_path):
    "Only the listed ones count, and they come at the exact size, with as many frames as asked."
    x = torch.rand(6, 3, 48, 80, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for name in ("1182756", "6412357", "7"):
        video.write(tmp_path / f"{name}.mp4", x)
    (tmp_path / "ids.txt").write_text("6412357\n1182756\n")
    found = C.default_clips(tmp_path, tmp_path / "ids.txt")
    assert list(found) == ["6412357", "1182756"]
    assert C.at_size(found["1182756"], (80, 48), 5).shape == (5, 3, 80, 48)


def test_the_work_that_is_left_is_counted(clips, tmp_path, prior):
    "A cell of `paper` counts what the paper's algorithm sends through networks, a kept one 0."
    grid = C.Grid(tmp_path, C.default_clips(clips), say=lambda s: None)
    name = "flower"
    table = R.Table("own", (R.Row("paper", "paper", {}), R.Row("CG", "cg", {})))
    cells = R.cells_of(table, [name], 32, 25, "tiny", 0)
    rows = R.work_left(table, grid, cells)
    assert [r["frames through networks"] for r in rows] == ["775", "0"]
    assert "0.0 hours" in R.plan_of(rows) and "1.0 hours" in R.plan_of(rows, 775 / 3600)
    grid(cells[1][0])
    assert [r["kept"] for r in R.work_left(table, grid, cells)] == ["0", "1"]


def test_orderings_are_said_in_words():
    "One line for each claim with lead and standard error, and one that counts."
    rows = [
        {"row": "a", "PSNR": 30.0, "each": [{"PSNR": v} for v in (29.0, 31.0)]},
        {"row": "b", "PSNR": 29.9, "each": [{"PSNR": v} for v in (28.8, 31.0)]},
    ]
    table = R.Table("own", (), (R.Claim("a beats b", ("a",), ("b",)),), ("PSNR",))
    *said, count = J.sentences(J.judge(table, rows))
    assert said == ["a beats b: cannot be told in PSNR (+0.10 ± 0.10)"]
    assert count == "Of 1 orderings: 0 agree, 0 differ, 1 cannot be told."


def test_the_papers_sizes_come_with_sdxl():
    for dataset, size in (("davis", (768, 1280)), ("vertical", (1280, 768))):
        a = command.parser().parse_args(
            ["table3", "--dataset", dataset, "--prior", "sdxl", "--full"]
        )
        assert command.setup_of(a, {"a": None}).size == size
    with pytest.raises(SystemExit):
        command.parser().parse_args(["table3", "--size", "1x2x3"])
    for wrong in (["kinetics"], ["davis", "one", "two"]):
        with pytest.raises(SystemExit):
            command.parser().parse_args(["table3", "--dataset", *wrong])
