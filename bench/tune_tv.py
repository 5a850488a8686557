"""Tune ADMM-TV per task on clips that no benchmark uses: photos with synthetic motion and film
samples.

    python bench/tune_tv.py                     all tasks, goes on where it stopped
    python bench/tune_tv.py --tasks deblur sr+  some of them
    python bench/tune_tv.py --show              the table of what has been measured

Every cell (task, mu, rho/mu, weight of time) is one line of bench/results/tune_tv.jsonl with the
mean PSNR over the clips after 30 outer iterations. The best cell of each task belongs into TV_TUNED
of nbs/reference/compare/rivals.ipynb.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from visionxl import video
from visionxl.compare import rivals as baselines
from visionxl.measure import metrics  # noqa: E402
from visionxl.operators.tasks import TASKS, task  # noqa: E402

OUT = Path(__file__).parent / "results" / "tune_tv.jsonl"
PHOTOS = ("elementary-wallpapers", "deepin-unsplash")
FILM = (("flower.mp4", 40), ("tears_of_steel_battle.webm", 300))
MU = tuple(float(f"{m}e-{e}") for e in range(17, 2, -1) for m in (1, 3))
RATIO = (
    1.0,
    2.0,
    3.0,
    5.0,
    10.0,
    20.0,
    30.0,
    50.0,
    100.0,
    200.0,
    300.0,
    500.0,
    1000.0,
    2000.0,
    3000.0,
)
TIME = (0.0, 0.05, 0.1, 0.25, 0.5, 1.0)
START = {
    "deblur": (1e-14, 100.0, 0.1),
    "deblur+": (1e-14, 100.0, 0.1),
    "sr": (1e-8, 300.0, 0.5),
    "sr+": (1e-6, 300.0, 0.25),
}
MOVES = (
    (-1, 0, 0),
    (1, 0, 0),
    (0, -1, 0),
    (0, 1, 0),
    (0, 0, -1),
    (0, 0, 1),
    (-1, 2, 0),
    (1, -2, 0),
)  # the last two keep rho
HEAD = """# ADMM-TV, tuned

Mean PSNR after 30 outer iterations on two photos in synthetic motion and two pieces of film
(13 frames of 64x96), none of them in a benchmark. Made by `bench/tune_tv.py`, which keeps every
cell in `tune_tv.jsonl`. Without noise a smaller mu is only nearer to `A x = y`: a plateau for
pooling and masks. A blur has no plateau, since its limit is the inverse filter; there the peak is
where float32's rounding of the measurement sets in.

"""
LEVEL = 0.003  # dB; a step that gains less is a plateau, and the search does not walk along it


def moving_photo(path, frames: int, height: int, width: int, seed: int) -> torch.Tensor:
    "A photo seen by a camera that pans, turns and comes nearer at constant speed: (T, 3, H, W)."
    g = torch.Generator().manual_seed(seed)
    wide = video.read(path, height=2 * height, width=2 * width).x  # the crop sees half of it
    pan = (torch.rand(4, generator=g) * 2 - 1) * torch.tensor(
        [0.5, 0.3, 0.06, 0.08]
    )  # right, down, turn, zoom over the clip
    out = []
    for t in torch.linspace(-0.5, 0.5, frames):
        a, s = pan[2] * t, 0.5 * (1 + pan[3] * t)
        theta = torch.tensor(
            [
                [s * math.cos(a), -s * math.sin(a), pan[0] * t],
                [s * math.sin(a), s * math.cos(a), pan[1] * t],
            ]
        )
        grid = torch.nn.functional.affine_grid(
            theta[None], (1, 3, height, width), align_corners=False
        )
        out.append(
            torch.nn.functional.grid_sample(
                wide, grid, mode="bicubic", padding_mode="reflection", align_corners=False
            )
        )
    return torch.cat(out).clamp(-1, 1)


def clips(data: Path, frames: int, height: int, width: int) -> list:
    "Two photos in motion and two pieces of film, none of them in data/clips."
    photos = [
        sorted(
            p
            for p in (data / "train" / d).rglob("*")
            if p.suffix.lower() in (".jpg", ".jpeg", ".png")
        )[1]
        for d in PHOTOS
    ]
    return [moving_photo(p, frames, height, width, i) for i, p in enumerate(photos)] + [
        video.read(data / "samples" / n, frames, start, height, width).x for n, start in FILM
    ]


def measure(name: str, xs: list, mu: float, ratio: float, time_weight: float) -> float:
    "Mean PSNR over the clips."
    each = []
    for x in xs:
        A = task(name, tuple(x.shape))
        out = baselines.admm_tv(A(x), A, mu, mu * ratio, (time_weight, 1.0, 1.0))
        each.append(metrics.psnr(metrics.to_unit(out), metrics.to_unit(x)))
    return sum(each) / len(each)


def search(name: str, xs: list, known: dict) -> None:
    """Search over the grid, from the best cell so far, until no neighbour is better; each cell
    once, written at once.
    """
    axes, seen = (MU, RATIO, TIME), [k for k in known if k[0] == name]
    start = max(seen, key=known.get)[1:] if seen else START.get(name, (1e-8, 10.0, 0.1))
    at = [axis.index(v) for axis, v in zip(axes, start)]

    def cell(i):
        key = (name, *(a[j] for a, j in zip(axes, i)))
        if key not in known:
            t = time.time()
            known[key] = measure(name, xs, *key[1:])
            with open(OUT, "a") as f:
                f.write(
                    json.dumps(
                        {
                            "task": name,
                            "mu": key[1],
                            "rho_over_mu": key[2],
                            "time": key[3],
                            "psnr": round(known[key], 4),
                            "seconds": round(time.time() - t, 1),
                        }
                    )
                    + "\n"
                )
            print(*key, f"{known[key]:.3f} dB", flush=True)
        return known[key]

    while True:
        before = at
        for move in MOVES:
            while all(0 <= i + m < len(axis) for i, m, axis in zip(at, move, axes)):
                there = [i + m for i, m in zip(at, move)]
                if cell(there) <= cell(at) + LEVEL:
                    break
                at = there
        if at == before:
            return


def chosen(cells: dict) -> tuple:
    "The best cell; of equal ones the one with most neighbours."

    def seen(k):
        return sum(sum(a != b for a, b in zip(k, other)) == 1 for other in cells)

    return max(cells, key=lambda k: (round(cells[k], 3), seen(k)))


def axis(cells: dict, best: tuple, d: int) -> str:
    "What has been measured along one axis through the best cell."
    line = {k[d]: v for k, v in cells.items() if all(k[i] == best[i] for i in range(3) if i != d)}
    return ", ".join(f"{k:g}: {v:.2f}" for k, v in sorted(line.items()))


def table(known: dict) -> str:
    "The best cell of each task and what a step along each axis costs."
    lines = [
        "| task | mu | rho/mu | time | PSNR | other mu | other rho/mu | other weights of time |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in TASKS:
        cells = {k[1:]: v for k, v in known.items() if k[0] == name}
        if not cells:
            continue
        best = chosen(cells)
        lines.append(
            f"| {name} | {best[0]:g} | {best[1]:g} | {best[2]:g} | {cells[best]:.2f} | "
            + " | ".join(axis(cells, best, d) for d in range(3))
            + " |"
        )
    return "\n".join(lines)


def known_of(rows: list[dict]) -> dict:
    "The PSNR of each setting that was tried."
    return {(r["task"], r["mu"], r["rho_over_mu"], r["time"]): r["psnr"] for r in rows}


def page(rows: list[dict]) -> str:
    "The kept lines as Markdown."
    return HEAD + table(known_of(rows)) + "\n"


def main() -> int:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    p.add_argument(
        "--size", type=int, nargs=2, default=(64, 96), help="height and width of the clips"
    )
    p.add_argument("--frames", type=int, default=13)
    p.add_argument("--show", action="store_true", help="only print the table")
    a = p.parse_args()
    OUT.parent.mkdir(exist_ok=True)
    rows = [json.loads(line) for line in OUT.read_text().splitlines()] if OUT.exists() else []
    known = known_of(rows)
    if not a.show:
        if video.data_dir() is None:
            sys.exit("no data folder: set VISIONXL_DATA to the folder with train/ and samples/")
        xs = clips(video.data_dir(), a.frames, *a.size)
        for name in a.tasks:
            search(name, xs, known)
    text = table(known)
    OUT.with_suffix(".md").write_text(HEAD + text + "\n")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
