"""Tune ADMM-TV per task on clips that no benchmark uses: photos with synthetic motion and film samples.

    python bench/tune_tv.py                     all tasks, goes on where it stopped
    python bench/tune_tv.py --tasks deblur sr+  some of them
    python bench/tune_tv.py --show              the table of what has been measured

Every cell (task, mu, rho/mu, weight of time) is one line of bench/results/tune_tv.jsonl with the mean PSNR over the
clips after 30 outer iterations. The best cell of each task belongs into TV_TUNED of nbs/10_baselines.ipynb.
"""
import argparse
import json
import math
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from visionxl import baselines, metrics, video  # noqa: E402
from visionxl.operators import TASKS, task  # noqa: E402

OUT = Path(__file__).parent / "results" / "tune_tv.jsonl"
PHOTOS = ("elementary-wallpapers", "deepin-unsplash")
FILM = (("flower.mp4", 40), ("tears_of_steel_battle.webm", 300))
MU = (1e-13, 3e-13, 1e-12, 3e-12, 1e-11, 3e-11, 1e-10, 3e-10, 1e-9, 3e-9, 1e-8, 3e-8, 1e-7, 3e-7, 1e-6, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3)
RATIO = (3., 10., 30., 100., 300., 1000.)
TIME = (0.05, 0.1, 0.25, 0.5, 1.)


def moving_photo(path, frames: int, height: int, width: int, seed: int) -> torch.Tensor:
    "A photo seen by a camera that pans, turns and comes nearer at constant speed: (T, 3, H, W)."
    g = torch.Generator().manual_seed(seed)
    wide = video.read(path, height=2 * height, width=2 * width).x                # the crop sees half of it
    pan = (torch.rand(4, generator=g) * 2 - 1) * torch.tensor([.5, .3, .06, .08])  # right, down, turn, zoom over the clip
    out = []
    for t in torch.linspace(-.5, .5, frames):
        a, s = pan[2] * t, 0.5 * (1 + pan[3] * t)
        theta = torch.tensor([[s * math.cos(a), -s * math.sin(a), pan[0] * t], [s * math.sin(a), s * math.cos(a), pan[1] * t]])
        grid = torch.nn.functional.affine_grid(theta[None], (1, 3, height, width), align_corners=False)
        out.append(torch.nn.functional.grid_sample(wide, grid, mode="bicubic", padding_mode="reflection", align_corners=False))
    return torch.cat(out).clamp(-1, 1)


def clips(data: Path, frames: int, height: int, width: int) -> list:
    "Two photos in motion and two pieces of film, none of them in data/clips."
    photos = [sorted(p for p in (data / "train" / d).rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))[1] for d in PHOTOS]
    return ([moving_photo(p, frames, height, width, i) for i, p in enumerate(photos)] +
            [video.read(data / "samples" / n, frames, start, height, width).x for n, start in FILM])


def measure(name: str, xs: list, mu: float, ratio: float, time_weight: float) -> float:
    "Mean PSNR over the clips."
    each = []
    for x in xs:
        A = task(name, tuple(x.shape))
        out = baselines.admm_tv(A(x), A, mu, mu * ratio, (time_weight, 1., 1.))
        each.append(metrics.psnr(metrics.to_unit(out), metrics.to_unit(x)))
    return sum(each) / len(each)


def search(name: str, xs: list, known: dict) -> None:
    "Coordinate search over the grid, from the best cell so far, until no neighbour is better; each cell once, written at once."
    axes, seen = (MU, RATIO, TIME), [k for k in known if k[0] == name]
    start = max(seen, key=known.get)[1:] if seen else (1e-9, 100., 0.1)
    at = [axis.index(v) for axis, v in zip(axes, start)]

    def cell(i):
        key = (name, *(a[j] for a, j in zip(axes, i)))
        if key not in known:
            t = time.time()
            known[key] = measure(name, xs, *key[1:])
            with open(OUT, "a") as f: f.write(json.dumps({"task": name, "mu": key[1], "rho_over_mu": key[2], "time": key[3],
                                                          "psnr": round(known[key], 4), "seconds": round(time.time() - t, 1)}) + "\n")
            print(*key, f"{known[key]:.3f} dB", flush=True)
        return known[key]

    while True:
        before = list(at)
        for d, axis in enumerate(axes):
            for step in (-1, 1):
                while 0 <= at[d] + step < len(axis):
                    there = [*at[:d], at[d] + step, *at[d + 1:]]
                    if cell(there) <= cell(at): break
                    at = there
        if at == before: return


def table(known: dict) -> str:
    "The best cell of each task and what a step along each axis costs."
    lines = ["| task | mu | rho/mu | time | PSNR | other mu at that rho/mu and time |", "|---|---|---|---|---|---|"]
    for name in TASKS:
        cells = {k[1:]: v for k, v in known.items() if k[0] == name}
        if not cells: continue
        best = max(cells, key=cells.get)
        near = ", ".join(f"{k[0]:g}: {v:.2f}" for k, v in sorted(cells.items()) if k[1:] == best[1:])
        lines.append(f"| {name} | {best[0]:g} | {best[1]:g} | {best[2]:g} | {cells[best]:.2f} | {near} |")
    return "\n".join(lines)


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    p.add_argument("--size", type=int, nargs=2, default=(128, 192), help="height and width of the clips")
    p.add_argument("--frames", type=int, default=13)
    p.add_argument("--show", action="store_true", help="only print the table")
    a = p.parse_args()
    OUT.parent.mkdir(exist_ok=True)
    rows = [json.loads(line) for line in OUT.read_text().splitlines()] if OUT.exists() else []
    known = {(r["task"], r["mu"], r["rho_over_mu"], r["time"]): r["psnr"] for r in rows}
    if not a.show:
        if video.data_dir() is None: sys.exit("no data folder: set VISIONXL_DATA to the folder with train/ and samples/")
        xs = clips(video.data_dir(), a.frames, *a.size)
        for name in a.tasks: search(name, xs, known)
    text = table(known)
    OUT.with_suffix(".md").write_text("# ADMM-TV, tuned\n\n" + text + "\n")
    print(text)
    return 0


if __name__ == "__main__": sys.exit(main())
