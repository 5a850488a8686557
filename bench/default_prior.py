"""Which bundled prior should be the default: `tiny` against `white`, over what the table of six
tasks does not cover.

    python bench/default_prior.py                      all cases on all clips
    python bench/default_prior.py --only noise blur    some groups
    python bench/default_prior.py --clips "flower 120"
    python bench/default_prior.py --show               the page of what has been measured

Noise, holes, other blurs and scales, lost colours and frames, what nobody told, compression, large
frames in tiles, one frame, and the presets `fast` and `paper`. Pieces of the two sample clips, on
which the settings of both priors were chosen; the test clips are not used. A clip is restored as
`visionxl restore` does it. Every cell is kept in results/default_prior.json: a stopped run goes on
where it was.
"""

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

BENCH = Path(__file__).resolve().parent
sys.path[:0] = [str(BENCH), str(BENCH.parent)]
from kept import write_json  # noqa: E402
from measurements import PIECES, by_h264, by_jpeg, draw, holes  # noqa: E402

from visionxl import video  # noqa: E402
from visionxl.app.degradation.measurement import quantisation  # noqa: E402
from visionxl.app.degradation.own import as_degradation  # noqa: E402
from visionxl.app.restore import restore  # noqa: E402
from visionxl.measure import metrics  # noqa: E402
from visionxl.measure.perception.networks import load_lpips  # noqa: E402
from visionxl.measure.tables import mean_and_error  # noqa: E402
from visionxl.operators.linear import Identity  # noqa: E402
from visionxl.operators.tasks import TASKS, Mask  # noqa: E402
from visionxl.prior.latent import Prior  # noqa: E402

RESULTS = BENCH / "results" / "default_prior.json"
PRIORS = ("tiny", "white")
KEYS = ("group", "case", "clip", "prior")
LEVEL = 0.1  # dB: a smaller difference of means is called level
ROUNDING = quantisation(8)


@dataclass(frozen=True)
class Case:
    "Something that happens to a clip, and how it is restored."

    what: str | Callable  # the operator: its name, or a function of the clip's shape
    sigma: float = 0.0  # standard deviation of the noise that is added
    eight_bits: bool = False  # whether the measurement is rounded, as in a file
    preset: str = "best"
    told: dict = field(default_factory=dict)  # options of `restore` in place of what happened
    task: str | None = None  # what `restore` is told; None: what happened
    frames: int = 7
    size: int = 96  # height of a frame; 384: 640 wide
    coder: Callable | None = None  # what is done to the clip in place of an operator


def masked(name: str) -> Callable:
    "The operator of a wide hole."
    return lambda shape: Mask(shape, holes(shape)[name])


def cases() -> dict[str, dict[str, Case]]:
    "{group: {name: case}}"
    noisy, wide = {"sigma_y": 0.05}, ("box that moves", "logo", "subtitle", "blocks")
    blurs = ("defocus:radius=3", "motion:length=9:angle=30", "ellipse:along=3:across=1:angle=30")
    motion = {"blind": "spatial", "blind_kernel": "motion"}
    scales = ("pool:factor=2", "box:factor=3", "bicubic:factor=1.5", "bicubic:factor=2")
    lost = ("grey", "bayer", "every:step=2", "rolling:delay=0.8", "bicubic:factor=4,grey")
    found = {"sigma_y": "estimate"}
    codings = {f"JPEG {q}": lambda x, q=q: by_jpeg(x, q) for q in (30, 60)}
    codings |= {f"H.264 crf {q}": lambda x, q=q: by_h264(x, q) for q in (28, 35)}
    return {
        "noise": {
            f"{level} of 255": Case(Identity, level / 127.5, True, told=found)
            for level in (15, 25, 50)
        },
        "noise of 0.05": {t: Case(t, 0.05, told=noisy) for t in TASKS},
        "8 bits": {t: Case(t, eight_bits=True) for t in TASKS},
        "holes": {k: Case(masked(k), eight_bits=True) for k in wide},
        "blur": {k: Case(k, eight_bits=True) for k in blurs}
        | {f"{k}, noise of 0.05": Case(k, 0.05, told=noisy) for k in blurs},
        "scale": {k: Case(k) for k in scales},
        "lost": {k: Case(k) for k in lost},
        "not told": {
            "Gaussian": Case("gaussian:sigma=2", 0, True, told={"blind": "spatial"}, task="deblur"),
            "motion": Case(blurs[1], 0, True, told=motion, task="deblur"),
            "any kernel": Case(
                blurs[1], 0, True, told=motion | {"blind_kernel": "free"}, task="deblur"
            ),
            "noise of sr": Case("sr", 0.05, told=found),
        },
        "compression": {k: Case(Identity, told=found, coder=coder) for k, coder in codings.items()},
        "tiles": {
            f"{t}, 384 rows, tiles of 192": Case(t, told={"tile": 192}, frames=3, size=384)
            for t in ("sr", "deblur", "inpaint")
        },
        "one frame": {
            **{t: Case(t, frames=1) for t in ("sr", "deblur", "inpaint")},
            "25 of 255": Case(Identity, 25 / 127.5, True, told=found, frames=1),
        },
        "fast": {t: Case(t, preset="fast") for t in ("sr", "deblur", "inpaint")},
        "paper": {t: Case(t, preset="paper") for t in ("sr", "deblur", "inpaint")},
    }


def clip_of(name: str, case: Case) -> torch.Tensor:
    "A piece of a sample clip, as large and as long as the case needs it."
    file, first = PIECES[name]
    path = video.data_dir() / "samples" / file
    return video.read(path, case.frames, first, case.size, case.size * 5 // 3).x


def measured(x: torch.Tensor, case: Case) -> tuple[torch.Tensor, object]:
    "What is measured of a clip, and what `restore` is told to have happened."
    if case.coder is not None:
        return case.coder(x), Identity(tuple(x.shape))
    made = case.what
    A = made(tuple(x.shape)) if callable(made) else as_degradation(made).operator(tuple(x.shape))
    y = A(x)
    y = y + case.sigma * draw(y.shape) if case.sigma else y
    y = video.as_in_file(y) if case.eight_bits else y
    return y, case.task or (A if callable(made) else made)


def row_of(x: torch.Tensor, case: Case, prior: Prior, network) -> dict:
    "PSNR, LPIPS and processor seconds of a restoration."
    y, what = measured(x, case)
    told = {"sigma_y": ROUNDING if case.eight_bits else 0.0} | case.told
    told["size"] = tuple(x.shape[-2:])
    began = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out = restore(y, what, case.preset, prior=prior, progress=False, **told).x
    seconds = time.process_time() - began
    a, b = metrics.to_unit(out), metrics.to_unit(x)
    return {
        "PSNR": metrics.psnr(a, b),
        "LPIPS": metrics.perceptual(a, b, network),
        "seconds": round(seconds, 2),
    }


def measure(groups: list, clips: list, out: Path) -> None:
    "All cells that are not kept yet, each written as it comes; several runs may share the work."
    priors, network = {k: Prior.load(k, device="cpu") for k in PRIORS}, load_lpips()
    every = [
        (group, name, clip, prior)
        for clip in clips
        for group, each in cases().items()
        if group in groups
        for name in each
        for prior in PRIORS
    ]
    for key in every:
        if key in {tuple(r[k] for k in KEYS) for r in rows_of(out)}:
            continue
        case = cases()[key[0]][key[1]]
        row = row_of(clip_of(key[2], case), case, priors[key[3]], network)
        write_json({"rows": [*rows_of(out), dict(zip(KEYS, key)) | row]}, out, "rows")
        print(*key, *(f"{a} {b:.4g}" for a, b in row.items()), flush=True)


def rows_of(out: Path) -> list:
    "The rows that are kept."
    return json.loads(out.read_text())["rows"] if out.exists() else []


def page(kept: dict) -> str:
    "The figures as Markdown: what `white` gains on each case."
    cells = {(r["group"], r["case"], r["clip"], r["prior"]): r for r in kept["rows"]}
    pairs: dict = {}
    for (group, name, clip, prior), white in cells.items():
        tiny = cells.get((group, name, clip, "tiny"))
        if prior == "white" and tiny:
            pairs.setdefault((group, name), {})[clip] = (tiny, white)
    order = [(group, name) for group, each in cases().items() for name in each]
    missing = [k for k in order if k not in pairs]
    heads = ("", "case", "pieces", "`tiny`, dB", "`white`, dB", "gain", "worst", "LPIPS `tiny`")
    heads += ("LPIPS `white`",)
    lines = [
        "# Which prior should be the default",
        "",
        "Made by `bench/default_prior.py`; see there. A figure is a mean over so many *pieces* of "
        "the two sample clips, on which both were tuned; 7 frames of 96x160 unless the case says "
        "something else. *gain*: that of `white` over `tiny` in dB, with its standard error where "
        "there are two pieces or more, and on the worst piece. LPIPS: lower is better.",
        "",
        verdict(pairs),
        "",
        "| " + " | ".join(heads) + " |",
        "|" + "---|" * len(heads),
    ]
    for group, name in sorted(pairs, key=order.index):
        found = pairs[group, name]
        tiny, white = (_mean([p[i] for p in found.values()]) for i in (0, 1))
        gain, error = mean_and_error(_gains(found))
        lines.append(
            f"| {group} | {name} | {len(found)} | {tiny['PSNR']:.2f} | {white['PSNR']:.2f} | "
            f"{gain:+.2f}{f' ± {error:.2f}' if len(found) > 1 else ''} | "
            f"{min(_gains(found)):+.2f} | {tiny['LPIPS']:.4f} | {white['LPIPS']:.4f} |"
        )
    if missing:
        lines += ["", "Not measured yet: " + "; ".join(f"{g}, {n}" for g, n in missing) + "."]
    return "\n".join(lines) + "\n"


def _gains(found: dict) -> list:
    "What `white` gains on each clip, in dB."
    return [white["PSNR"] - tiny["PSNR"] for tiny, white in found.values()]


def _mean(rows: list) -> dict:
    "The means of the figures."
    return {k: float(np.mean([r[k] for r in rows])) for k in ("PSNR", "LPIPS")}


def verdict(pairs: dict) -> str:
    "How many cases each prior wins, and those that `white` loses."
    gains = {k: float(np.mean(_gains(found))) for k, found in pairs.items()}
    won, lost = ([k for k, g in gains.items() if s * g > LEVEL] for s in (1, -1))
    sharper = sum(
        _mean([w for _, w in found.values()])["LPIPS"]
        < _mean([t for t, _ in found.values()])["LPIPS"]
        for found in pairs.values()
    )
    said = (
        f"In PSNR `white` is ahead by more than {LEVEL} dB in {len(won)} of {len(gains)} cases, "
        f"level in {len(gains) - len(won) - len(lost)}, behind in {len(lost)}. In LPIPS it is "
        f"ahead in {sharper}."
    )
    each = ", ".join(f"{group}, {name} ({gains[group, name]:+.2f})" for group, name in lost)
    return said + (f" Behind: {each}." if lost else "")


def main() -> None:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--only", nargs="+", default=list(cases()), choices=list(cases()))
    p.add_argument("--clips", nargs="+", default=list(PIECES), choices=list(PIECES))
    p.add_argument("--out", type=Path, default=RESULTS)
    p.add_argument("--show", action="store_true", help="write the page, measure nothing")
    a = p.parse_args()
    if not a.show:
        measure(a.only, a.clips, a.out)
    kept = json.loads(a.out.read_text())
    a.out.with_suffix(".md").write_text(page(kept), encoding="utf-8")
    print(page(kept))


if __name__ == "__main__":
    main()
