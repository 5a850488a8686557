"""Choose what the preset `best` does for each task: one field after the other, on validation photos, never on test clips.

    python bench/tune.py                        all tasks: appends to bench/results/tune.txt and tune.jsonl
    python bench/tune.py --tasks sr inpaint     some of them

Spatial tasks see still frames: the middle of photos that training has left out, and frames of the two sample clips. Tasks
with a temporal part see photos under synthetic camera motion. The score is the mean PSNR; the worst frame is printed beside it.
"""
import argparse
import json
import os
import time
from pathlib import Path

import torch

from visionxl.operators import task
from visionxl.prior import Prior
from visionxl.solver import BEST, PRESETS, choose, first_guess, solve
from visionxl.training import load_photos, to_float, view
from visionxl.video import sample

HERE = Path(__file__).parent
GRID = {  # field -> values, tried in this order, each with the best of the fields before it
    "deblur": dict(tau=(.05, .1, .18), noise_scale=(.4, .7, 1.)),
    "sr": dict(tau=(.1, .18, .3), noise_scale=(.2, .4, .7, 1.)),
    "inpaint": dict(tau=(.05, .1, .18, .3), noise_scale=(.4, .7, 1.), cg_steps=(5, 10, 20)),
}


def stills(val, count: int, size=(128, 192)):
    "The middle of `count` validation photos at short side 192, and a frame of each sample clip."
    middle = lambda x: x[:, (x.shape[1] - size[0]) // 2:, (x.shape[2] - size[1]) // 2:][:, :size[0], :size[1]]
    wide = [p for p in val if p.shape[2] >= p.shape[1]]
    photos = [to_float(middle(view(p, 192))) for p in wide[:: max(1, len(wide) // count)][:count]]
    return torch.stack(photos + [middle(sample(n).x[12]) for n in ("flower", "tears")])


def motion(val, frames: int, size=(96, 144)):
    "A photo under a hand-held camera: a slow pan, a little zoom, rendered at twice the size."
    big = to_float(view(sorted(val, key=lambda p: p.float().std())[len(val) // 2], 384))[None]
    t = torch.linspace(-1, 1, frames)
    theta = torch.zeros(frames, 2, 3)
    theta[:, 0, 0] = size[1] * 2 / big.shape[3] * (1 + .05 * t)
    theta[:, 1, 1] = size[0] * 2 / big.shape[2] * (1 + .05 * t)
    theta[:, 0, 2], theta[:, 1, 2] = .15 * t + .01 * torch.sin(9 * t), .1 * t**2
    grid = torch.nn.functional.affine_grid(theta, (frames, 3, 2 * size[0], 2 * size[1]), align_corners=False)
    x = torch.nn.functional.grid_sample(big.expand(frames, -1, -1, -1), grid, align_corners=False, padding_mode="reflection")
    return torch.nn.functional.avg_pool2d(x, 2)


def psnr(x, x_true):
    "Decibels of every frame."
    return 10 * torch.log10(4 / (x.clamp(-1, 1) - x_true).square().flatten(1).mean(1))


def score(A, x, prior, **values):
    "Mean and worst PSNR of `best` with these values."
    for state in solve(A(x), A, prior, "best", **values): pass
    p = psnr(state.x, x)
    return p.mean().item(), p.min().item()


def tune(name, x, prior, log):
    "Coordinate search over the task's grid; a change must gain 0.01 dB."
    A = task(name, tuple(x.shape))
    kept = {}
    best = score(A, x, prior)[0]
    log(task=name, values={}, psnr=best, start=psnr(first_guess(A, A(x)), x).mean().item())
    for field, values in GRID[name.rstrip("+")].items():
        for v in values:
            if v == getattr(choose("best", name, **kept), field): continue
            mean, worst = score(A, x, prior, **(kept | {field: v}))
            log(task=name, values=kept | {field: v}, psnr=mean, worst=worst)
            if mean > best + .01: best, kept = mean, kept | {field: v}
    return kept, best


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--tasks", nargs="*", default=["sr", "inpaint", "deblur", "sr+", "inpaint+", "deblur+"])
    p.add_argument("--photos", type=int, default=4)
    p.add_argument("--prior", default="tiny")
    p.add_argument("--out", type=Path, default=HERE / "results" / "tune")
    a = p.parse_args()
    prior = Prior.load(a.prior)
    val = load_photos(Path(os.environ.get("VISIONXL_DATA", "../shared/data")) / "train")[1]
    a.out.parent.mkdir(parents=True, exist_ok=True)

    def log(**row):
        row = {k: round(v, 3) if isinstance(v, float) else v for k, v in row.items()} | {"at": time.strftime("%H:%M:%S")}
        with open(a.out.with_suffix(".jsonl"), "a") as f: f.write(json.dumps(row) + "\n")
        print(row, flush=True)

    for name in a.tasks:
        x = motion(val, 13) if name.endswith("+") else stills(val, a.photos)
        kept, best = tune(name, x, prior, log)
        own = BEST.get(name, {}) | kept
        line = f"{name:9} {tuple(x.shape)}  {best:.2f} dB with {own}  (otherwise {PRESETS['best']})\n"
        with open(a.out.with_suffix(".txt"), "a") as f: f.write(line)
        print(line, flush=True)


if __name__ == "__main__":
    main()
