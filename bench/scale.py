"""One worker and two: time per frame, efficiency, memory of the driver, and whether bits agree.

    python bench/scale.py             25 and 100 frames of 32x48 (two minutes)
    python bench/scale.py --full      25, 100 and 400 frames, three rounds (ten minutes)
    python bench/scale.py --parts     only where the time of one frame goes
    python bench/scale.py --folder 200   only a folder of 200 clips of two frames
    python bench/scale.py --queue     only the driver's memory with 10 and 1000 windows in line

A film is measured, then restored from file to file by processes of Ray with one thread each; one
worker and two take turns. A machine has slow spells of some seconds. They find a long run and miss
most short ones, so the fastest run of each length says nothing. In each round a short film is
restored as often as it fits into the longest one, and the median of all runs counts. Wall times
need a quiet machine, so the load is written beside them, and CPU seconds of workers and driver,
which a busy machine changes less. Efficiency is the time of one worker over twice the time of two.
Every run is kept in bench/results/scale.json at once, and scale.md is written from it: a bench that
was stopped goes on where it stood. --fresh measures everything again.
"""

import argparse
import contextlib
import hashlib
import io
import itertools
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch  # noqa: E402

from visionxl import video  # noqa: E402
from visionxl.app import windows as app_windows  # noqa: E402
from visionxl.app.cli.main import main as command  # noqa: E402
from visionxl.app.files.degrade_file import degrade_file  # noqa: E402
from visionxl.app.files.restore_file import restore_file  # noqa: E402
from visionxl.extras import motion  # noqa: E402
from visionxl.measure.tables import markdown  # noqa: E402
from visionxl.prior.latent import Prior  # noqa: E402
from visionxl.scale.cluster import RayCrew, connect  # noqa: E402
from visionxl.scale.pack import packed, unpacked  # noqa: E402
from visionxl.scale.pool import Pool  # noqa: E402

OUT = Path(__file__).resolve().parent / "results"
FEW = 8  # route.steps of clips of a folder: there the start of each is what costs
MEDIANS = ("computed", "seconds", "CPU of workers", "CPU of driver", "driver MB", "load")
WINDOWS = {"chunk": 15, "overlap": 5, "encoding": video.Encoding("ffv1")}  # 25 frames are two


def driver_mb() -> float:
    "Main memory of this process alone, in MB: what it shares with the object store is not counted."
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1e3
    raise OSError("/proc/self/status has no RssAnon: this bench needs Linux")


class Watch:
    "The largest memory of this process in a block, and its CPU seconds."

    def __enter__(self) -> "Watch":
        self.start, self.peak, self.on = driver_mb(), 0.0, True
        self.began, self.cpu = time.perf_counter(), time.process_time()
        self.thread = threading.Thread(target=self._look, daemon=True)
        self.thread.start()
        return self

    def _look(self) -> None:
        while self.on:
            self.peak = max(self.peak, driver_mb())
            time.sleep(0.02)

    def __exit__(self, *error: object) -> None:
        self.seconds = time.perf_counter() - self.began
        self.cpu = time.process_time() - self.cpu
        self.on = False
        self.thread.join()


def film(folder: Path, frames: int, size: tuple[int, int]) -> Path:
    "A measured film: the sample clip, forwards and backwards as often as needed."
    x = video.fit(video.sample("flower").x, *size)
    there_and_back = torch.cat([x, x.flip(0)])
    x = there_and_back.repeat(-(-frames // len(there_and_back)), 1, 1, 1)[:frames]
    clean, y = folder / f"clean{frames}.mkv", folder / f"y{frames}.mkv"
    video.write(clean, x, lossless=True)
    degrade_file(clean, y, "deblur")
    return y


def cpu_of(crew: RayCrew) -> float:
    "CPU seconds of the workers so far: those of the processes on this machine."
    ticks = 0
    for worker in crew.staff:
        fields = Path(f"/proc/{worker.where[1]}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def timed_run(pool: Pool, y: Path, out: Path, settings: dict) -> dict:
    "One restoration from file to file, and what it took."
    before = cpu_of(pool.crew)
    with Watch() as watch:
        done = restore_file(y, out, prior=pool, progress=False, overwrite=True, **settings)
    windows = done.plan.settings.windows(done.frames, done.plan.size)
    return {
        "frames": done.frames,
        "computed": sum(b - a for a, b in windows),
        "seconds": watch.seconds,
        "CPU of workers": cpu_of(pool.crew) - before,
        "CPU of driver": watch.cpu,
        "driver MB": watch.peak - watch.start,
        "load": os.getloadavg()[0],
        "sha256": hashlib.sha256(out.read_bytes()).hexdigest(),
    }


def runs(frames: list[int]) -> list[tuple[int, int]]:
    """The runs of a round for one number of workers, as (frames, which time), well mixed.

    A short film comes as often as it fits into the longest, spread evenly over the round.
    """
    often = {f: max(frames) // f for f in frames}
    return [
        r for _, r in sorted(((i + 0.5) / n, (f, i)) for f, n in often.items() for i in range(n))
    ]


def missing(a: argparse.Namespace, rows: list[dict]) -> list[tuple[int, int, int, int]]:
    "The runs that are not there yet, as (round, workers, frames, which time), in their order."
    have = {(r["round"], r["workers"], r["frames"], r["time"]) for r in rows}
    every = [(k, n, *run) for k in range(a.repeat) for n in (1, 2) for run in runs(a.frames)]
    return [run for run in every if run not in have]


def compare(
    a: argparse.Namespace, folder: Path, settings: dict, rows: list[dict], keep: Callable[[], None]
) -> None:
    "One worker and two in turns, on films of several lengths; new rows join `rows`."
    todo = missing(a, rows)
    if not todo:
        return
    prior = Prior.load("tiny", device="cpu")
    films = {n: film(folder, n, a.size) for n in a.frames}
    connect(workers=3, store=0.3)  # room for both crews
    with RayCrew(prior, 1, threads=1) as one, RayCrew(prior, 2, threads=1) as two:
        pools = {n: Pool(prior, crew=c, name="tiny") for n, c in ((1, one), (2, two))}
        for pool in pools.values():
            while not all(w.ready() for w in pool.crew.staff):
                time.sleep(0.1)
            timed_run(pool, films[a.frames[0]], folder / "warm.mkv", settings)
        for k, workers, frames, i in todo:
            row = timed_run(pools[workers], films[frames], folder / "x.mkv", settings)
            rows.append({"workers": workers, "round": k, "time": i} | row)
            print(rows[-1], flush=True)
            keep()


def median_run(rows: list[dict], frames: int, workers: int) -> dict:
    "Medians over all runs of this length with so many workers."
    mine = [r for r in rows if (r["frames"], r["workers"]) == (frames, workers)]
    return {k: statistics.median(r[k] for r in mine) for k in MEDIANS} | {"runs": len(mine)}


def medians(rows: list[dict]) -> list[dict]:
    "The medians of every length with one worker and two; the how-to page on scale reads them."
    pairs = sorted({(r["frames"], r["workers"]) for r in rows})
    return [{"frames": f, "workers": n} | median_run(rows, f, n) for f, n in pairs]


def summary(rows: list[dict]) -> list[dict]:
    "For each length: the time of one worker and of two, and what follows."
    out = []
    for frames in sorted({r["frames"] for r in rows}):
        usual = {n: median_run(rows, frames, n) for n in (1, 2)}
        same = len({r["sha256"] for r in rows if r["frames"] == frames}) == 1
        for n, b in usual.items():
            cpu = b["CPU of workers"] + b["CPU of driver"]
            out.append(
                {
                    "frames": str(frames),
                    "workers": str(n),
                    "runs": str(b["runs"]),
                    "seconds": f"{b['seconds']:.1f}",
                    "ms per computed frame": f"{1000 * b['seconds'] / b['computed']:.1f}",
                    "CPU ms per computed frame": f"{1000 * cpu / b['computed']:.1f}",
                    "efficiency": f"{usual[1]['seconds'] / (n * b['seconds']):.2f}",
                    "driver MB": f"{b['driver MB']:.0f}",
                    "load": f"{b['load']:.1f}",
                    "same bits": "yes" if same else "NO",
                }
            )
    return out


def verdict(rows: list[dict]) -> str:
    "What BENCH.md asks for: how flat the time of a frame is, and the efficiency of two workers."
    lengths = sorted({r["frames"] for r in rows})
    runs_of = {n: [median_run(rows, f, n) for f in lengths] for n in (1, 2)}
    said = []
    for n, mine in runs_of.items():
        each = [r["seconds"] / r["computed"] for r in mine]
        steps = [f"{b / a - 1:+.1%}" for a, b in itertools.pairwise(each)]
        said.append(f"{', '.join(steps)} with {n} worker{'s' * (n > 1)}")
    shares = [a["seconds"] / (2 * b["seconds"]) for a, b in zip(*runs_of.values(), strict=True)]
    pairs = [f"{a} to {b}" for a, b in itertools.pairwise(lengths)]
    return (
        f"From {', '.join(pairs)} frames the time of a computed frame changes by "
        f"{'; by '.join(said)}. Two workers reach "
        f"{', '.join(f'{s:.2f}' for s in shares)} of twice the speed of one."
    )


class Stages:
    "CPU seconds by stage, of functions that do not contain each other."

    def __init__(self):
        self.seconds: dict = defaultdict(float)

    def wrap(self, owner: object, name: str, stage: str) -> None:
        "Replace an attribute by its timed self."
        f = getattr(owner, name)

        def timed(*args: object, **kw: object) -> object:
            began = time.process_time()
            try:
                return f(*args, **kw)
            finally:
                self.seconds[stage] += time.process_time() - began

        setattr(owner, name, timed)


def parts(a: argparse.Namespace, folder: Path, settings: dict) -> list[dict]:
    "Where the CPU time of one frame goes: one process, one window, from file to file."
    prior, stages = Prior.load("tiny", device="cpu"), Stages()
    y = film(folder, WINDOWS["chunk"], a.size)
    for name in ("encode", "decode", "eps"):
        stages.wrap(prior, name, "networks")
    stages.wrap(motion, "estimate_motion", "motion")
    stages.wrap(app_windows, "restore_window", "windows")
    restore_file(y, folder / "parts_warm.mkv", prior=prior, progress=False, **settings)
    stages.seconds.clear()
    began = time.process_time()
    done = restore_file(y, folder / "parts.mkv", prior=prior, progress=False, **settings)
    whole = time.process_time() - began
    x = video.read(y).x
    unpacked(packed(x))  # loads what is needed
    parcel_began = time.process_time()
    for _ in range(20):
        unpacked(packed(x))
    moving = 2 * (time.process_time() - parcel_began) / 20
    s = stages.seconds
    found = {
        "networks": s["networks"],
        "motion": s["motion"],
        "consistency and the rest of the loop": s["windows"] - s["networks"] - s["motion"],
        "files": whole - s["windows"],
        "packing and unpacking frames, there and back": moving,
    }
    total = whole + moving
    return [
        {
            "part": k,
            "CPU ms per frame": f"{1000 * v / done.frames:.2f}",
            "share": f"{v / total:.1%}",
        }
        for k, v in found.items()
    ]


def queue(counts: tuple[int, ...] = (10, 1000)) -> list[dict]:
    "The driver's memory with so many windows of 25 frames of 96x160 in line."
    rows = []
    with RayCrew(0, 2, threads=1, store=0.3) as crew:
        for n in (4, *counts):  # the first round loads what is needed
            x = torch.rand(25, 3, 96, 160)
            taken = [0]

            def pieces(n: int = n, x: torch.Tensor = x, taken: list = taken):
                for i in range(n):
                    taken[0] = i + 1
                    yield (x + i,)

            ahead = 0
            with Watch() as watch:
                for i, _ in enumerate(crew.map(_answer, pieces())):
                    ahead = max(ahead, taken[0] - i)
            rows.append(
                {
                    "windows": n,
                    "MB of a window": f"{x.nbytes / 1e6:.1f}",
                    "driver's peak MB above start": f"{watch.peak - watch.start:.0f}",
                    "driver's peak MB": f"{watch.peak:.0f}",
                    "windows taken before their turn": ahead,
                    "ms for a window": f"{1000 * watch.seconds / n:.1f}",
                }
            )
    return rows[1:]


def folder_of_clips(a: argparse.Namespace, folder: Path, count: int) -> list[dict]:
    "The command on a folder of clips of two frames: without workers, then with two."
    x = video.fit(video.sample("flower").x, *a.size)
    (folder / "y").mkdir()
    for i in range(count):
        pair = x[i % len(x) :][:2]
        pair = pair if len(pair) == 2 else x[:2]
        video.write(folder / "clean.mkv", pair, lossless=True, overwrite=True)
        degrade_file(folder / "clean.mkv", folder / "y" / f"{i:03d}.mkv", "deblur")
    ask = ["restore", str(folder / "y"), "--quiet", "--codec", "ffv1"]
    ask += ["--set", f"route.steps={a.steps or FEW}", "-o"]
    rows, made = [], {}
    for said, more in (("none", []), ("2", ["--ray", "--workers", "2"])):
        out = folder / f"x{said}"
        with Watch() as watch, contextlib.redirect_stdout(io.StringIO()):
            code = command([*ask, str(out), *more])
        films = {p.name: p.read_bytes() for p in sorted(out.glob("*.mkv"))}
        made = made or films
        rows.append(
            {
                "workers": said,
                "clips": f"{len(films)} of {count}",
                "seconds": f"{watch.seconds:.0f}",
                "driver's CPU seconds": f"{watch.cpu:.0f}",
                "driver's peak MB above start": f"{watch.peak - watch.start:.0f}",
                "load": f"{os.getloadavg()[0]:.1f}",
                "exit code": str(code),
                "same bits": "yes" if films == made else "NO",
            }
        )
    return rows


def _answer(thing: int, x: torch.Tensor) -> torch.Tensor:
    "What a worker does with a window here: nearly nothing."
    return x + thing


def parser() -> argparse.ArgumentParser:
    "The command's options."
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--full", action="store_true")
    p.add_argument("--frames", type=int, nargs="+", help="lengths of the films")
    p.add_argument("--size", type=int, nargs=2, default=(32, 48), metavar=("H", "W"))
    p.add_argument("--repeat", type=int, help="rounds (2; 3 with --full)")
    p.add_argument("--steps", type=int, help="route.steps, the cost of a frame (the preset's own)")
    p.add_argument("--fresh", action="store_true", help="forget the runs that are kept")
    p.add_argument("--parts", action="store_true", help="only where the time goes")
    p.add_argument("--queue", action="store_true", help="only the driver's memory")
    p.add_argument("--folder", type=int, metavar="N", help="only a folder of N short clips")
    p.add_argument("--out", type=Path, default=OUT)
    return p


def main(argv: list | None = None) -> int:
    "Measure, print, keep."
    a = parser().parse_args(argv)
    a.frames = a.frames or ([25, 100, 400] if a.full else [25, 100])
    a.repeat = a.repeat or (3 if a.full else 2)
    torch.set_num_threads(1)
    settings = {**WINDOWS, "changes": {"route.steps": a.steps} if a.steps else {}}
    every = not (a.parts or a.queue or a.folder)
    path = a.out / "scale.json"
    kept = json.loads(path.read_text()) if path.exists() else {}
    what = {"size": list(a.size), "steps": a.steps}
    if every and (a.fresh or any(kept.get(k) != v for k, v in what.items())):
        kept = {"folder": kept["folder"]} if "folder" in kept else {}

    def keep() -> None:
        a.out.mkdir(parents=True, exist_ok=True)
        kept["medians"] = medians(kept.get("rows", []))
        path.write_text(json.dumps(kept, indent=1))
        (a.out / "scale.md").write_text(page(kept))

    with tempfile.TemporaryDirectory() as name:
        if every:
            kept |= what
            compare(a, Path(name), settings, kept.setdefault("rows", []), keep)
        if a.parts or (every and "parts" not in kept):
            kept["parts"] = parts(a, Path(name), settings)
        if a.queue or (every and "queue" not in kept):
            kept["queue"] = queue()
        if a.folder:
            kept["folder"] = folder_of_clips(a, Path(name), a.folder)
    keep()
    print(page(kept))
    return 0


def page(kept: dict) -> str:
    "What was measured, as Markdown."
    said = ["# One worker and two"]
    both = {r["frames"] for r in kept.get("rows", []) if r["workers"] == 2}
    rows = [r for r in kept.get("rows", []) if r["frames"] in both]
    if rows:
        steps = f" with route.steps={kept['steps']}" if kept["steps"] else ""
        said += [
            f"Films of {kept['size'][0]}x{kept['size'][1]}, `best`{steps}, windows of 15 frames "
            "that share 5, float32, one thread for each worker; from file to file. Medians of all "
            "runs. A frame that two windows share is computed twice.",
            markdown(summary(rows), bold=False),
            verdict(rows),
        ]
    if "parts" in kept:
        said += ["## Where the time goes", markdown(kept["parts"], bold=False)]
    if "folder" in kept:
        said += [
            "## A folder of short clips",
            "Clips of two frames, by `visionxl restore FOLDER -o OUT`, the start of workers and of "
            "Ray included.",
            markdown(kept["folder"], bold=False),
        ]
    if "queue" in kept:
        said += ["## The driver's memory", markdown(kept["queue"], bold=False)]
    return "\n\n".join(said) + "\n"


if __name__ == "__main__":
    sys.exit(main())
