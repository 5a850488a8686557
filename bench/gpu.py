"""What only a card can show: agreement with the CPU, speed, memory, and what a person sees there.

    python bench/gpu.py all --out DIR                    every part, in processes of their own
    python bench/gpu.py sdxl memory                      some of them
    python bench/gpu.py all --small --device cpu         the same code in small, without a card
    python bench/gpu.py table DIR/gpu.jsonl --date DAY   the page bench/results/gpu.md of rows

A part that fails or takes too long leaves what it has found and its traceback, and the next one
begins. Rows go to DIR/gpu.jsonl as they are found, everything printed to DIR/gpu.log, and a short
table is printed last. Parts that measure no time run side by side first; among them `tests` runs
the tests of devices on the card itself (VISIONXL_CARD=1). No weights are needed: SDXL has random
ones here, made on the card.
"""

import argparse
import contextlib
import io
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]
import gpu_table  # noqa: E402

from visionxl import video  # noqa: E402
from visionxl.app.cli.main import main as visionxl  # noqa: E402
from visionxl.app.restore import restore  # noqa: E402
from visionxl.measure import metrics  # noqa: E402
from visionxl.measure.experiment.grid import NAMES  # noqa: E402
from visionxl.measure.experiment.methods import SOLVED, find_method, run_method  # noqa: E402
from visionxl.measure.perception.i3d import I3D  # noqa: E402
from visionxl.measure.perception.networks import load_lpips  # noqa: E402
from visionxl.operators.tasks import TASKS, task  # noqa: E402
from visionxl.presets import PRESETS  # noqa: E402
from visionxl.prior.latent import Prior  # noqa: E402
from visionxl.prior.machine import cost, plan  # noqa: E402
from visionxl.prior.machine.memory import Placement  # noqa: E402
from visionxl.prior.models.loading import network_class, quietly  # noqa: E402
from visionxl.solver import solve  # noqa: E402
from visionxl.steps.renoise import shared_noise, step_generator  # noqa: E402

LIMITS = {  # part: seconds after which it is stopped
    "agree": 100,
    "tests": 130,
    "memory": 160,
    "commands": 60,
    "rivals": 60,
    "runs": 60,
    "metrics": 50,
    "card": 30,
    "speed": 40,
    "traffic": 30,
    "sdxl": 300,  # the whole run of 25 frames alone takes more than a minute
    "compiled": 70,
}
# these measure time, so that nothing runs beside them; all others run at once before
ALONE = ("card", "speed", "traffic", "sdxl", "compiled")
ARITHMETIC = {  # name: dtype of prior and clip, TF32 in convolutions, TF32 in matrix products
    "float64": (torch.float64, False, False),
    "float32": (torch.float32, False, False),
    "float32 as torch sets it": (torch.float32, True, False),
    "float32, all TF32": (torch.float32, True, True),
    "bfloat16": (torch.bfloat16, True, False),
    "float16": (torch.float16, True, False),
}


@dataclass
class Run:
    "One part's surroundings: where it computes, how large, where its rows go, and until when."

    part: str
    device: torch.device
    small: bool
    out: Path
    until: float

    def row(self, **values: object) -> None:
        "Keep one row and print it."
        row = {"part": self.part} | {k: rounded(v) for k, v in values.items()}
        with open(self.out / "gpu.jsonl", "a") as f:
            f.write(json.dumps(row) + "\n")
        print("  ".join(f"{k} {v}" for k, v in row.items() if k != "part"), flush=True)

    @property
    def over(self) -> bool:
        "Whether the time is up; a part asks before each row."
        return time.monotonic() > self.until

    @contextlib.contextmanager
    def trying(self, **what: object) -> Iterator[None]:
        "A block whose failure is a row, and stops nothing else."
        try:
            yield
        except Exception as e:
            self.row(**what, error=f"{type(e).__name__}: {str(e)[:300]}")
            traceback.print_exc()

    def wait(self) -> None:
        "Until the card has done what was asked."
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def seconds(self, f: Callable, repeat: int = 5, warm: int = 2) -> float:
        "The median time of a call."
        took = []
        for i in range(warm + repeat):
            self.wait()
            began = time.perf_counter()
            f()
            self.wait()
            took.append(time.perf_counter() - began)
        return statistics.median(took[warm:])

    @contextlib.contextmanager
    def peak(self) -> Iterator[dict]:
        "A block whose time and memory stand in the dict when it is over: the peak, and before it."
        found: dict = {}
        card = self.device.type == "cuda"
        if card:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            found["GB before"] = torch.cuda.memory_allocated() / 2**30
        self.wait()
        began = time.perf_counter()
        try:
            yield found
        finally:
            self.wait()
            found["seconds"] = time.perf_counter() - began
            if card:
                found["GB peak"] = torch.cuda.max_memory_allocated() / 2**30
                found["GB reserved"] = torch.cuda.max_memory_reserved() / 2**30


def rounded(v: object) -> object:
    "A number with five digits; JSON has no infinity and no NaN."
    if isinstance(v, float):
        return float(f"{v:.5g}") if math.isfinite(v) else str(v)
    return v


def between(a: torch.Tensor, b: torch.Tensor) -> float:
    "PSNR in dB between two results in [-1, 1], not clipped; infinite for the same numbers."
    mse = (a.detach().cpu().double() - b.detach().cpu().double()).square().mean().item()
    return 10 * math.log10(4 / mse) if mse else math.inf


def clip_of(frames: int, h: int, w: int) -> torch.Tensor:
    "Frames of the sample clip at a size, (frames, 3, h, w)."
    x = video.sample("flower").x[:frames]
    return F.interpolate(x, (h, w), mode="bilinear", antialias=True).clamp(-1, 1)


@contextlib.contextmanager
def tensor_float(convolutions: bool, products: bool) -> Iterator[None]:
    "A block in which float32 may be rounded to TF32 on the card."
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    try:
        torch.backends.cudnn.allow_tf32 = convolutions
        torch.backends.cuda.matmul.allow_tf32 = products
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def last(states: Iterator) -> torch.Tensor:
    "The result of a run."
    for state in states:
        pass
    return state.x


# ------------------------------------------------------------------------------ the card itself
def card(run: Run) -> None:
    "What it is, and its two ceilings: bytes moved and operations done in a second."
    run.row(torch=torch.__version__, python=sys.version.split()[0], cpus=os.cpu_count())
    if run.device.type == "cuda":
        p = torch.cuda.get_device_properties(0)
        run.row(name=p.name, GB=p.total_memory / 2**30, cuda=torch.version.cuda)
        run.row(tf32_conv=torch.backends.cudnn.allow_tf32, cudnn=torch.backends.cudnn.version())
        run.row(tf32_matmul=torch.backends.cuda.matmul.allow_tf32)
    n = 2**20 if run.small else 2**30
    a = torch.empty(n, dtype=torch.uint8, device=run.device).random_()
    b = torch.empty_like(a)
    run.row(copy_TB_s=2 * n / run.seconds(lambda: b.copy_(a)) / 1e12)
    host = torch.empty(n, dtype=torch.uint8)
    run.row(host_to_card_GB_s=n / run.seconds(lambda: a.copy_(host), 3, 1) / 1e9)
    run.row(card_to_host_GB_s=n / run.seconds(lambda: host.copy_(a), 3, 1) / 1e9)
    side = 256 if run.small else 8192
    for name, (dtype, _, products) in ARITHMETIC.items():
        with run.trying(product=name), tensor_float(True, products):
            m = torch.randn(side, side, device=run.device).to(dtype)
            run.row(product=name, TFLOP_s=2 * side**3 / run.seconds(partial(torch.mm, m, m)) / 1e12)


# ------------------------------------------------------------------------------ the same numbers
def agree(run: Run) -> None:
    "Every preset on every task: the card's result beside the CPU's, in each precision."
    torch.set_num_threads(1 if run.small else 4)
    x = clip_of(3, 32, 48) if run.small else clip_of(5, 48, 80)
    wants: dict = {}
    for name, (dtype, *tf32) in ARITHMETIC.items():
        double = dtype == torch.float64
        inside = dtype if double else torch.float32
        here = Prior.load("tiny", device="cpu", dtype=inside)
        there = Prior.load("tiny", device=run.device, dtype=dtype)
        for preset in PRESETS:
            for kind in TASKS:
                if run.over:
                    run.row(arithmetic=name, preset=preset, task=kind, error="no time left")
                    return
                with run.trying(arithmetic=name, preset=preset, task=kind), tensor_float(*tf32):
                    A = task(kind, x.shape, window=3)
                    y = A(x.to(inside))
                    key = preset, kind, double
                    if key not in wants:
                        wants[key] = last(solve(y, A, here, preset))
                    with run.peak() as took:
                        got = last(solve(y.to(run.device), A, there, preset))
                    run.row(
                        arithmetic=name,
                        preset=preset,
                        task=kind,
                        PSNR_to_CPU=between(got, wants[key]),
                        largest=(got.cpu() - wants[key]).abs().max().item(),
                        PSNR=between(got.cpu(), x),
                        PSNR_of_CPU=between(wants[key], x),
                        finite=bool(torch.isfinite(got).all()),
                        seconds=took["seconds"],
                    )


def runs(run: Run) -> None:
    "Noise, repetition, stopping and going on, windows: on the card and from one device to another."
    z = torch.empty(2, 4, 24, 40)
    same = shared_noise(z, step_generator(3, 5))
    there = shared_noise(z.to(run.device), step_generator(3, 5))
    run.row(check="the seed's noise is the same", ok=torch.equal(same, there.cpu()))
    x = clip_of(3, 32, 48) if run.small else clip_of(9, 48, 80)
    priors = {d: Prior.load("tiny", device=d) for d in {"cpu", str(run.device)}}
    torch.set_num_threads(1 if run.small else 2)
    for preset in ("best", "paper"):
        with run.trying(check=f"{preset}: resumed"), tensor_float(False, False):
            A = task("deblur+", x.shape, window=3)
            y = A(x)
            states = {d: list(solve(y.to(d), A, p, preset, seed=1)) for d, p in priors.items()}
            whole = states[str(run.device)]
            again = last(solve(y.to(run.device), A, priors[str(run.device)], preset, seed=1))
            run.row(
                check=f"{preset}: the same run twice",
                equal=torch.equal(again, whole[-1].x),
                PSNR=between(again, whole[-1].x),
            )
            middle = whole[len(whole) // 2 - 1]
            for d, p in priors.items():
                point = middle.next._replace(z=middle.next.z.to(d))
                went_on = last(solve(y.to(d), A, p, preset, seed=1, resume=point))
                run.row(
                    check=f"{preset}: stopped on {run.device}, resumed on {d}",
                    equal=torch.equal(went_on.cpu(), whole[-1].x.cpu()),
                    PSNR=between(went_on, whole[-1].x),
                )
    for kind in ("sr", "deblur+"):
        with run.trying(check=f"{kind}: windows"), tensor_float(False, False):
            A = task(kind, x.shape, window=3)
            options = {"window": 3} if kind.endswith("+") else {}
            options |= {"chunk": 5, "overlap": 3, "progress": False}
            here, there = (
                restore(A(x), kind, prior=priors[d], **options).x for d in ("cpu", str(run.device))
            )
            run.row(check=f"{kind}: windows, PSNR to the CPU", PSNR=between(here, there))


def rivals(run: Run) -> None:
    "Every method that the tables know, on two tasks: the card's result beside the CPU's."
    torch.set_num_threads(1 if run.small else 2)
    x = clip_of(3, 24, 32) if run.small else clip_of(4, 48, 64)
    priors = {d: Prior.load("tiny", device=d) for d in ("cpu", run.device)}
    for name in NAMES:
        changes = {"route.steps": 8} if name in SOLVED and name not in ("best", "fast") else {}
        for kind in ("sr", "deblur+"):
            if run.over:
                run.row(method=name, task=kind, error="no time left")
                return
            with run.trying(method=name, task=kind), tensor_float(False, False):
                A, f, found, took = task(kind, x.shape, window=3), find_method(name), [], []
                for d, p in priors.items():
                    began = time.perf_counter()
                    found.append(run_method(f, A(x).to(d), A, p, **changes).cpu())
                    took.append(time.perf_counter() - began)
                run.row(
                    method=name,
                    task=kind,
                    PSNR_to_CPU=between(*found),
                    PSNR=between(found[1], x),
                    seconds_CPU=took[0],
                    seconds=took[1],
                )


def figures(run: Run) -> None:
    "Metrics on the card beside those on the CPU, and their time; I3D with random weights."
    torch.set_num_threads(1 if run.small else 2)
    n, h, w = (10, 32, 48) if run.small else (16, 192, 320)
    a = clip_of(n, h, w) / 2 + 0.5
    b = (a + 0.05 * torch.randn(a.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    torch.manual_seed(0)
    i3d, lpips = I3D().eval(), load_lpips()
    for p in i3d.parameters():
        if p.ndim == 5:  # as it comes, its answers would vanish
            torch.nn.init.kaiming_normal_(p, nonlinearity="relu")
    found = {
        "PSNR": metrics.psnr,
        "SSIM": metrics.ssim,
        "LPIPS": lambda p, q: float(lpips(p, q).mean()),
        "FVD, random I3D": lambda p, q: metrics.fvd(p, q, i3d),
        "warping error": metrics.warping_error,
    }
    for name, f in found.items():
        with run.trying(metric=name), torch.no_grad():
            here = f(a, b)
            u, v = a.to(run.device), b.to(run.device)
            there = float(f(u, v))
            cpu, own = (run.seconds(partial(f, *p), 1, 0) for p in ((a, b), (u, v)))
            error = abs(there - float(here)) / max(abs(float(here)), 1e-12)
            run.row(
                metric=name, CPU=float(here), card=there, relative=error, s_CPU=cpu, seconds=own
            )


# ------------------------------------------------------------------------------ what a person sees
def told(argv: list) -> tuple[int, str]:
    "The exit code of a command and the end of what it said."
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        try:
            code = visionxl(list(map(str, argv)))
        except SystemExit as e:
            code = e.code if isinstance(e.code, int) else 1
    return code, said.getvalue()


def commands(run: Run) -> None:
    "The command line on the card that it finds: a folder of PNG, a film, a page, going on."
    folder = Path(tempfile.mkdtemp())
    clean, y = folder / "clean", folder / "y"
    x = clip_of(3, 32, 48) if run.small else clip_of(12, 96, 160)
    video.write(clean, x)
    ask = ["restore", y, "--task", "deblur+", "--window", "3", "--quiet"]
    ask += ["--chunk", 9, "--overlap", 4] if not run.small else []
    for argv in (
        ["doctor"],
        ["doctor", "--plan", "25x768x1280"],
        ["degrade", clean, "-o", y, "--task", "deblur+", "--window", "3"],
        [*ask, "-o", folder / "x"],
        [*ask, "-o", folder / "fast", "--preset", "fast"],
        [*ask, "-o", folder / "paper.mkv", "--preset", "paper", "--report", folder / "page.html"],
        ["evaluate", clean, folder / "x"],
        ["demo", "-o", folder / "demo", "--frames", "9", "--quiet"],
    ):
        shown = " ".join(map(str, argv)).replace(str(folder), "")
        with run.trying(command=shown):
            began = time.perf_counter()
            code, said = told(argv)
            took = time.perf_counter() - began
            run.row(command=shown, code=code, seconds=took, said=said.strip()[-700:])


TESTS = (
    *("devices", "prior/test_prior.py", "prior/test_memory.py"),
    *("solver", "steps", "scale/test_pool.py"),
)


def tests(run: Run) -> None:
    "The tests of devices on the card, and others on the CPU of the same machine."
    args = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short", "-rfE"]
    args += [f"tests/{name}" for name in (("devices/test_models.py",) if run.small else TESTS)]
    args += [] if run.small else ["-n", "6", "--maxfail", "60"]
    env = os.environ | {"VISIONXL_CARD": "1", "OMP_NUM_THREADS": "1"}
    with open(run.out / "pytest.txt", "w") as f, run.trying(tests="all"):
        left = max(run.until - time.monotonic(), 1)
        subprocess.run(args, cwd=ROOT, env=env, stdout=f, stderr=f, timeout=left)
    lines = (run.out / "pytest.txt").read_text().strip().splitlines()
    run.row(said=lines[-1] if lines else "")
    for line in lines:
        if line.startswith(("FAILED", "ERROR")):
            run.row(failed=line[:200])


# ------------------------------------------------------------------------------ speed
PLACES = {  # name: changes of a Placement for the bundled prior
    "float32": {},
    "float32, all TF32": {"tf32": True},
    "float16": {"dtype": torch.float16, "memory_format": torch.channels_last},
    "bfloat16": {"dtype": torch.bfloat16, "memory_format": torch.channels_last},
    "bfloat16 by autocast": {"autocast": torch.bfloat16},
}


def calls(
    run: Run, prior: Prior, shape: tuple, label: str, repeat: int = 5, warm: bool = True
) -> None:
    "Seconds of each verb on a clip, all frames, and the peak of memory."
    n, h, w = shape
    x = clip_of(n, h, w).to(prior.device)
    z = torch.randn(n, *prior.latent_shape(h, w), device=prior.device)
    verbs = {
        "eps": lambda: prior.eps(z, 201),
        "encode": lambda: prior.encode(x),
        "decode": lambda: prior.decode(z),
    }
    for verb, f in verbs.items():
        if run.over:
            return
        with run.trying(prior=label, verb=verb), torch.no_grad():
            if warm:
                f()
            with run.peak() as took:
                f()
            if repeat > 1:
                took["seconds"] = run.seconds(f, repeat, 0)
            run.row(prior=label, verb=verb, frames=n, size=f"{h}x{w}", **took)


def speed(run: Run) -> None:
    "The bundled prior on 25 frames of 192x320: each verb, and whole restorations."
    shape = (3, 32, 48) if run.small else (25, 192, 320)
    for name, changes in PLACES.items():
        changes = dict(changes)
        with tensor_float(True, changes.pop("tf32", False)):
            place = replace(Placement(run.device, torch.float32), **changes)
            calls(run, Prior.load("tiny", place=place), shape, f"tiny, {name}")
    prior = Prior.load("tiny", device=run.device)
    for n in (1, 5, 25):
        prior.frames_per_batch = n
        calls(run, prior, shape, f"tiny, {n} at once", 3)
    prior = Prior.load("tiny", device=run.device)
    x = clip_of(*shape).to(run.device)
    for kind in ("sr", "deblur+"):
        A = task(kind, x.shape, window=3)
        for preset in PRESETS:
            with run.trying(whole=preset, task=kind):
                y = A(x)
                last(solve(y, A, prior, preset))
                with run.peak() as took:
                    last(solve(y, A, prior, preset))
                run.row(whole=preset, task=kind, frames=shape[0], **took)


def traffic(run: Run) -> None:
    "What crosses the border in a run, where the host waits, and how busy the card is."
    x = (clip_of(3, 32, 48) if run.small else clip_of(9, 96, 160)).to(run.device)
    prior = Prior.load("tiny", device=run.device)
    pairs = ("paper", "sr+"), ("best", "sr+"), ("best", "inpaint"), ("fast", "deblur")
    for preset, kind in pairs:
        A = task(kind, x.shape, window=3)
        y = A(x)
        last(solve(y, A, prior, preset))
        with run.trying(preset=preset, task=kind, waits=True):
            run.row(preset=preset, task=kind, waits=waits(run, y, A, prior, preset))
        with run.trying(preset=preset, task=kind):
            run.row(preset=preset, task=kind, **profile(run, y, A, prior, preset))


def waits(run: Run, *args: object) -> dict:
    "{file:line: times} where the host waits for the card in a run, the most frequent first."
    if run.device.type != "cuda":
        return {}
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            last(solve(*args))
        finally:
            torch.cuda.set_sync_debug_mode("default")
    there = [w for w in seen if "synchroniz" in str(w.message)]
    places = Counter(f"{Path(w.filename).name}:{w.lineno}" for w in there)
    return {"in all": len(there)} | dict(places.most_common(12))


def profile(run: Run, *args: object) -> dict:
    "Copies, kernels and the card's busy share in a run."
    activity = torch.profiler.ProfilerActivity
    kinds = [activity.CUDA if run.device.type == "cuda" else activity.CPU]
    with run.peak() as took:
        last(solve(*args))
    with torch.profiler.profile(activities=kinds) as seen:
        last(solve(*args))
        run.wait()
    found = {"seconds": took["seconds"], "kernels": 0, "busy_s": 0.0}
    for e in seen.events():
        if e.device_type != torch.autograd.DeviceType.CUDA:
            continue
        name = e.name.partition("(")[0].strip() if e.name.startswith("Mem") else "kernels"
        found[name] = found.get(name, 0) + 1
        found["busy_s"] += e.time_range.elapsed_us() / 1e6
    return found


def compiled(run: Run) -> None:
    "torch.compile of the bundled networks: its own time, what it gains, whether it agrees."
    shape = (3, 32, 48) if run.small else (25, 192, 320)
    backend = "eager" if run.small else "inductor"
    place = Placement(run.device, torch.float32)
    plain = Prior.load("tiny", place=place)
    prior = Prior.load("tiny", place=replace(place, compile=backend))
    x = clip_of(*shape).to(run.device)
    with torch.no_grad():
        for verb in ("eps", "encode", "decode"):
            if run.over:
                return
            with run.trying(verb=verb, backend=backend):
                z = x if verb == "encode" else plain.encode(x)
                args = (z, 201) if verb == "eps" else (z,)
                ours, fused = (partial(getattr(p, verb), *args) for p in (plain, prior))
                with run.peak() as first:
                    got = fused()
                run.row(
                    verb=verb,
                    backend=backend,
                    first_s=first["seconds"],
                    plain_s=run.seconds(ours),
                    compiled_s=run.seconds(fused),
                    PSNR=between(got, ours()),
                )


# ------------------------------------------------------------------------------ SDXL
SMALL_UNET = dict(
    block_out_channels=(32, 64, 64),
    transformer_layers_per_block=1,
    attention_head_dim=(2, 4, 4),
    cross_attention_dim=32,
    projection_class_embeddings_input_dim=6 * 256 + 64,
)
SMALL_VAE = dict(block_out_channels=(32, 32, 32, 32), layers_per_block=1)


def networks(run: Run, dtype: torch.dtype) -> tuple[torch.nn.Module, torch.nn.Module]:
    "SDXL's autoencoder and UNet with random weights, made where they compute."
    configs = {"AutoencoderKL": cost.SDXL_VAE, "UNet2DConditionModel": cost.SDXL_UNET}
    if run.small:
        configs["AutoencoderKL"] = cost.SDXL_VAE | SMALL_VAE
        configs["UNet2DConditionModel"] = cost.SDXL_UNET | SMALL_UNET
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(run.device), quietly():
            found = [network_class(name).from_config(c) for name, c in configs.items()]
    finally:
        torch.set_default_dtype(before)
    return found[0], found[1]


def stages(run: Run, prior: Prior) -> Counter:
    "Seconds of each verb, added up from now on: the prior's verbs are replaced by timed ones."
    spent: Counter = Counter()

    def timed(f: Callable, name: str) -> Callable:
        def call(*args, **options):
            run.wait()
            began = time.perf_counter()
            out = f(*args, **options)
            run.wait()
            spent[name] += time.perf_counter() - began
            return out

        return call

    for name in ("encode", "eps", "decode"):
        setattr(prior, name, timed(getattr(prior, name), name))
    return spent


def whole(run: Run, prior: Prior, preset: str, kind: str, shape: tuple, label: str) -> None:
    "One restoration, start to end: Table 4's columns, and what each verb takes of it."
    spent = stages(run, prior)
    with run.trying(whole=preset, prior=label, task=kind):
        A = task(kind, (shape[0], 3, *shape[1:]))
        y = A(clip_of(*shape).to(prior.device))
        with run.peak() as took:
            x = last(solve(y, A, prior, preset))
        run.row(
            whole=preset,
            prior=label,
            task=kind,
            frames=shape[0],
            size=f"{shape[1]}x{shape[2]}",
            minutes=took["seconds"] / 60,
            s_per_frame=took["seconds"] / shape[0],
            finite=bool(torch.isfinite(x).all()),
            **took,
            **spent,
            rest=took["seconds"] - sum(spent.values()),
        )


def sdxl(run: Run) -> None:
    "SDXL's networks on 25 frames of 768x1280: the paper's Table 4, and every way to save memory."
    shape = (2, 64, 64) if run.small else (25, 768, 1280)
    dtype = torch.float32 if run.device.type == "cpu" else torch.float16
    with run.peak() as took:
        vae, unet = networks(run, dtype)
    weights = sum(p.numel() for p in unet.parameters()) / 1e9
    run.row(made="networks", parameters_1e9=weights, **took)
    base = Placement(run.device, dtype, torch.channels_last, frames=1)
    one = replace(base, frames=1)
    calls(run, Prior(vae, unet, place=one), (2, *shape[1:]), "warm-up", 1)
    whole(run, Prior(vae, unet, place=one), "paper", "sr+", shape, "1 frame at once")
    whole(run, Prior(vae, unet, place=one), "best", "sr+", shape, "1 frame at once")
    layout = replace(one, memory_format=torch.contiguous_format)
    calls(run, Prior(vae, unet, place=layout), (4, *shape[1:]), "contiguous, 1 at once", 1)
    for way in plan.WAYS[3::-1] + plan.WAYS[4:]:
        if run.over:
            run.row(prior=str(way), error="no time left")
            continue
        with run.trying(prior=str(way)):
            prior = Prior(vae, unet, place=replace(base, **way))
            stays = not way.get("offload")  # on the card: eight frames tell as much as all
            n = min(8, shape[0]) if stays else shape[0]
            calls(run, prior, (n, *shape[1:]), str(way), 1, warm=stays)
    with run.trying(made="bfloat16"):
        vae, unet = vae.to(run.device, torch.bfloat16), unet.to(run.device, torch.bfloat16)
        place = replace(one, dtype=torch.bfloat16)
        calls(run, Prior(vae, unet, place=place), (4, *shape[1:]), "bfloat16, 1 at once", 1)


def memory(run: Run) -> None:
    "A card that is too small: what a person is told, and whether the remedies and the plan hold."
    if run.device.type != "cuda":
        run.row(said="there is no card to be made small")
        return
    total = torch.cuda.get_device_properties(0).total_memory / 2**30
    folder = Path(tempfile.mkdtemp())
    video.write(folder / "clean", clip_of(25, 192, 320))
    code, said = told(["degrade", folder / "clean", "-o", folder / "y", "--task", "inpaint"])
    if code:
        run.row(check="degrade", code=code, said=said.strip()[-400:])
    ask = ["restore", folder / "y", "--task", "inpaint", "--quiet", "--overwrite"]
    for gb, more in ((0.4, []), (0.4, ["--chunk", 5, "--overlap", 2]), (0.8, []), (1.6, [])):
        with run.trying(limit_GB=gb, command=str(more)):
            torch.cuda.empty_cache()
            torch.cuda.set_per_process_memory_fraction(gb / total)
            with run.peak() as took:
                code, said = told([*ask, "-o", folder / "x", *more])
            run.row(limit_GB=gb, more=str(more), code=code, said=said.strip()[-400:], **took)
    torch.cuda.set_per_process_memory_fraction(1.0)
    shape = (2, 64, 64) if run.small else (25, 768, 1280)
    vae, unet = networks(run, torch.float16)
    with run.trying(limit_GB=7, check="as it is"):
        torch.cuda.set_per_process_memory_fraction(7 / total)
        prior = Prior(vae, unet, place=Placement(run.device, torch.float16, frames=1))
        A = task("sr+", (shape[0], 3, *shape[1:]))
        try:
            last(solve(A(clip_of(*shape).to(run.device)), A, prior, "paper", {"route.steps": 4}))
        except Exception as e:
            run.row(limit_GB=7, place="as it is", said=f"{type(e).__name__}: {str(e)[:400]}")
    for gb in (24, 16, 12, 8, 6):
        if run.over:
            return
        with run.trying(limit_GB=gb, check="the plan"):
            p = plan.plan(shape, "sdxl", gb)
            torch.cuda.set_per_process_memory_fraction(1.0)
            prior = Prior(vae, unet, place=p.place)
            torch.cuda.empty_cache()
            torch.cuda.set_per_process_memory_fraction(gb / total)
            A = task("sr+", (shape[0], 3, *shape[1:]))
            y = A(clip_of(*shape).to(prior.device))
            with run.peak() as took:
                last(solve(y, A, prior, "paper", {"route.steps": 4}))
            way = f"frames {p.place.frames} offload {p.place.offload} host {p.place.host}"
            way += f" tile {p.place.tile}"
            run.row(limit_GB=gb, plan=way, fits=p.fits, planned_GB=p.peak / 2**30, **took)


PARTS: dict[str, Callable[[Run], None]] = {
    "agree": agree,
    "tests": tests,
    "memory": memory,
    "commands": commands,
    "rivals": rivals,
    "runs": runs,
    "metrics": figures,
    "card": card,
    "speed": speed,
    "traffic": traffic,
    "sdxl": sdxl,
    "compiled": compiled,
}


# ------------------------------------------------------------------------------ all together
def start(name: str, a: argparse.Namespace) -> subprocess.Popen:
    "One part in a process of its own, so that none can spoil another."
    args = [sys.executable, __file__, name, "--out", a.out, "--device", a.device]
    args += ["--patience", str(a.patience)]
    args += ["--small"] if a.small else []
    log = open(a.out / f".{name}.log", "w")  # noqa: SIM115
    env = os.environ | {"PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(args, stdout=log, stderr=subprocess.STDOUT, env=env, cwd=ROOT)


def finish(name: str, process: subprocess.Popen, a: argparse.Namespace, began: float) -> None:
    "Wait for a part as long as it may take; keep what it said."
    left = LIMITS[name] * a.patience - (time.monotonic() - began) + 20
    try:
        process.wait(max(left, 1))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    took = time.monotonic() - began
    log = a.out / f".{name}.log"
    with open(a.out / "gpu.log", "a") as f:
        f.write(f"\n===== {name}: {took:.0f} s, exit {process.returncode}\n{log.read_text()}")
    log.unlink()
    print(f"{name:10} {took:5.0f} s  exit {process.returncode}", flush=True)


def together(names: list[str], a: argparse.Namespace) -> None:
    "Many parts: those that measure no time at once, the others one by one; then the table."
    (a.out / "gpu.jsonl").write_text("")
    began = time.monotonic()
    beside = {n: start(n, a) for n in LIMITS if n in names and n not in ALONE}
    for name, process in beside.items():
        finish(name, process, a, began)
    for name in [n for n in LIMITS if n in names and n in ALONE]:
        finish(name, start(name, a), a, time.monotonic())
    summary(a.out / "gpu.jsonl")


def summary(path: Path) -> None:
    "A short table of what was found, the most important last; and every failure."
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows = [r for r in rows if float(r.get("PSNR_to_CPU", 0)) < 60 or r["part"] != "rivals"]
    for part in ("compiled", "speed", "traffic", "metrics", "rivals", "runs"):
        show(part, [r for r in rows if r["part"] == part and "error" not in r], 150)
    for part in ("card", "sdxl", "memory", "tests"):
        show(part, [r for r in rows if r["part"] == part and "error" not in r], 230)
    show("errors", [r for r in rows if "error" in r], 200)
    cells = [r for r in rows if r["part"] == "agree" and "PSNR_to_CPU" in r]
    print(f"\nagree: least PSNR to the CPU over tasks, dB, of {len(cells)} runs")
    for name in ARITHMETIC:
        least = {p: least_of(cells, name, p) for p in PRESETS}
        print(f"  {name:26}" + "".join(f"{p} {v:<10}" for p, v in least.items()))


def show(title: str, rows: list[dict], width: int) -> None:
    "Print rows under a title, each on one line that is cut."
    print(f"\n{title}")
    for r in rows:
        line = " ".join(f"{k}={v}" for k, v in r.items() if k != "part")
        print("  " + line.replace("\n", " ")[:width])


def least_of(cells: list[dict], arithmetic: str, preset: str) -> object:
    "The least agreement of a preset in one arithmetic."
    found = [r for r in cells if r["arithmetic"] == arithmetic and r["preset"] == preset]
    return min((float(r["PSNR_to_CPU"]) for r in found), default="-")


def main() -> None:
    "Run parts here, or all of them in processes of their own."
    if sys.argv[1:2] == ["table"]:
        gpu_table.main(sys.argv[2:])
        return
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("parts", nargs="+", choices=["all", *PARTS], help="what to run")
    p.add_argument("--out", type=Path, default=ROOT / "bench" / "results", help="for the rows")
    p.add_argument("--device", default="cuda", help="where the priors compute (cuda)")
    p.add_argument("--small", action="store_true", help="sizes at which a CPU answers")
    p.add_argument("--patience", type=float, default=1.0, help="factor on all time limits")
    a = p.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    if "all" in a.parts or len(a.parts) > 1:
        together(list(PARTS) if "all" in a.parts else a.parts, a)
        return
    name = a.parts[0]
    device = torch.device(a.device)
    device = torch.device("cuda", 0) if device.type == "cuda" else device
    until = time.monotonic() + LIMITS[name] * a.patience
    PARTS[name](Run(name, device, a.small, a.out, until))


if __name__ == "__main__":
    main()
