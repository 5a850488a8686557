"""`best` against total variation through files of 8 bits, and with noise of 0.05.

    python bench/noisy.py                         six test clips, six tasks, 96 rows, 9 frames
    python bench/noisy.py --kinds "8 bits" --tasks sr deblur --size 192
    python bench/noisy.py --clips samples         two pieces of the sample clips, for choices
    python bench/noisy.py --minutes 4             in slots: call it until it says "done"

The measurement is A x, or A x with Gaussian noise of deviation 0.05 in units of [-1, 1], and then a
file: clipped to [-1, 1] and rounded to 256 levels. `best` is told the noise; of a file that is the
deviation of rounding. Total variation gets two or three weights, and its average along the motion
two weights of staying near it. Of these the best in PSNR counts, clip by clip: they are chosen with
the clean clip, which `best` is not.

*Told*: the share of the squared error of `best` that lies where the measurement tells something:
the error less its part that the measurement leaves as it is (`told_share`). The rest can only be
guessed, by the prior or by total variation.

Finished cells stay in results/noisy_SIZE.json: a stopped run goes on. `best` is chosen on pieces of
the sample clips; the test clips are measured only.
"""

import argparse
import json
import math
import sys
import time
import warnings
from itertools import product
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from kept import write_json  # noqa: E402

from visionxl import video  # noqa: E402
from visionxl.app.degradation.measurement import quantisation  # noqa: E402
from visionxl.extras.best import best  # noqa: E402
from visionxl.extras.motion import estimate_motion, has_motion, motion_average  # noqa: E402
from visionxl.extras.photographs.photo_spectrum import smooth_step  # noqa: E402
from visionxl.extras.starts import admm_tv  # noqa: E402
from visionxl.measure import metrics  # noqa: E402
from visionxl.measure.experiment.given import at_size, default_clips  # noqa: E402
from visionxl.measure.experiment.identity import prior_identity  # noqa: E402
from visionxl.measure.perception.networks import load_lpips  # noqa: E402
from visionxl.measure.tables import markdown, mean_and_error  # noqa: E402
from visionxl.operators.linear import LinearOperator  # noqa: E402
from visionxl.operators.tasks import TASKS, task  # noqa: E402
from visionxl.prior.latent import Prior  # noqa: E402
from visionxl.solver import solve  # noqa: E402
from visionxl.steps.consistency import data_consistency  # noqa: E402

RESULTS = Path(__file__).parent / "results"
KINDS = {"8 bits": 0.0, "noise 0.05": 0.05}
ASKED = {"8 bits": 0.5, "noise 0.05": 0.8}  # dB over the best total variation
WEIGHTS = {  # of total variation: the variance of the noise over these
    "8 bits": {"deblur": (0.4, 1.6, 3.2), "sr": (0.1, 1.6), "inpaint": (0.1, 1.6)},
    "noise 0.05": {"deblur": (0.8, 1.6, 3.2), "sr": (0.8, 1.6, 3.2), "inpaint": (0.1, 0.2, 0.4)},
}
ERRORS = (0.03, 0.1)  # of the video averaged along the motion, in units of [-1, 1]
ROWS = {"best": "best", "tv": "total variation", "along": "the same along the motion"}
WHERE = (
    "Where the error of `best` lies. *Told*: the share of its squared error that the measurement "
    "tells of, in the mean and on the clips with the least and the most. *PSNR without it*: what a "
    "method would gain that has none of this error, and guesses the rest as `best` does. A "
    "direction counts by s²/(s² + rho), with its singular value s and rho, the power of the noise "
    "over that of the video. Other frames may tell more where things move; that is not counted."
)
SAMPLES = {  # name: file, first frame, height, width
    "flower": ("flower.mp4", 20, 96, 160),
    "tears": ("tears_of_steel_battle.webm", 700, 96, 160),
}


def along_motion(
    x: torch.Tensor,  # (T, C, H, W), total variation's answer
    y: torch.Tensor,
    A: LinearOperator,
    sigma_y: float,
) -> list[torch.Tensor]:
    "Return `x` averaged along its motion and brought to agree with `y`, for each of `ERRORS`."
    along = best(A.name).consistency
    if not has_motion(x):
        return [x]
    motion, found = estimate_motion(x, along.radius), []
    for error in ERRORS:
        moved, rho = x, along.inner.slack**2 + (sigma_y / error) ** 2
        for _ in range(along.rounds + 1):
            averaged = motion_average(moved, motion, along.tolerance)
            moved = smooth_step(A, y, averaged, rho, along.inner.steps)
        found.append(moved)
    return found


def told_share(
    A: LinearOperator,
    x_true: torch.Tensor,  # (T, C, H, W)
    x: torch.Tensor,  # the same shape, a restoration
    sigma_y: float,
) -> float:
    """Return the share of the squared error where the measurement tells something.

    Of each direction of the operator with singular value s, s^2 / (s^2 + rho) counts as told, where
    rho is the noise's power over the video's.
    """
    error = (x.clamp(-1, 1) - x_true).double()
    rho = sigma_y**2 / float(x_true.square().mean())
    silent = torch.zeros(tuple(A.out_shape), dtype=torch.float64)
    hidden = data_consistency(A, silent, error, steps=2000, rho=rho)
    return 1 - float(hidden.square().sum() / error.square().sum())


class Judge:
    "Figures of a restoration."

    def __init__(self):
        self.net = load_lpips()

    def __call__(self, x_true: torch.Tensor, x: torch.Tensor) -> dict:
        "PSNR, LPIPS and warping error."
        a, b = metrics.to_unit(x), metrics.to_unit(x_true)
        found = {"PSNR": metrics.psnr(a, b), "LPIPS": metrics.perceptual(a, b, self.net)}
        return found | {"warping": metrics.warping_error(b, a)}

    def first(self, x_true: torch.Tensor, found: list) -> torch.Tensor:
        "The video of least squared error."
        return min(found, key=lambda x: float((x.clamp(-1, 1) - x_true).square().mean()))


def measured(A: LinearOperator, x: torch.Tensor, kind: str) -> tuple[torch.Tensor, float]:
    "Return a measurement as a file holds it, and the deviation that the solver is told."
    noise = torch.randn(tuple(A.out_shape), generator=torch.Generator().manual_seed(0))
    y = video.as_in_file(A(x) + KINDS[kind] * noise)
    return y, math.hypot(KINDS[kind], quantisation(8))


def cell(name: str, kind: str, x: torch.Tensor, prior: Prior, judge: Judge) -> dict:
    "Return the figures of `best` and of its two rivals, and the seconds that `best` took."
    A = task(name, tuple(x.shape))
    y, sigma = measured(A, x, kind)
    began = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        *_, last = solve(y, A, prior, "best", sigma_y=sigma)
    seconds = time.perf_counter() - began
    weights = WEIGHTS[kind][name.rstrip("+")]
    tv = judge.first(x, [admm_tv(y, A, sigma**2 / w) for w in weights])
    along = judge.first(x, along_motion(tv, y, A, sigma))
    out = {"best": last.x, "tv": tv, "along": along}
    figures = {f"{k} {m}": v for k, x_hat in out.items() for m, v in judge(x, x_hat).items()}
    return figures | {"seconds": seconds, "told": told_share(A, x, last.x, sigma)}


def summary(rows: list[dict], kind: str) -> list[dict]:
    "Return a line for each task: all three in PSNR and LPIPS, and the lead of `best`."
    out = []
    for name in dict.fromkeys(r["task"] for r in rows):
        mine = [r for r in rows if (r["task"], r["kind"]) == (name, kind)]
        if not mine:
            continue
        line = {"task": name, "clips": str(len(mine))}
        for metric, form in (("PSNR", ".2f"), ("LPIPS", ".3f")):
            for k, label in ROWS.items():
                mean = sum(r[f"{k} {metric}"] for r in mine) / len(mine)
                line[f"{metric}, {label}"] = format(mean, form)
        leads = [r["best PSNR"] - max(r["tv PSNR"], r["along PSNR"]) for r in mine]
        mean, error = mean_and_error(leads) if len(leads) > 1 else (leads[0], math.nan)
        line["lead, dB"] = f"{mean:+.2f} ± {error:.2f}"
        line["least"] = f"{min(leads):+.2f}"
        line["asked"] = f"{ASKED[kind]:+.1f}"
        line["reached"] = "yes" if mean >= ASKED[kind] else "no"
        out.append(line)
    return out


def limits(rows: list[dict], kind: str) -> list[dict]:
    "Return a line for each task: how much of the error is where the measurement tells something."
    out = []
    for name in dict.fromkeys(r["task"] for r in rows):
        mine = [r for r in rows if (r["task"], r["kind"]) == (name, kind)]
        if not mine or any("told" not in r for r in mine):
            continue
        told = [r["told"] for r in mine]
        gains = [-10 * math.log10(1 - t) for t in told]
        shares = ", ".join(f"{100 * t:.0f} %" for t in (min(told), max(told)))
        out.append(
            {
                "task": name,
                "told, mean": f"{100 * sum(told) / len(told):.0f} %",
                "least, most": shares,
                "PSNR without it, dB": f"{sum(gains) / len(gains):+.2f}",
            }
        )
    return out


def page(kept: dict) -> str:
    "The kept rows as Markdown."
    rows = kept["rows"]
    clips = ", ".join(dict.fromkeys(r["clip"] for r in rows))
    out = [
        "# Through files of 8 bits, and with noise",
        f"Clips: {clips}; short side {kept['size']} pixels, {kept['frames']} frames; prior "
        f"`{kept['prior']}` ({kept['prior_id']}). Every measurement is a file of 8 bits; with "
        "noise, that has a deviation of 0.05 in units of [-1, 1]. `best` is told the deviation. "
        "Total variation has the best of two or three weights on each clip, and the average along "
        "the motion the better of two, chosen with the clean clip. *Lead*: `best` over the better "
        "of the two on each clip, mean ± standard error, and the least. Made by "
        f"`python bench/noisy.py --size {kept['size']}`.",
    ]
    for kind in KINDS:
        lines = summary(rows, kind)
        if lines:
            reached = [r["task"] for r in lines if r["reached"] == "yes"]
            said = (
                f"Reached on {len(reached)} of {len(lines)} tasks: {', '.join(reached) or 'none'}."
            )
            out += [f"## {kind}", markdown(lines, bold=False), said]
            where = limits(rows, kind)
            if where:
                out += [WHERE, markdown(where, bold=False)]
    return "\n\n".join(out) + "\n"


def clips_of(a: argparse.Namespace) -> dict:
    "Return the clips by name, (T, 3, H, W)."
    if a.clips == "test":
        return {k: at_size(v, a.size, a.frames) for k, v in default_clips().items()}
    folder = video.data_dir() / "samples"
    scale = a.size / 96
    return {
        k: video.read(folder / f, a.frames, s, round(h * scale), round(w * scale)).x
        for k, (f, s, h, w) in SAMPLES.items()
    }


def main() -> int:
    "Measure what is missing; each cell is on disk when it is done."
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    p.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    p.add_argument("--clips", choices=("test", "samples"), default="test")
    p.add_argument("--size", type=int, default=96, help="short side in pixels (96)")
    p.add_argument("--frames", type=int, default=9, help="(9)")
    p.add_argument("--prior", default="white")
    p.add_argument("--minutes", type=float, default=math.inf, help="stop after so many")
    p.add_argument("--out", type=Path, default=RESULTS)
    a = p.parse_args()
    torch.set_num_threads(1)
    end = time.monotonic() + 60 * a.minutes
    name = f"noisy_{a.size}" if a.clips == "test" else f"noisy_samples_{a.size}"
    path, prior, judge, clips = a.out / f"{name}.json", Prior.load(a.prior), Judge(), clips_of(a)
    kept = {"size": a.size, "frames": a.frames, "prior": a.prior}
    kept |= {"prior_id": prior_identity(a.prior), "rows": []}
    if path.exists():
        kept["rows"] = json.loads(path.read_text(encoding="utf-8"))["rows"]
    done = {(r["kind"], r["task"], r["clip"]) for r in kept["rows"]}
    for kind, name, clip in product(a.kinds, a.tasks, clips):
        if (kind, name, clip) in done:
            continue
        if time.monotonic() > end:
            print(f"stopped after {a.minutes:g} minutes: call it again")
            return 1
        where = {"kind": kind, "task": name, "clip": clip}
        kept["rows"].append(where | cell(name, kind, clips[clip], prior, judge))
        write_json(kept, path, "rows")
        path.with_suffix(".md").write_text(page(kept), encoding="utf-8")
        row = kept["rows"][-1]
        print(*where.values(), *(f"{k} {row[f'{k} PSNR']:.2f}" for k in ROWS), flush=True)
    print("done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
