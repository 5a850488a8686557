"""Make the public table of results: one page that sorts and filters, and works without network.

    python tools/results.py [JSON ...] [-o FOLDER]

Reads the kept tables of bench/quality.py (bench/results/quality_*.json, solvers_*, patches_*), or
the files that are named, and writes FOLDER/table.html with the frames beside it (default
bench/results/page, which git ignores). Add rows of your own by a JSON of the same form: `size`,
`frames`, `seed`, `prior`, and `rows` with `task`, `method`, `clip` and figures under the names of
the metrics. Optional: `fvd`, figures of all clips together under `task/method`, and `frames_of`,
see bench/row_frames.py.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path
from statistics import mean

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]
from visionxl.measure.clip_metrics import UNITS  # noqa: E402
from visionxl.measure.tables import BETTER, DIGITS  # noqa: E402

RESULTS = ROOT / "bench" / "results"
METRICS = (*BETTER, "seconds")
KINDS = {"quality": "", "solvers": "solvers for images", "patches": "patch by patch"}
PAGE = Path(__file__).with_name("results.html")
MEAN = "mean of all clips"


def checked(run: dict, file: Path) -> dict:
    "A run, if it has all that the table needs. Raises ValueError with what is missing."
    for key in ("size", "frames", "seed", "rows"):
        if key not in run:
            raise ValueError(f"{file} has no {key}: see `python tools/results.py --help`")
    for i, r in enumerate(run["rows"]):
        if lost := {"task", "method", "clip"} - set(r):
            raise ValueError(f"row {i} of {file} has no {', '.join(sorted(lost))}")
    return run


def means(run: dict) -> list[dict]:
    "A row more for each task and method with several clips: the means of its figures, and FVD."
    groups: dict = {}
    for r in run["rows"]:
        groups.setdefault((r["task"], r["method"]), []).append(r)
    out = []
    for (task, method), same in groups.items():
        if len(same) > 1:
            row = {"task": task, "method": method, "clip": MEAN}
            for k in METRICS:
                if seen := [r[k] for r in same if r.get(k) is not None]:
                    row[k] = mean(seen)
            out.append(row | run.get("fvd", {}).get(f"{task}/{method}", {}))
    return out


def name_of(run: dict, file: Path) -> str:
    "How the page calls a run."
    name = f"{run['size']} rows, {run['frames']} frames, seed {run['seed']}"
    if (prior := run.get("prior_name", "tiny")) != "tiny":
        name += f", prior {prior}"
    kind = KINDS.get(file.stem.split("_")[0], "")
    return f"{name}, {kind}" if kind else name


def table(files: list[Path], out: Path) -> dict:
    "All rows of all files, and where their frames are; the pictures are copied beside the page."
    rows, frames = [], {}
    for file in files:
        run = checked(json.loads(file.read_text(encoding="utf-8")), file)
        name = name_of(run, file)
        for key, strip in run.get("frames_of", {}).items():
            frames[f"{name}/{key}"] = strip
            (out / strip["file"]).parent.mkdir(parents=True, exist_ok=True)
            if file.parent / strip["file"] != out / strip["file"]:
                shutil.copyfile(file.parent / strip["file"], out / strip["file"])
        for r in means(run) + run["rows"]:
            figures = [r.get(k) for k in METRICS]
            rounded = [None if v is None else float(f"{v:.5g}") for v in figures]
            rows.append([r["task"], r["clip"], r["method"], name, *rounded])
    return {"rows": rows, "frames": frames}


def write(
    out: Path,  # folder of the page
    files: list[Path] | None = None,  # None: the kept runs of bench/quality.py
) -> Path:
    "Write the page. Raises ValueError for a JSON of another form."
    if files is None:
        # the fullest run first: the page opens on it
        files = [f for kind in KINDS for f in RESULTS.glob(f"{kind}_*.json")]
        files.sort(key=lambda f: -f.stat().st_size)
    out.mkdir(parents=True, exist_ok=True)
    data = table(files, out) | {
        "columns": ["task", "clip", "method", "measured on", *METRICS],
        "digits": [DIGITS.get(k, 2) for k in METRICS],
        "lower": [BETTER.get(k, min) is min for k in METRICS],
        "units": [UNITS.get(k, "of one core") for k in METRICS],
    }
    text = json.dumps(data, separators=(",", ":")).replace("</", "<\\/")
    page = out / "table.html"
    page.write_text(PAGE.read_text(encoding="utf-8").replace("/*DATA*/", text), encoding="utf-8")
    return page


def main(argv: list | None = None) -> int:
    "Make the page and say where it is."
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("json", nargs="*", type=Path)
    p.add_argument("-o", "--out", type=Path, default=RESULTS / "page")
    a = p.parse_args(argv)
    try:
        print(write(a.out, a.json or None))
    except (OSError, ValueError) as e:
        print(f"results: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
