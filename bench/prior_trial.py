"""What a prior is worth in the loop of `best`, on validation material: for checkpoints of a
training run.

    python bench/prior_trial.py tiny runs/white/export        two priors, sr, deblur and inpaint
    python bench/prior_trial.py tiny --carry 1     what the autoencoder loses goes past it
    python bench/prior_trial.py tiny --set tau=.3 steps=17    other values of the preset

Six clips of 7 frames, 192x256: two pieces of the flower, three scenes of *Tears of Steel*, and a
photo that training has left out under a moving camera. The test clips are never used here. PSNR and
LPIPS are means over the clips; the lines go to bench/results/prior_trial.jsonl as well.
"""

import argparse
import json
from pathlib import Path

import torch
from tune import moving, psnr

from visionxl import video
from visionxl.compare.rivals import motion_tv
from visionxl.measure.metrics import lpips
from visionxl.operators.tasks import task
from visionxl.prior.latent import Prior
from visionxl.solver import solve
from visionxl.training.train import load_photos

HERE = Path(__file__).parent
FRAMES, SIZE = 7, (192, 256)
PIECES = {  # file, first frame, where the piece lies between the left (0) and right (1) rim
    "flower 60": ("flower.mp4", 60, 0.5),
    "flower 120": ("flower.mp4", 120, 0.2),
    "tears 100": ("tears_of_steel_battle.webm", 100, 0.5),
    "tears 700": ("tears_of_steel_battle.webm", 700, 0.3),
    "tears 1300": ("tears_of_steel_battle.webm", 1300, 0.7),
}


def piece(path: Path, first: int, across: float):
    "Frames of a file, reduced to the height of `SIZE`, cut to its width."
    x = video.read(path, first + FRAMES).x[first:]
    width = round(x.shape[-1] * SIZE[0] / x.shape[-2])
    x = torch.nn.functional.interpolate(x, (SIZE[0], width), mode="bicubic", antialias=True)
    left = int((width - SIZE[1]) * across)
    return x[..., left : left + SIZE[1]].clamp(-1, 1).contiguous()


def clips(data: Path, photos: Path) -> dict:
    "The six clips by name, (7, 3, 192, 256) in [-1, 1]."
    xs = {name: piece(data / "samples" / f, *where) for name, (f, *where) in PIECES.items()}
    val = sorted(load_photos(photos)[1], key=lambda p: p.float().std())
    return xs | {"photo": moving(val[3 * len(val) // 4], FRAMES, SIZE)}


class Carried:
    "A prior whose `decode` adds what the last `encode` lost: an experiment, `carry` times of it."

    def __init__(self, prior, carry: float):
        self.prior, self.carry, self.lost = prior, carry, 0.0

    def __getattr__(self, name):
        return getattr(self.prior, name)

    def encode(self, x, generator=None):
        z = self.prior.encode(x, generator)
        if self.carry:
            self.lost = self.carry * (x - self.prior.decode(z))
        return z

    def decode(self, z):
        return self.prior.decode(z) + self.lost


def restored(prior, name: str, x, values: dict):
    "The clip from its measurement: by `best`, or along the motion without a prior."
    A = task(name, tuple(x.shape))
    if prior is None:
        return motion_tv(A(x), A)
    for state in solve(A(x), A, prior, "best", **values):
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
    p.add_argument("--clips", nargs="+", help="some of the six")
    p.add_argument("--carry", type=float, default=0.0)
    p.add_argument("--set", nargs="*", default=[], help="field=value of the preset")
    p.add_argument("--photos", type=Path, help="folder or packed file; default: those of the data")
    p.add_argument("--out", type=Path, default=HERE / "results" / "prior_trial.jsonl")
    a = p.parse_args()
    values = {k: value(v) for k, v in (pair.split("=", 1) for pair in a.set)}
    data = video.data_dir()
    xs = clips(data, a.photos or data / "train")
    for name in a.priors:
        prior = None if name == "none" else Carried(Prior.load(name), a.carry)
        for t in a.tasks:
            row = {}
            for clip in a.clips or xs:
                x = restored(prior, t, xs[clip], values)
                pair = [((v.clamp(-1, 1) + 1) / 2) for v in (x, xs[clip])]
                row[clip] = [round(psnr(x, xs[clip]), 3), round(lpips(*pair), 4)]
            mean = [sum(v[i] for v in row.values()) / len(row) for i in (0, 1)]
            line = dict(prior=name, task=t, carry=a.carry, set=values, clips=row)
            print(f"{name} {t} {a.set}: {mean[0]:.2f} dB, LPIPS {mean[1]:.4f}", row, flush=True)
            with open(a.out, "a") as f:
                f.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
