"""Quality of every method on every task: PSNR, SSIM, ST-LPIPS, warping error and measurement
residual.

    python bench/quality.py                       short: two clips, short side 96, 9 frames
    python bench/quality.py --full                six clips, short side 192, 25 frames (hours)
    python bench/quality.py --full --size 384     the larger size
    python bench/quality.py --tasks sr+ --methods best admm_tv

Every cell is kept in bench/results/quality_cells, named by all that decides it: a killed run goes
on where it was, and a retrained prior or another setting is measured anew. The tables go to
bench/results/quality[_SIZE].md and .json, a contact sheet per task beside them. Seeds are fixed;
the clips are never trained or tuned on.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from visionxl.measure.evaluate import UNITS  # noqa: E402
from visionxl.measure.grid import NO_PRIOR, Cell, Grid, default_clips, sheet  # noqa: E402
from visionxl.measure.tables import BETTER, markdown  # noqa: E402
from visionxl.operators.tasks import TASKS  # noqa: E402

RESULTS = Path(__file__).parent / "results"
METHODS = {
    "measured": "measurement brought to size",
    "cg": "CG alone",
    "admm_tv": "ADMM-TV (tuned)",
    "motion_tv": "ADMM-TV along the motion",
    "diffir2vr": "DiffIR2VR-style",
    "random": "random",
    "svi": "SVI",
    "official": "official",
    "paper": "paper",
    "best": "**best** (ours)",
}
COLUMNS = ("PSNR", "SSIM", "ST-LPIPS", "warping", "residual")


def fits(method: str, task: str) -> bool:
    """Whether the method has an answer for the task: the warped baseline is made for two, the
    released code stops at one.
    """
    return (
        task in ("sr", "deblur") if method == "diffir2vr" else (method, task) != ("official", "sr+")
    )


def spread(rows: list, k: str) -> str:
    "Mean and standard deviation over clips."
    v = np.array([r[k] for r in rows])
    digits = {"PSNR": 2, "warping": 2, "residual": 4}.get(k, 3)
    return f"{np.nanmean(v):.{digits}f} ± {np.nanstd(v):.{digits}f}"


def summary(task: str, found: dict) -> str:
    "One task: a line for each method, the best mean in bold."
    best = {
        k: BETTER[k](np.nanmean([r[k] for r in rows]) for rows in found.values()) for k in COLUMNS
    }
    lines = [
        f"### {task}",
        "",
        "| method | " + " | ".join(COLUMNS) + " | seconds |",
        "|---|" + "---|" * (len(COLUMNS) + 1),
    ]
    for m, rows in found.items():
        cells = [
            f"**{spread(rows, k)}**"
            if np.nanmean([r[k] for r in rows]) == best[k]
            else spread(rows, k)
            for k in COLUMNS
        ]
        lines.append(
            f"| {METHODS[m]} | "
            + " | ".join(cells)
            + f" | {np.mean([r['seconds'] for r in rows]):.0f} |"
        )
    return "\n".join(lines)


def per_clip(found: dict, names: list) -> str:
    "PSNR / ST-LPIPS of each clip: where a method loses."
    rows = [
        {"method": METHODS[m].replace("**", "")}
        | {
            n: f"{r['PSNR']:.2f} / {r.get('ST-LPIPS', float('nan')):.3f}"
            for n, r in zip(names, rows)
        }
        for m, rows in found.items()
    ]
    return "Per clip, PSNR / ST-LPIPS:\n\n" + markdown(rows, bold=False)


def goals(all_found: dict) -> str:
    "BENCH.md's goals, counted."

    def mean(rows, k):
        return np.nanmean([r[k] for r in rows])

    lines, first = [], 0
    for task, found in all_found.items():
        if "best" not in found:
            continue
        others = {m: rows for m, rows in found.items() if m != "best"}
        lost = [
            f"{k} to {m}"
            for k in ("PSNR", "SSIM", "ST-LPIPS")
            for m, rows in others.items()
            if BETTER[k](mean(found["best"], k), mean(rows, k)) != mean(found["best"], k)
        ]
        first += not lost
        calm = "admm_tv" not in found or mean(found["best"], "warping") <= mean(
            found["admm_tv"], "warping"
        )
        lines.append(
            f"- {task}: `best` "
            + ("is first in PSNR, SSIM and ST-LPIPS" if not lost else "loses " + ", ".join(lost))
            + ("; no more flicker than ADMM-TV" if calm else "; **more flicker than ADMM-TV**")
        )
    return (
        f"`best` is first in all three on {first} of {len(lines)} tasks (goal: five of six).\n\n"
        + "\n".join(lines)
    )


def write(a, grid: Grid, names: list, all_found: dict, rows_out: list) -> str:
    """The tables as Markdown and JSON; under another name while tasks are missing, so that a killed
    run spoils no kept table.
    """
    missing = [f"- {k}: {v}" for k, v in grid.nets.missing.items() if k in COLUMNS]
    prior_id = None if set(a.methods) <= set(NO_PRIOR) else grid.prior_id
    prior = f"prior `{a.prior}` ({prior_id}), float32" if prior_id else "no prior"
    head = (
        f"# Quality\n\nClips: {', '.join(names)}; short side {a.size} pixels, {a.frames} "
        f"frames, seed {a.seed}; {prior}. "
        f"Mean ± standard deviation over {len(names)} clips. "
        + "; ".join(f"{k}: {UNITS[k]}" for k in COLUMNS)
        + ".\n"
    )
    text = (
        "\n\n".join(
            [
                head + "\n".join(missing),
                "## Goals",
                goals(all_found),
                "## Tasks",
                *[summary(t, f) + "\n\n" + per_clip(f, names) for t, f in all_found.items()],
            ]
        )
        + "\n"
    )
    done = set(a.tasks) == set(all_found)
    out = a.out / f"{'' if done else 'partial_'}quality_{a.size}.md"
    if done:
        [f.unlink() for f in a.out.glob(f"partial_quality_{a.size}.*")]
    out.write_text(text)
    out.with_suffix(".json").write_text(
        json.dumps(
            {
                "size": a.size,
                "frames": a.frames,
                "clips": names,
                "seed": a.seed,
                "prior": prior_id,
                "rows": rows_out,
            },
            indent=1,
        )
    )
    return text


def main() -> int:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--full", action="store_true")
    p.add_argument("--size", type=int, help="short side in pixels (96; 192 with --full)")
    p.add_argument("--frames", type=int, help="(9; 25 with --full)")
    p.add_argument("--count", type=int, help="clips (2; all with --full)")
    p.add_argument(
        "--clips", help="folder of clips; default $VISIONXL_DATA/clips, else the bundled samples"
    )
    p.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    p.add_argument("--methods", nargs="+", choices=tuple(METHODS), default=tuple(METHODS))
    p.add_argument("--prior", default="tiny")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--out", type=Path, default=RESULTS)
    a = p.parse_args()
    a.size, a.frames, a.count = (
        a.size or (192 if a.full else 96),
        a.frames or (25 if a.full else 9),
        a.count or (10**6 if a.full else 2),
    )
    clips = default_clips(a.clips)
    names = list(clips)[: a.count]
    grid = Grid(a.out / "quality_cells", clips, a.prior, say=lambda s: print(s, flush=True))
    all_found, rows_out = {}, []
    for task in a.tasks:

        def line(m, task=task):
            return [Cell(m, task, n, a.size, a.frames, a.seed, a.prior) for n in names]

        all_found[task] = {m: [grid(c) for c in line(m)] for m in a.methods if fits(m, task)}
        if not all_found[task]:
            sys.exit(
                f"none of {', '.join(a.methods)} has an answer for {task}: leave it out of "
                "--tasks, or add a method"
            )
        rows_out += [
            {"task": task, "method": m, "clip": n} | {k: r.get(k) for k in (*COLUMNS, "seconds")}
            for m, rows in all_found[task].items()
            for n, r in zip(names, rows)
        ]
        views = {"clean": grid.views(Cell("clean", task, names[0], a.size, a.frames))} | {
            m: grid.views(line(m)[0]) for m in all_found[task]
        }
        sheet(views, a.out / f"quality_{a.size}_{task.replace('+', '_plus')}.png", side=160)
        text = write(
            a, grid, names, all_found, rows_out
        )  # after each task, so that a killed run leaves what it has
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
