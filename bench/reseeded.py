"""A kept table made again with another seed: the spread between seeds, and the orders that change.

    python bench/reseeded.py quality_64_white quality_64_white_seed1

Both are kept tables of bench/quality.py, of the same clips, size and frames. A seed decides the
masks of inpainting and what a method draws. The figures go to bench/results/reseeded_64_white.json,
the page beside it.
"""

import argparse
import json
import sys
from itertools import combinations
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from kept import write_json  # noqa: E402

from visionxl.measure.tables import BETTER, markdown, mean_and_error, number  # noqa: E402

RESULTS = Path(__file__).parent / "results"
METRICS = ("PSNR", "SSIM", "LPIPS", "FVD")
WHERE = ("size", "frames", "clips", "prior_name")


def by_clip(run: dict, task: str, method: str, metric: str) -> list[float]:
    "A metric of a row, clip by clip; [] where the run has no such row."
    mine = [r for r in run["rows"] if (r["task"], r["method"]) == (task, method)]
    found = {r["clip"]: r[metric] for r in mine if metric in r}
    return [found[c] for c in run["clips"]] if found else []


def row_of(runs: list[dict], task: str, method: str, metric: str) -> dict | None:
    "Both means of a row, its standard error over clips, and the spread between seeds."
    where = {"task": task, "method": method, "metric": metric}
    if metric == "FVD":
        both = [run["fvd"].get(f"{task}/{method}", {}) for run in runs]
        if not all("FVD" in f for f in both):
            return None
        means, error = [f["FVD"] for f in both], both[0].get("FVD se")
        return where | {"means": means, "se": error, "spread": abs(means[0] - means[1]) / 2**0.5}
    each = [by_clip(run, task, method, metric) for run in runs]
    if not all(each):
        return None
    gaps = np.subtract(*each)
    means = [float(np.mean(v)) for v in each]
    spread = float(np.sqrt(np.square(gaps).mean() / 2))  # of one clip's figure, between seeds
    return where | {"means": means, "se": mean_and_error(each[0])[1], "spread": spread}


def compare(runs: list[dict]) -> dict:
    "All rows that both tables have, and the pairs of methods that change their order."
    if lost := [k for k in WHERE if runs[0][k] != runs[1][k]]:
        raise ValueError(f"the tables differ in {', '.join(lost)}: only the seed may")
    pairs = dict.fromkeys((r["task"], r["method"]) for r in runs[0]["rows"])
    found = [row_of(runs, *pair, metric) for pair in pairs for metric in METRICS]
    rows = [r for r in found if r]
    turned, count = [], 0
    for a, b in combinations(rows, 2):
        if (a["task"], a["metric"]) != (b["task"], b["metric"]):
            continue
        count += 1
        better = BETTER[a["metric"]]
        first = [better(p, q) == p for p, q in zip(a["means"], b["means"])]
        if first[0] != first[1]:
            gaps = [number(p - q, a["metric"]) for p, q in zip(a["means"], b["means"])]
            names = f"{a['method']} and {b['method']} on {a['task']} in {a['metric']}"
            turned.append(f"{names} ({gaps[0]}, then {gaps[1]})")
    where = {k: runs[0][k] for k in WHERE} | {"seeds": [run["seed"] for run in runs]}
    return where | {"rows": rows, "pairs": count, "turned": turned}


def moved_far(row: dict) -> str:
    "A row whose mean moves by more than its standard error, in words; else nothing."
    gap = row["means"][1] - row["means"][0]
    if not row["se"] or abs(gap) <= row["se"]:
        return ""
    return f"{row['method']} on {row['task']} in {row['metric']} ({number(gap, row['metric'])})"


def page(kept: dict) -> str:
    "The figures as Markdown."
    first, second = kept["seeds"]
    rows = [
        {
            "task": r["task"],
            "method": r["method"],
            "metric": r["metric"],
            f"seed {first}": number(r["means"][0], r["metric"]),
            f"seed {second}": number(r["means"][1], r["metric"]),
            "standard error over clips": number(r["se"], r["metric"]),
            "spread between seeds": number(r["spread"], r["metric"]),
        }
        for r in kept["rows"]
    ]
    ratios = {}
    for metric in METRICS:
        mine = [r["spread"] / r["se"] for r in kept["rows"] if r["metric"] == metric and r["se"]]
        if mine:
            ratios[metric] = f"{np.median(mine):.2f} in {metric}"
    turned = "; ".join(kept["turned"]) or "none"
    moved = "; ".join(far for r in kept["rows"] if (far := moved_far(r))) or "none"
    return (
        f"# The same table with another seed\n\nClips: {', '.join(kept['clips'])}; short side "
        f"{kept['size']} pixels, {kept['frames']} frames, prior `{kept['prior_name']}`. *Spread "
        "between seeds*: the standard deviation of one clip's figure between seeds, root mean "
        "square over clips; of FVD, which has one figure for all clips, that of the figure.\n\n"
        f"- Median over rows of the spread over the standard error: {', '.join(ratios.values())}.\n"
        f"- Means that move with the seed by more than their standard error over clips: {moved}. "
        "All clips of a size get the same noise, so that error does not see the noise.\n"
        f"- Pairs of methods that change their order with the seed: {len(kept['turned'])} of "
        f"{kept['pairs']}: {turned}.\n\n{markdown(rows, bold=False)}\n"
    )


def main(argv: list | None = None) -> int:
    "Compare two kept tables, and keep what came of it."
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("tables", nargs=2, help="names of kept tables")
    p.add_argument("--folder", type=Path, default=RESULTS)
    a = p.parse_args(argv)
    texts = [(a.folder / f"{name}.json").read_text(encoding="utf-8") for name in a.tables]
    out = a.folder / f"{a.tables[0].replace('quality', 'reseeded')}.json"
    write_json(compare([json.loads(t) for t in texts]), out, "rows")
    text = page(json.loads(out.read_text(encoding="utf-8")))
    out.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
