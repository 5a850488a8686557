"""What the prior `white` does for the paper's own algorithm, beside `tiny` and beside no prior.

    python bench/white.py              both tables: writes bench/results/white.json
    python bench/white.py tasks        `paper` on the six tasks, and conjugate gradients alone
    python bench/white.py starts       the paper's Table 2: where to start

Pieces of the two sample clips with a short side of 64 pixels: 7 frames for the tasks, 7 and 9 for
the starts. `sr+` averages 7 frames, so with 7 it says nothing of what changes between them.
Finished cells are kept in a folder, so a run that was stopped goes on.
"""

import argparse
import json
from itertools import product
from pathlib import Path

from visionxl.measure.experiment.cell import Cell
from visionxl.measure.experiment.grid import Grid
from visionxl.operators.tasks import TASKS
from visionxl.training.settings import ASSETS

HERE = Path(__file__).parent
CLIPS = ("flower", "tears")
METRICS = ("PSNR", "LPIPS", "warping")
STARTS = {  # label: method, changes of its settings
    "own noise": ("from_top", {"start.shared": False}),
    "one noise": ("from_top", {"start.shared": True}),
    "inversion": ("paper", {}),
}


def cells(table: str, priors: list, clips: list, tasks: list) -> list:
    "The experiments of a table."
    found = []
    for task in tasks:
        if table == "tasks":
            found += [("cg", Cell("cg", task, c)) for c in clips]
            found += [("paper", Cell("paper", task, c, prior=p)) for p in priors for c in clips]
            continue
        for label, (method, changes) in STARTS.items():
            found += [
                (label, Cell(method, task, c, prior=p, changes=changes))
                for p in priors
                for c in clips
            ]
    return found


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("table", nargs="?", choices=("tasks", "starts"), help="one of the two")
    p.add_argument("--priors", nargs="+", default=["white", "tiny"])
    p.add_argument("--clips", nargs="+", default=CLIPS)
    p.add_argument("--tasks", nargs="+", default=None, help="default: all six; sr+ for starts")
    p.add_argument("--size", type=int, default=64, help="short side")
    p.add_argument("--frames", type=int, nargs="+", help="default: 7; 7 and 9 for starts")
    p.add_argument("--cells", type=Path, default=Path("runs/white_bench"), help="folder of cells")
    p.add_argument("--out", type=Path, default=HERE / "results" / "white.json")
    a = p.parse_args()
    clips = {c: ASSETS / f"{c}.mp4" for c in a.clips}
    grid = Grid(a.cells, clips, metrics=METRICS, priors=tuple(a.priors))
    kept = json.loads(a.out.read_text()) if a.out.exists() else {}
    for table in (a.table,) if a.table else ("tasks", "starts"):
        rows = kept[table] = []
        tasks = a.tasks or {"tasks": TASKS, "starts": ("sr+",)}[table]
        lengths = a.frames or {"tasks": (7,), "starts": (7, 9)}[table]
        wanted = product(lengths, cells(table, a.priors, a.clips, tasks))
        for frames, (label, cell) in wanted:
            row = grid(Cell(**vars(cell) | dict(size=a.size, frames=frames)))
            prior = "none" if cell.method == "cg" else cell.prior
            found = {m: round(row[m], 4) for m in METRICS}
            what = dict(task=cell.task, way=label, prior=prior, clip=cell.clip, frames=frames)
            rows.append(what | found)
            print(table, rows[-1], flush=True)
            a.out.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
