"""Bring the figures of the model card in step with the kept runs of bench/quality.py.

python tools/card.py    rewrites what stands between two comments of the bundled prior's README
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]
from visionxl.measure.tables import markdown  # noqa: E402

CARD, RUNS = (
    ROOT / "visionxl/assets/tiny/README.md",
    [ROOT / f"bench/results/quality_{size}.json" for size in (192, 384)],
)
METHODS = {
    "cg": "CG alone",
    "admm_tv": "ADMM-TV (tuned)",
    "motion_tv": "ADMM-TV along the motion",
    "best": "`best`",
}


def of(run: dict, t: str, m: str, k: str) -> dict:
    "A metric of a method on a task, clip by clip."
    return {r["clip"]: r[k] for r in run["rows"] if (r["task"], r["method"]) == (t, m)}


def gain(run: dict, t: str, m: str) -> str:
    "What `best` is ahead of a method in PSNR, in the mean and on the worst clip."
    ours, theirs = of(run, t, "best", "PSNR"), of(run, t, m, "PSNR")
    d = [ours[c] - theirs[c] for c in ours]
    return f"{sum(d) / len(d):+.2f}, worst {min(d):+.2f}"


def table(run: dict, methods: tuple, metrics: dict) -> str:
    """One row for each task: means of the methods, to so many digits of each metric, and what
    `best` gains over two of them.
    """

    def cell(t, m):
        return " / ".join(
            f"{sum(of(run, t, m, k).values()) / len(run['clips']):.{digits}f}"
            for k, digits in metrics.items()
        )

    return markdown(
        [
            {"task": t}
            | {METHODS[m]: cell(t, m) for m in methods}
            | {
                "over ADMM-TV": gain(run, t, "admm_tv"),
                "over it along the motion": gain(run, t, "motion_tv"),
            }
            for t in dict.fromkeys(r["task"] for r in run["rows"])
        ]
    )


def about(run: dict, large: dict) -> str:
    "What stands between the two comments of the card."
    size, methods = run["size"], " ".join(dict.fromkeys(r["method"] for r in run["rows"]))
    return "\n\n".join(
        [
            f"Test clips, all {len(run['clips'])}, short side {size}, {run['frames']} frames, "
            f"seed {run['seed']}: PSNR in dB / SSIM / warping error, means over clips; the last "
            "two columns are the gain of `best` in dB over ADMM-TV, tuned per task on training "
            "material, and over the same followed by the average along the motion, with the gain "
            f"on the worst clip. Per clip, with ST-LPIPS: `bench/results/quality_{size}.md`, made "
            f"by `bench/quality.py --full --methods {methods}`; this table by `tools/card.py`.",
            table(run, tuple(METHODS), {"PSNR": 2, "SSIM": 4, "warping": 2}),
            "Most of what `best` is ahead of ADMM-TV comes from the average along the motion "
            "(`visionxl.extras.motion`), which needs no network; the last column is what the "
            "prior adds to that, together with the consistency step in the photographs' metric "
            "(`visionxl.extras.photographs.photo_spectrum`) on the inpaintings.",
            f"The same at short side {large['size']}, {large['frames']} frames "
            f"(`bench/results/quality_{large['size']}.md`), PSNR in dB / SSIM and gains in dB:",
            table(large, ("best",), {"PSNR": 2, "SSIM": 4}),
        ]
    )


def main():
    (run, large), text = [json.loads(f.read_text()) for f in RUNS], CARD.read_text()
    head, rest = text.split("<!-- figures -->\n")
    _, tail = rest.split("<!-- end -->")
    CARD.write_text(f"{head}<!-- figures -->\n{about(run, large)}\n<!-- end -->{tail}")


if __name__ == "__main__":
    main()
