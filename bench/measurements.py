"""Measurements as they are: noise, masks of one's own, unknown blur, compression.

    python bench/measurements.py noise                  six tasks with noise of 0.05
    python bench/measurements.py noise_bound            how much sr can gain by knowing it
    python bench/measurements.py estimate               how well the noise is estimated
    python bench/measurements.py denoise                against NLM, BM3D and OpenCV's video filter
    python bench/measurements.py mask                   boxes, a logo, a subtitle, blocks
    python bench/measurements.py denoise_plus           the same of a mean over seven frames
    python bench/measurements.py blind                  unknown Gaussian, motion, path and window
    python bench/measurements.py width                  six Gaussian widths on each clip
    python bench/measurements.py compression            JPEG and H.264
    python bench/measurements.py codec                  H.264 and blurs: how much noise to tell
    python bench/measurements.py noise --clips test     clips that nothing was chosen on
    python bench/measurements.py noise --prior white    the same with the other bundled prior
    python bench/measurements.py noise --seed 2         other noise, holes and blurs
    python bench/measurements.py --show                 the tables of all that has been measured

Everything was chosen on four pieces of the two sample clips. `--clips test` are the clips of
$VISIONXL_DATA/clips, which are measured only. Every cell is kept in results/measurements.json under
its name: a stopped run goes on where it was. The tables go to results/measurements.md. Tables are
of the prior `tiny` where their names do not say `white`.
"""

import argparse
import json
import math
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from visionxl import video  # noqa: E402
from visionxl.extras.estimates.noise import estimate_noise  # noqa: E402
from visionxl.extras.starts import admm_tv  # noqa: E402
from visionxl.measure import metrics  # noqa: E402
from visionxl.measure.experiment.given import at_size, default_clips  # noqa: E402
from visionxl.measure.perception.networks import load_lpips  # noqa: E402
from visionxl.operators.tasks import TASKS, Identity, Mask, TemporalMean, task  # noqa: E402
from visionxl.prior.latent import Prior  # noqa: E402
from visionxl.solver import solve  # noqa: E402

RESULTS = Path(__file__).parent / "results"
PIECES = {  # name: (file, first frame); no cut within nine frames
    "flower 20": ("flower.mp4", 20),
    "flower 120": ("flower.mp4", 120),
    "tears 240": ("tears_of_steel_battle.webm", 240),
    "tears 700": ("tears_of_steel_battle.webm", 700),
}
FRAMES, SIZE = 9, 96
TV_WEIGHTS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4)  # the variance of the noise over these


class Bench:
    "Cells by name, kept in a file, and what they need, loaded when it is first asked for."

    def __init__(self, seconds: float, prior: str = "tiny", seed: int = 0):
        self.path, self.prior_name, self.seed = RESULTS / "measurements.json", prior, seed
        self.cells = json.loads(self.path.read_text()) if self.path.exists() else {}
        self.until, self.quick = time.time() + seconds, False
        self._prior = self._lpips = None

    def __call__(self, table: str, name: str, f) -> None:
        "Measure a cell unless it is there; stop the run when the time is over."
        table = self.name_of(table)
        cells = self.cells.setdefault(table, {})
        if name in cells:
            return
        if time.time() > self.until:
            self.show()
            raise SystemExit(f"stopped before {table} / {name}: the same command goes on")
        began = time.time()
        row = f()
        if self.path.exists():  # another table may have been measured meanwhile
            self.cells = json.loads(self.path.read_text())
        cells = self.cells.setdefault(table, {})
        cells[name] = {k: round(v, 5) for k, v in row.items()}
        tmp = self.path.with_suffix(".part")
        tmp.write_text(as_text(self.cells))
        tmp.replace(self.path)
        told = "  ".join(f"{k} {v:.4g}" for k, v in row.items())
        print(f"{table:12} {name:40} {told}  ({time.time() - began:.0f} s)", flush=True)

    @property
    def prior(self) -> Prior:
        self._prior = self._prior or Prior.load(self.prior_name)
        return self._prior

    def name_of(self, table: str) -> str:
        "A table of the first prior and draw has its plain name."
        prior = "" if self.prior_name == "tiny" else f", {self.prior_name}"
        return table + prior + (f", seed {self.seed}" if self.seed else "")

    def only_networks(self, rivals: dict) -> dict:
        "The rows that another prior changes: rivals are measured once for each draw."
        again = self.prior_name != "tiny" and not self.seed
        return {"best": rivals["best"]} if again else rivals

    def scores(self, x: torch.Tensor, x_true: torch.Tensor) -> dict:
        "PSNR, LPIPS and the warping error of a restoration."
        self._lpips = self._lpips or load_lpips()
        a, b = metrics.to_unit(x), metrics.to_unit(x_true)
        return {
            "PSNR": metrics.psnr(a, b),
            "LPIPS": metrics.perceptual(a, b, self._lpips),
            "flicker": metrics.warping_error(b, a),
        }

    def restored(self, y, A, preset="best", **options) -> torch.Tensor:
        "What `solve` makes of a measurement."
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for state in solve(y, A, self.prior, preset, **options):
                pass
        return state.x

    def show(self) -> None:
        "Write all tables to results/measurements.md."
        (RESULTS / "measurements.md").write_text(page(self.cells))


def page(kept: dict) -> str:
    "All tables as Markdown."
    parts = [__doc__.split("\n\n")[0], "Made by `bench/measurements.py`; see there."]
    for table, cells in sorted(kept.items()):
        columns = list(dict.fromkeys(k for row in cells.values() for k in row))
        lines = [f"## {table}", "", "| " + " | ".join(["cell", *columns]) + " |"]
        lines += ["|" + "---|" * (len(columns) + 1)]
        means: dict = {}
        for name, row in cells.items():
            lines.append(line(name, row, columns))
            clip, _, rest = name.partition(", ")
            kind = "sample" if clip in PIECES else "test"
            means.setdefault(f"**mean, {kind} clips**, {rest}", []).append(row)
        for name, rows in means.items():
            mean = {k: float(np.mean([r[k] for r in rows if k in r])) for k in rows[0]}
            lines.append(line(f"{name} ({len(rows)})", mean, columns))
        lines += remarks(table, cells)
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def remarks(table: str, cells: dict) -> list:
    "What a table says of its goal, computed from its cells."
    kind, _, prior = table.partition(", ")  # and the draw
    if kind == "noise":
        return ["", *(gain_by_task(cells, name) for name in TASKS)]
    if kind == "noise_bound":
        return ["", *most_gain(cells, f"noise, {prior}" if prior else "noise")]
    if table == "compression":
        return ["", "Off by default:", "", *worse_in_lpips(cells)]
    return []


def gain_by_task(cells: dict, name: str) -> str:
    "How far `best` is ahead when it knows the noise, over all clips with this task."
    rows = [row for cell, row in cells.items() if cell.endswith(f", {name}")]
    if not rows:
        return f"- {name}: not measured."
    gains = [row["knows it"] - row["does not"] for row in rows]
    over_tv = [row["knows it"] - row["total variation"] for row in rows]
    met = "met" if np.mean(gains) >= 2 and min(over_tv) > 0 else "not met"
    return (
        f"- {name}, {len(rows)} clips: {np.mean(gains):.2f} dB over the noiseless treatment, "
        f"{np.mean(over_tv):.2f} dB over total variation (least {min(over_tv):.2f}). "
        f"Goal (2 dB, ahead on each clip): {met}."
    )


def most_gain(cells: dict, treated: str) -> list:
    """How far a measurement without noise is ahead of the noiseless treatment of a noisy one, which
    the table `treated` has.
    """
    noisy = json.loads((RESULTS / "measurements.json").read_text()).get(treated, {})
    gains = [row["no noise"] - noisy[k]["does not"] for k, row in cells.items() if k in noisy]
    if not gains:
        return ["The table of noise is not measured yet."]
    return [
        "Ahead of the noiseless treatment of a noisy measurement by "
        f"{np.mean(gains):.2f} dB in the mean of {len(gains)} clips ({min(gains):.2f} to "
        f"{max(gains):.2f}): `best` cannot gain more on sr by knowing the noise."
    ]


def worse_in_lpips(cells: dict) -> list:
    "Where treating the codec's steps as noise makes LPIPS worse than the film as decoded."
    found = []
    codings = sorted({cell.split(", ")[1] for cell in cells})
    for coding in codings:
        pairs = [
            (cells[f"{clip}, {coding}, by its steps"], cells[f"{clip}, {coding}, decoded"])
            for clip in sorted({cell.split(", ")[0] for cell in cells})
            if f"{clip}, {coding}, by its steps" in cells and f"{clip}, {coding}, decoded" in cells
        ]
        worse = sum(a["LPIPS"] > b["LPIPS"] for a, b in pairs)
        gain = np.mean([a["PSNR"] - b["PSNR"] for a, b in pairs]) if pairs else math.nan
        found.append(
            f"- {coding}, by its steps: {gain:+.2f} dB in the mean, LPIPS worse on {worse} of "
            f"{len(pairs)} clips."
        )
    return found


def as_text(cells: dict) -> str:
    "All cells as JSON, one on a line, so that a new one is a new line."

    def brief(v) -> str:
        return json.dumps(v, sort_keys=True, separators=(",", ":"))

    tables = []
    for table, rows in sorted(cells.items()):
        lines = [f"{brief(name)}:{brief(row)}" for name, row in sorted(rows.items())]
        tables.append(f"{brief(table)}:{{\n" + ",\n".join(lines) + "\n}")
    return "{\n" + ",\n".join(tables) + "\n}\n"


def line(name: str, row: dict, columns: list) -> str:
    "One row of a table."
    return "| " + " | ".join([name, *(f"{row[k]:.4g}" if k in row else "" for k in columns)]) + " |"


def clips(which: str) -> dict:
    "{name: video (9, 3, H, W)}"
    if which == "test":
        return {k: at_size(v, SIZE, FRAMES) for k, v in default_clips().items()}
    samples = video.data_dir() / "samples"
    return {
        k: video.read(samples / name, FRAMES, start, SIZE, 160).x
        for k, (name, start) in PIECES.items()
    }


OTHER = {"draw": 0}  # added to every seed, see --seed


def draw(shape, seed: int = 0) -> torch.Tensor:
    return torch.randn(tuple(shape), generator=generator(seed))


def generator(seed: int) -> torch.Generator:
    "Of one seed, or of another one where another draw is asked for."
    return torch.Generator().manual_seed(seed + 1000 * OTHER["draw"])


def noise(bench: Bench, found: dict) -> None:
    "`best` that knows the noise, `best` that does not, and total variation with its best weight."
    sigma = 0.05
    for name in TASKS:
        for clip, x in found.items():
            A = task(name, tuple(x.shape))
            y = video.as_in_file(A(x) + sigma * draw(A.out_shape))

            def rival(x=x, A=A, y=y, name=f"{clip}, {name}"):
                row = bench.cells.get("noise", {}).get(name)
                if row is not None and not bench.seed:
                    return {k: row[k] for k in ("total variation", "its weight")}
                tv = [psnr_of(admm_tv(y, A, sigma**2 / f), x) for f in TV_WEIGHTS]
                return {"total variation": max(tv), "its weight": TV_WEIGHTS[int(np.argmax(tv))]}

            def cell(x=x, A=A, y=y, rival=rival):
                return {
                    "knows it": psnr_of(bench.restored(y, A, sigma_y=sigma), x),
                    "does not": psnr_of(bench.restored(y, A), x),
                    **rival(),
                }

            bench("noise", f"{clip}, {name}", cell)


def noise_bound(bench: Bench, found: dict) -> None:
    "sr of a measurement without noise: as far as knowing the noise could get at best."
    for clip, x in found.items():
        A = task("sr", tuple(x.shape))
        y = video.as_in_file(A(x))

        def cell(A=A, y=y, x=x):
            return {"no noise": psnr_of(bench.restored(y, A), x)}

        bench("noise_bound", f"{clip}, sr", cell)


def estimate(bench: Bench, found: dict) -> None:
    "The estimated noise, in units of 255, of floats and of files."
    for clip, x in found.items():
        for level in (5, 15, 25, 50):
            y = x + level / 127.5 * draw(x.shape, level)
            pair = {"float": y, "file": video.as_in_file(y)}
            bench(
                "estimate",
                f"{clip}, {level}",
                lambda pair=pair: {k: 127.5 * estimate_noise(v) for k, v in pair.items()},
            )
        for name in TASKS:
            A = task(name, tuple(x.shape))
            y = video.as_in_file(A(x) + 0.1 * draw(A.out_shape))
            cell = {"of 12.75": 127.5 * estimate_noise(y, A)}
            bench("estimate", f"{clip}, {name}", lambda cell=cell: cell)


def nlm(y: torch.Tensor, level: float, several: bool, strength: float) -> torch.Tensor:
    "OpenCV's non-local means, frame by frame or over several frames."
    import cv2

    frames = [to_bytes(f) for f in y]
    h, out = strength * level, []
    for i, f in enumerate(frames):
        reach = min(2, i, len(frames) - 1 - i)
        if several and reach:
            options = (i, 2 * reach + 1, None, h, h, 7, 21)
            out.append(cv2.fastNlMeansDenoisingColoredMulti(frames, *options))
        else:
            out.append(cv2.fastNlMeansDenoisingColored(f, None, h, h, 7, 21))
    return torch.stack([from_bytes(f) for f in out])


def best_nlm(y: torch.Tensor, level: float, several: bool, x: torch.Tensor) -> torch.Tensor:
    "The best of five strengths, chosen by the clean clip."
    found = [nlm(y, level, several, s) for s in (0.15, 0.3, 0.45, 0.6, 0.9)]
    return min(found, key=lambda v: float((v - x).square().mean()))


def to_bytes(f: torch.Tensor) -> np.ndarray:
    return ((f.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy().copy()


def from_bytes(f: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(f).permute(2, 0, 1).float() / 127.5 - 1


def bm3d_frames(y: torch.Tensor, level: float) -> torch.Tensor:
    "BM3D frame by frame: pip install bm3d."
    import bm3d

    frames = [(f.permute(1, 2, 0).double().numpy() + 1) / 2 for f in y]
    out = np.stack([bm3d.bm3d_rgb(f, level / 255) for f in frames])
    return torch.from_numpy(out).permute(0, 3, 1, 2).float() * 2 - 1


def denoise(bench: Bench, found: dict) -> None:
    "Noise of 15, 25 and 50 of 255 in files, against what is usual."
    for clip, x in found.items():
        for level in (15, 25, 50):
            A = Identity(tuple(x.shape))
            y = video.as_in_file(x + level / 127.5 * draw(x.shape, level))
            rivals = {
                "best": lambda A=A, y=y: bench.restored(y, A, sigma_y="estimate"),
                "NLM": lambda y=y, level=level, x=x: best_nlm(y, level, False, x),
                "NLM, several frames": lambda y=y, level=level, x=x: best_nlm(y, level, True, x),
                "BM3D": lambda y=y, level=level: bm3d_frames(y[1::3], level),
            }
            for name, f in bench.only_networks(rivals).items():
                some = slice(1, None, 3) if name == "BM3D" else slice(None)  # it takes 4 s a frame

                def cell(f=f, x=x, some=some):
                    row = bench.scores(f(), x[some])
                    if some.step:  # frames that are no neighbours say nothing about flicker
                        del row["flicker"]
                    return row

                bench("denoise", f"{clip}, {level}, {name}", cell)


def denoise_plus(bench: Bench, found: dict) -> None:
    "Noise of 25 of 255 on a mean over seven frames, in files, against what is usual."
    level = 25
    for clip, x in found.items():
        A = task("denoise+", tuple(x.shape))
        y = video.as_in_file(A(x) + level / 127.5 * draw(x.shape, level))

        def tv(A=A, y=y, x=x):
            tried = [admm_tv(y, A, (level / 127.5) ** 2 / f) for f in TV_WEIGHTS[2:6]]
            return min(tried, key=lambda v: float((v - x).square().mean()))

        rivals = {
            "best": lambda A=A, y=y: bench.restored(y, A, sigma_y="estimate"),
            "total variation": tv,
            "NLM": lambda y=y, x=x: best_nlm(y, level, False, x),
            "measured": lambda y=y: y,
        }
        for name, f in bench.only_networks(rivals).items():
            bench("denoise_plus", f"{clip}, {name}", lambda f=f, x=x: bench.scores(f(), x))


def holes(shape: tuple) -> dict:
    "Masks (T, 1, H, W) that hide wide parts: {name: weights}."
    T, _, H, W = shape
    ones = torch.ones(T, 1, H, W)
    found = {k: ones.clone() for k in ("box that moves", "logo", "subtitle", "blocks")}
    g = generator(5)
    for t in range(T):
        left = W // 16 + t * W // 20
        found["box that moves"][t, :, H // 3 : 2 * H // 3, left : left + W // 4] = 0
        for _ in range(8):
            i, j = (int(torch.randint(0, n - H // 6, (), generator=g)) for n in (H, W))
            found["blocks"][t, :, i : i + H // 6, j : j + H // 6] = 0
    found["logo"][:, :, H // 12 : H * 3 // 8, -W // 3 : -W // 12] = 0
    found["subtitle"][:, :, -H // 5 : -H // 16, W // 5 : -W // 5] = 0
    return found


def mask(bench: Bench, found: dict) -> None:
    "Wide holes, against OpenCV's inpainting and a smooth filling of each frame."
    import cv2

    from visionxl.extras.starts import first_guess

    for clip, x in found.items():
        for name, weights in holes(tuple(x.shape)).items():
            A = Mask(tuple(x.shape), weights)
            y = video.as_in_file(A(x))
            lost = [(1 - w[0]).byte().numpy() for w in weights]

            def by_opencv(how, y=y, lost=lost):
                return torch.stack(
                    [from_bytes(cv2.inpaint(to_bytes(f), m, 5, how)) for f, m in zip(y, lost)]
                )

            rivals = {
                "best": lambda A=A, y=y: bench.restored(y, A, sigma_y=2 / 255 / 12**0.5),
                "Telea": lambda f=by_opencv: f(cv2.INPAINT_TELEA),
                "Navier-Stokes": lambda f=by_opencv: f(cv2.INPAINT_NS),
                "frame by frame": lambda A=A, y=y: first_guess(A, y, 1e-8),
            }
            for rival, f in bench.only_networks(rivals).items():

                def cell(f=f, x=x, y=y, weights=weights):
                    out = torch.where(weights > 0, y, f())
                    hidden = (weights == 0).expand_as(x)
                    error = (out.clamp(-1, 1) - x)[hidden].square().mean()
                    row = {"PSNR in holes": 10 * math.log10(4 / float(error))}
                    return row | bench.scores(out, x)

                bench("mask", f"{clip}, {name}, {rival}", cell)


def blind(bench: Bench, found: dict) -> None:
    "Blurs that nobody measured: what is found, and what is restored with it."
    from visionxl.extras.estimates.blind import find_blur, find_window, kernel_likeness
    from visionxl.extras.estimates.blind_kernel import find_kernel
    from visionxl.operators.blurs import Blur, Blur2d
    from visionxl.operators.cameras import motion_kernel
    from visionxl.operators.kernels import gaussian_kernel

    g = generator(7)
    for clip, x in found.items():
        shape = tuple(x.shape)
        sigma = 1 + 4 * float(torch.rand((), generator=g))
        length, angle = (
            3 + 12 * float(torch.rand((), generator=g)),
            180 * float(torch.rand((), generator=g)),
        )
        path = motion_kernel(length, angle)

        def gaussian(x=x, shape=shape, sigma=sigma):
            A = Blur.gaussian(shape, 61, sigma)
            y = video.as_in_file(A(x))
            seen = find_blur(y, ("gaussian",))
            row = {"true": sigma, "found": seen.numbers["sigma"]}
            row |= {"likeness": likeness_of_widths(row["found"], sigma)}
            return row | restored_with(bench, x, y, A, seen.operator(shape))

        def motion(x=x, shape=shape, path=path, length=length, angle=angle):
            A = Blur2d(shape, path)
            y = video.as_in_file(A(x))
            seen = find_blur(y, ("motion",))
            row = {"true": length, "found": seen.numbers["length"], "angle": angle}
            row |= {"likeness": kernel_likeness(seen.kernel, path)}
            return row | restored_with(bench, x, y, A, seen.operator(shape))

        def free(clip=clip, x=x, shape=shape):
            true = bent_path(15, len(clip))
            A = Blur2d(shape, true)
            y = video.as_in_file(A(x))
            kernel = find_kernel(y, 19)
            row = {"likeness": kernel_likeness(kernel, true)}
            row["likeness of a pixel"] = float(true.max() / true.norm())
            return row | restored_with(bench, x, y, A, Blur2d(shape, kernel), 0.03)

        def free_gaussian(x=x, shape=shape, sigma=sigma):
            true = torch.tensor(gaussian_kernel(31, sigma), dtype=torch.float64)
            y = video.as_in_file(Blur.gaussian(shape, 31, sigma)(x))
            return {"likeness": kernel_likeness(find_kernel(y, 31), torch.outer(true, true))}

        def free_motion(x=x, shape=shape, path=path):
            y = video.as_in_file(Blur2d(shape, path)(x))
            return {"likeness": kernel_likeness(find_kernel(y, 19), path)}

        def sparsest(x=x, shape=shape, sigma=sigma):
            y = video.as_in_file(Blur.gaussian(shape, 61, sigma)(x))
            width, out = by_sparsity(y)
            return {"true": sigma, "found": width, "rival": psnr_of(out, x)}

        def windows(clip=clip):
            long = clip_of(clip, 25)
            right = []
            for window in (1, 3, 5, 7, 9, 13):
                A = TemporalMean(tuple(long.shape), window)
                right.append(find_window(video.as_in_file(A(long))) == window)
            return {"windows right of 6": float(sum(right))}

        more = ", found only" if bench.quick else ""
        bench("blind", f"{clip}, gaussian{more}", gaussian)
        bench("blind", f"{clip}, gaussian, by sparsity and Wiener", sparsest)
        bench("blind", f"{clip}, path{more}", free)
        bench("blind", f"{clip}, gaussian, as any kernel", free_gaussian)
        bench("blind", f"{clip}, motion, as any kernel", free_motion)
        bench("blind", f"{clip}, motion{more}", motion)
        bench("blind", f"{clip}, window", windows)


def width(bench: Bench, found: dict) -> None:
    "Six Gaussian widths on each clip: how many are found within 10 %, and the largest error."
    from visionxl.extras.estimates.blind import find_blur
    from visionxl.operators.blurs import Blur

    for clip, x in found.items():

        def cell(x=x):
            errors = []
            for sigma in (1.1, 1.6, 2.2, 3.0, 3.8, 4.6):
                sigma *= 1 + 0.04 * bench.seed
                y = video.as_in_file(Blur.gaussian(tuple(x.shape), 61, sigma)(x))
                errors.append(find_blur(y, ("gaussian",)).numbers["sigma"] / sigma - 1)
            right = sum(abs(e) < 0.1 for e in errors)
            return {"right of 6": float(right), "largest error": max(errors, key=abs)}

        bench("width", f"{clip}, six widths", cell)


def likeness_of_widths(found: float, true: float) -> float:
    "Of two Gaussian kernels, by their normalised cross-correlation: an integral with an answer."
    return 2 * found * true / (found**2 + true**2)


def psnr_of(v: torch.Tensor, x: torch.Tensor) -> float:
    return metrics.psnr(metrics.to_unit(v), metrics.to_unit(x))


def restored_with(bench: Bench, x, y, A, found, sigma_found=2 / 255 / 12**0.5) -> dict:
    """PSNR of the measurement, of the result with the true operator, and with the found one, told
    of more noise where the kernel is less sure; the first alone where no network shall run.
    """
    if bench.quick:
        return {"measured": psnr_of(y, x)}
    return {
        "measured": psnr_of(y, x),
        "with the true": psnr_of(bench.restored(y, A, sigma_y=2 / 255 / 12**0.5), x),
        "with the found": psnr_of(bench.restored(y, found, sigma_y=sigma_found), x),
    }


def bent_path(n: int, seed: int, steps: int = 400) -> torch.Tensor:
    "The path of a hand as a kernel (n, n): a speed that wanders, and what it adds up to."
    g = torch.Generator().manual_seed(seed)
    speed, at, places = torch.randn(2, generator=g), torch.zeros(2), []
    for _ in range(steps):
        speed = 0.97 * speed + 0.35 * torch.randn(2, generator=g)
        at = at + 0.05 * speed
        places.append(at)
    p = torch.stack(places) - torch.stack(places).mean(0)
    p = p / p.abs().max() * (n // 2 - 1.5) + n // 2
    k = torch.zeros(n, n, dtype=torch.float64)
    for i, j in p.round().long().tolist():
        k[i, j] += 1
    return k / k.sum()


def by_sparsity(y: torch.Tensor) -> tuple[float, torch.Tensor]:
    """The width of a Gaussian, and the film that a Wiener filter makes with it, of least |slopes|_1
    over |slopes|_2 (Krishnan et al. 2011): a classical rival.
    """
    from visionxl.operators.blurs import Blur
    from visionxl.steps.consistency import proximal

    tried = {}
    mean = y.mean((-2, -1), keepdim=True).expand_as(y).contiguous()
    for width in map(float, np.geomspace(0.6, 6, 24)):
        A = Blur.gaussian(tuple(y.shape), 61, width)
        v = proximal(A, y, mean, 2e-3)
        d = v.diff(dim=-1)
        tried[width] = float(d.abs().mean() / d.square().mean().sqrt()), v
    best = min(tried, key=lambda w: tried[w][0])
    return best, tried[best][1]


def clip_of(name: str, frames: int) -> torch.Tensor:
    "A clip by its name, with another number of frames."
    if name in PIECES:
        file, start = PIECES[name]
        return video.read(video.data_dir() / "samples" / file, frames, start, SIZE, 160).x
    return at_size(default_clips()[name], SIZE, frames)


def compression(bench: Bench, found: dict) -> None:
    "H.264 at three qualities and JPEG: as decoded, restored as noise, and filtered."
    import cv2

    for clip, x in found.items():
        for name, y in {
            **{f"H.264 crf {q}": by_h264(x, q) for q in (23, 28, 35)},
            **{f"JPEG {q}": by_jpeg(x, q) for q in (30, 60)},
        }.items():
            sigma = estimate_noise(y)
            rivals = {
                "decoded": lambda y=y: y,
                "as noise": lambda y=y, s=sigma: bench.restored(
                    y, Identity(tuple(y.shape)), sigma_y=max(s, 0.01)
                ),
                "twice the noise": lambda y=y, s=sigma: bench.restored(
                    y, Identity(tuple(y.shape)), sigma_y=max(2 * s, 0.02)
                ),
                "bilateral": lambda y=y: torch.stack(
                    [from_bytes(cv2.bilateralFilter(to_bytes(f), 5, 12, 3)) for f in y]
                ),
                "deblocked by ffmpeg": lambda y=y: deblocked(y),
                "by its steps": lambda x=x, y=y, name=name: by_steps(x, y, name),
            }
            if bench.quick:
                rivals = {k: rivals[k] for k in ("decoded", "deblocked by ffmpeg", "by its steps")}
            for rival, f in rivals.items():
                bench(
                    "compression",
                    f"{clip}, {name}, {rival}",
                    lambda f=f, x=x: bench.scores(f(), x),
                )


def codec(bench: Bench, found: dict) -> None:
    "Blurred and smaller films by H.264: `best` that is told of rounding alone, and of more noise."
    from visionxl.operators.named import Chain

    lines = ("gaussian:sigma=2", "pool:factor=4", "bicubic:factor=1.5")
    for clip, x in found.items():
        x = x[:5, :, :96, :144]
        for name in (*lines, "mean:window=3,gaussian:sigma=1"):
            A = Chain(name)(tuple(x.shape))
            for crf in (10, 23):

                def cell(A=A, x=x, crf=crf):
                    y = by_h264(A(x), crf)
                    large = torch.nn.functional.interpolate(y, size=x.shape[2:], mode="bicubic")
                    told = {f"told {s}": s for s in (0.0023, 0.01, 0.02, 0.03, 0.045)}
                    rows = {k: psnr_of(bench.restored(y, A, sigma_y=s), x) for k, s in told.items()}
                    return {"measured": psnr_of(large, x)} | rows

                bench("codec", f"{clip}, {name}, crf {crf}", cell)


def by_steps(x: torch.Tensor, y: torch.Tensor, name: str) -> torch.Tensor:
    """Noise as large as the codec's steps say, shrunk along the motion; JPEG's intervals are kept.

    An H.264 clip has lost about 1.5 times the root of its quantiser's step: four pieces, crf 23 to
    35, are within a tenth of that.
    """
    from visionxl.extras.estimates.jpeg import clean_jpeg, read_jpeg
    from visionxl.extras.photographs.shrinkage import denoise_video

    if name.startswith("JPEG"):
        files = [c.tobytes() for c in jpeg_files(x, int(name.split()[-1]))]
        return clean_jpeg(y, [read_jpeg(f) for f in files])
    step = quantiser_step(h264_file(x, int(name.split()[-1])))
    return denoise_video(y, 1.5 * step**0.5 / 127.5)


def quantiser_step(data) -> float:
    "The mean step of an H.264 film, in grey levels, from what its decoder exports of each block."
    import struct

    import av

    data.seek(0)
    found = []
    with av.open(data) as box:
        box.streams.video[0].codec_context.options = {"export_side_data": "venc_params"}
        for frame in box.decode(video=0):
            for side in frame.side_data:
                if "ENC_PARAMS" not in str(side.type):
                    continue
                raw = bytes(side)
                (blocks,) = struct.unpack_from("I", raw, 0)
                offset, size = struct.unpack_from("QQ", raw, 8)
                (qp,) = struct.unpack_from("i", raw, 28)
                places = range(offset, offset + blocks * size, size)
                deltas = [struct.unpack_from("5i", raw, i)[4] for i in places]
                found.append(qp + sum(deltas) / max(1, blocks))
    return 0.625 * 2 ** (sum(found) / len(found) / 6)


def deblocked(y: torch.Tensor) -> torch.Tensor:
    "The film after ffmpeg's deblocking filter, as strong as it can be."
    import av

    graph = av.filter.Graph()
    source = graph.add_buffer(width=y.shape[-1], height=y.shape[-2], format="yuv444p")
    strong = graph.add("deblock", "filter=strong:block=8")
    sink = graph.add("buffersink")
    source.link_to(strong)
    strong.link_to(sink)
    graph.configure()
    out = []
    for f in y:
        frame = av.VideoFrame.from_ndarray(to_bytes(f), format="rgb24").reformat(format="yuv444p")
        source.push(frame)
        out.append(from_bytes(sink.pull().to_ndarray(format="rgb24")))
    return torch.stack(out)


def jpeg_files(x: torch.Tensor, quality: int) -> list:
    "Every frame as a JPEG file."
    import cv2

    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    return [cv2.imencode(".jpg", to_bytes(f)[..., ::-1], options)[1] for f in x]


def by_jpeg(x: torch.Tensor, quality: int) -> torch.Tensor:
    "Every frame as JPEG holds it."
    import cv2

    files = jpeg_files(x, quality)
    return torch.stack([from_bytes(cv2.imdecode(c, 1)[..., ::-1].copy()) for c in files])


def h264_file(x: torch.Tensor, crf: int):
    "The clip as an H.264 film."
    import io

    import av

    data = io.BytesIO()
    with av.open(data, "w", format="mp4") as box:
        stream = box.add_stream("libx264", rate=25, options={"crf": str(crf)})
        stream.width, stream.height, stream.pix_fmt = x.shape[-1], x.shape[-2], "yuv420p"
        for f in x:
            box.mux(stream.encode(av.VideoFrame.from_ndarray(to_bytes(f), format="rgb24")))
        box.mux(stream.encode())
    return data


def by_h264(x: torch.Tensor, crf: int) -> torch.Tensor:
    "The clip as H.264 holds it."
    import av

    data = h264_file(x, crf)
    data.seek(0)
    with av.open(data) as box:
        return torch.stack([from_bytes(f.to_ndarray(format="rgb24")) for f in box.decode(video=0)])


TABLES = {
    "noise": noise,
    "noise_bound": noise_bound,
    "estimate": estimate,
    "denoise": denoise,
    "denoise_plus": denoise_plus,
    "mask": mask,
    "blind": blind,
    "width": width,
    "compression": compression,
    "codec": codec,
}


def main() -> None:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("table", nargs="?", choices=list(TABLES))
    p.add_argument("--clips", choices=("sample", "test"), default="sample")
    p.add_argument("--only", help="a clip's name")
    p.add_argument("--prior", choices=("tiny", "white"), default="tiny")
    p.add_argument("--seed", type=int, default=0, help="another draw of noise, holes and blurs")
    p.add_argument("--quick", action="store_true", help="of blind and compression: no network runs")
    p.add_argument("--seconds", type=float, default=math.inf, help="stop after so long")
    p.add_argument("--show", action="store_true", help="only write the tables")
    a = p.parse_args()
    bench = Bench(a.seconds, a.prior, a.seed)
    OTHER["draw"] = a.seed
    bench.quick = a.quick
    if not a.show and a.table:
        found = {k: v for k, v in clips(a.clips).items() if a.only in (None, k)}
        TABLES[a.table](bench, found)
    bench.show()


if __name__ == "__main__":
    main()
