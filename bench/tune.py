"""Choose what the preset `best` does for each task: one field after the other, on validation
photos, never on test clips.

    python bench/tune.py                        all tasks: writes bench/results/tune.md
    python bench/tune.py --tasks sr inpaint     some of them

Every task sees the same six clips: two photos that training has left out, under synthetic camera
motion, and four pieces of the two sample clips. What concerns motion is chosen on film alone: that
of the photos is smooth and nothing covers anything, so it would flatter it.
"""

import argparse
import os
from pathlib import Path

import torch

from visionxl.extras.starts import admm_tv
from visionxl.operators.tasks import task
from visionxl.prior.latent import Prior
from visionxl.solver import choose, solve
from visionxl.training.photos import load_photos, to_float, view
from visionxl.video import sample

HERE = Path(__file__).parent
GRID = {  # setting -> values, tried in this order, each with the best of the settings before it
    "deblur": {
        "consistency.radius": (1, 2, 3),
        "consistency.rounds": (1, 5),
        "consistency.tolerance": (0.02, 0.06, 0.12),
        "route.tau": (0.05, 0.1),
        "renoise.scale": (0.7,),
        "result.prior_error": (0.004, 0.012),
    },
    "sr": {
        "consistency.radius": (1, 3),
        "consistency.rounds": (3, 5),
        "consistency.tolerance": (0.12, 0.3),
        "route.tau": (0.1, 0.26),
        "renoise.scale": (0.4, 0.8),
        "result.prior_error": (0.004, 0.012),
    },
    "inpaint": {
        "consistency.radius": (1, 3),
        "consistency.rounds": (1, 5),
        "consistency.tolerance": (0.06, 0.2),
        "route.tau": (0.1, 0.26),
        "renoise.scale": (0.4, 0.85),
        "consistency.inner.steps": (20,),
        "result.prior_error": (0.004, 0.012),
    },
}
MOTION = ("consistency.radius", "consistency.rounds", "consistency.tolerance")


def moving(photo, frames: int, size: tuple):
    "A photo under a hand-held camera: a slow pan, a little zoom, rendered at twice the size."
    big = to_float(view(photo, 384))[None]
    t = torch.linspace(-1, 1, frames)
    theta = torch.zeros(frames, 2, 3)
    theta[:, 0, 0] = size[1] * 2 / big.shape[3] * (1 + 0.05 * t)
    theta[:, 1, 1] = size[0] * 2 / big.shape[2] * (1 + 0.05 * t)
    theta[:, 0, 2], theta[:, 1, 2] = 0.15 * t + 0.01 * torch.sin(9 * t), 0.1 * t**2
    grid = torch.nn.functional.affine_grid(
        theta, (frames, 3, 2 * size[0], 2 * size[1]), align_corners=False
    )
    x = torch.nn.functional.grid_sample(
        big.expand(frames, -1, -1, -1), grid, align_corners=False, padding_mode="reflection"
    )
    return torch.nn.functional.avg_pool2d(x, 2)


FRAMES, SIZE = 9, (96, 144)


def clips(val, frames: int = FRAMES, size: tuple = SIZE) -> dict:
    """A plain and a busy validation photo under a moving camera, where there are photos, and two
    pieces of each of the sample clips, early and late, left and right.
    """

    def piece(name, t, dy, dx):
        x = sample(name).x[t : t + frames]
        y0, x0 = (x.shape[-2] - size[0]) // 2 + dy, (x.shape[-1] - size[1]) // 2 + dx
        return x[..., y0 : y0 + size[0], x0 : x0 + size[1]].contiguous()

    film = {
        f"{n} {t}": piece(n, t, dy, dx)
        for n, t, dy, dx in (
            ("flower", 3, 0, 0),
            ("flower", 14, -20, 40),
            ("tears", 6, 0, 0),
            ("tears", 15, 20, -40),
        )
    }
    if not val:
        return film
    val = sorted(val, key=lambda p: p.float().std())
    return {
        "plain photo": moving(val[len(val) // 4], frames, size),
        "busy photo": moving(val[3 * len(val) // 4], frames, size),
    } | film


def psnr(x, x_true):
    "Decibels, mean over frames."
    return float(
        (10 * torch.log10(4 / (x.clamp(-1, 1) - x_true).square().flatten(1).mean(1))).mean()
    )


def score(name, xs, prior, values):
    "PSNR of `best` with these settings, for each clip."
    out = []
    for x in xs.values():
        x, A = x.to(prior.device), task(name, tuple(x.shape))
        for state in solve(A(x), A, prior, "best", values):
            pass
        out.append(psnr(state.x, x))
    return out


def tune(name, xs, prior, log, fields=None):
    """Coordinate search over the task's grid, or over some of its fields.

    A change must gain 0.02 dB in the mean.
    """
    kept, now = {}, log(name, {}, score(name, xs, prior, {}))
    for field, values in GRID[name.rstrip("+")].items():
        if fields and field not in fields:
            continue
        those = [i for i, x in enumerate(xs) if field not in MOTION or "photo" not in x]

        def mean(v, those=those):
            return sum(v[i] for i in those) / max(1, len(those))

        for v in values:
            if v == choose("best", name, changes=kept).settings().get(field):
                continue
            new = log(name, kept | {field: v}, score(name, xs, prior, kept | {field: v}))
            if mean(new) > mean(now) + 0.02:
                now, kept = new, kept | {field: v}
    return kept, sum(now) / len(now)


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument(
        "--tasks", nargs="*", default=["sr", "inpaint", "deblur", "sr+", "inpaint+", "deblur+"]
    )
    p.add_argument("--prior", default="tiny")
    p.add_argument("--clips", nargs="*", help="some of the six")
    p.add_argument("--fields", nargs="*", help="some of a task's settings")
    p.add_argument("--frames", type=int, default=FRAMES, help="of each clip")
    p.add_argument("--size", type=int, nargs=2, default=SIZE, help="height and width")
    p.add_argument("--out", type=Path, default=HERE / "results" / "tune")
    a = p.parse_args()
    prior = Prior.load(a.prior)
    data = Path(os.environ.get("VISIONXL_DATA", "../shared/data"))
    asked = not a.clips or any("photo" in name for name in a.clips)
    photos = load_photos(data / "train")[1] if asked else []
    xs = clips(photos, a.frames, tuple(a.size))
    xs = {n: x for n, x in xs.items() if not a.clips or n in a.clips}
    a.out.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        "# What `best` was tuned on",
        "",
        f"PSNR (dB) of {a.frames} frames of {a.size[0]}x{a.size[1]} by `bench/tune.py`: two "
        "validation photos under a "
        "moving camera and four pieces of the sample clips. The first line of a task is "
        "the preset as it is, "
        "`ADMM-TV` beside it.",
        "",
        "| task | changed | " + " | ".join(xs) + " | mean |",
        "|---|---|" + "---|" * (len(xs) + 1),
    ]

    def log(name, values, scores):
        text = ", ".join(f"{k} = {v}" for k, v in values.items()) or "nothing"
        lines.append(
            f"| {name} | {text} | "
            + " | ".join(f"{v:.2f}" for v in scores)
            + f" | {sum(scores) / len(scores):.2f} |"
        )
        a.out.with_suffix(".md").write_text("\n".join(lines) + "\n")
        print(lines[-1], flush=True)
        return scores

    for name in a.tasks:
        ops = {n: task(name, tuple(x.shape)) for n, x in xs.items()}
        log(
            name, {"ADMM-TV": "tuned"}, [psnr(admm_tv(ops[n](x), ops[n]), x) for n, x in xs.items()]
        )
        kept, best = tune(name, xs, prior, log, a.fields)
        print(f"{name}: {best:.2f} dB with {choose('best', name, changes=kept)}", flush=True)


if __name__ == "__main__":
    main()
