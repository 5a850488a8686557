"""How many times as fast Gaussian blurs are without weights too small for single precision.

    python bench/blurs.py                writes bench/results/blurs.txt
    python bench/blurs.py --frames 3 --size 96 160

The matrix of one axis is applied to a clip, along the rows and along the columns, once with all 61
taps of the Gaussian and once as the package keeps it. Both in turn, in one process, on one thread;
medians.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from visionxl.operators.kernels import Bands, axis_bands, convolution, gaussian_kernel  # noqa: E402

OUT = Path(__file__).parent / "results" / "blurs.txt"


def seconds(f, x: torch.Tensor) -> float:
    "Of one call."
    began = time.perf_counter()
    f(x)
    return time.perf_counter() - began


def table(shape: tuple, sigmas: list, rounds: int) -> list[str]:
    "A line for each width."
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    lines = [
        f"{shape[0]}x{shape[1]}x{shape[2]}x{shape[3]} float32, one thread, 61 taps, milliseconds"
    ]
    lines.append("sigma   rows: all  kept  ratio   columns: all  kept  ratio   largest difference")
    for sigma in sigmas:
        k, told, off = gaussian_kernel(61, sigma), [], 0.0
        for axis, name in ((-1, "across"), (-2, "down")):
            whole = Bands(convolution(k, shape[axis]).float())
            pair = [
                getattr(m, name) for m in (whole, axis_bands(k, shape[axis], "symmetric", False, x))
            ]
            off = max(off, float((pair[0](x) - pair[1](x)).abs().max()))
            times = [[seconds(f, x) for f in pair] for _ in range(rounds)]
            a, b = (1e3 * statistics.median(t) for t in zip(*times))
            told.append(f"{a:9.2f} {b:5.2f} {a / b:5.1f}x")
        lines.append(f"{sigma:5.2f} {told[0]:>24} {told[1]:>28}   {off:.0e}")
    return lines


def main(argv: list | None = None) -> int:
    "Measure, print and write."
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--frames", type=int, default=9)
    p.add_argument("--size", type=int, nargs=2, default=(192, 320), metavar=("H", "W"))
    p.add_argument("--sigmas", type=float, nargs="+", default=[0.7, 1, 1.5, 2, 2.5, 3])
    p.add_argument("--rounds", type=int, default=15)
    p.add_argument("--out", type=Path, default=OUT)
    a = p.parse_args(argv)
    torch.set_num_threads(1)
    lines = table((a.frames, 3, *a.size), a.sigmas, a.rounds)
    print("\n".join(lines))
    a.out.write_text("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
