"""Bring the figures of the model card in step with the kept run of bench/quality.py.

    python tools/card.py        rewrites what stands between the two comments in visionxl/assets/tiny/README.md
"""
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CARD, RUN = ROOT / "visionxl/assets/tiny/README.md", ROOT / "bench/results/quality_192.json"
METHODS = {"cg": "CG alone", "admm_tv": "ADMM-TV (tuned)", "motion_tv": "ADMM-TV along the motion", "best": "`best`"}


def table(run: dict) -> str:
    "One row for each task: means of the methods, and what `best` gains over two of them, in the mean and on the worst clip."
    def of(t, m, k): return {r["clip"]: r[k] for r in run["rows"] if (r["task"], r["method"]) == (t, m)}

    def gain(t, m):
        ours, theirs = of(t, "best", "PSNR"), of(t, m, "PSNR")
        d = [ours[c] - theirs[c] for c in ours]
        return f"{sum(d) / len(d):+.2f}, worst {min(d):+.2f}"

    def cell(t, m): return " / ".join(f"{sum(v.values()) / len(v):.{digits}f}" for k, digits in (("PSNR", 2), ("SSIM", 4), ("warping", 2)) for v in (of(t, m, k),))

    head = ["task", *METHODS.values(), "over ADMM-TV", "over it along the motion"]
    rows = [[t, *(cell(t, m) for m in METHODS), gain(t, "admm_tv"), gain(t, "motion_tv")] for t in dict.fromkeys(r["task"] for r in run["rows"])]
    return "\n".join("| " + " | ".join(r) + " |" for r in (head, ["---"] * len(head), *rows))


def main():
    run, text = json.loads(RUN.read_text()), CARD.read_text()
    head, rest = text.split("<!-- figures -->\n")
    _, tail = rest.split("<!-- end -->")
    methods = " ".join(dict.fromkeys(r["method"] for r in run["rows"]))
    CARD.write_text(f"""{head}<!-- figures -->
Test clips, all {len(run['clips'])}, short side {run['size']}, {run['frames']} frames, seed {run['seed']}: PSNR in dB / SSIM / warping error, means over clips; the last two columns are the gain of `best` in dB over ADMM-TV, tuned per task on training material, and over the same followed by the average along the motion, with the gain on the worst clip. Per clip, with ST-LPIPS: `bench/results/quality_{run['size']}.md`, made by `bench/quality.py --full --methods {methods}`; this table by `tools/card.py`.

{table(run)}

Most of what `best` is ahead of ADMM-TV comes from the average along the motion (`visionxl.motion`), which needs no network; the last column is what the prior adds to that, together with the consistency step in the photographs' metric (`visionxl.smooth`) on the inpaintings.
<!-- end -->{tail}""")


if __name__ == "__main__": main()
