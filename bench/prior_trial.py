"""What a prior is worth in the loop of `best`, on validation material: for checkpoints of a
training run.

    python bench/prior_trial.py tiny runs/white/export        two priors, sr, deblur and inpaint
    python bench/prior_trial.py tiny --carry 1     what the autoencoder loses goes past it
    python bench/prior_trial.py tiny --drawn 1     start from drawn noise, not from the inversion
    python bench/prior_trial.py tiny --set renoise.eta=1 renoise.scale=1    other settings

Six clips of 7 frames, 192x256: two pieces of the flower, three scenes of *Tears of Steel*, and a
photo that training has left out under a moving camera. The test clips are never used here. PSNR and
LPIPS are means over the clips; the lines go to bench/results/prior_trial.jsonl as well.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tune import moving, psnr

from visionxl import video
from visionxl.compare.rivals import motion_tv
from visionxl.measure.metrics import lpips
from visionxl.operators.tasks import task
from visionxl.prior.latent import Prior
from visionxl.solver import solve
from visionxl.training.photos import load_photos, to_float

HERE = Path(__file__).parent
FRAMES, SIZE = 7, (192, 256)
PIECES = {  # file, first frame, where the piece lies between the left (0) and right (1) rim
    "flower 60": ("flower.mp4", 60, 0.5),
    "flower 120": ("flower.mp4", 120, 0.2),
    "tears 100": ("tears_of_steel_battle.webm", 100, 0.5),
    "tears 700": ("tears_of_steel_battle.webm", 700, 0.3),
    "tears 1300": ("tears_of_steel_battle.webm", 1300, 0.7),
}


def piece(path: Path, first: int, across: float, count: int = FRAMES, size: tuple = SIZE):
    "`count` frames of a file, reduced to the height of `size`, cut to its width."
    frames = []
    for x in video.read(path, first + count).x[first:]:
        im = Image.fromarray(((x + 1) * 127.5).round().byte().permute(1, 2, 0).numpy())
        width = round(im.size[0] * size[0] / im.size[1])
        left = int((width - size[1]) * across)
        im = im.resize((width, size[0]), Image.LANCZOS).crop((left, 0, left + size[1], size[0]))
        frames.append(torch.from_numpy(np.array(im)).permute(2, 0, 1))
    return to_float(torch.stack(frames))


def clips(data: Path, photos: Path, names: list, count: int = FRAMES, size: tuple = SIZE) -> dict:
    "These of the six clips, (count, 3, *size) in [-1, 1]."
    xs = {}
    for name in names:
        if name == "photo":
            val = sorted(load_photos(photos)[1], key=lambda p: p.float().std())
            xs[name] = moving(val[3 * len(val) // 4], count, size)
        else:
            file, *where = PIECES[name]
            xs[name] = piece(data / "samples" / file, *where, count, size)
    return xs


class Trial:
    """A prior with two changes that no preset knows yet, for one run of the loop.

    `decode` adds `carry` times what the last `encode` lost. The inversion's one step gets `drawn`
    times a noise that all frames share in place of the predicted one.
    """

    def __init__(self, prior, carry: float, drawn: float):
        self.prior, self.carry, self.lost = prior, carry, 0.0
        self.drawn = drawn

    def __getattr__(self, name):
        return getattr(self.prior, name)

    def encode(self, x, generator=None):
        z = self.prior.encode(x, generator)
        if self.carry:
            self.lost = self.carry * (x - self.prior.decode(z))
        return z

    def decode(self, z):
        return self.prior.decode(z) + self.lost

    def eps(self, z, t):
        if not self.drawn:
            return self.prior.eps(z, t)
        noise = torch.randn(z[:1].shape, generator=torch.Generator().manual_seed(0))
        noise, self.drawn = self.drawn * noise.expand_as(z), 0.0
        return noise


def restored(prior, name: str, x, values: dict):
    "The clip from its measurement: by `best`, or along the motion without a prior."
    A = task(name, tuple(x.shape))
    if prior is None:
        return motion_tv(A(x), A)
    for state in solve(A(x), A, prior, "best", values):
        pass
    return state.x


def value(text: str):
    "A preset's value as it was meant: a number, None or a word."
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return None if text == "None" else text


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("priors", nargs="+", help="names or folders; none: motion without a prior")
    p.add_argument("--tasks", nargs="+", default=["sr", "deblur", "inpaint"])
    names = [*PIECES, "photo"]
    p.add_argument("--clips", nargs="+", default=names, choices=names, help="some of the six")
    p.add_argument("--frames", type=int, default=FRAMES, help="of each clip")
    p.add_argument("--size", type=int, nargs=2, default=SIZE, help="height and width")
    p.add_argument("--carry", type=float, default=0.0)
    p.add_argument("--drawn", type=float, default=0.0)
    p.add_argument("--set", nargs="*", default=[], help="setting=value of the preset")
    p.add_argument("--photos", type=Path, help="folder or packed file; default: those of the data")
    p.add_argument("--out", type=Path, default=HERE / "results" / "prior_trial.jsonl")
    a = p.parse_args()
    values = {k: value(v) for k, v in (pair.split("=", 1) for pair in a.set)}
    data = video.data_dir()
    xs = clips(data, a.photos or data / "train", a.clips, a.frames, tuple(a.size))
    for name in a.priors:
        loaded = None if name == "none" else Prior.load(name)
        for t in a.tasks:
            row = {}
            for clip in xs:
                prior = loaded and Trial(loaded, a.carry, a.drawn)
                x = restored(prior, t, xs[clip], values)
                pair = [((v.clamp(-1, 1) + 1) / 2) for v in (x, xs[clip])]
                row[clip] = [round(psnr(x, xs[clip]), 3), round(lpips(*pair), 4)]
            mean = [sum(v[i] for v in row.values()) / len(row) for i in (0, 1)]
            line = dict(prior=name, task=t, carry=a.carry, drawn=a.drawn, set=values, clips=row)
            print(f"{name} {t} {a.set}: {mean[0]:.2f} dB, LPIPS {mean[1]:.4f}", row, flush=True)
            with open(a.out, "a") as f:
                f.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
