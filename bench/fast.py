"""What `fast` gives up and what it saves: it beside `best`, on pieces of the two sample clips.

    python bench/fast.py                   six tasks, 9 frames of 96x144 and of 192x320
    python bench/fast.py --tasks sr        some of them; the other rows are kept
    python bench/fast.py --prior white     with the other bundled prior: fast_white.json and .md

The two presets run in turn in one process, on one thread. Time is the processor's, so other work on
the machine changes it little. `fast` was chosen on these pieces, and so was `best`. Results go to
bench/results/fast.json and .md.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from visionxl import video  # noqa: E402
from visionxl.extras.fast import has_bfloat16  # noqa: E402
from visionxl.measure.clip_metrics import Networks, load_networks, measure  # noqa: E402
from visionxl.measure.tables import markdown  # noqa: E402
from visionxl.operators.tasks import TASKS, task  # noqa: E402
from visionxl.prior.latent import Prior  # noqa: E402
from visionxl.prior.models.loading import BUNDLED  # noqa: E402
from visionxl.solver import solve  # noqa: E402

RESULTS = Path(__file__).parent / "results" / "fast.json"
PIECES = {  # name: clip, first frame, rows, columns
    "small": [
        ("flower", 0, 0, 0),
        ("flower", 12, 20, 60),
        ("tears", 0, 0, 0),
        ("tears", 12, 30, 80),
    ],
    "large": [("flower", 0, 0, 0), ("tears", 0, 0, 0)],
}
SIZES = {"small": (96, 144), "large": (192, 320)}
PRESETS = ("best", "fast")


def piece(clip: str, first: int, row: int, column: int, size: tuple[int, int]) -> torch.Tensor:
    "Return nine frames of a sample clip, (9, 3, H, W) in [-1, 1]."
    h, w = size
    x = video.sample(clip).x[first : first + 9, :, row : row + h, column : column + w]
    return x.contiguous()


def run(x: torch.Tensor, name: str, preset: str, prior: Prior) -> tuple[torch.Tensor, float]:
    "Return the restored clip and the seconds of processor time that it took."
    A = task(name, x.shape)
    y = A(x)
    began = time.process_time()
    *_, last = solve(y, A, prior, preset)
    return last.x, time.process_time() - began


def row_of(name: str, size: str, prior: Prior, nets: Networks) -> dict:
    "Return one row: means over the pieces of a size."
    sums = {p: {"PSNR": 0.0, "LPIPS": 0.0, "seconds": 0.0} for p in PRESETS}
    pieces = [piece(*p, SIZES[size]) for p in PIECES[size]]
    for x in pieces:
        for preset in PRESETS:
            out, seconds = run(x, name, preset, prior)
            found = measure(x, out, nets)[0]
            for key, value in (found | {"seconds": seconds}).items():
                if key in sums[preset]:
                    sums[preset][key] += value / len(pieces)
    best, fast = sums["best"], sums["fast"]
    return {
        "task": name,
        "frames": "9 of " + "x".join(map(str, SIZES[size])),
        "PSNR best": best["PSNR"],
        "PSNR fast": fast["PSNR"],
        "dB": fast["PSNR"] - best["PSNR"],
        "LPIPS best": best["LPIPS"],
        "LPIPS fast": fast["LPIPS"],
        "seconds best": best["seconds"],
        "time of best": fast["seconds"] / best["seconds"],
        "bfloat16": "yes" if has_bfloat16() else "no",
    }


def page(kept: dict) -> str:
    "The kept rows as Markdown."
    rows, prior = kept["rows"], kept.get("prior", "tiny")
    shown = [{k: v if isinstance(v, str) else f"{v:.3f}" for k, v in r.items()} for r in rows]
    return (
        f"`python bench/fast.py --prior {prior}`: `fast` beside `best`, prior `{prior}`, one "
        "thread, processor time. Both presets were chosen on pieces of these two sample clips.\n\n"
        f"{markdown(shown, bold=False)}\n"
    )


def place(prior: str) -> Path:
    "Where the rows of a prior are kept."
    return RESULTS if prior == "tiny" else RESULTS.with_stem(f"fast_{prior}")


def write(rows: list[dict], prior: str) -> None:
    "Keep the rows, and the table that shows them."
    kept, at = {"prior": prior, "rows": rows}, place(prior)
    for path, content in (
        (at, json.dumps(kept, indent=1) + "\n"),
        (at.with_suffix(".md"), page(kept)),
    ):
        draft = path.with_name(path.name + ".tmp")
        draft.write_text(content)
        draft.replace(path)


def main() -> None:
    "Measure the tasks that are asked for; rows of other tasks are kept."
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--prior", choices=BUNDLED, default="tiny")
    a = parser.parse_args()
    torch.set_num_threads(1)
    prior, nets, path = Prior.load(a.prior), load_networks(), place(a.prior)
    print(f"this CPU is fast in bfloat16: {has_bfloat16()}")
    kept = json.loads(path.read_text())["rows"] if path.exists() else []
    rows = {(r["task"], r["frames"]): r for r in kept}
    for size in a.sizes:
        for name in a.tasks:
            row = row_of(name, size, prior, nets)
            rows[row["task"], row["frames"]] = row
            print(*(v if isinstance(v, str) else f"{v:.3f}" for v in row.values()), flush=True)
            write(list(rows.values()), a.prior)


if __name__ == "__main__":
    main()
