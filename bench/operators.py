"""Speed, memory and accuracy of the operators and of the consistency stage.

    python bench/operators.py           25x3x384x640, two rounds, each released blur timed once
    python bench/operators.py --full    25x3x768x1280, three rounds
    python bench/operators.py --small   25x3x192x320
    ... --clock cpu                     processor time on one thread, on a machine with other work

For each task: A, A^T and the stage of ten CG steps, as released (bench/as_released.py), by plain CG
on our operators and by our spectral CG, beside the time of cloning the clip; peak extra memory; and
the error of both in float32 against the float64 reference. All columns of a task are timed in turn,
round after round, in one process, so that other load on the machine falls on all of them. The floor
of the stage is to read the video and the measurement once and to write the result once, in huge
pages: less than a clone, which writes into fresh small ones. The released convolutions (2-D for
deblur, 3-D for `+`) are so slow that their stage is timed as one gradient step, A^T A, times the
eleven that ten CG steps take (its vector work is left out, in its favour) unless --whole.
"""

import argparse
import json
import os
import statistics
import sys
import threading
import time
from pathlib import Path

import as_released
import torch

from visionxl.operators.fast.spectral import spectral_cg
from visionxl.operators.tasks import TASKS, Mask, task
from visionxl.steps.consistency import cg, data_consistency

GOAL_RATIO = {"sr+": 150, "deblur": 100, "deblur+": 100, "inpaint+": 40, "sr": 25, "inpaint": 25}
GOAL_CLONES = {"sr": 3, "sr+": 3, "inpaint": 8, "inpaint+": 8, "deblur": 20, "deblur+": 20}
GOAL_CLIPS = {n: 5 if n.startswith("deblur") else 3 for n in TASKS}


CLOCK = [time.perf_counter]


def once(f) -> float:
    "Seconds that it takes; the result is freed outside."
    t = CLOCK[0]()
    out = f()
    t = CLOCK[0]() - t
    del out
    return t


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak_extra(f) -> int:
    "Bytes of resident memory above the start, sampled every 2 ms; the result is counted."
    peak, done = [resident()], threading.Event()
    start = peak[0]

    def watch():
        while not done.wait(0.002):
            peak[0] = max(peak[0], resident())

    thread = threading.Thread(target=watch)
    thread.start()
    out = f()
    peak[0] = max(peak[0], resident())
    done.set()
    thread.join()
    del out
    return peak[0] - start


def released_stage(name: str, x, y, x_init, steps: int, whole: bool):
    "Function that runs the released stage, and by how much its time is to be multiplied."
    mask = Mask.random(x.shape).weights[0, 0].to(x) if name.startswith("inpaint") else None
    A, AT = as_released.operators(name, mask)

    def gram(v):
        return AT(A(v))

    if (name.startswith("deblur") or name.endswith("+")) and not whole:
        return A, AT, lambda: gram(x_init), steps + 1
    return A, AT, lambda: as_released.cg(gram, AT(y), x_init, steps), 1


def accuracy(name: str, steps: int) -> dict:
    """Errors in float32 against float64, of plain CG and ours, on a smooth clip of 25x3x96x160
    started 0.1 off.
    """
    g = torch.Generator().manual_seed(1)
    x = torch.randn(25, 3, 96, 160, generator=g, dtype=torch.float64).cumsum(-1).cumsum(-2)
    x = x / x.abs().amax()
    A, start = (
        task(name, x.shape),
        (x + 0.1 * torch.randn(x.shape, generator=g, dtype=torch.float64)).float(),
    )
    y = A(x).float()
    want = spectral_cg(A, y.double(), start.double(), steps)[0]

    def off(x):
        return float((x.double() - want).norm() / want.norm())

    return dict(
        error_plain=off(cg(A, y, start, steps)[0]),
        error_ours=off(data_consistency(A, y, start, steps)),
    )


def measure(name: str, shape: tuple, rounds: int, steps: int, whole: bool) -> dict:
    g = torch.Generator().manual_seed(0)
    x, x_init = (torch.randn(shape, generator=g) for _ in range(2))
    A = task(name, shape)
    y = A(x)
    rel_A, rel_AT, rel_stage, times = released_stage(name, x, y, x_init, steps, whole)
    rel_y = rel_A(x) if not name.startswith("deblur") else y
    work = {
        "clone": lambda: x.clone(),
        "stage ours": lambda: data_consistency(A, y, x_init, steps),
        "A ours": lambda: A(x),
        "AT ours": lambda: A.AT(y),
        "stage plain": lambda: cg(A, y, x_init, steps)[0],
        "A released": lambda: rel_A(x),
        "AT released": lambda: rel_AT(rel_y),
        "stage released": rel_stage,
    }
    for k in ("clone", "stage ours", "A ours", "AT ours"):
        work[k]()  # warm
    seconds = {k: [] for k in work}
    slow = (
        {"stage plain", "A released", "AT released", "stage released"}
        if times > 1
        else {"stage plain"}
    )
    for i in range(rounds):
        for k, f in work.items():
            if i and k in slow:
                continue
            for _ in range(3 if k in ("clone", "stage ours") else 1):
                seconds[k].append(once(f) * (times if k == "stage released" else 1))
    memory = peak_extra(work["stage ours"]) / (x.numel() * x.element_size())
    mid = {k: statistics.median(v) for k, v in seconds.items()}
    return dict(
        task=name,
        seconds=mid,
        spread={k: [min(v), max(v)] for k, v in seconds.items()},
        repetitions={k: len(v) for k, v in seconds.items()},
        faster_than_released=mid["stage released"] / mid["stage ours"],
        clones=mid["stage ours"] / mid["clone"],
        extra_clips=memory,
        released_stage="one gradient step times eleven" if times > 1 else "all of it",
        **accuracy(name, steps),
    )


def table(rows: list) -> str:
    head = (
        "task",
        "clone ms",
        "A rel",
        "A",
        "AT rel",
        "AT",
        "stage rel",
        "plain CG",
        "ours",
        "faster (goal)",
        "clones (goal)",
        "clips (goal)",
        "error: plain",
        "ours",
    )
    lines = [head]
    for r in rows:
        s, n = r["seconds"], r["task"]
        lines.append(
            (
                n,
                f"{s['clone'] * 1e3:.0f}",
                *(
                    f"{s[k]:.2f}"
                    for k in (
                        "A released",
                        "A ours",
                        "AT released",
                        "AT ours",
                        "stage released",
                        "stage plain",
                        "stage ours",
                    )
                ),
                f"{r['faster_than_released']:.0f}x ({GOAL_RATIO[n]})",
                f"{r['clones']:.1f} ({GOAL_CLONES[n]})",
                f"{r['extra_clips']:.1f} ({GOAL_CLIPS[n]})",
                f"{r['error_plain']:.0e}",
                f"{r['error_ours']:.0e}",
            )
        )
    width = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join("  ".join(v.rjust(w) for v, w in zip(line, width)) for line in lines)


def main() -> int:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--full", action="store_true", help="25x3x768x1280, three rounds")
    p.add_argument("--small", action="store_true", help="25x3x192x320")
    p.add_argument("--shape", type=int, nargs=3, help="frames, height and width instead")
    p.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu: processor time, one thread"
    )
    p.add_argument(
        "--whole",
        action="store_true",
        help="time all ten CG steps of the released blurs (many minutes)",
    )
    p.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS)
    p.add_argument("--steps", type=int, default=10)
    p.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    p.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "operators")
    a = p.parse_args()
    if a.clock == "cpu":
        a.threads, CLOCK[0] = 1, time.process_time
    torch.set_num_threads(a.threads)
    size = (192, 320) if a.small else (384, 640)
    shape = (25, 3, *((768, 1280) if a.full else size))
    if a.shape:
        shape = (a.shape[0], 3, *a.shape[1:])
    load = os.getloadavg()[0]
    head = (
        f"{'x'.join(map(str, shape))} float32, {a.steps} CG steps, {a.threads} threads, "
        f"torch {torch.__version__}, {3 if a.full else 2} rounds, medians in seconds of "
        f"{a.clock} time; "
        f"load of the machine at the start {load:.1f} on {os.cpu_count()} cores"
        + (": OTHER WORK WAS RUNNING, ratios only" if load > 1 else "")
    )
    print(head, flush=True)
    rows = []
    for n in a.tasks:
        rows.append(measure(n, shape, 3 if a.full else 2, a.steps, a.whole))
        print(table(rows[-1:]).splitlines()[-1], flush=True)
    text = (
        head
        + "\n"
        + table(rows)
        + "\nstage rel: "
        + "; ".join(f"{r['task']} {r['released_stage']}" for r in rows)
    )
    print(text)
    a.out.parent.mkdir(exist_ok=True)
    a.out.with_suffix(".txt").write_text(text + "\n")
    a.out.with_suffix(".json").write_text(
        json.dumps(
            dict(
                shape=shape,
                dtype="float32",
                threads=a.threads,
                clock=a.clock,
                steps=a.steps,
                load=load,
                torch=torch.__version__,
                rows=rows,
            ),
            indent=1,
        )
        + "\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
