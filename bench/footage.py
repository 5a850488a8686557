"""Long films and large frames through the command line: memory, room for scratch, and whether one
sees where windows and tiles meet.

    python bench/footage.py 100 400 1691       restore that many frames, in pieces of --seconds
    python bench/footage.py --compare          flicker at the windows' borders against inside
    python bench/footage.py --tiles            three frames whole and in tiles
    python bench/footage.py --networks         what each network takes for one large frame

The 1,691 frames of *Tears of Steel* (CC-BY, Blender Foundation) in the data folder, of 48 rows,
are measured by `visionxl degrade --task sr` and restored by `visionxl restore`, preset `fast` with
three steps, in a process of its own, whose peak memory Linux knows (VmHWM). A call that ends early
leaves what it has done; the next call goes on. The result is written without loss (`--codec ffv1`,
8 bits), so that its size is what the scratch folder is held against. Results go to
bench/results/footage.json and .md.

Flicker is measured where two windows overlap ("border") and where they do not ("inside"). Scenes
differ, so the film is restored twice, with windows of 25 and of 33 frames: a pair of frames that
lies at a border of the one and inside of the other is the same pair of the same film.

Tiles change what the networks see. So three frames of 540x960 (*flower*, MDN, CC0) are restored
whole and in tiles, and the two results are compared where tiles share pixels and where they do not.
"""

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from visionxl import video  # noqa: E402
from visionxl.app.cli.main import main as visionxl  # noqa: E402
from visionxl.app.clips import plan_windows  # noqa: E402
from visionxl.app.scenes import scenes  # noqa: E402
from visionxl.app.tiles import TiledPrior  # noqa: E402
from visionxl.measure import metrics  # noqa: E402
from visionxl.measure.tables import markdown  # noqa: E402
from visionxl.media.cuts import find_cuts  # noqa: E402
from visionxl.prior.latent import Prior  # noqa: E402
from visionxl.prior.machine.cost import cost, without_weights  # noqa: E402
from visionxl.prior.machine.memory import Placement, in_tiles  # noqa: E402

RESULTS = Path(__file__).parent / "results" / "footage.json"
FILM = "samples/tears_of_steel_battle.webm"
ROWS, OVERLAP = 48, 8
CHEAP = ["--preset", "fast", "--set", "route.steps=3"]


def kept() -> dict:
    "What was measured before."
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return {
        "runs": {},
        "peaks": {},
        "flicker": {},
        "tiles": {},
        "networks": {},
    } | found


def keep(found: dict) -> None:
    "Write the figures and their page."
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    RESULTS.with_suffix(".md").write_text(page(found))


SECTIONS = {  # part of the figures: what its rows are called, and what is said of them
    "peaks": ("frames done", "The largest memory so far in the longest run"),
    "flicker": (
        "pairs of frames",
        "Flicker (1000 x warping error) of the same pairs of frames, at a border of windows and "
        "inside of one",
    ),
    "tiles": (
        "networks see",
        "Three frames of 540x960, the same preset: memory, and how far the result is from that of "
        "whole frames (levels of 255, root mean square and largest) where tiles share pixels and "
        "where they do not",
    ),
    "networks": (
        "prior",
        "MB that a network takes beside its weights for one frame of 768x1280, in float32 (SDXL: "
        "computed without its weights, `prior.machine.cost`; 0: it fitted into what was free "
        "already)",
    ),
}


def page(found: dict) -> str:
    "The figures as Markdown."
    runs = [{"frames": n} | r for n, r in found["runs"].items()]
    text = (
        "`python bench/footage.py`: *Tears of Steel* (CC-BY, Blender Foundation) at 48 rows, "
        "`sr`, preset `fast` with three steps, one thread, written by FFV1.\n\n"
        f"{markdown(runs, bold=False) if runs else ''}\n\n"
        "Scratch is the largest size of the folder of the unfinished run. "
        "Bytes of a pixel count the result's frames: 3 are its colours of 8 bits uncompressed.\n"
    )
    for part, (name, said) in SECTIONS.items():
        rows = [{name: k} | _row(v) for k, v in found[part].items()]
        if rows:
            text += f"\n{said}:\n\n{markdown(rows, bold=False)}\n"
    return text


def _row(value: object) -> dict:
    return value if isinstance(value, dict) else {"peak memory, MB": value}


def measured(folder: Path, frames: int) -> Path:
    "The measurement of so many frames, made once."
    out = folder / f"y{frames}.mkv"
    if not out.exists():
        film = video.data_dir() / FILM
        ask = ["--task", "sr", "--height", str(ROWS), "--frames", str(frames)]
        visionxl(["degrade", str(film), "-o", str(out), *ask])
    return out


def peak_of(pid: int) -> int:
    "The largest memory of a running process so far, in bytes."
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    words = [line.split() for line in lines if line.startswith("VmHWM")]
    return 1024 * int(words[0][1]) if words else 0


def size_of(folder: Path) -> int:
    "The bytes in a folder."
    return sum(p.stat().st_size for p in folder.glob("*") if p.is_file())


class Watched(NamedTuple):
    "What was seen of a command while it ran."

    code: int  # with which it ended
    peak: int  # its largest memory, in bytes
    room: int  # the largest size of its scratch folder, in bytes
    peaks: dict  # {frames done: the largest memory so far, in MB}


def watched(line: list, seconds: float, scratch: Path) -> Watched:
    "Run a command, and ask it to stop after a while."
    process, began, peak, room = subprocess.Popen(line), time.time(), 0, 0
    done, told, peaks = 0, 0, {}
    while process.poll() is None:
        peak = max(peak, peak_of(process.pid))
        room = max(room, size_of(scratch))
        done = max([done, *(int(p.stem.split("-")[2]) for p in scratch.glob("done-*.mkv"))])
        if done >= told + 200:
            told = done
            peaks[done] = round(peak / 1e6, 1)
            print(f"{done} frames done, peak {peak / 1e6:.0f} MB", flush=True)
        if time.time() - began > seconds:
            process.send_signal(signal.SIGTERM)
            seconds = math.inf
        time.sleep(0.1)
    return Watched(process.returncode, peak, room, peaks)


def restored(folder: Path, frames: int, chunk: int, seconds: float) -> dict | None:
    "One piece of a run; what the whole run took once it is done, else None."
    y, out = measured(folder, frames), folder / f"x{frames}_{chunk}.mkv"
    state = folder / f"x{frames}_{chunk}.json"
    so_far = {"peak": 0, "scratch": 0, "seconds": 0.0, "pieces": 0, "peaks": {}}
    if state.exists():
        so_far = json.loads(state.read_text())
    if out.exists():
        return so_far
    line = [sys.executable, "-m", "visionxl", "restore", str(y), "-o", str(out), "--resume"]
    line += [*CHEAP, "--chunk", str(chunk), "--overlap", str(OVERLAP), "--quiet"]
    line += ["--codec", "ffv1", "--bits", "8"]
    began = time.time()
    seen = watched(line, seconds, folder / f".{out.name}.unfinished")
    so_far["peak"] = max(so_far["peak"], seen.peak)
    so_far["scratch"] = max(so_far["scratch"], seen.room)
    so_far["peaks"] |= seen.peaks
    so_far["seconds"] += time.time() - began
    so_far["pieces"] += 1
    state.write_text(json.dumps(so_far))
    return so_far if seen.code == 0 else None


def row_of(folder: Path, frames: int, run: dict) -> dict:
    "One row of the table."
    out = folder / f"x{frames}_25.mkv"
    info = video.probe(out)
    pixels = info.frames * info.height * info.width
    return {
        "size": f"{info.width}x{info.height}",
        "peak memory, MB": round(run["peak"] / 1e6, 1),
        "scratch, bytes of a pixel": round(run["scratch"] / pixels, 2),
        "the result without loss in 8 bits": round(out.stat().st_size / pixels, 2),
        "seconds": round(run["seconds"]),
        "runs": run["pieces"],
    }


def borders(total: int, chunk: int, cuts: tuple) -> tuple[set, set]:
    "Pairs of frames, by their first one, where windows overlap, and all that cross no cut."
    border, every = set(), set()
    for start, end in scenes(total, cuts):
        windows = [(start + a, start + b) for a, b in plan_windows(end - start, chunk, OVERLAP)]
        every |= set(range(start, end - 1))
        for (_, before), (after, _) in zip(windows, windows[1:]):
            border |= set(range(after - 1, before))
    return border & every, every


def flicker(folder: Path, frames: int) -> dict:
    "Warping errors of the pairs that lie at a border of one run and inside of the other."
    film = video.data_dir() / FILM
    y = measured(folder, frames)
    cuts = find_cuts(video.read_frames(y))
    chunks = (25, 33)
    at = {c: borders(frames, c, cuts)[0] for c in chunks}
    every = borders(frames, 25, cuts)[1]
    wanted = sorted(every & (at[25] ^ at[33]))
    files = [video.read_frames(folder / f"x{frames}_{c}.mkv") for c in chunks]
    clean = video.read_frames(film, frames, height=ROWS)
    last, errors = None, {}
    for t, now in enumerate(zip(clean, *files)):
        h, w = (min(x.shape[i] for x in now) for i in (-2, -1))
        now = [metrics.to_unit(x[..., :h, :w]) for x in now]
        if last is not None and t - 1 in wanted:
            pairs = [(a, b) for a, b in zip(last, now)]
            errors[t - 1] = [1000 * metrics.warp_frame(pairs[0], p) for p in pairs]
        last = now
    rows = {}
    for c, index in zip(chunks, (1, 2)):
        mine = [e for t, e in errors.items() if t in at[c] and not math.isnan(e[0])]
        e = np.array(mine)
        border, inside = e[:, index], e[:, 3 - index]
        ratio = border.mean() / inside.mean()
        rows[f"{len(e)} at borders of windows of {c}"] = {
            "clean film": e[:, 0].mean(),
            "at a border": border.mean(),
            "inside": inside.mean(),
            "border / inside": ratio,
        }
    return rows


def shared(size: tuple[int, int], tile: int) -> torch.Tensor:
    "Which pixels (H, W) of a frame more than one tile covers, as `in_tiles` lays them."
    places = torch.stack(torch.meshgrid(*(torch.arange(n) for n in size), indexing="ij"))
    covered = torch.zeros(size)

    def note(v: torch.Tensor) -> torch.Tensor:
        (top, left), (bottom, right) = v[0, :, 0, 0].int().tolist(), v[0, :, -1, -1].int().tolist()
        covered[top : bottom + 1, left : right + 1] += 1
        return v

    in_tiles(note, [(places[None].float(), 1)], tile, 1)
    return covered > 1


def tiled(folder: Path) -> dict:
    "Memory of whole frames and of tiles, and how far their results are from one another."
    y = folder / "large.mkv"
    flower = video.data_dir() / "samples" / "flower.mp4"
    visionxl(["degrade", str(flower), "-o", str(y), "--task", "sr", "--frames", "3", "--overwrite"])
    rows, whole = {}, None
    for tile in (None, 256):
        out = folder / f"large_{tile}.mkv"
        line = [sys.executable, "-m", "visionxl", "restore", str(y), "-o", str(out), "--overwrite"]
        line += [*CHEAP, "--quiet", "--codec", "ffv1", "--bits", "16"]
        line += ["--tile", str(tile)] if tile else []
        seen = watched(line, math.inf, folder / "none")
        assert seen.code == 0
        x = video.read(out).x
        row = {"peak memory, MB": round(seen.peak / 1e6)}
        if tile is None:
            whole = x
        else:
            seam, off = shared(tuple(x.shape[-2:]), tile), (x - whole).abs() * 127.5
            for name, where in (("shared", seam), ("not shared", ~seam)):
                part = off[..., where]
                row[f"rms, {name}"] = round(part.square().mean().sqrt().item(), 3)
                row[f"largest, {name}"] = round(part.max().item(), 2)
        rows[f"tiles of {tile}" if tile else "whole frames"] = row
    return rows


def highest(f) -> int:
    "By how many MB the memory of this process rises while a function runs."
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_of(os.getpid())
    f()
    return round((peak_of(os.getpid()) - before) / 1e6)


def networks_alone(size: tuple[int, int] = (768, 1280), tile: int = 256) -> dict:
    "MB of each network for one frame, whole and in tiles."
    rows = {}
    for name in ("tiny", "white"):
        prior, row = Prior.load(name), {}
        for told, p in ((f"tiles of {tile}", TiledPrior(prior, tile)), ("whole", prior)):
            x = torch.zeros(1, 3, *size)
            z = p.encode(x)
            row[f"encode, {told}"] = highest(lambda p=p, x=x: p.encode(x))
            row[f"eps, {told}"] = highest(lambda p=p, z=z: p.eps(z, 180))
            row[f"decode, {told}"] = highest(lambda p=p, z=z: p.decode(z))
        rows[name] = row
    row, place = {}, Placement(torch.device("meta"), torch.float32, frames=1)
    for told, at in ((f"tiles of {tile}", (tile, tile)), ("whole", size)):
        prior = without_weights("sdxl", place)
        for verb in ("encode", "eps", "decode"):
            row[f"{verb}, {told}"] = round(cost(prior, verb, 1, at).peak / 1e6)
    return rows | {"sdxl": row}


def main() -> None:
    "Restore what is asked for, or compare."
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("frames", nargs="*", type=int)
    p.add_argument("--chunk", type=int, default=25, help="33 for the second run of --compare")
    p.add_argument("--seconds", type=float, default=150, help="of one call")
    p.add_argument("--compare", action="store_true")
    p.add_argument("--tiles", action="store_true")
    p.add_argument("--networks", action="store_true")
    p.add_argument("--folder", type=Path, default=Path("/tmp/long_film"))
    a = p.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    a.folder.mkdir(exist_ok=True)
    found = kept()
    end = time.time() + a.seconds
    for frames in a.frames:
        run = restored(a.folder, frames, a.chunk, max(20, end - time.time()))
        if run is None:
            print(f"{frames} frames: not done, call again")
            return
        if a.chunk == 25:
            found["runs"][str(frames)] = row_of(a.folder, frames, run)
            if frames == max(map(int, found["runs"])):
                found["peaks"] = run["peaks"]
            keep(found)
        print(frames, run, flush=True)
    if a.tiles:
        found["tiles"] = tiled(a.folder)
        keep(found)
        print(page(found))
    if a.networks:
        with torch.no_grad():
            found["networks"] = networks_alone()
        keep(found)
        print(page(found))
    if a.compare:
        twice = [n for n in map(int, found["runs"]) if (a.folder / f"x{n}_33.mkv").exists()]
        found["flicker"] = flicker(a.folder, max(twice))
        keep(found)
        print(page(found))


if __name__ == "__main__":
    main()
