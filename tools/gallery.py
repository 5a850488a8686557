"""Restore the bundled clips with the default prior, for the gallery and for the README's pictures.

    python tools/gallery.py              every entry (minutes)
    python tools/gallery.py sr deblur+   some tasks

Writes nbs/gallery/*.html and gallery.json (with the figures), nbs/images/before_after.webp and
nbs/images/steps.png.
"""

import argparse
import hashlib
import json
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]
from visionxl.prior.models.model_files import DEFAULT  # noqa: E402

FOLDER, IMAGES = ROOT / "nbs" / "gallery", ROOT / "nbs" / "images"

# task, clip, frames, what was done to it
ENTRIES = [
    ("deblur+", "flower", 25, "Blurred with a Gaussian of 3 pixels after averaging over 7 frames."),
    ("sr", "flower", 13, "Every 4x4 pixels averaged into one."),
    ("sr+", "tears", 13, "Seven frames averaged, then every 4x4 pixels."),
    ("inpaint", "tears", 13, "Half of the pixels lost, the same half in every frame."),
    ("inpaint+", "flower", 13, "Seven frames averaged, then half of the pixels lost."),
    ("deblur", "tears", 13, "Blurred with a Gaussian of 3 pixels."),
]


def weights() -> str:
    "Which weights the default prior has."
    files = sorted((ROOT / "visionxl" / "assets" / DEFAULT).rglob("*.safetensors"))
    return hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()[:12]


def entry(
    name: str, clip: str, frames: int, text: str, prior
) -> tuple[dict, torch.Tensor, torch.Tensor, float]:
    """Degrade, restore and measure one clip; the facts, the measurement, the result and the frame
    rate.
    """
    from visionxl.compare.rivals import cg_only, upsample
    from visionxl.measure.metrics import psnr, ssim, to_unit
    from visionxl.operators.tasks import task
    from visionxl.show.player import player_html
    from visionxl.solver import solve
    from visionxl.video import sample

    x, fps = sample(clip, frames=frames)
    A = task(name, tuple(x.shape))
    y, start = A(x), time.time()
    *_, last = solve(y, A, prior, preset="best", seed=0)
    seconds, before, after = time.time() - start, upsample(y, A), last.x
    assert after is not None, "the last state of a run has the result"
    after = after.clamp(-1, 1)
    plain = cg_only(y, A).clamp(-1, 1)
    score = {
        k: (float(psnr(to_unit(v), to_unit(x))), float(ssim(to_unit(v), to_unit(x))))
        for k, v in (("measurement", before.clamp(-1, 1)), ("cg", plain), ("best", after))
    }
    line = ", ".join(
        f"{k} {p:.2f} dB"
        for k, (p, _) in zip(
            ("the measurement brought to size", "conjugate gradients alone", "restored"),
            score.values(),
        )
    )
    page = player_html(
        before,
        after,
        fps=fps,
        labels=(name, "restored"),
        caption=f"{text} PSNR: {line}.",
        max_bytes=300_000,
    )
    file = f"{name.replace('+', '-plus')}-{clip}.html"
    (FOLDER / file).write_text(page, encoding="utf-8")
    h, w = x.shape[-2:]
    facts = {
        "file": file,
        "title": f"{name}, {clip}",
        "task": name,
        "clip": clip,
        "frames": len(x),
        "size": [h, w],
        "seconds": round(seconds, 1),
        "weights": weights(),
        "height": round(h * 640 / w) + 130,
        "score": score,
        "text": (
            f"{text} {len(x)} frames of {w}x{h}, restored in {seconds:.0f} s on a CPU. PSNR: "
            f"{line}."
        ),
    }
    print(f"{facts['title']}: {line} ({seconds:.0f} s)", flush=True)
    return facts, before, after, fps


def animation(before, after, fps: float, path: Path) -> None:
    """An animated WebP of a divider that sweeps over the film and back; quality falls until it is
    below 0.22 MB.
    """
    from PIL import Image

    from visionxl.show.player import pixels

    b, a = pixels(before), pixels(after)
    t, h, w = a.shape[:3]
    frames = []
    for k in range(2 * t):
        i, cut = k % t, round(w * (0.5 - 0.42 * torch.cos(torch.tensor(torch.pi * k / t)).item()))
        frame = a[i].copy()
        frame[:, :cut] = b[i][:, :cut]
        frame[:, max(0, cut - 1) : cut + 1] = 255
        picture = Image.fromarray(frame)
        if w < 400:
            picture = picture.resize((2 * w, 2 * h), Image.Resampling.NEAREST)
        frames.append(picture)
    for quality in (50, 40, 36, 30):
        frames[0].save(
            path,
            save_all=True,
            append_images=frames[1:],
            duration=round(1000 / min(fps, 15)),
            loop=0,
            quality=quality,
            method=4,
        )
        if path.stat().st_size < 0.22e6:
            break
    print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1e6:.2f} MB at quality {quality}")


def steps(path: Path) -> None:
    "The five steps in one diagram, on a transparent ground."
    import matplotlib

    matplotlib.use("Agg")
    from visionxl.show import plots

    plots.style()
    plots.finish = lambda fig, caption="": fig.savefig(path, dpi=130)
    plots.sketch()


def main() -> None:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("tasks", nargs="*", help="only these tasks")
    a = p.parse_args()
    from visionxl.prior.latent import Prior

    for folder in (FOLDER, IMAGES):
        folder.mkdir(parents=True, exist_ok=True)
    index = FOLDER / "gallery.json"
    kept = {c["file"]: c for c in json.loads(index.read_text())["clips"]} if index.exists() else {}
    prior = Prior.load(device="cpu")
    for name, clip, frames, text in ENTRIES:
        if a.tasks and name not in a.tasks:
            continue
        facts, before, after, fps = entry(name, clip, frames, text, prior)
        kept[facts["file"]] = facts
        if (name, clip) == ENTRIES[0][:2]:
            animation(before, after, fps, IMAGES / "before_after.webp")
        order = [t for t, *_ in ENTRIES]
        clips = sorted(kept.values(), key=lambda c: order.index(c["task"]))
        index.write_text(
            json.dumps({"note": "", "clips": clips}, indent=1), encoding="utf-8"
        )  # after each: a stopped run loses one
    steps(IMAGES / "steps.png")


if __name__ == "__main__":
    main()
