"""Learn what kernels of downscaling leave in a video, and write visionxl/assets/downscale.json.

    python bench/tune_downscale.py             all factors, from the photographs of the prior
    python bench/tune_downscale.py --check     how often it is right, on photographs left out and on
                                               nine pieces of the two sample films
    python bench/tune_downscale.py --test      the same on the six test clips (an earlier fit was
                                               tried there before seeds and margin were fixed)

A linear discriminant (Fisher 1936) on the 94 numbers of `extras.estimates.blind_downscale.traces`.
Each photograph is taken as it is, or smaller, and as sharp as it is, or softer; a crop of it is
reduced by each kernel and rounded to 8 bits. The covariance is that of photographs around the mean
of their kernel, with its diagonal made larger by 3 %: the best of seven shares by photos left out.
`--folder` keeps what was measured of each part: a run can be stopped and go on.
"""

import argparse
import json
import random
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from visionxl import video  # noqa: E402
from visionxl.extras.estimates.blind_downscale import (  # noqa: E402
    FACTORS,
    KERNELS,
    SURE,
    TILE,
    find_downscaling,
    scores,
    traces,
)
from visionxl.measure.experiment.given import at_size, default_clips  # noqa: E402
from visionxl.operators.cameras import resize_matrix  # noqa: E402

ASSET = Path(__file__).resolve().parent.parent / "visionxl" / "assets" / "downscale.json"
SEEDS, PARTS, FOLDS, MORE = (0, 1), 6, 5, 0.03
SMALLER, SOFTER = (1, 1, 0.85, 0.7, 0.55), (0, 0, 0.4, 0.7, 1.0)
FLOWER, TEARS = "flower.mp4", "tears_of_steel_battle.webm"
PIECES = [(FLOWER, 20), (FLOWER, 120), *((TEARS, n) for n in (20, 240, 420, 700, 1000, 1300, 1500))]


def reduced(x: torch.Tensor, factor: int, kernel: str) -> torch.Tensor:
    "Frames (T, C, H, W) made smaller, as a file holds them."
    h, w = (n // factor for n in x.shape[-2:])
    x = x[..., : h * factor, : w * factor].float()
    rows, columns = (resize_matrix(n * factor, n, kernel).float() for n in (h, w))
    return video.as_in_file(rows @ x @ columns.T)


def crop_of(file: Path, factor: int, chance: random.Random) -> torch.Tensor | None:
    "A grey crop (1, 1, H, W) of a photograph, smaller and softer by chance; None: too small."
    import cv2

    picture = cv2.imread(str(file))[..., ::-1].astype(np.float32)
    grey = picture @ np.array([0.299, 0.587, 0.114], np.float32) / 127.5 - 1
    scale = chance.choice(SMALLER)
    if scale < 1:
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    sigma = chance.choice(SOFTER)
    if sigma:
        grey = cv2.GaussianBlur(grey, (0, 0), sigma)
    h, w = (min(n, most) // factor * factor for n, most in zip(grey.shape, (512, 640)))
    if min(h, w) // factor < TILE:
        return None
    i, j = (chance.randrange(n - m + 1) for n, m in zip(grey.shape, (h, w)))
    return torch.from_numpy(grey[i : i + h, j : j + w].copy())[None, None]


def part_of(files: list, factor: int, seed: int, part: int) -> tuple[list, list]:
    "Numbers of a sixth of the photographs, and the traces of every kernel in each, (3, 94)."
    chance, numbers, seen = random.Random(10 * seed + part), [], []
    for number in range(part, len(files), PARTS):
        x = crop_of(files[number], factor, chance)
        if x is not None:
            numbers.append(number)
            seen.append(np.stack([traces(reduced(x, factor, k)) for k in KERNELS]))
    return numbers, seen


def photographs(factor: int, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    "Numbers (n,) of photographs and their traces (n, 3, 94)."
    train = video.data_dir() / "train"
    files, found = sorted([*train.glob("*/*.jpg"), *train.glob("*/*.jpeg")]), []
    for seed in SEEDS:
        for part in range(PARTS):
            kept = folder / f"{factor}_{seed}_{part}.npz"
            if not kept.exists():
                numbers, seen = part_of(files, factor, seed, part)
                np.savez(kept, numbers=numbers, traces=seen)
            with np.load(kept) as part_kept:
                found.append((part_kept["numbers"], part_kept["traces"]))
    return np.concatenate([n for n, _ in found]), np.concatenate([t for _, t in found])


def learned(seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    "Weights (3, 94) and offsets (3,) of the discriminant."
    means = seen.mean(0)
    rest = (seen - means).reshape(-1, seen.shape[-1])
    spread = rest.T @ rest / len(rest)
    spread += MORE * np.diag(np.diag(spread))
    weights = np.linalg.solve(spread, means.T).T
    return weights, -(weights * means).sum(1) / 2


def left_out(numbers: np.ndarray, seen: np.ndarray) -> np.ndarray:
    "How often each kernel is found in photographs that were left out."
    right = []
    for fold in range(FOLDS):
        out = numbers % FOLDS == fold
        weights, offsets = learned(seen[~out])
        found = (seen[out] @ weights.T + offsets).argmax(-1)
        right.append(found == np.arange(len(KERNELS)))
    return np.concatenate(right).mean(0)


def told(clips: dict, factor: int) -> None:
    "What is found in clips: right, wrong, and not answered since two kernels are too near."
    counts = {"right": 0, "wrong": 0, "not told": 0}
    for name, x in clips.items():
        row = []
        for kernel in KERNELS:
            y = reduced(x, factor, kernel)
            try:
                found = find_downscaling(y, factor)
            except ValueError:
                found = "not told"
            counts[{kernel: "right"}.get(found, found if found == "not told" else "wrong")] += 1
            ahead = sorted(scores(y, factor).values())
            row.append(f"{found} {ahead[-1] - ahead[-2]:.1f}")
        print(f"  {name}: {', '.join(row)}", flush=True)
    print(f"factor {factor}, answers where the best is {SURE} ahead: {counts}", flush=True)


def main() -> None:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--check", action="store_true")
    p.add_argument("--test", action="store_true")
    p.add_argument("--folder", type=Path, default=Path("/tmp/tune_downscale"))
    a = p.parse_args()
    torch.set_num_threads(1)
    a.folder.mkdir(exist_ok=True)
    if not (a.check or a.test):
        made = {}
        for factor in FACTORS:
            weights, offsets = learned(photographs(factor, a.folder)[1])
            rows = [[float(f"{v:.4g}") for v in row] for row in weights]
            made[factor] = {"weights": rows, "offsets": [float(f"{v:.5g}") for v in offsets]}
        ASSET.write_text(json.dumps(made) + "\n")
        return
    for factor in FACTORS:
        if a.check:
            right = left_out(*photographs(factor, a.folder))
            print(f"photographs left out, factor {factor}: {dict(zip(KERNELS, right.round(3)))}")
            pieces = {f"{f[:6]} {n}": (f, n) for f, n in PIECES}
            samples = video.data_dir() / "samples"
            told(
                {k: video.read(samples / f, 3, n, 384, 640).x for k, (f, n) in pieces.items()},
                factor,
            )
        if a.test:
            told({k: at_size(v, 384, 3) for k, v in default_clips().items()}, factor)


if __name__ == "__main__":
    main()
