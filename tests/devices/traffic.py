"""What crosses the border of a device in each step of the solver: a table for all tasks and
presets.

    python tests/devices/traffic.py             7 frames of 64x96, as Markdown
    python tests/devices/traffic.py --places    and which line asked for what

Bytes are exact: they come from the emulator, which sees every copy. "numbers" are values that
Python waits for; each stands for a stop criterion or a check for NaN.
"""

import argparse
import sys
import warnings
from collections import Counter
from pathlib import Path

import torch

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2])]
from devices.emulator import emulated, summary  # noqa: E402

from visionxl import video  # noqa: E402
from visionxl.operators.tasks import TASKS, task  # noqa: E402
from visionxl.presets import PRESETS  # noqa: E402
from visionxl.prior.latent import Prior  # noqa: E402
from visionxl.solver import solve  # noqa: E402


def moves_of(y, A, prior, preset) -> list:
    "The moves of each state that `solve` yields; the first one's are those of the start, too."
    with emulated() as gpu:
        y, steps = y.to("cuda"), []
        gpu.moves.clear()
        for _ in solve(y, A, prior, preset):
            steps.append(list(gpu.moves))
            gpu.moves.clear()
    return steps


def row(moves: list) -> dict:
    "Sums over some moves: kilobytes each way, and how many numbers."
    size, times = Counter(), Counter()
    for m in moves:
        size[m.kind] += m.bytes
        times[m.kind] += 1
    return {
        "to device": size["to device"],
        "to host": size["to host"],
        "numbers": times["number"],
        "their bytes": size["number"],
    }


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--places", action="store_true", help="which line asked for what")
    p.add_argument("--frames", type=int, default=7)
    p.add_argument("--size", type=int, nargs=2, default=(64, 96), help="height and width")
    p.add_argument("--only", nargs="*", help="these presets")
    a = p.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    x = video.fit(video.sample("flower", a.frames).x, *a.size)
    with emulated():
        prior = Prior.load("tiny")
    clip = f"{a.frames} frames of {a.size[0]}x{a.size[1]}: {x.nbytes:,} bytes"
    print(f"Bytes across the border, {clip}\n")
    print("| task | preset | part | to device | of the clip | to host | numbers |")
    print("|---|---|---|---|---|---|---|")
    for name in TASKS:
        A = task(name, x.shape)
        for preset in a.only or PRESETS:
            try:
                steps = moves_of(A(x), A, prior, preset)
            except ValueError:
                continue
            for part, moves in (("start, step 1", steps[0]), ("each later step", steps[1])):
                r = row(moves)
                print(
                    f"| {name} | {preset} | {part} | {r['to device']:,} "
                    f"| {r['to device'] / x.nbytes:.1%} | {r['to host']:,} | {r['numbers']} |",
                    flush=True,
                )
                for k, (n, b) in summary(moves).items() if a.places else ():
                    print(f"    {k[0]:10} {b:10,} bytes in {n:3} from {k[1]} ({k[2]})")


if __name__ == "__main__":
    main()
