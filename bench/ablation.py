"""What each part of `best` gives, and what the diffusion prior gives.

    python bench/ablation.py                         the two sample clips, short side 96, 9 frames
    python bench/ablation.py --minutes 3             the same in slots: call it until it says "done"
    python bench/ablation.py --clips DIR --name test the clips of a folder, under another name
    python bench/ablation.py --tasks sr inpaint      some of the six tasks
    python bench/ablation.py --prior white           with another prior: ablation_white.json and .md
    python bench/ablation.py --also FOLDER           another network in the same two loops
    python bench/ablation.py --bm3d                  BM3D as one more denoiser (pip install bm3d)

`paper` and `best` differ in up to nine choices, which depend on task and prior. Each is added
alone to `paper`, and taken back alone from `best`. Then the network of `best` is replaced: by
nothing (the identity), by a Gaussian blur, and by classical denoisers that get the network's noise
levels, in the same loop. Non-local means are scikit-image's (pip install scikit-image).

Every cell is kept in bench/results/ablation_cells: a killed run goes on where it was. The results
go to bench/results/ablation.json and .md, with another --name to ablation_NAME. The clips are
measured, nothing is tuned on them here; the settings of `best` were once tuned on pieces of the two
sample clips, which the tables say.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from kept import write_json  # noqa: E402

from visionxl import video  # noqa: E402
from visionxl.extras.starts import Noised  # noqa: E402
from visionxl.measure.clip_metrics import UNITS  # noqa: E402
from visionxl.measure.evaluate import clips_in  # noqa: E402
from visionxl.measure.experiment.given import at_size  # noqa: E402
from visionxl.measure.experiment.grid import Cell, Grid, mean_row  # noqa: E402
from visionxl.measure.experiment.methods import METHODS, solve_with  # noqa: E402
from visionxl.measure.experiment.plain_priors import (  # noqa: E402
    DenoiserPrior,
    blur,
    dct_threshold,
    keep,
)
from visionxl.measure.tables import markdown, mean_and_error, number  # noqa: E402
from visionxl.operators.tasks import TASKS  # noqa: E402
from visionxl.presets import choose, paper  # noqa: E402
from visionxl.prior.latent import Prior  # noqa: E402
from visionxl.steps.inversion import Invert  # noqa: E402
from visionxl.steps.preset import Preset  # noqa: E402
from visionxl.steps.preset import changed as with_changes  # noqa: E402
from visionxl.steps.progress import climb_of  # noqa: E402
from visionxl.steps.renoise import Renoise  # noqa: E402
from visionxl.steps.tweedie import LastDecode  # noqa: E402

RESULTS = Path(__file__).parent / "results"
FIGURES = ("PSNR", "SSIM", "LPIPS", "warping")
SILENT, NO_NOISE = "best without noise", "best, prior: identity, no noise drawn"
MIRRORED = "mirrored frames"
CHANGES = (  # from `paper` to `best`, in the order of the algorithm
    "route",
    "classical start",
    "no inversion",
    "average along the motion",
    "proximal consistency",
    "no low-pass filter",
    "renoising",
    "result blend",
    MIRRORED,
)


def changed(
    task: str,  # for which `best` is made
    changes: frozenset,  # which of `CHANGES` are made
    prior: object = "white",  # whose `best` it is, a name or loaded
) -> Preset:
    "Return `paper` with some of the choices of `best`; with all of them it is `best`."
    ours, theirs = choose("best", task, prior=prior), paper(task)
    result = (ours if "result blend" in changes else theirs).result
    inner = theirs.consistency
    if "proximal consistency" in changes:
        inner = ours.consistency.inner
        if isinstance(result, LastDecode):
            inner = replace(inner, last_slack=None)  # has no effect there, and is refused
    moves = "average along the motion" in changes
    return replace(
        theirs,
        route=(ours if "route" in changes else theirs).route,
        start=start_of(ours, theirs, changes),
        consistency=replace(ours.consistency, inner=inner) if moves else inner,
        lowpass=(ours if "no low-pass filter" in changes else theirs).lowpass,
        renoise=(ours if "renoising" in changes else theirs).renoise,
        result=result,
        networks=(ours if MIRRORED in changes else theirs).networks,
    )


def start_of(ours: Preset, theirs: Preset, changes: frozenset) -> Noised | Invert:
    "Return step 1 with some of the choices of `best`."
    what = (ours if "classical start" in changes else theirs).start.what
    if isinstance(ours.start, Noised):
        drawn = "no inversion" in changes
        return replace(ours.start if drawn else theirs.start, what=what)
    return Invert(what, (ours if "route" in changes else theirs).start.steps)


def changes_of(task: str, prior: object) -> list[str]:
    "Return the choices that differ between `paper` and the `best` of a prior."
    none = changed(task, frozenset(), prior)
    return [c for c in CHANGES if changed(task, frozenset([c]), prior) != none]


def recipe(changes: frozenset, prior: object) -> Callable:
    "Return what `solve` takes as its preset: a function of the task."

    def chosen(task: str, sigma_y: float = 0.0) -> Preset:
        return changed(task, changes, prior)

    return chosen


def silent(prior: object) -> Callable:
    "Return `best` that draws no noise: what is left of it where nothing would remove noise."

    def chosen(task: str, sigma_y: float = 0.0) -> Preset:
        ours = choose("best", task, prior=prior)
        drawn = {"start.scale": 0.0, "renoise": Renoise(eta=0.0), "networks": paper(task).networks}
        return with_changes(ours, drawn)

    return chosen


def draws(task: str, prior: object) -> bool:
    "Return whether the `best` of a prior draws noise at the start."
    start = choose("best", task, prior=prior).start
    return isinstance(start, Noised) and start.scale > 0


def pixel_noise(prior: Prior) -> float:
    "Return the deviation in pixels, in the video's range, of latent noise of unit deviation."
    x = at_size(Path(video.__file__).parent / "assets" / "flower.mp4", 96, 2)
    z = prior.encode(x)
    noise = 0.2 * torch.randn(z.shape, generator=torch.Generator().manual_seed(0))
    return float((prior.decode(z + noise) - prior.decode(z)).std() / 0.2)


class Matched(DenoiserPrior):
    """A denoiser of pixels that gets the noise levels of a latent prior, in pixels.

    There is no autoencoder. At every timestep noise over signal is what it is with the prior, times
    `gain`.
    """

    def __init__(
        self,
        denoise: Callable,  # (noisy (T, 3, H, W), standard deviation of the noise) -> clean
        alpha_bar: torch.Tensor,  # the latent prior's
        t_max: int,  # the latent prior's
        gain: float,  # `pixel_noise` of it
    ):
        super().__init__(denoise)
        self.alpha_bar = 1 / (1 + gain**2 * (1 - alpha_bar) / alpha_bar)
        self.t_max = t_max


def frame_by_frame(
    f: Callable,  # of an array (H, W, 3)
    x: torch.Tensor,  # (T, 3, H, W)
) -> torch.Tensor:
    "Return a denoiser of arrays applied to every frame."
    out = [f(np.ascontiguousarray(v.permute(1, 2, 0).double().numpy())) for v in x]
    return torch.from_numpy(np.stack(out)).permute(0, 3, 1, 2).to(x)


def non_local_means(x: torch.Tensor, sigma: float) -> torch.Tensor:
    "Return `x` (T, 3, H, W) through non-local means (Buades 2005), 5x5 patches within 6 pixels."
    from skimage.restoration import denoise_nl_means

    f = partial(
        denoise_nl_means,
        patch_size=5,
        patch_distance=6,
        h=0.8 * sigma,
        sigma=sigma,
        channel_axis=-1,
    )
    return frame_by_frame(f, x)


def bm3d_frames(x: torch.Tensor, sigma: float) -> torch.Tensor:
    "Return `x` (T, 3, H, W) through BM3D for colour (Dabov 2007). Its terms: non-commercial use."
    from bm3d import bm3d_rgb

    return frame_by_frame(partial(bm3d_rgb, sigma_psd=sigma), x)


def priors_of(
    name: str,  # of the prior that the ablation is about
    bm3d: bool,  # whether BM3D is one of the denoisers
    also: list[str],  # names or folders of other priors
) -> tuple[dict, float]:  # priors, and the noise in pixels of the first one
    "Return the priors by their labels."
    prior = Prior.load(name)
    gain = pixel_noise(prior)
    lossy = {} if prior.white else {"identity, no autoencoder": keep}
    denoisers = lossy | {
        "DCT threshold": dct_threshold,
        "non-local means": non_local_means,
    }
    if bm3d:
        denoisers["BM3D"] = bm3d_frames
    found = {"diffusion": name, "identity": DenoiserPrior(keep, prior)}
    found["Gaussian blur"] = DenoiserPrior(blur, prior)
    for label, f in denoisers.items():
        found[label] = Matched(f, prior.alpha_bar, prior.t_max, gain)
    return found | {Path(other).name: other for other in also}, gain


@dataclass(frozen=True)
class Line:
    "One row of a task's table."

    group: str
    label: str
    method: str  # a key of the grid's methods
    prior: str = "diffusion"
    changes: frozenset | None = None  # None: a method without a preset


def lines_of(
    priors: dict,  # by their labels; "diffusion" is the one that the ablation is about
    task: str,
) -> list[Line]:
    "Return the rows of a task, from the measurement to `best`."
    changes, every = changes_of(task, priors["diffusion"]), frozenset(CHANGES)
    lines = [Line("reference", label, name) for name, label in REFERENCES.items()]
    lines += [Line("paper", "paper", "paper", changes=frozenset())]
    added = [
        Line("added to paper", f"paper + {c}", f"+ {c}", changes=frozenset([c])) for c in changes
    ]
    taken = [Line("taken from best", f"best - {c}", f"- {c}", changes=every - {c}) for c in changes]
    whole = [Line("best", "best", "best", changes=every)]
    lines += [*added, *whole, *taken]
    others = [p for p in priors if p != "diffusion"]
    straight = every - {MIRRORED}  # filters treat all sides alike, and not all priors take mirrors
    lines += [
        Line("prior of best", f"best, prior: {p}", f"- {MIRRORED}", p, straight) for p in others
    ]
    if draws(task, priors["diffusion"]):
        lines.append(Line("prior of best", NO_NOISE, SILENT, "identity", every))
    some = [p for p in others if p in ("identity", "non-local means") or is_network(priors[p])]
    return lines + [
        Line("prior of paper", f"paper, prior: {p}", "paper", p, frozenset()) for p in some
    ]


def is_network(prior: object) -> bool:
    "Return whether a prior is a diffusion model, given by its name or loaded."
    return not isinstance(prior, DenoiserPrior)


REFERENCES = {
    "measured": "measurement brought to size",
    "cg": "CG alone",
    "admm_tv": "total variation",
    "motion_tv": "total variation, averaged along the motion",
}


def methods_of(lines: list[Line], prior: object) -> dict:
    "Return the methods as the grid takes them; `best` is that of the prior, whatever replaces it."
    found = {
        line.method: METHODS.get(line.method) or solve_with(recipe(line.changes, prior))
        for line in lines
    }
    return found | ({SILENT: solve_with(silent(prior))} if SILENT in found else {})


def evaluations(line: Line, task: str, prior: object) -> int:
    "Return how often the network looks at each frame: on the way up and on the way down."
    if line.changes is None or not is_network(prior):
        return 0
    preset = changed(task, line.changes, prior)
    schedule = preset.schedule(prior)
    each = getattr(preset.networks, "evaluations", 1)
    return each * (len(schedule.sampling) + climb_of(preset, schedule))


def cell_of(line: Line, task: str, clip: str, a: argparse.Namespace) -> Cell:
    "Return the experiment behind a row and a clip."
    prior = "none" if line.changes is None else line.prior
    return Cell(line.method, task, clip, a.size, a.frames, a.seed, prior, {}, line.label)


def row_of(line: Line, task: str, each: dict, prior: object) -> dict:
    "Return one row: means over the clips, standard errors, and every clip by itself."
    kept = {c: {k: r[k] for k in (*FIGURES, "residual", "seconds")} for c, r in each.items()}
    found = mean_row(list(kept.values()))
    count = evaluations(line, task, prior)
    where = {"task": task, "group": line.group, "row": line.label, "evaluations": count}
    return where | found | {"each": kept}


def gap(
    row: dict,  # of one task
    other: dict,  # of the same task
    name: str = "PSNR",
) -> tuple[float, float]:
    "Return by how much a row is ahead, mean over clips, and the standard error of that."
    gaps = [row["each"][c][name] - other["each"][c][name] for c in row["each"]]
    return mean_and_error(gaps)


def shares(rows: list[dict], name: str = "PSNR") -> list[dict]:
    "Return for each task what the network adds to `best` over each thing in its place."
    out = []
    others = dict.fromkeys(r["row"] for r in rows if r["group"] == "prior of best")
    for task in dict.fromkeys(r["task"] for r in rows):
        mine = {r["row"]: r for r in rows if r["task"] == task}
        line = {"task": task, f"{name} of best": number(mine["best"][name], name)}
        for other in (*others, REFERENCES["motion_tv"]):
            text = "-"  # no such row on this task
            if other in mine:
                mean, error = gap(mine["best"], mine[other], name)
                text = f"{'+' if mean > 0 else ''}{number(mean, name)} ± {number(error, name)}"
            line["over " + other.removeprefix("best, prior: ")] = text
        out.append(line)
    return out


def page(kept: dict) -> str:
    "Return the results as Markdown."
    clips = ", ".join(kept["clips"])
    units = "; ".join(f"{k}: {UNITS[k]}" for k in FIGURES)
    out = [
        "# Ablation: from `paper` to `best`",
        f"Clips: {clips}; short side {kept['size']} pixels, {kept['frames']} frames, seed "
        f"{kept['seed']}; prior `{kept['prior']}` ({kept['prior_id']}). Mean ± standard error over "
        f"clips. {units}; evaluations: of the network, for each frame; seconds: one core of a "
        f"busy machine, an order of magnitude. {kept['about_clips']} "
        f"Made by `{kept['command']}`." + (f" {kept['note']}" if "note" in kept else ""),
        "## What the network gives",
        "`best` with its network, minus the same loop with something else in its place: PSNR in dB "
        "(above zero the network is ahead), then LPIPS (below zero it is ahead). The identity and "
        "the Gaussian blur work on the prior's latents. "
        + about_noise(kept["rows"])
        + "Classical denoisers work on pixels and get "
        f"the same noise levels: latent noise of 1 is {kept['pixel_noise']:.3f} in pixels of "
        f"[-1, 1].{about_mirrors(kept['rows'])}{about_networks(kept['rows'])}",
        markdown(shares(kept["rows"]), bold=False),
        markdown(shares(kept["rows"], "LPIPS"), bold=False),
    ]
    for task in dict.fromkeys(r["task"] for r in kept["rows"]):
        mine = [shown(r) for r in kept["rows"] if r["task"] == task]
        out += [f"## {task}", markdown(mine)]
    return "\n\n".join(out) + "\n"


def about_noise(rows: list[dict]) -> str:
    "Return what to say of drawn noise, which only a denoiser takes away."
    if NO_NOISE not in {r["row"] for r in rows}:
        return ""
    return (
        "Neither takes drawn noise away: where `best` draws noise, the row without it tells what "
        "the loop gives without a network. "
    )


def about_mirrors(rows: list[dict]) -> str:
    "Return what to say of mirrored frames, where `best` shows them to its network."
    if f"best - {MIRRORED}" not in {r["row"] for r in rows}:
        return ""
    return " What stands in for the network sees no frame mirrored: such filters treat sides alike."


def about_networks(rows: list[dict]) -> str:
    "Return what to say of rows with another network."
    mine = [r for r in rows if r["group"] == "prior of best" and r["evaluations"]]
    names = dict.fromkeys(r["row"].removeprefix("best, prior: ") for r in mine)
    if not names:
        return ""
    said = ", ".join(f"`{n}`" for n in names)
    return f" Another network in the same loop, for which nothing was tuned: {said}."


def shown(row: dict) -> dict:
    "Return what the page shows of a row."
    order = ("row", *[k for f in FIGURES for k in (f, f"{f} se")])
    found = {k: row[k] for k in order if k in row}
    return found | {"evaluations": str(row["evaluations"]), "seconds": row["seconds"]}


def write(a: argparse.Namespace, grid: Grid, rows: list[dict], gain: float) -> Path:
    "Write JSON and Markdown of the tasks that are complete."
    ending = a.name or ("" if a.prior == "tiny" else Path(a.prior).name)
    name = f"ablation_{ending}" if ending else "ablation"
    about = "Nothing was tuned on these clips." if a.clips else SAMPLES
    where = {"size": a.size, "frames": a.frames, "seed": a.seed, "clips": list(grid.clips)}
    where |= {"prior": a.prior, "prior_id": grid.prior_id("diffusion"), "pixel_noise": gain}
    where |= {"about_clips": about, "command": " ".join(["python bench/ablation.py", *a.said])}
    kept = where | {"changes": CHANGES, "rows": rows}
    out = a.out / f"{name}.json"
    write_json(kept, out, "rows")
    out.with_suffix(".md").write_text(page(kept))
    return out


SAMPLES = "The settings of `best` were tuned on pieces of these two clips, among others."


def parser() -> argparse.ArgumentParser:
    "Return the command's options."
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    p.add_argument("--clips", help="folder of clips; default the two that ship")
    p.add_argument("--name", default="", help="ending of the files' names")
    p.add_argument("--size", type=int, default=96, help="short side in pixels (96)")
    p.add_argument("--frames", type=int, default=9, help="(9)")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--prior", default="tiny")
    p.add_argument("--also", nargs="*", default=[], help="other priors, as rows")
    p.add_argument("--bm3d", action="store_true", help="five seconds a frame")
    p.add_argument("--minutes", type=float, default=math.inf, help="stop after so many")
    p.add_argument("--out", type=Path, default=RESULTS)
    return p


def clips_of(a: argparse.Namespace) -> dict:
    "Return the clips by name."
    if a.clips:
        return clips_in(a.clips)
    return {n: Path(video.__file__).parent / "assets" / f"{n}.mp4" for n in video.SAMPLES}


def main(argv: list | None = None) -> int:
    "Run what is missing, task by task. The tasks that are complete are on disk after each."
    argv = sys.argv[1:] if argv is None else argv
    a = parser().parse_args(argv)
    a.said = [v for i, v in enumerate(argv) if "--minutes" not in (v, argv[i - 1])]
    end = time.monotonic() + 60 * a.minutes
    priors, gain = priors_of(a.prior, a.bm3d, a.also)
    lines = {task: lines_of(priors, task) for task in a.tasks}
    methods = methods_of([line for each in lines.values() for line in each], a.prior)
    folder, say = a.out / "ablation_cells", partial(print, flush=True)
    grid = Grid(folder, clips_of(a), TASKS, methods, priors, FIGURES, say=say)
    rows = []
    for task in a.tasks:
        made = []
        for line in lines[task]:
            each = {}
            for clip in grid.clips:
                if time.monotonic() > end:
                    print(f"stopped after {a.minutes:g} minutes in {task}: call it again")
                    return 1
                each[clip] = grid(cell_of(line, task, clip, a))
            made.append(row_of(line, task, each, grid.prior(line.prior)))
        rows += made
        print(f"{task}: written to {write(a, grid, rows, gain)}")
    print("done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
