"""Bring the figures of the model cards in step with the kept runs of bench/quality.py.

python tools/card.py    rewrites what stands between two comments of the bundled priors' READMEs
"""

import json
import sys
from pathlib import Path
from statistics import mean

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]
from visionxl.measure.tables import markdown, mean_and_error  # noqa: E402

CARDS = {name: ROOT / f"visionxl/assets/{name}/README.md" for name in ("tiny", "white")}
ASKED = {"deblur": 0.4, "sr": 0.5, "inpaint": 1.2}  # dB over total variation along the motion
CLASSICAL = ("measured", "cg", "admm_tv", "motion_tv")  # rows without a network
PAIR = ("best", "motion_tv")
METHODS = {
    "measured": "measurement brought to size",
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


def about(run: dict) -> str:
    "What stands between the two comments of the card."
    named = dict.fromkeys(r["method"] for r in run["rows"])
    size, methods = run["size"], " ".join(m for m in named if "," not in m)
    return "\n\n".join(
        [
            f"Test clips, all {len(run['clips'])}, short side {size}, {run['frames']} frames, "
            f"seed {run['seed']}: PSNR in dB / SSIM / warping error, means over clips; the last "
            "two columns are the gain of `best` in dB over ADMM-TV, tuned per task on training "
            "material, and over the same followed by the average along the motion, with the gain "
            "on the worst clip. Per clip, with LPIPS and ST-LPIPS: "
            f"`bench/results/quality_{size}.md`, made by `bench/quality.py --full --size {size} "
            f"--frames {run['frames']} --methods {methods}`; this table by `tools/card.py`.",
            table(run, ("cg", "admm_tv", *PAIR[::-1]), {"PSNR": 2, "SSIM": 4, "warping": 2}),
            "Most of what `best` is ahead of ADMM-TV comes from the average along the motion "
            "(`visionxl.extras.motion`), which needs no network; the last column is what the "
            "prior adds to that, together with the consistency step in the photographs' metric "
            "(`visionxl.extras.photographs.photo_spectrum`) on the inpaintings.",
        ]
    )


def gaps(ours: dict, theirs: dict) -> list[float]:
    "The difference on each clip."
    return [ours[c] - theirs[c] for c in ours]


def told(d: list[float], digits: int) -> str:
    "A mean over clips, with its standard error."
    middle, error = mean_and_error(d)
    return f"{middle:+.{digits}f} ± {error:.{digits}f}"


def asked(run: dict, limit: str = "") -> str:
    "What the prior was to give, and what it gives, task by task."
    rows, met = [], {"dB": [], "LPIPS": []}
    for t in dict.fromkeys(r["task"] for r in run["rows"]):
        row, wanted = {"task": t}, ASKED[t.removesuffix("+")]
        row["asked, dB"] = f"+{wanted}"
        d = gaps(*(of(run, t, m, "PSNR") for m in PAIR))
        row["measured, dB"] = f"{told(d, 2)}, worst clip {min(d):+.2f}"
        by = {m: of(run, t, m, "LPIPS") for m in CLASSICAL}
        rival = min(by, key=lambda m: mean(by[m].values()))
        ours = of(run, t, "best", "LPIPS")
        row["LPIPS, `best`"] = f"{mean(ours.values()):.3f}"
        row["LPIPS, best classical row"] = f"{mean(by[rival].values()):.3f} ({METHODS[rival]})"
        row["difference"] = told(gaps(ours, by[rival]), 3)
        met["LPIPS"] += [t] if mean(ours.values()) <= mean(by[rival].values()) else []
        met["dB"] += [t] if mean(d) >= wanted and min(d) >= -0.1 else []
        rows.append(row)
    said = {k: f"on {', '.join(v)}" if v else "on no task" for k, v in met.items()}
    return "\n\n".join(
        [
            "The prior was to bring `best` so far over total variation along the motion, which has "
            "no network, and behind it on no clip by more than 0.1 dB; LPIPS was to be no worse "
            "than that of the best row without a network.",
            markdown(rows, bold=False),
            f"Mean ± standard error over {len(run['clips'])} test clips; {run['size']} rows with "
            f"{run['frames']} frames. The gain that was asked is reached {said['dB']}, the LPIPS "
            f"{said['LPIPS']}. {limit}".strip(),
        ]
    )


def beside_white(tiny: dict, white: dict) -> str:
    "Why `tiny` falls short, and what the prior that followed it gains on the same clips."

    def gains(run: dict, task: str) -> str:
        return told(gaps(*(of(run, task, m, "PSNR") for m in PAIR)), 2)

    both = [
        f"{gains(white, t)} dB on `{t}` where `tiny` gains {gains(tiny, t)}"
        for t in ASKED
        if of(white, t, "best", "PSNR")
    ]
    return (
        "The training of `tiny` was small: two processor cores and no GPU, 70,000 crops of 234 "
        "photographs. `white` has a larger network, an autoencoder that loses nothing, and was "
        "trained on a GPU with 18.5 million crops of the same photographs. On the same clips at "
        f"this size it gains {', '.join(both)}, each over total variation along the motion "
        f"(`bench/results/quality_{white['size']}_white.md`). Its own model card "
        "(`visionxl/assets/white/README.md`) has all tasks at 192 rows. During its training alone "
        "the estimate at t = 59 rose from 35.6 dB after 0.5 million crops to 37.3 dB "
        "(`nbs/training/trials.ipynb`)."
    )


def plain(run: dict) -> str:
    "What the paper's preset brings over conjugate gradients alone, task by task."
    rows = []
    for t in dict.fromkeys(r["task"] for r in run["rows"]):
        row = {"task": t}
        for k, digits in (("PSNR", 2), ("LPIPS", 3)):
            d = gaps(*(of(run, t, m, k) for m in ("paper", "cg")))
            worst = min(d) if k == "PSNR" else max(d)
            row[k] = f"{told(d, digits)}, worst clip {worst:+.{digits}f}"
        rows.append(row)
    return (
        "The paper's preset `paper` minus conjugate gradients alone, in dB (above zero it is "
        f"ahead) and in LPIPS (below zero it is ahead):\n\n{markdown(rows, bold=False)}"
    )


def kept(name: str) -> dict:
    "A kept run."
    return json.loads((ROOT / f"bench/results/quality_{name}.json").read_text(encoding="utf-8"))


def fill(card: Path, blocks: dict) -> None:
    "Write blocks between their comments: {name: text}."
    text = card.read_text(encoding="utf-8")
    for name, made in blocks.items():
        head, rest = text.split(f"<!-- {name} -->\n")
        _, tail = rest.split("<!-- end -->", 1)
        text = f"{head}<!-- {name} -->\n{made}\n<!-- end -->{tail}"
    card.write_text(text, encoding="utf-8")


def main():
    tiny, beside, white = (kept(name) for name in ("96", "96_white", "192_white"))
    fill(CARDS["tiny"], {"figures": about(tiny), "asked": asked(tiny, beside_white(tiny, beside))})
    fill(CARDS["white"], {"asked": f"{asked(white)}\n\n{plain(white)}"})


if __name__ == "__main__":
    main()
