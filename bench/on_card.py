"""The tables of quality on a graphics card that is lent for minutes: packed here, run there.

    python bench/on_card.py pack PACK                the frames and networks that the runs need
    python bench/on_card.py run PACK --out OUT       there: cells, most important first
    python bench/on_card.py unpack OUT --pack PACK   here: what came back, as cells of quality.py
    python bench/on_card.py pages PACK               the tables whose cells are all there
    python bench/on_card.py put OUT quality_192_white    rows that were run anew, into a kept table

PACK has three folders of at most 25 MiB, which may travel one by one: `frames_192`, `frames_384`
(pictures without loss, in 8 bits) and `nets` (I3D and shift-tolerant LPIPS in half precision).
`run` shares the cells among processes on one card, since optical flow is OpenCV's and stays on the
CPU. It stops after --minutes; called again on the same folder it goes on. Cells come back in zip
files of at most 14 MiB, their pictures with loss. `pages` wants the code, the prior and the PACK
that the cells were made with, for they are part of a cell's name; it runs no cell itself. A hash of
code differs between releases of Python, so `unpack --pack` gives cells the names that they have
here: check out the commit that was sent first. `put` wants all clips of a row, and no code.
"""

import argparse
import io
import json
import multiprocessing
import sys
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import torch
from PIL import Image

BENCH = Path(__file__).resolve().parent
sys.path[:0] = [str(BENCH), str(BENCH.parent)]
import quality  # noqa: E402
from kept import write_json  # noqa: E402
from row_frames import repaint  # noqa: E402
from without_network import put_in  # noqa: E402

from visionxl.measure.clip_metrics import Networks, load_networks  # noqa: E402
from visionxl.measure.experiment.given import at_size, default_clips  # noqa: E402
from visionxl.measure.experiment.grid import Cell, Grid  # noqa: E402
from visionxl.measure.experiment.identity import package_code  # noqa: E402
from visionxl.measure.perception.i3d import load_i3d  # noqa: E402
from visionxl.measure.perception.networks import load_stlpips, stlpips_weights  # noqa: E402
from visionxl.video import to_array  # noqa: E402

FRAMES = {192: 25, 384: 10}  # short side: frames
SOLVERS = "svi_latent warped ddnm diffpir treg dps psld"
RUNS = {  # in the order of importance: options of quality.py
    "192": ["--size 192 --frames 25 --priors"],
    "384": [
        "--size 384 --frames 10 --priors --methods measured cg admm_tv motion_tv svi paper best",
    ],
    "192_solvers": [
        "--size 192 --frames 25 --priors --name solvers --tasks sr deblur "
        f"--methods measured {SOLVERS} svi paper best",
    ],
    "192_priors": ["--size 192 --frames 25 --methods best --name priors"],
    "192_seed1": [
        "--size 192 --frames 25 --priors --seed 1 --name seed1 "
        "--methods measured admm_tv svi paper best",
    ],
}
SAID = (
    "run on a card, several cells at once: seconds are those of a card that is shared, and no "
    "measure of a method's speed",
    "clips are at this size in 8 bits; I3D and ST-LPIPS have weights in half precision, which "
    "moves FVD by less than 0.01 %",
)
VIEWS = ("frame", "row", "column")
FULL = 14 << 20  # bytes of a zip file
FILES = 4  # of them come back at most


def packed(
    state: dict,  # {name: tensor}
) -> dict[str, np.ndarray]:  # bytes of float16, low ones and high ones apart, which zips better
    "Weights in half precision; vectors, which are small, in full."
    out = {}
    for name, v in state.items():
        a = v.numpy()
        if a.ndim > 1:
            pairs = a.astype("<f2")[..., None].view(np.uint8)
            a = np.ascontiguousarray(np.moveaxis(pairs, -1, 0))
        out[name] = a
    return out


def unpacked(
    file: Path,  # what `np.savez_compressed` wrote of `packed`
) -> dict:  # {name: tensor} in float32
    "The weights again."
    out = {}
    with np.load(file) as f:
        for name in f.files:
            a = f[name]
            if a.dtype == np.uint8:
                a = np.ascontiguousarray(np.moveaxis(a, 0, -1)).view("<f2")[..., 0]
            out[name] = torch.from_numpy(a.astype(np.float32))
    return out


def pack_nets(folder: Path) -> None:
    "Write I3D and ST-LPIPS as they travel."
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / "i3d.npz", **packed(load_i3d().state_dict()))
    np.savez_compressed(folder / "stlpips.npz", **packed(stlpips_weights()))


def nets_of(folder: Path) -> Networks:
    "The networks that judge, from the folder that `pack_nets` wrote."
    from safetensors.torch import save_file

    i3d = folder / "full.safetensors"
    if not i3d.exists():
        save_file(unpacked(folder / "i3d.npz"), i3d)
    nets = load_networks()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is not the file the protocol names")
        judges = {"ST-LPIPS": load_stlpips(unpacked(folder / "stlpips.npz")), "FVD": load_i3d(i3d)}
        nets.nets.update(judges)
    nets.missing.clear()
    return nets


def pack_frames(
    folder: Path,
    size: int,  # short side
    frames: int,
    clips: dict,  # {name: path}
) -> None:
    "Write clips at a size, without loss, as folders of pictures."
    for name, path in clips.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i, x in enumerate(at_size(path, size, frames)):
            picture = Image.fromarray(to_array(x))
            picture.save(folder / name / f"{i:05}.webp", lossless=True, quality=80, method=4)


def pack(a: argparse.Namespace) -> int:
    "Write all three folders, and say how large they are."
    pack_nets(a.pack / "nets")
    for size in a.sizes:
        pack_frames(a.pack / f"frames_{size}", size, FRAMES[size], default_clips(a.clips))
    for folder in sorted(f for f in a.pack.iterdir() if f.is_dir()):
        mib = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 2**20
        print(f"{folder.name}: {mib:.1f} MiB")
    return 0


def options(
    line: str,  # of RUNS
    a: argparse.Namespace,
) -> list[str]:  # for quality.py
    "A run's options with those that are common to all."
    size = line.split()[1]
    clips = ["--clips", str(a.pack / f"frames_{size}"), "--full", "--prior", a.prior]
    if "--priors" not in line:
        return [*line.split(), *clips, "--priors", *quality.PLAIN_PRIORS]
    return [*line.split(), *clips]


def cells_of(asked: argparse.Namespace, grid: Grid) -> list[Cell]:
    "The cells behind a table, task by task."
    lines, names = quality.lines_of(asked), quality.names_of(asked, grid.clips)
    fits = [(task, line) for task in asked.tasks for line in lines if line.fits(task)]
    return [line.cell(task, n, asked) for task, line in fits for n in names]


def grid_of(
    pack: Path,
    size: int,  # short side
    device: str | None,
    nets: Networks | None = None,  # None: those of the pack
    prior: str | None = None,  # of the run, whose network rows of `best` leave out
) -> Grid:
    "The grid of a size, on a device."
    grid = Grid(pack / "cells", default_clips(pack / f"frames_{size}"), say=_silent)
    grid.device = device
    grid.nets = nets or nets_of(pack / "nets")
    if prior:
        put_in(grid, prior, [*quality.PLAIN_PRIORS])
    return grid


def _silent(line: str) -> None:
    "Say nothing: the process that hands out the cells says what came of them."


_worker: dict = {}  # what a worker process keeps from one cell to the next


def begin(pack: Path, device: str, end: float, prior: str | None = None) -> None:
    "Make this process a worker."
    import cv2

    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    torch.backends.cudnn.allow_tf32 = False  # the tables are those of float32
    _worker.clear()
    _worker.update(pack=pack, device=device, end=end, prior=prior, grids={}, clips={})
    _worker["nets"] = nets_of(pack / "nets")


def clip_of(grid: Grid, cell: Cell) -> torch.Tensor:
    "A clip in memory: each is read once by each process."
    clips = _worker["clips"]
    key = cell.clip, cell.size, cell.frames
    if key not in clips:
        clips[key] = grid.clip(cell)
    return clips[key]


def work(cell: Cell) -> tuple[dict, dict, str] | None:
    "A cell's figures, its arrays and a remark; None where the time is over."
    if time.time() > _worker["end"]:
        return None
    said = ""
    for device in dict.fromkeys((_worker["device"], "cpu")):
        key = cell.size, device
        if key not in _worker["grids"]:
            where = [_worker[k] for k in ("nets", "prior")]
            _worker["grids"][key] = grid_of(_worker["pack"], cell.size, device, *where)
        grid = _worker["grids"][key]
        try:
            return (*grid.answer(cell, clip_of(grid, cell)), said)
        except Exception as e:
            said = f"{said}[{device}: {type(e).__name__}: {str(e)[:200]}]"
    return {}, {}, said


class Zips:
    "Zip files of cells, each below a size; every cell is on disk when `add` returns."

    def __init__(self, folder: Path):
        self.folder, self.number = folder, 0
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, stem: str, cell: Cell, row: dict, kept: dict) -> bool:
        "Write a cell: its figures, I3D's answers, its pictures. False where there is no room."
        while (file := self.folder / f"cells_{self.number}.zip").exists():
            if file.stat().st_size < FULL:
                break
            self.number += 1
        if self.number >= FILES:
            return False
        with ZipFile(file, "a") as z:
            z.writestr(f"{stem}.json", json.dumps({"cell": asdict(cell), "row": row}, default=str))
            z.writestr(f"{stem}.npz", _answers(kept))
            for name in VIEWS:
                z.writestr(f"{stem}.{name}.jpg", _picture(kept[name], name))
        return True


def _answers(kept: dict) -> bytes:
    "I3D's answers as a file."
    out = io.BytesIO()
    np.savez_compressed(out, **{k: v.astype(np.float32) for k, v in kept.items() if k not in VIEWS})
    return out.getvalue()


def _picture(a: np.ndarray, name: str) -> bytes:
    "A frame (C, H, W), or a row or column through time (T, C, W), as a picture."
    order = (1, 2, 0) if name == "frame" else (0, 2, 1)
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(a.transpose(order))).save(
        out, "JPEG", quality=80, subsampling=0
    )
    return out.getvalue()


def todo(a: argparse.Namespace, nets: Networks) -> Iterator[tuple[str, Cell, Path]]:
    "The cells that are missing, each once: run, cell, and where it is kept."
    seen = set()
    for name in a.runs:
        for line in RUNS[name]:
            asked = quality.asked(options(line, a) + a.more)
            grid = grid_of(a.pack, asked.size, None, nets, a.prior)
            for cell in cells_of(asked, grid):
                path = grid.path(cell)
                if path not in seen and not path.exists():
                    seen.add(path)
                    yield name, cell, path


def run(a: argparse.Namespace) -> int:
    "Run what is missing until the time is over."
    began, end = time.time(), time.time() + 60 * a.minutes
    left = list(todo(a, nets_of(a.pack / "nets")))
    print(f"code {package_code()}, torch {torch.__version__}", flush=True)
    print(f"{len(left)} cells; {a.processes} processes on {a.device}", flush=True)
    zips, there = Zips(a.out), dict.fromkeys((name for name, *_ in left), 0)
    whole = {name: sum(n == name for n, *_ in left) for name in there}
    context = multiprocessing.get_context("spawn")
    given = (a.pack, a.device, end, a.prior)
    with ProcessPoolExecutor(a.processes, context, begin, given) as pool:
        futures = {pool.submit(work, cell): (name, cell, path) for name, cell, path in left}
        for future in as_completed(futures):
            name, cell, path = futures[future]
            found = future.result()
            if found is None:
                continue
            row, kept, said = found
            if row and zips.add(path.stem, cell, row, kept):
                path.write_text("{}")
                there[name] += 1
            print(
                f"{time.time() - began:5.0f} s {name:12} {cell.task:9} {cell.clip:16} "
                f"{cell.method:10} {cell.prior:10} {row.get('PSNR', 0):6.2f} dB "
                f"{row.get('seconds', 0):6.1f} s {said}",
                flush=True,
            )
    for name, count in there.items():
        print(f"{name}: {count} of {whole[name]} cells")
    return 0


def came_back(out: Path) -> Iterator[tuple[str, Cell, dict, dict]]:
    "Cells of the zip files of a folder: name there, cell, figures, arrays."
    for file in sorted(out.glob("cells_*.zip")):
        with ZipFile(file) as z:
            for stem in [n.removesuffix(".json") for n in z.namelist() if n.endswith(".json")]:
                told = json.loads(z.read(f"{stem}.json"))
                yield stem, Cell(**told["cell"]), told["row"], _arrays(z, stem)


def unpack(a: argparse.Namespace) -> int:
    "Write what came back as the cells that quality.py looks for."
    a.cells.mkdir(parents=True, exist_ok=True)
    count, grids = 0, {}
    for stem, cell, row, kept in came_back(a.out):
        path = a.cells / f"{stem}.json"
        if a.pack:
            if cell.size not in grids:
                grids[cell.size] = grid_of(a.pack, cell.size, None, prior=a.prior)
            path = a.cells / grids[cell.size].path(cell).name
        np.savez_compressed(path.with_suffix(".npz"), **kept)
        path.write_text(json.dumps({"cell": asdict(cell), "row": row}))
        count += 1
    print(f"{count} cells in {a.cells}")
    return 0


def _arrays(z: ZipFile, stem: str) -> dict[str, np.ndarray]:
    "A cell's arrays as `Grid.keep` writes them."
    with np.load(io.BytesIO(z.read(f"{stem}.npz"))) as f:
        out = {k: f[k].astype(float) for k in f.files}
    for name in VIEWS:
        with Image.open(io.BytesIO(z.read(f"{stem}.{name}.jpg"))) as picture:
            a = np.asarray(picture.convert("RGB"))
        out[name] = a.transpose(2, 0, 1) if name == "frame" else a.transpose(0, 2, 1)
    return out


def complete(asked: argparse.Namespace, grid: Grid) -> list[str]:
    "The tasks of a table whose cells are all there."
    cells = cells_of(asked, grid)
    lost = {c.task for c in cells if not grid.path(c).exists()}
    return [t for t in asked.tasks if t not in lost]


def pages(a: argparse.Namespace) -> int:
    "Write the tables whose cells are all there, and say which are missing."
    nets = nets_of(a.pack / "nets")
    for name in a.runs:
        for line in RUNS[name]:
            given = options(line, a) + a.more
            asked = quality.asked(given)
            grid = grid_of(a.pack, asked.size, None, nets, a.prior)
            grid.folder = a.cells
            tasks = complete(asked, grid)
            print(f"{name}: {', '.join(tasks) or 'no task'} of {', '.join(asked.tasks)}")
            if tasks:
                notes = [word for said in (*a.note, *SAID) for word in ("--note", said)]
                where = ["--out", str(a.cells.parent), "--tasks", *tasks]
                quality.main([*given, *where, *notes])
    return 0


def anew(
    a: argparse.Namespace,
    kept: dict,  # the JSON of a table
) -> tuple[dict, dict]:  # {task: {line: a row for each clip}}, {task/clip: {method: frame}}
    "What came back of the experiment that a table shows. Ends where a row lacks clips."
    where, names = [kept[k] for k in ("size", "frames", "seed", "prior_name")], kept["clips"]
    rows: dict = {}
    frames: dict = {}
    for _, cell, row, arrays in came_back(a.out):
        if [cell.size, cell.frames, cell.seed, cell.prior] == where:
            if "out windows" in arrays:
                sides = [[arrays[f"{s} {k}"] for k in ("clip", "windows")] for s in ("ref", "out")]
                row["features"] = sides
            lines = rows.setdefault(cell.task, {})
            lines.setdefault(quality.line_of(cell.method), {})[cell.clip] = row
            frames.setdefault(f"{cell.task}/{cell.clip}", {})[cell.method] = arrays["frame"]
    for task, lines in rows.items():
        for line, by in lines.items():
            if lost := set(names) - set(by):
                sys.exit(f"{line.key} on {task} lacks {', '.join(sorted(lost))}: run them too")
            lines[line] = [by[n] for n in names]
    return rows, frames


def put(a: argparse.Namespace) -> int:
    "Put rows that were run anew into a kept table, with FVD and frames; then `tables.py`."
    file = a.results / f"{a.name}.json"
    kept = json.loads(file.read_text(encoding="utf-8"))
    rows, frames = anew(a, kept)
    new = {_key(r): r for r in quality.json_rows(rows, kept["clips"])}
    kept["rows"] = [new.get(_key(r), r) for r in kept["rows"]]
    kept["fvd"] |= quality.distances(rows)
    for layout, fvd in quality.of_layouts(rows, kept["clips"]).items():
        kept["fvd_of"][layout] |= fvd
    for place in set(frames) & set(kept.get("frames_of", {})):
        repaint(kept["frames_of"][place], a.results, frames[place])
    kept["notes"] = [*a.note, *[n for n in kept["notes"] if n not in a.note]]
    write_json(kept, file, "rows")
    print(f"{len(new)} rows put into {file.name}; now: python bench/tables.py")
    return 0


def _key(r: dict) -> tuple:
    "What a row of a kept table is of."
    return r["task"], r["method"], r["clip"]


def _options_of_pack(q: argparse.ArgumentParser) -> None:
    q.add_argument("--clips", help="default as bench/quality.py")
    q.add_argument("--sizes", nargs="+", type=int, choices=FRAMES, default=tuple(FRAMES))


def _options_of_runs(q: argparse.ArgumentParser) -> None:
    q.add_argument("--runs", nargs="+", choices=RUNS, default=tuple(RUNS))
    q.add_argument("--prior", default="tiny")
    q.add_argument("--more", type=str.split, default=[], help="further options, as text")


def _options_of_run(q: argparse.ArgumentParser) -> None:
    _options_of_runs(q)
    q.add_argument("--out", type=Path, required=True)
    q.add_argument("--device", default="cuda")
    q.add_argument("--processes", type=int, default=14)
    q.add_argument("--minutes", type=float, default=7)


def _options_of_unpack(q: argparse.ArgumentParser) -> None:
    q.add_argument("--cells", type=Path, default=quality.RESULTS / "quality_cells")
    q.add_argument("--pack", type=Path, help="name cells as they are named here")
    q.add_argument("--prior", help="that of the run, where rows leave its network out")


def _options_of_pages(q: argparse.ArgumentParser) -> None:
    _options_of_runs(q)
    q.add_argument("--cells", type=Path, default=quality.RESULTS / "quality_cells")
    q.add_argument("--note", action="append", default=[], help="a sentence above the table")


def _options_of_put(q: argparse.ArgumentParser) -> None:
    q.add_argument("name", help="of the kept table, as quality_192_white")
    q.add_argument("--results", type=Path, default=quality.RESULTS)
    q.add_argument("--note", action="append", default=[], help="a sentence above the table")


OPTIONS = {
    "pack": _options_of_pack,
    "run": _options_of_run,
    "unpack": _options_of_unpack,
    "pages": _options_of_pages,
    "put": _options_of_put,
}


def parser() -> argparse.ArgumentParser:
    "The command's options."
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    kinds = p.add_subparsers(required=True)
    for f in (pack, run, unpack, pages, put):
        q = kinds.add_parser(f.__name__)
        q.set_defaults(what=f)
        q.add_argument("out" if f in (unpack, put) else "pack", type=Path)
        OPTIONS[f.__name__](q)
    return p


def main(argv: list | None = None) -> int:
    "Do one of the four."
    a = parser().parse_args(argv)
    return a.what(a)


if __name__ == "__main__":
    sys.exit(main())
