"""Make the front page's picture: one measurement, restored in three ways.

    python tools/front.py    half a minute; writes nbs/images/front.webp and front.json

The bundled flower clip is averaged over seven frames and blurred (`deblur+`). Total variation along
the motion, `paper` and `best` restore it. The JSON holds the PSNR of each.
"""

import io
import json
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]
IMAGES = ROOT / "nbs" / "images"
CROP = (..., slice(24, 88), slice(56, 152))


def restorations() -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    "The clip in five versions, by what they are called, and the seconds that each took."
    from visionxl import Prior, solve, task, video
    from visionxl.compare.rivals import motion_tv, upsample

    x = video.sample("flower", frames=9).x[..., 40:168, 56:264].contiguous()
    A, prior = task("deblur+", tuple(x.shape)), Prior.load(device="cpu")
    y = A(x)

    def solved(name):
        for state in solve(y, A, prior, name):
            pass
        return state.x

    makers = {
        "measured": lambda: upsample(y, A),
        "total variation along the motion": lambda: motion_tv(y, A),
        "paper": lambda: solved("paper"),
        "best": lambda: solved("best"),
        "clean": lambda: x,
    }
    found, seconds = {}, {}
    for name, make in makers.items():
        start = time.time()
        found[name] = make().clamp(-1, 1)
        seconds[name] = round(time.time() - start, 1)
    return found, seconds


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    "Decibels between two clips in [-1, 1]."
    return 10 * float(torch.log10(4 / (a - b).square().mean()))


def main() -> int:
    import matplotlib.pyplot as plt
    from PIL import Image

    from visionxl.show import figure

    plt.switch_backend("Agg")
    figure.style()
    found, seconds = restorations()
    score = {k: psnr(v, found["clean"]) for k, v in found.items() if k != "clean"}
    plt.rcParams.update({"axes.titlesize": 15})  # legible on a phone
    fig, axes = figure.new_figure(6.6, 7.2, 3, 2)
    axes[2, 1].axis("off")
    for ax, (name, v) in zip(axes.flat, found.items()):
        short = name.replace("total variation", "TV")
        title = f"{short}\n{score[name]:.1f} dB" if name in score else f"{short}\n"
        figure.draw(ax, figure.to_image(v[CROP]), title)
    out = io.BytesIO()
    fig.savefig(out, format="png")
    Image.open(out).save(IMAGES / "front.webp", quality=85, method=6)
    facts = {"task": "deblur+", "frames": 9, "PSNR": score, "seconds": seconds}
    (IMAGES / "front.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(facts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
