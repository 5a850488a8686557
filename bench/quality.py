"""Quality of every method on every task: PSNR, SSIM, LPIPS, ST-LPIPS, FVD, warping error, residual.

    python bench/quality.py                       short: two clips, short side 96, 9 frames
    python bench/quality.py --full                six clips, short side 192, 25 frames (hours)
    python bench/quality.py --full --size 384     the larger size
    python bench/quality.py --tasks sr+ --methods best admm_tv
    python bench/quality.py --tasks sr --methods measured svi_latent ddnm dps   more rivals
    python bench/quality.py --method my_method.py:f          a method of your own, as a row
    python bench/quality.py --full --ray --workers 4         its cells shared among processes of Ray
    python bench/quality.py --priors "no prior" "dct prior"  `best` without its network, as rows
    python bench/quality.py --tasks sr --methods svi diffir2vr --patches 128  also patch by patch

Every cell is kept in bench/results/quality_cells, named by all that decides it: a killed run goes
on where it was; a retrained prior, another setting or changed code is measured anew. The tables go
to bench/results/quality[_SIZE].md, .tex and .json, a contact sheet per task beside them, and the
middle frames of all rows into frames/, for the public table that `tools/results.py` makes. Seeds
are fixed; the clips are never trained or tuned on.
"""

import argparse
import json
import math
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from kept import write_json  # noqa: E402
from row_frames import strips  # noqa: E402
from without_network import put_in  # noqa: E402

from visionxl.compare.patches import InPatches, mixed_bands, seam  # noqa: E402
from visionxl.measure.clip_metrics import UNITS, video_distances  # noqa: E402
from visionxl.measure.evaluate import notes  # noqa: E402
from visionxl.measure.experiment.cell import file_stem  # noqa: E402
from visionxl.measure.experiment.grid import (  # noqa: E402
    Cell,
    Grid,
    default_clips,
    mean_row,
    sheet,
)
from visionxl.measure.experiment.methods import (  # noqa: E402
    about_the_top,
    find_method,
    wants,
)
from visionxl.measure.experiment.plain_priors import PLAIN_PRIORS  # noqa: E402
from visionxl.measure.experiment.spread import fill  # noqa: E402
from visionxl.measure.reproduction.judge import judge, sentences  # noqa: E402
from visionxl.measure.reproduction.paper import six_tasks  # noqa: E402
from visionxl.measure.tables import (  # noqa: E402
    BETTER,
    latex,
    markdown,
    number,
    swapped,
)
from visionxl.operators.tasks import TASKS  # noqa: E402
from visionxl.scale.command import add_crew_options, crew_for  # noqa: E402

RESULTS = Path(__file__).parent / "results"
METHODS = {  # name: how the table calls it
    "measured": "measurement brought to size",
    "cg": "CG alone",
    "admm_tv": "ADMM-TV (tuned)",
    "motion_tv": "ADMM-TV along the motion",
    "diffir2vr": "DiffIR2VR-style",
    "random": "random",
    "svi": "SVI",
    "official": "official",
    "paper": "paper",
    "best": "best (ours)",
}
MORE = {  # rows for the asking: solvers for images, frame by frame and in many steps
    "fast": "fast (ours)",
    "svi_latent": "SVI with the filter",
    "warped": "Warped-Diffusion-style",
    "ddnm": "DDNM",
    "diffpir": "DiffPIR",
    "treg": "TReg (null text)",
    "dps": "DPS",
    "psld": "PSLD",
}
ON_PIXELS = {"svi, on pixels": "SVI on pixels"}  # made by --prior bench/pixel_prior.py:prior
PATCHES = ", patches of "  # how the JSON calls a row whose networks see patches
LAYOUTS = {  # data set of the paper: our clips of its shape
    "davis": ("bikes_small",),
    "landscape": ("dog_landscape", "coffee", "juggle"),
    "vertical": ("dancer_vertical",),
    "square": ("wheat_square",),
}
IN_PATCHES = ("svi", "svi_latent", "diffir2vr")
SEAM = "error inside the mixed bands of the patches over that outside"
COLUMNS = ("PSNR", "SSIM", "LPIPS", "ST-LPIPS", "FVD", "FVD windows", "warping", "residual", "seam")
GOALS = ("PSNR", "SSIM", "LPIPS")  # of BENCH.md; the others are told beside them
WORDS = {7: "seven", 8: "eight", 9: "nine"}  # digits from ten on


@dataclass(frozen=True)
class Line:
    "One row of every task's table."

    method: str  # a name, or `file.py:f`
    prior: str
    label: str
    side: int = 0  # of the patches that its networks see; 0: whole frames

    @property
    def key(self) -> str:
        "How the JSON calls it."
        if self.side:
            return f"{self.method}{PATCHES}{self.side}"
        return self.method if self.prior not in PLAIN_PRIORS else f"{self.method}, {self.prior}"

    @property
    def changes(self) -> dict:
        "The settings of the method that the row changes."
        if not self.side:
            return {}
        if self.method == "diffir2vr":
            return {"networks.side": self.side}
        return {"networks": InPatches(self.side)}

    def cell(self, task: str, clip: str, a: argparse.Namespace) -> Cell:
        "The row's experiment on a clip."
        where = (a.size, a.frames, a.seed, self.prior, self.changes, self.label)
        return Cell(self.method, task, clip, *where)

    def fits(self, task: str) -> bool:
        "Whether the method has an answer for the task."
        if self.method == "diffir2vr":  # frame by frame
            return task in ("sr", "deblur")
        return (self.method, task) != ("official", "sr+")  # the released code stops with an error


def lines_of(a: argparse.Namespace) -> list[Line]:
    "The rows that were asked for."
    lines = [Line(m, a.prior, (METHODS | MORE)[m]) for m in a.methods]
    lines += [Line(m, a.prior, m) for m in a.method]
    if a.patches:
        whole = [x for x in lines if x.method in IN_PATCHES]
        named = f"in patches of {a.patches}"
        lines += [replace(x, side=a.patches, label=f"{x.label} {named}") for x in whole]
    return lines + [Line("best", p, f"best, {p}") for p in a.priors]


def summary(task: str, found: dict) -> str:
    "One task as a Markdown table: means over clips with their standard errors."
    return f"### {task}\n\n{markdown(rows_of(found))}"


def rows_of(found: dict) -> list[dict]:
    "A row for each method: means over clips, standard errors, seconds."
    out = []
    for line, rows in found.items():
        mean = means(rows)
        shown = [k for c in (*COLUMNS, "seconds") for k in (c, f"{c} se") if k in mean]
        out.append({"method": line.label} | {k: mean[k] for k in shown if k != "seconds se"})
    return out


def per_clip(found: dict, names: list[str]) -> str:
    "PSNR, LPIPS and ST-LPIPS of each clip: where a method loses."
    out = []
    for line, rows in found.items():
        row = {"method": line.label}
        for name, r in zip(names, rows):
            three = [number(r.get(k), k) for k in ("PSNR", "LPIPS", "ST-LPIPS")]
            row[name] = " / ".join(three)
        out.append(row)
    return "Per clip, PSNR / LPIPS / ST-LPIPS:\n\n" + markdown(out, bold=False)


def losses(found: dict) -> list[str]:
    "Where another method's mean is ahead of `best`'s, among the goals and in ST-LPIPS."
    by = {line.key: means(rows) for line, rows in found.items()}
    lost = []
    for k in (*GOALS, "ST-LPIPS"):
        for name, mean in by.items():
            other = name.startswith("best, ") or name == "best"  # its own variants are no rivals
            if other or k not in mean or k not in by["best"]:
                continue
            if BETTER[k](by["best"][k], mean[k]) != by["best"][k]:
                lost.append(f"{k} to {name}")
    return lost


def goals(all_found: dict) -> str:
    "BENCH.md's goals, counted, and ST-LPIPS beside them."
    lines, first, measured = [], 0, []
    for task, found in all_found.items():
        by = {line.key: means(rows) for line, rows in found.items()}
        if "best" not in by:
            continue
        measured = [k for k in GOALS if k in by["best"]]
        lost = losses(found)
        counted = [s for s in lost if not s.startswith("ST-")]
        first += not counted
        said = f"is first in {', '.join(measured)}"
        if counted:
            said = "loses " + ", ".join(counted)
        text = f"- {task}: `best` {said}"
        if len(lost) > len(counted):
            text += "; loses " + ", ".join(s for s in lost if s not in counted)
        elif "ST-LPIPS" in by["best"]:
            text += "; first in ST-LPIPS too"
        lines.append(text + calm(by))
    if not lines:
        return "`best` was not asked for."
    head = f"`best` is first in {', '.join(measured)} on {first} of {len(lines)} tasks"
    text = f"{head} (goal: five of six)."
    if lost := [k for k in GOALS if k not in measured]:
        text += f" {', '.join(lost)} is not measured here, and does not count."
    return text + "\n\n" + "\n".join(lines)


def share_of_the_network(all_found: dict) -> str:
    "How far `best` is ahead of itself with another thing in place of its network."
    lines = []
    for task, found in all_found.items():
        by = {line.key: means(rows) for line, rows in found.items()}
        others = [k for k in by if k.startswith("best, ")]
        if "best" not in by or not others:
            continue
        said = []
        for k in others:
            text = f"{by['best']['PSNR'] - by[k]['PSNR']:+.2f} dB"
            if "LPIPS" in by["best"]:
                text += f", {by['best']['LPIPS'] - by[k]['LPIPS']:+.3f} LPIPS"
            said.append(f"over {k.removeprefix('best, ')} {text}")
        lines.append(f"- {task}: " + "; ".join(said))
    return "\n".join(lines) or "Not measured: no row has another prior."


def calm(by: dict) -> str:
    "How the flicker of `best` compares with total variation's."
    if "admm_tv" not in by:
        return ""
    if by["best"]["warping"] <= by["admm_tv"]["warping"]:
        return "; no more flicker than ADMM-TV"
    return "; **more flicker than ADMM-TV**"


def disagreements(all_found: dict) -> str:
    "Where LPIPS and ST-LPIPS put two methods in another order."
    out = []
    for task, found in all_found.items():
        other, pairs = swapped(rows_of(found))
        if pairs:
            text = "; ".join(other) or "none"
            out.append(f"- {task}: {len(other)} of {pairs} pairs. By LPIPS: {text}")
    if not out:
        return "Not measured: one of the two is missing."
    return "Pairs of methods that ST-LPIPS puts in the other order than LPIPS:\n\n" + "\n".join(out)


def write(a: argparse.Namespace, grid: Grid, names: list, all_found: dict, films: dict) -> str:
    "Write the tables; under another name while tasks are missing, so that a kill spoils nothing."
    lines = lines_of(a)
    needed = any("prior" in wants(find_method(line.method)) for line in lines)
    first = next(iter(next(iter(all_found.values())).values()))
    windows = sum(len(r["features"][0][1]) for r in first if "features" in r)
    said = [*a.note, *notes(grid.nets, len(names), windows)]
    if needed:
        said += about_the_top(grid.prior(a.prior), [line.method for line in lines])
    where = {"size": a.size, "frames": a.frames, "clips": names, "seed": a.seed}
    kept = where | {"prior": grid.prior_id(a.prior) if needed else None, "prior_name": a.prior}
    kept |= {"notes": said, "rows": json_rows(all_found, names), "fvd": distances(all_found)}
    kept["fvd_of"] = of_layouts(all_found, names)
    kept["frames_of"] = strips(films, a.out, stem_of(a))
    done = set(a.tasks) == set(all_found)
    out = a.out / f"{'' if done else 'partial_'}quality_{stem_of(a)}.md"
    if done:
        for f in a.out.glob(f"partial_quality_{stem_of(a)}.*"):
            f.unlink()
    text = page(kept)
    out.write_text(text)
    tex = [f"% {t}\n{latex(rows_of(f))}" for t, f in found_in(kept).items()]
    out.with_suffix(".tex").write_text("\n\n".join(tex) + "\n")
    write_json(kept, out.with_suffix(".json"), "rows")
    return text


def orderings(all_found: dict, prior: str) -> str:
    "What the paper's Table 3 says of its rows, judged in ours: leads with their standard errors."
    table, rows = six_tasks(), []
    for r in table.rows:
        found = {line.key: rows for line, rows in all_found.get(r.task, {}).items()}
        if r.method in found:
            theirs = {f"{k} (paper)": v for k, v in r.paper.items()}
            mine = found[r.method]
            rows.append({"row": r.label} | theirs | means(mine) | {"each": mine})
    there = {r["row"] for r in rows}
    claims = [c for c in table.claims if {*c.better, *c.worse} <= there]
    if not claims:
        return "Not measured: the paper's method and a rival of its are not both here."
    if any(len(r["each"]) < 2 for r in rows):
        return "Not judged: with one clip there is no standard error."
    verdicts = judge(replace(table, claims=tuple(claims)), rows)
    text = "\n".join(f"- {s}" for s in sentences(verdicts))
    differ = [v["claim"] for v in verdicts if v["ours"] == "differ"]
    asked = {c.partition("+: ")[0].partition(":")[0] for c in differ if "(paper) beats ADMM" in c}
    return f"{text}\n\n{what_is_missing(asked, prior)}" if asked else text


def what_is_missing(tasks: set, prior: str) -> str:
    "Which single change brings `paper` furthest, from the ablation: the experiment behind a loss."
    own = (RESULTS / f"ablation_{prior}.json").exists()
    file = f"ablation_{prior}" if own else "ablation"
    kept = json.loads((RESULTS / f"{file}.json").read_text(encoding="utf-8"))
    rows, said = kept["rows"], []
    for task in sorted(tasks & {r["task"] for r in rows}):
        by = {r["row"]: r["PSNR"] for r in rows if r["task"] == task}
        added = {k: v for k, v in by.items() if k.startswith("paper + ")}
        name = max(added, key=added.__getitem__)
        gain, change = added[name] - by["paper"], name.removeprefix("paper + ")
        said.append(f"on {task} *{change}*, {gain:+.2f} dB")
    count = len(kept["changes"])
    return (
        f"What `paper` lacks where it is behind ADMM-TV: of the {WORDS.get(count, count)} changes "
        f"that lead to `best`, this one alone brings it furthest (`{file}.md`: other clips, prior "
        f"`{kept['prior']}`): "
        f"{'; '.join(said)}."
    )


def stem_of(a: argparse.Namespace) -> str:
    "How the files of a run are called: by the size, and the name if it has one."
    return f"{a.size}_{a.name}" if a.name else str(a.size)


def page(kept: dict) -> str:
    "A kept JSON as Markdown: what a run writes, and `tables.py` writes again."
    names, found = kept["clips"], found_in(kept)
    name, prior = kept.get("prior_name", "tiny"), "no prior"
    if kept["prior"]:
        prior = f"prior `{name}` ({kept['prior']}), float32"
    seen = {k for r in kept["rows"] for k in r} | {k for d in kept["fvd"].values() for k in d}
    units = "; ".join(f"{k}: {UNITS.get(k, SEAM)}" for k in COLUMNS if k in seen)
    head = (
        f"# Quality\n\nClips: {', '.join(names)}; short side {kept['size']} pixels, "
        f"{kept['frames']} frames, seed {kept['seed']}; {prior}. "
        f"Mean ± standard error over {len(names)} clips. {units}."
    )
    tasks = [summary(t, f) + "\n\n" + per_clip(f, names) for t, f in found.items()]
    parts = [head, "\n".join(f"- {s}" for s in kept["notes"]), "## Goals", goals(found)]
    parts += ["## What the network gives", share_of_the_network(found)]
    parts += ["## The paper's orderings (Table 3)", orderings(found, name)]
    parts += ["## LPIPS and ST-LPIPS", disagreements(found)]
    return "\n\n".join([*filter(None, parts), "## Tasks", *tasks]) + "\n"


def found_in(kept: dict) -> dict:
    "The rows of a kept JSON as {task: {line: a row for each clip}}."
    found: dict = {}
    for r in kept["rows"]:
        lines = found.setdefault(r["task"], {})
        figures = {k: v for k, v in r.items() if k not in ("task", "method", "clip")}
        lines.setdefault(line_of(r["method"]), []).append(figures)
    for key, fvd in kept["fvd"].items():
        task, _, method = key.partition("/")
        found[task][line_of(method)][0]["over all clips"] = fvd
    return found


def line_of(key: str) -> Line:
    "The row that a JSON calls so."
    if key.startswith("best, "):
        return Line("best", key.removeprefix("best, "), key)
    method, patched, side = key.partition(PATCHES)
    if patched:
        label = f"{(METHODS | MORE)[method]} in patches of {side}"
        return Line(method, "", label, int(side))
    return Line(key, "", (METHODS | MORE | ON_PIXELS).get(key, key))


def means(rows: list[dict]) -> dict:
    "Means over clips and their standard errors; FVD as it was measured over all clips together."
    return mean_row(rows) | rows[0].get("over all clips", {})


def distances(all_found: dict) -> dict:
    "FVD of each task and row, which the figures of single clips do not give: {task/row: figures}."
    out = {}
    for task, found in all_found.items():
        for line, rows in found.items():
            if fvd := video_distances([r.get("features", ()) for r in rows]):
                out[f"{task}/{line.key}"] = fvd
    return out


def of_layouts(all_found: dict, names: list[str]) -> dict:
    "FVD over the clips of each layout, for Table 3: {layout: {task/row: figures}}."
    out = {}
    for layout, clips in LAYOUTS.items():
        places = [names.index(c) for c in clips if c in names]
        found = {
            task: {line: [rows[i] for i in places] for line, rows in lines.items()}
            for task, lines in all_found.items()
        }
        if fvd := distances(found):
            out[layout] = fvd
    return out


def json_rows(all_found: dict, names: list[str]) -> list[dict]:
    "A row for each task, method and clip, without means."
    out = []
    for task, found in all_found.items():
        for line, rows in found.items():
            for name, r in zip(names, rows):
                figures = {k: r.get(k) for k in (*COLUMNS, "seconds") if not _missing(r.get(k))}
                out.append({"task": task, "method": line.key, "clip": name} | figures)
    return out


def _missing(v: float | None) -> bool:
    "Whether there is no figure."
    return v is None or math.isnan(v)


def parser() -> argparse.ArgumentParser:
    "The command's options."
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--full", action="store_true")
    p.add_argument("--size", type=int, help="short side in pixels (96; 192 with --full)")
    p.add_argument("--frames", type=int, help="(9; 25 with --full)")
    p.add_argument("--count", type=int, help="clips (2; all with --full)")
    p.add_argument(
        "--clips", help="folder of clips; default $VISIONXL_DATA/clips, else the bundled samples"
    )
    p.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    p.add_argument("--methods", nargs="*", choices=(*METHODS, *MORE), default=tuple(METHODS))
    p.add_argument(
        "--method", action="append", default=[], metavar="FILE.py:F", help="a method of your own"
    )
    p.add_argument("--prior", default="tiny")
    p.add_argument(
        "--priors",
        nargs="*",
        choices=tuple(PLAIN_PRIORS),
        default=tuple(PLAIN_PRIORS),
        help="rows of `best` with these in place of the prior's network",
    )
    p.add_argument(
        "--patches",
        type=int,
        metavar="SIDE",
        help="SVI and DiffIR2VR-style also with networks that see patches of so many pixels",
    )
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--device", help="where methods compute; default: the GPU if there is one")
    p.add_argument("--note", action="append", default=[], help="a sentence above the tables")
    p.add_argument("--name", default="", help="ending of the files' names")
    p.add_argument("--out", type=Path, default=RESULTS)
    add_crew_options(p)
    return p


def seam_of(x_true: Tensor, x: Tensor, side: int, factor: int) -> float:
    "The seam of a video, where its networks saw patches, and the same place where they did not."
    return seam(x, x_true, mixed_bands(*x.shape[-2:], side, factor))


def spread(a: argparse.Namespace, grid: Grid, lines: list[Line], names: list[str]) -> None:
    "Run all cells by workers, where workers were asked for."
    fits = [(task, line) for task in a.tasks for line in lines if line.fits(task)]
    cells = [line.cell(task, n, a) for task, line in fits for n in names]
    with crew_for(grid.for_workers(), a) as crew:
        fill(grid, cells, crew)


def asked(argv: list | None = None) -> argparse.Namespace:
    "The options, with what follows from them."
    a = parser().parse_args(argv)
    a.size = a.size or (192 if a.full else 96)
    a.frames = a.frames or (25 if a.full else 9)
    return a


def names_of(a: argparse.Namespace, clips: dict) -> list[str]:
    "The clips that a run takes of those that there are."
    return list(clips)[: a.count or (len(clips) if a.full else 2)]


def main(argv: list | None = None) -> int:
    "Run the grid, task by task; after each the tables so far are on disk."
    a = asked(argv)
    clips = default_clips(a.clips)
    names = names_of(a, clips)
    grid = Grid(a.out / "quality_cells", clips, say=lambda s: print(s, flush=True))
    grid.device = a.device
    put_in(grid, a.prior, a.priors)
    if a.patches:
        grid.own["seam"] = partial(seam_of, side=a.patches, factor=grid.prior(a.prior).factor)
    lines = lines_of(a)
    if not lines:
        sys.exit("no rows: give --methods, --method or --priors")
    spread(a, grid, lines, names)
    text, all_found, films = "", {}, {}
    for task in a.tasks:
        rows = {}
        for line in (x for x in lines if x.fits(task)):
            rows[line] = [line.cell(task, n, a) for n in names]
        if not rows:
            sys.exit(
                f"none of {', '.join(line.label for line in lines)} has an answer for {task}: "
                "leave it out of --tasks, or add a method"
            )
        all_found[task] = {line: [grid(c) for c in cells] for line, cells in rows.items()}
        for i, name in enumerate(names):
            clean = grid.views(Cell("clean", task, name, a.size, a.frames))
            made = {line.key: grid.views(cells[i]) for line, cells in rows.items()}
            films[task, name] = {k: v["frame"] for k, v in ({"clean": clean} | made).items()}
        pictures = {"clean": grid.views(Cell("clean", task, names[0], a.size, a.frames))}
        pictures |= {line.label: grid.views(cells[0]) for line, cells in rows.items()}
        sheet(pictures, a.out / f"{file_stem('quality', stem_of(a), task)}.webp", side=160)
        text = write(a, grid, names, all_found, films)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
