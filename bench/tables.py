"""Write every kept table again from its figures, after its page has changed.

    python bench/tables.py            rewrites the .md beside each JSON in bench/results
    python bench/tables.py --check    writes nothing, names those that differ, and ends with 1
    python bench/tables.py --keep out/table2.json paper_table2_white
                                      keeps a table of `visionxl reproduce` under a name
    python bench/tables.py --layouts quality_192_white
                                      the paper's Table 3, layout by layout, from a kept table

Nothing is measured. The figures lie in the JSON (of `tune_tv.py` in lines of it); the page is made
by the bench that measured them. `ablations_64.md` and `tune.md` have no JSON, and stay.
"""

import argparse
import json
import math
import sys
from dataclasses import replace
from pathlib import Path

BENCH = Path(__file__).resolve().parent
sys.path[:0] = [str(BENCH), str(BENCH.parent)]
import ablation  # noqa: E402
import default_prior  # noqa: E402
import fast  # noqa: E402
import footage  # noqa: E402
import judges  # noqa: E402
import measurements  # noqa: E402
import noisy  # noqa: E402
import quality  # noqa: E402
import reseeded  # noqa: E402
import scale  # noqa: E402
import seeds  # noqa: E402
import tune_tv  # noqa: E402
from kept import write_json  # noqa: E402

from visionxl.measure.experiment.grid import mean_row  # noqa: E402
from visionxl.measure.reproduction import report  # noqa: E402
from visionxl.measure.reproduction.judge import judge  # noqa: E402
from visionxl.measure.reproduction.paper import six_tasks  # noqa: E402

RESULTS = BENCH / "results"
PAGES = {  # bench: who makes its page
    "quality": quality,
    "ablation": ablation,
    "default": default_prior,
    "fast": fast,
    "footage": footage,
    "scale": scale,
    "measurements": measurements,
    "noisy": noisy,
    "seeds": seeds,
    "reseeded": reseeded,
    "judges": judges,
    "solvers": quality,
    "patches": quality,
    "paper": report,
}


def page_of(file: Path) -> str | None:
    "The page of a file of figures; None for figures that have no page."
    bench = file.stem.split("_")[0]
    if file.suffix == ".jsonl":
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        return tune_tv.page(rows) if file.stem == "tune_tv" else None
    if bench not in PAGES:
        return None
    return PAGES[bench].page(json.loads(file.read_text(encoding="utf-8")))


def pages(folder: Path = RESULTS) -> dict[Path, str]:
    "Every kept table of a folder and the page that it should be."
    files = sorted([*folder.glob("*.json"), *folder.glob("*.jsonl")])
    found = {f.with_suffix(".md"): page_of(f) for f in files}
    return {f: text for f, text in found.items() if text is not None}


def keep(
    made: Path,  # JSON that `visionxl reproduce` wrote
    name: str,  # of the kept file, `paper_...`
    folder: Path = RESULTS,
) -> Path:
    "Keep a table of the paper, made again: its figures to six digits, a row on a line."
    out = folder / f"{name}.json"
    write_json(json.loads(made.read_text(encoding="utf-8")), out, "rows", "orderings")
    return out


def table3(
    kept: dict,  # the JSON of a kept table of `quality.py`
    dataset: str,  # a key of LAYOUTS
) -> dict:  # as `visionxl reproduce table3` keeps it
    "The paper's Table 3 for one data set, from figures that are kept already."
    whole, rows, clips = six_tasks(dataset), [], quality.LAYOUTS[dataset]
    fvd = kept.get("fvd_of", {}).get(dataset, {})
    for r in whole.rows:
        each = [
            {k: v for k, v in f.items() if isinstance(v, float) and k != "seconds"}
            for c in clips
            for f in kept["rows"]
            if (f["task"], f["method"], f["clip"]) == (r.task, r.method, c)
        ]
        if each:
            theirs = {f"{k} (paper)": r.paper.get(k, math.nan) for k in whole.columns}
            ours = mean_row(each) | fvd.get(f"{r.task}/{r.method}", {})
            rows.append({"row": r.label} | theirs | ours | {"each": each})

    def others(said: str) -> bool:
        return any(f"`{c}`" in said for c in set(kept["clips"]) - set(clips))

    there = {r["row"] for r in rows}
    claims = tuple(c for c in whole.claims if {*c.better, *c.worse} <= there)
    orders = judge(replace(whole, claims=claims), rows) if len(clips) > 1 else []
    said = [
        f"Prior: {kept['prior_name']}, the paper: SDXL 1.0.",
        f"Clips: {', '.join(clips)} at short side {kept['size']}, {kept['frames']} frames; the "
        "paper: 25 frames at about one megapixel, many clips.",
        *(["One clip: no order is judged."] if len(clips) == 1 else []),
        f"The figures are those of the kept table of short side {kept['size']}.",
        _about(fvd, clips),
        *[said for said in kept["notes"] if not said.startswith("FVD") and not others(said)],
    ]
    for r in rows:
        del r["each"]
    tasks = list(dict.fromkeys(r.task for r in whole.rows))
    made = {"title": whole.title, "tasks": tasks, "differs": said}
    return made | {"rows": rows, "orderings": orders}


def _about(fvd: dict, clips: tuple) -> str:
    "What to know of FVD in a table of few clips."
    if not fvd:
        return "No FVD: it needs ten frames."
    many = f"{len(clips)} clips" if len(clips) > 1 else "one clip"
    return f"FVD is over {many}: so few compare little more than means."


def main(argv: list | None = None) -> int:
    "Write the tables that differ, or only name them."
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--check", action="store_true", help="write nothing")
    p.add_argument("--folder", type=Path, default=RESULTS)
    p.add_argument("--keep", nargs=2, metavar=("JSON", "NAME"), help="keep a table of `reproduce`")
    p.add_argument("--layouts", metavar="NAME", help="Table 3 from this kept table")
    a = p.parse_args(argv)
    if a.keep:
        keep(Path(a.keep[0]), a.keep[1], a.folder)
    if a.layouts:
        kept = json.loads((a.folder / f"{a.layouts}.json").read_text(encoding="utf-8"))
        for name in quality.LAYOUTS:
            out = a.folder / f"paper_table3_{name}.json"
            write_json(table3(kept, name), out, "rows", "orderings")
    found = pages(a.folder)
    other = [f for f, text in found.items() if not f.exists() or f.read_text() != text]
    for f in other:
        print(f"{f.name} differs from its figures" if a.check else f"{f.name} written")
        if not a.check:
            f.write_text(found[f])
    print(f"{len(found) - len(other)} of {len(found)} tables were as their figures")
    return 1 if a.check and other else 0


if __name__ == "__main__":
    sys.exit(main())
