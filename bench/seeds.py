"""How much of a method's squared error is drawn anew with every seed.

    python bench/seeds.py                        rivals on sr: six clips, short side 64, 5 frames
    python bench/seeds.py --methods svi ddnm    some; `svi + filter` adds the low-pass filter
    python bench/seeds.py --minutes 1            the same in pieces: call it until it says "done"

A method that draws detail gives another video for another seed. The mean squared error over seeds
is the variance between the videos plus the error of their mean: what is drawn, and what stays. A
row that lies behind the measurement brought to size by less than what it draws is behind because
it draws. The figures go to bench/results/seeds.json, the page beside it.
"""

import argparse
import json
import math
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from kept import write_json  # noqa: E402

from visionxl.compare.rivals import RIVALS, upsample  # noqa: E402
from visionxl.measure.experiment.given import at_size, default_clips, find_operator  # noqa: E402
from visionxl.measure.metrics import to_unit  # noqa: E402
from visionxl.measure.tables import markdown, mean_and_error  # noqa: E402
from visionxl.presets import choose  # noqa: E402
from visionxl.prior.latent import Prior  # noqa: E402
from visionxl.solver import solve  # noqa: E402
from visionxl.steps.lowpass import LowPass  # noqa: E402
from visionxl.steps.preset import Preset  # noqa: E402

RESULTS = Path(__file__).parent / "results"
FILTERED = " + filter"
METHODS = ("svi", "svi + filter", "ddnm", "ddnm + filter", "treg")


def preset_of(method: str, task: str) -> Preset:
    "A rival's preset; with the low-pass filter of one pixel where the name asks for it."
    name = method.removesuffix(FILTERED)
    preset = choose(RIVALS[name], task)
    return replace(preset, lowpass=LowPass(1.0)) if name != method else preset


def split(
    videos: torch.Tensor,  # (N, T, C, H, W) of N seeds, in [0, 1]
    clean: torch.Tensor,  # (T, C, H, W) in [0, 1]
) -> dict[str, float]:  # drawn + stays = error
    "The mean squared error of videos of several seeds, and its two parts, without bias."
    error = float((videos - clean).square().mean())
    drawn = float(videos.var(0, unbiased=True).mean())
    return {"error": error, "drawn": drawn, "stays": error - drawn}


def cell(method: str, task: str, x: torch.Tensor, prior: Prior, seeds: int) -> dict:
    "The figures of one method and clip, and those of the measurement brought to size."
    A = find_operator(task)(tuple(x.shape), 0)
    y, start = A(x), time.perf_counter()
    videos = []
    for seed in range(seeds):
        for state in solve(y, A, prior, preset_of(method, task), seed=seed):
            pass
        videos.append(to_unit(state.x))
    found = split(torch.stack(videos), to_unit(x))
    measured = float((to_unit(upsample(y, A)) - to_unit(x)).square().mean())
    return found | {"measured": measured, "seconds": time.perf_counter() - start}


def db(error: float) -> float:
    "A squared error on [0, 1] as PSNR."
    return -10 * math.log10(error)


def page(kept: dict) -> str:
    "The figures as Markdown: means over clips, and a sentence for each method."
    rows, said = [], []
    for method in dict.fromkeys(r["method"] for r in kept["rows"]):
        mine = [r for r in kept["rows"] if r["method"] == method]
        row: dict = {"method": method, "clips": str(len(mine))}
        for name in ("error", "drawn", "stays", "measured"):
            values = [1e4 * r[name] for r in mine]
            row[name], error = mean_and_error(values)
            if len(mine) > 1:
                row[f"{name} se"] = error
        rows.append(row)
        behind = [r for r in mine if r["error"] > r["measured"]]
        drawn = sum(r["stays"] < r["measured"] for r in behind)
        lead = np.mean([db(r["error"]) - db(r["measured"]) for r in mine])
        alone = np.mean([db(r["stays"]) - db(r["measured"]) for r in mine])
        said.append(
            f"- {method}: {lead:+.2f} dB to the measurement brought to size, {alone:+.2f} dB "
            f"without what it draws; behind on {len(behind)} of {len(mine)} clips, on {drawn} of "
            "them by less than it draws"
        )
    clips = list(dict.fromkeys(r["clip"] for r in kept["rows"]))
    head = (
        f"# What rivals draw anew with every seed ({kept['task']})\n\nClips: {', '.join(clips)}; "
        f"short side {kept['size']} pixels, {kept['frames']} frames, {kept['seeds']} seeds; prior "
        f"`{kept['prior']}`. Squared errors of [0, 1], times 10,000; mean ± standard error over "
        "clips. *drawn*: variance between seeds; *stays*: the rest, the error of the mean of many "
        "seeds; *measured*: that of the measurement brought to size. `+ filter`: with a low-pass "
        "filter of one pixel. Made by `python bench/seeds.py`."
    )
    return "\n\n".join([head, markdown(rows, bold=False), "\n".join(said)]) + "\n"


def write(kept: dict, out: Path) -> None:
    "Keep the figures and their page."
    write_json(kept, out, "rows")
    out.with_suffix(".md").write_text(page(kept), encoding="utf-8")


def main(argv: list | None = None) -> int:
    "Run what is missing."
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--methods", nargs="+", default=METHODS)
    p.add_argument("--clips", help="folder of clips; default as bench/quality.py")
    p.add_argument("--count", type=int, default=6, help="of clips (6)")
    p.add_argument("--task", default="sr")
    p.add_argument("--size", type=int, default=64)
    p.add_argument("--frames", type=int, default=5)
    p.add_argument("--seeds", type=int, default=2)
    p.add_argument("--prior", default="tiny")
    p.add_argument("--minutes", type=float, default=math.inf, help="stop after so many")
    p.add_argument("--out", type=Path, default=RESULTS / "seeds.json")
    a = p.parse_args(argv)
    end = time.monotonic() + 60 * a.minutes
    kept = {k: getattr(a, k) for k in ("task", "size", "frames", "seeds", "prior")} | {"rows": []}
    if a.out.exists() and (old := json.loads(a.out.read_text())) | {"rows": []} == kept:
        kept = old
    warnings.filterwarnings("ignore", "this prior is trained up to")
    prior, clips = Prior.load(a.prior), default_clips(a.clips)
    for method in a.methods:
        for name in list(clips)[: a.count]:
            if any((r["method"], r["clip"]) == (method, name) for r in kept["rows"]):
                continue
            if time.monotonic() > end:
                print(f"stopped after {a.minutes:g} minutes in {method}: call it again")
                return 1
            found = cell(method, a.task, at_size(clips[name], a.size, a.frames), prior, a.seeds)
            kept["rows"].append({"method": method, "clip": name} | found)
            write(kept, a.out)
    print(page(kept), "done", sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
