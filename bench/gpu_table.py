"""The page of what a card has shown: `python bench/gpu.py table FILES --date DAY --out DIR`.

Rows of one or several runs of `bench/gpu.py` (gpu.jsonl, or a gpu.json that was kept) become
DIR/gpu.json and DIR/gpu.md. Rows that measured nothing are left out of both.
"""

import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from visionxl.measure.tables import markdown  # noqa: E402
from visionxl.prior.machine.plan import EVALUATIONS  # noqa: E402

FRAMES = 25  # of the paper's Table 4
TFLOP = 209 * FRAMES  # of `paper` on 25 frames of 768x1280, see howto/sdxl_on_one_card
ORDER = ("card", "agree", "speed", "sdxl", "memory", "tests", "runs", "rivals", "metrics")


def collect(files: list[Path]) -> list[dict]:
    "The rows of all files that measured something, in the order of the page."
    rows = []
    for f in files:
        text = f.read_text()
        rows += (
            json.loads(text)["rows"]
            if f.suffix == ".json"
            else map(json.loads, text.split("\n")[:-1])
        )
    kept = []
    for r in rows:
        if "error" in r or "is not that of mask" in str(r.get("said")):
            continue
        if "said" in r:  # what others did on the card is nobody's business
            r = r | {"said": r["said"].split(" GPU 0 has")[0]}
        if r not in kept:
            kept.append(r)
    return sorted(kept, key=lambda r: ORDER.index(r["part"]) if r["part"] in ORDER else len(ORDER))


def ms(seconds: float) -> str:
    "Milliseconds, one digit behind the point."
    return f"{1000 * seconds:.1f}"


def gb(v: float) -> str:
    "Gigabytes (2**30 bytes), two digits."
    return f"{v:.2f}"


def card_part(rows: list[dict]) -> list[str]:
    "The card's own ceilings."
    found = {k: v for r in rows for k, v in r.items()}
    products = [r for r in rows if "product" in r]
    rates = [{"numbers": r["product"], "TFLOP/s": f"{r['TFLOP_s']:.0f}"} for r in products]
    said = (
        f"It copies {found['copy_TB_s']:.1f} TB a second within its memory, "
        f"{found['host_to_card_GB_s']:.0f} GB from main memory and "
        f"{found['card_to_host_GB_s']:.0f} back. A product of two matrices of 8192x8192:"
    )
    return ["## The card itself", said, markdown(rates)]


def agree_part(rows: list[dict]) -> list[str]:
    "The least agreement of each preset with the CPU."
    found = []
    for arithmetic, preset in dict.fromkeys((r["arithmetic"], r["preset"]) for r in rows):
        cells = [r for r in rows if (r["arithmetic"], r["preset"]) == (arithmetic, preset)]
        moved = max(abs(r["PSNR"] - r["PSNR_of_CPU"]) for r in cells)
        found.append(
            {
                "numbers": arithmetic,
                "preset": preset,
                "tasks": str(len(cells)),
                "least PSNR to the CPU's result, dB": f"{min(r['PSNR_to_CPU'] for r in cells):.0f}",
                "largest difference": f"{max(r['largest'] for r in cells):.0e}",
                "change of PSNR, dB": f"{moved:.3f}",
            }
        )
    said = (
        "The bundled prior, five frames of 48x80. Each preset on the six tasks of the paper, as "
        "far as the time went; the result on the card beside that on the CPU."
    )
    return ["## The same numbers", said, markdown(found)]


def speed_part(rows: list[dict]) -> list[str]:
    "Each verb of the bundled prior, and whole restorations."
    verbs: dict = {}
    for r in (r for r in rows if "verb" in r):
        line = verbs.setdefault(r["prior"], {"prior": r["prior"]})
        line[f"{r['verb']}, ms"] = ms(r["seconds"])
        line["GB peak"] = max(line.get("GB peak", "0"), gb(r["GB peak"]), key=float)
    wholes = [
        {
            "preset": r["whole"],
            "task": r["task"],
            "seconds": f"{r['seconds']:.2f}",
            "GB peak": gb(r["GB peak"]),
        }
        for r in rows
        if "whole" in r
    ]
    said = f"All {FRAMES} frames of 192x320; median of five calls (three for the last three rows):"
    then = "Whole restorations of the same frames, in float32, second run:"
    note = (
        "So few numbers do not fill this card: half precision gains nothing, and calls with fewer "
        "frames cost more. `best` and `fast` measure optical flow on the CPU."
    )
    order = ("prior", "eps, ms", "encode, ms", "decode, ms", "GB peak")
    lines = [{k: v[k] for k in order} for v in verbs.values()]
    return ["## The bundled prior", said, markdown(lines), then, markdown(wholes), note]


def estimate(rows: list[dict]) -> tuple[float, float]:
    "Seconds of the networks for a whole run of `paper`, from the shortest and the longest calls."
    found = []
    for pick in (min, max):
        each = {
            verb: pick(r["seconds"] / r["frames"] for r in rows if r.get("verb") == verb)
            for verb in EVALUATIONS
        }
        found.append(FRAMES * sum(n * each[verb] for verb, n in EVALUATIONS.items()))
    return found[0], found[1]


def sdxl_part(rows: list[dict]) -> list[str]:
    "The calls that were measured, and the whole run that follows from their number."
    calls = [
        {
            "verb": r["verb"],
            "frames": str(r["frames"]),
            "seconds": f"{r['seconds']:.2f}",
            "seconds a frame": f"{r['seconds'] / r['frames']:.3f}",
            "GB peak": gb(r["GB peak"]),
        }
        for r in rows
        if "verb" in r
    ]
    weights = next(r for r in rows if "made" in r)
    low, high = estimate(rows)
    said = (
        f"SDXL's autoencoder and UNet in float16 ({weights['GB peak']:.2f} GB), *random* weights, "
        "frames of 768x1280 one after the other, two runs of one call each:"
    )
    counted = " + ".join(f"{n} {verb}" for verb, n in EVALUATIONS.items())
    then = (
        f"**Estimate, not a measurement:** `paper` on {FRAMES} frames calls {counted} for each "
        f"frame. At these times the networks take {low:.0f} to {high:.0f} seconds, which is "
        f"{TFLOP / high:.0f} to {TFLOP / low:.0f} TFLOP/s of the {TFLOP} TFLOP counted. The whole "
        "run was cut off by the time limit. The paper reports 2.5 minutes on another card, an RTX "
        "4090."
    )
    return ["## SDXL's networks", said, markdown(calls), then]


def memory_part(rows: list[dict]) -> list[str]:
    "What was planned and what was taken under each limit."
    plans = [
        {
            "limit, GB": str(r["limit_GB"]),
            "frames at once": r["plan"].split()[1],
            "networks take turns": "yes" if "offload True" in r["plan"] else "no",
            "planned, GB": gb(r["planned_GB"]),
            "measured peak, GB": gb(r["GB peak"]),
            "reserved by torch, GB": gb(r["GB reserved"]),
            "seconds": f"{r['seconds']:.1f}",
        }
        for r in rows
        if "plan" in r
    ]
    said = (
        f"`plan` for {FRAMES} frames of 768x1280, and SDXL's networks under that limit "
        "(`torch.cuda.set_per_process_memory_fraction`): `sr+`, `paper` with four timesteps, while "
        "other parts ran on the card."
    )
    lines = ["## Memory: the plan and the card", said, markdown(plans)]
    for r in rows:
        if "place" in r:
            lines.append(f"Without a plan, limit {r['limit_GB']} GB, one frame: `{r['said']}`")
    return lines


def tests_part(rows: list[dict]) -> list[str]:
    "The tests that failed."
    failed = [r["failed"].removeprefix("FAILED ").split(" - ")[0] for r in rows if "failed" in r]
    said = f"`VISIONXL_CARD=1 pytest tests/devices ...` on the card: {len(failed)} failed."
    return ["## Tests on the card", said, *[f"- `{f}`" for f in failed]]


PARTS = {
    "card": card_part,
    "agree": agree_part,
    "speed": speed_part,
    "sdxl": sdxl_part,
    "memory": memory_part,
    "tests": tests_part,
}
WANTED = {  # what to look for in the rows: what is missing where it is not there
    "whole run of SDXL": lambda r: r["part"] == "sdxl" and "whole" in r,
    "agreement in float32, TF32, bfloat16 and float16": lambda r: r.get("arithmetic") == "float16",
    "`torch.compile`": lambda r: r["part"] == "compiled",
    "waits for the card": lambda r: r["part"] == "traffic",
    "rivals": lambda r: r["part"] == "rivals",
    "stopping and going on": lambda r: r["part"] == "runs",
    "an Apple GPU (MPS)": lambda r: r["part"] == "mps",
    "several cards": lambda r: r["part"] == "cards",
}


def page(rows: list[dict], date: str) -> str:
    "The whole page."
    card = {k: v for r in rows if r["part"] == "card" for k, v in r.items()}
    lines = [
        f"# On a card: {card['name']}",
        f"{date}. {card['name']}, {card['GB']:.1f} GB, CUDA {card['cuda']}, torch {card['torch']}, "
        f"Python {card['python']}, {card['cpus']} cores. Written by `bench/gpu.py table` from "
        "`gpu.json`.",
    ]
    for part, write in PARTS.items():
        mine = [r for r in rows if r["part"] == part]
        lines += write(mine) if mine else []
    missing = [name for name, there in WANTED.items() if not any(map(there, rows))]
    if missing:
        lines += ["## Not measured", "; ".join(missing) + "."]
    text = "\n\n".join(lines) + "\n"
    return text.replace("`\n\n- `", "`\n- `")


def main(argv: list[str]) -> None:
    "Write both files."
    p = argparse.ArgumentParser(prog="gpu.py table", description=__doc__)
    p.add_argument("files", nargs="+", type=Path, help="gpu.jsonl of runs, or a kept gpu.json")
    p.add_argument("--date", help="the day of the runs (that of the kept file)")
    p.add_argument("--out", type=Path, default=ROOT / "bench" / "results", help="a folder")
    a = p.parse_args(argv)
    kept = [json.loads(f.read_text()) for f in a.files if f.suffix == ".json"]
    date = a.date or (kept[0]["date"] if kept else "")
    if not date:
        p.error("say with --date on which day the rows were measured")
    rows = collect(a.files)
    a.out.mkdir(parents=True, exist_ok=True)
    body = ",\n".join(map(json.dumps, rows))
    (a.out / "gpu.json").write_text(f'{{"date": {json.dumps(date)}, "rows": [\n{body}\n]}}\n')
    (a.out / "gpu.md").write_text(page(rows, date))
