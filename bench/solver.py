"""Seconds, evaluations and memory of a restoration: as released, `official` and `best`, side by
side in one run.

    python bench/solver.py          the bundled prior and golden/tiny_sdxl, 5 frames of 96x160
    python bench/solver.py --full   25 frames of 192x320, five tasks
    python bench/solver.py --prior sdxl --full  on a GPU: Table 4's columns, 25 frames of 768x1280

CPU seconds where there is no GPU, methods interleaved, `--repeat` times. A run of up to five steps
is timed whole; of a longer one the start and the first two steps, and it counts as a start and as
many steps as the method takes, eight where tau is 0.3 (all do the same work but the last, which
does not encode). `best` chooses its own tau for each task. Writes bench/results/solver.json and
prints what lies in bench/results/solver.txt; `--memory` measures memory alone and keeps the rest of
the file.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import torch
from safetensors.torch import load_file

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parent.parent)]
import as_released  # noqa: E402

from visionxl import solver  # noqa: E402
from visionxl.compare import released as released_steps  # noqa: E402
from visionxl.extras import motion  # noqa: E402
from visionxl.extras.photographs import photo_proximal as best_steps  # noqa: E402
from visionxl.measure.experiment.grid import Peak  # noqa: E402
from visionxl.operators.tasks import task  # noqa: E402
from visionxl.presets import choose  # noqa: E402
from visionxl.prior.latent import Prior  # noqa: E402
from visionxl.steps import consistency  # noqa: E402
from visionxl.steps.inversion import Invert  # noqa: E402
from visionxl.steps.lowpass import LowPass  # noqa: E402
from visionxl.video import data_dir, sample  # noqa: E402

now = (
    time.perf_counter if torch.cuda.is_available() else time.process_time
)  # CPU seconds: the same on a busy machine
OUT = Path(__file__).resolve().parent / "results"
LONG = {"route.steps": 25, "start.steps": None}  # as many steps as the paper, up and down
METHODS = {
    "official": ("official", {}),
    "official, ours": (released_steps.official_fast, {}),  # equal but for rounding
    "best": ("best", {}),
    "best, tau .3": ("best", LONG | {"route.tau": 0.3, "route.tau_end": 0.0, "result.rounds": 0}),
    "best, 25 steps": ("best", LONG),
}
STAGES = ("guess", "motion", "encode", "eps", "decode", "consistency", "low-pass")


class Clock:
    "Adds up seconds and frames by stage; `wrap` replaces an attribute by its timed self."

    def __init__(self):
        self.clear()
        self.on = True

    def clear(self):
        self.seconds, self.frames = defaultdict(float), defaultdict(int)

    def wrap(self, owner, name, stage):
        f = getattr(owner, name)

        def timed(*args, **kw):
            t = now()
            out = f(*args, **kw)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.seconds[stage] += now() - t
            self.frames[stage] += len(args[0]) if stage in ("encode", "eps", "decode") else 0
            return out

        setattr(owner, name, timed)


def nets_of(prior):
    "The same networks, called as the released code calls them."
    nets = as_released.Nets(prior.vae, prior.unet, prior.alpha_bar.float())
    text = prior.conditions[-1]
    if text.pooled is not None:
        ids = torch.tensor([[1024.0, 1024, 0, 0, 0, 0]], device=prior.device)
        nets.condition = (text.text, dict(text_embeds=text.pooled, time_ids=ids))
    return nets


def released(y, name, nets, mask, clock):
    "Start and first step as released: {stage: (start, step)}."
    noise, up = torch.zeros(1, device=y.device), y
    if name == "sr":
        up = as_released.operators("sr")[1](y)
    with torch.no_grad():
        t = now()
        z = as_released.invert(up[:1], nets)
        start = now() - t
        z, before = z.repeat(len(y), 1, 1, 1), dict(clock.seconds)
        t = now()
        as_released.step(z, 281, up, name, nets, noise, mask)
        step = now() - t
    return start + 8 * step, {
        s: before.get(s, 0) + 8 * (clock.seconds[s] - before.get(s, 0)) for s in STAGES
    }


def preset_of(method, A):
    "The preset behind the name of a method."
    preset, changes = METHODS[method]
    return choose(preset, A.name, changes=changes)


def ours(y, A, prior, method, clock):
    """A short way whole; of a longer one start and two steps of `solve`, the second once more for
    each further step, of which the last encodes nothing.
    """
    preset = preset_of(method, A)
    n = len(preset.schedule(prior).steps)
    run, seen = solver.solve(y, A, prior, preset), [(0.0, {})]
    for _ in range(n if n <= 5 else 2):
        t = now()
        next(run)
        seen.append((seen[-1][0] + now() - t, dict(clock.seconds)))
    (early, before), (total, parts) = seen[-2:]
    if n == len(seen) - 1:
        return total, {s: parts.get(s, 0) for s in STAGES}
    step, more = {s: parts.get(s, 0) - before.get(s, 0) for s in STAGES}, n - 1
    parts = {s: before.get(s, 0) + more * step[s] - step[s] * (s == "encode") for s in STAGES}
    return early + more * (total - early) - step["encode"], parts


def table(prior, label, shape, tasks, repeat):
    "Rows (task, method, median seconds, stages, evaluations) for one prior."
    clock, rows, nets = Clock(), [], nets_of(prior)
    for owner in (prior, nets):
        for stage in ("encode", "eps", "decode"):
            clock.wrap(owner, stage, stage)
    clock.wrap(as_released, "cg", "consistency")
    clock.wrap(consistency, "data_consistency", "consistency")
    clock.wrap(best_steps, "smooth_step", "consistency")
    clock.wrap(best_steps, "proximal", "consistency")
    clock.wrap(released_steps, "released_cg", "consistency")
    clock.wrap(LowPass, "blur", "low-pass")
    clock.wrap(released_steps.DenseLowPass, "blur", "low-pass")
    clock.wrap(Invert, "guess", "guess")
    for name in ("estimate_motion", "motion_average"):
        clock.wrap(motion, name, "motion")
    x = (
        torch.nn.functional.interpolate(sample("flower").x, shape[2:], mode="area")
        .repeat(5, 1, 1, 1)[: shape[0]]
        .to(prior.device)
    )
    for name in tasks:
        A, found = task(name, shape), defaultdict(list)
        y, mask = A(x), A.spatial.weights.to(x) if name.startswith("inpaint") else None
        for _ in range(repeat):
            for method in ("as released", *METHODS):
                clock.clear()
                with Peak(x.device) as peak:
                    out = (
                        released(y, name, nets, mask, clock)
                        if method == "as released"
                        else ours(y, A, prior, method, clock)
                    )
                found[method].append((*out, peak.gb))
        for method, runs in found.items():
            total, parts, gb = sorted(runs, key=lambda r: r[0])[len(runs) // 2]
            s = None if method == "as released" else preset_of(method, A).schedule(prior)
            n, up = (8, 7) if s is None else (len(s.steps), len(s.inversion))
            once = (n + n * shape[0]) / shape[
                0
            ]  # frame 0 alone is inverted; both branches of guidance
            evaluations = {
                "as released": 2 * once,
                "official": 2 * once,
                "official, ours": once,
            }.get(method, n + up)
            rows.append(
                dict(
                    prior=label,
                    task=name,
                    method=method,
                    total=total,
                    spread=max(r[0] for r in runs) - min(r[0] for r in runs),
                    ratio=statistics.median(
                        a[0] / b[0] for a, b in zip(found["as released"], runs)
                    ),
                    evaluations=evaluations,
                    GB=gb,
                    **parts,
                )
            )
            print(line(rows[-1]), flush=True)
    return rows


HEAD = (
    f"{'prior':10} {'task':9} {'method':15} {'seconds':>8} {'spread':>7} {'faster':>7} "
    + "".join(f"{s:>12}" for s in STAGES)
    + f"{'eps/frame':>11}"
)


def line(r):
    return (
        f"{r['prior']:10} {r['task']:9} {r['method']:15} {r['total']:8.2f} "
        f"{r['spread']:7.2f} {r['ratio']:6.1f}x "
        + "".join(f"{r[s]:12.2f}" for s in STAGES)
        + f"{r['evaluations']:11.1f}"
    )


def peak(name, frames, h, w):
    "Peak memory in bytes of a whole run of `best` with the bundled prior, in a fresh process."
    code = f"""
import resource, torch
from visionxl import Prior, solve, task
from visionxl.video import sample
torch.set_num_threads(1)
x = sample("tears").x[..., :{h}, :{w}].repeat(4, 1, 1, 1)[:{frames}].contiguous()
A, p = task("{name}", x.shape), Prior.load("tiny", device="cpu", frames_per_batch=1)
y = A(x)
del x
for state in solve(y, A, p):
    pass
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)"""
    out = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=OUT.parent.parent,
    )
    return int(out.stdout.split()[-1])


def memory(names=("inpaint", "deblur"), counts=(9, 25, 50, 100), h=64, w=96):
    "Peak memory against the number of frames."
    rows, frame = [], 3 * h * w * 4
    print(
        f"\npeak memory (MB) of a whole run of best, {h}x{w}, one frame at a time through "
        "the networks\n"
        f"{'task':9}"
        + "".join(f"{n:>6} frames" for n in counts)
        + "   frames of memory for each further frame"
    )
    for name in names:
        peaks = [peak(name, n, h, w) for n in counts]
        rows.append(
            dict(
                task=name,
                frames=counts,
                peak_mb=[p / 1e6 for p in peaks],
                frames_per_frame=(peaks[-1] - peaks[1]) / (counts[-1] - counts[1]) / frame,
            )
        )
        print(
            f"{name:9}"
            + "".join(f"{p / 1e6:13.0f}" for p in peaks)
            + f"{rows[-1]['frames_per_frame']:10.1f}",
            flush=True,
        )
    return dict(size=(h, w), bytes_of_a_frame=frame, rows=rows)


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--full", action="store_true")
    p.add_argument("--repeat", type=int, help="repetitions: 3, with --full 1")
    p.add_argument("--prior", default=None, help="only this one: tiny, sdxl or a folder")
    p.add_argument("--no-memory", action="store_true")
    p.add_argument("--memory", action="store_true", help="only the memory")
    p.add_argument("--tasks", nargs="*", help="only these")
    p.add_argument("--shape", type=int, nargs=3, help="frames, height and width instead")
    p.add_argument("--out", type=Path, default=OUT / "solver.json", help="where figures are kept")
    a = p.parse_args()
    kept = a.out
    if a.memory:
        kept.write_text(
            json.dumps(
                (json.loads(kept.read_text()) if kept.exists() else {}) | dict(memory=memory()),
                indent=1,
            )
            + "\n"
        )
        return
    a.repeat = a.repeat or (1 if a.full else 3)
    tasks = a.tasks or (
        ("deblur", "sr", "inpaint", "deblur+", "inpaint+")
        if a.full
        else ("deblur", "sr", "inpaint")
    )
    shape = (25, 3, 192, 320) if a.full else (5, 3, 96, 160)
    if a.prior == "sdxl":
        shape = (25, 3, 768, 1280)
    if a.shape:
        shape = (a.shape[0], 3, *a.shape[1:])
    priors, golden = {}, (data_dir() or Path("missing")) / "golden"
    if a.prior:
        priors[a.prior] = Prior.load(a.prior)
    else:
        priors["tiny"] = Prior.load("tiny")
        if golden.is_dir():
            i = load_file(golden / "inputs.safetensors")
            priors["tiny_sdxl"] = Prior.load(
                golden / "tiny_sdxl", text=i["prompt_embeds"], pooled=i["pooled_prompt_embeds"]
            )
        else:
            print(
                "golden/tiny_sdxl is not here (VISIONXL_DATA): the bundled prior alone is measured"
            )
    print(
        f"{shape[0]} frames of {shape[2]}x{shape[3]}, float32, {torch.get_num_threads()} "
        f"threads, load {os.getloadavg()[0]:.1f}, "
        f"median of {a.repeat} interleaved repetitions\n{HEAD}"
    )
    rows = [
        r for label, prior in priors.items() for r in table(prior, label, shape, tasks, a.repeat)
    ]
    result = dict(
        shape=shape,
        threads=torch.get_num_threads(),
        load=os.getloadavg(),
        repeat=a.repeat,
        rows=rows,
    )
    if not a.no_memory:
        result["memory"] = memory()
    if torch.cuda.is_available():
        best = next(r for r in rows if r["method"] == "best")
        print(
            f"Table 4: {best['total'] / 60:.1f} min, {best['total'] / shape[0]:.1f} s per frame, "
            f"{best['GB']:.1f} GB (paper, RTX 4090: 2.5 min, 6 s, 12.7 GB)"
        )
    kept.parent.mkdir(exist_ok=True)
    kept.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
