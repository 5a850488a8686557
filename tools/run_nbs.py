"""Run notebooks from a clean kernel, keep their outputs, strip what changes from run to run.

python tools/run_nbs.py                        every notebook under nbs/
python tools/run_nbs.py nbs/04_inversion.ipynb one of them
"""

import argparse
import ast
import hashlib
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import nbformat
from jupyter_client import AsyncKernelManager, BlockingKernelClient
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent


def same_code(source: str) -> str:
    "The code of a cell without its layout and comments, so that formatting alone does not make outputs stale."
    try:
        return ast.unparse(ast.parse(source))
    except SyntaxError:  # a magic of IPython
        return source.strip()


def code_hash(cells) -> str:
    "What the code of a notebook is; kept with its outputs, so that a test can tell when they belong to other code."
    code = [same_code("".join(c["source"])) for c in cells if c["cell_type"] == "code"]
    return hashlib.sha256("\0".join(code).encode()).hexdigest()[:16]


def clean(nb) -> None:
    "Drop widget state, execution times and terminal noise; keep results, pictures and the hash of the code that made them."
    nb.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "python3", "language": "python", "name": "python3"},
            "visionxl": {"code": code_hash(nb.cells)},
        }
    )
    for c in nb.cells:
        c.metadata = nbformat.from_dict({})  # ids stay: the markers in the modules name them
        if c.cell_type != "code":
            continue
        c.execution_count = None
        keep = []
        for o in c.outputs:
            if o.output_type == "stream" and o.name == "stderr":
                continue
            if "data" in o and "application/vnd.jupyter.widget-view+json" in o.data:
                continue
            if "execution_count" in o:
                o.execution_count = None
            if "metadata" in o:
                o.metadata = nbformat.from_dict({})
            keep.append(o)
        c.outputs = keep


def nudge(km, done: threading.Event, every: float = 5.0) -> None:
    "Ask the kernel how it is, now and then: on a busy machine one that has missed its wake-up call would wait for ever."
    while not km.has_kernel and not done.wait(0.5):
        pass
    client = BlockingKernelClient(connection_file=km.connection_file)
    while not done.wait(every):
        if not client.channels_running:
            client.load_connection_file()
            client.start_channels(hb=False, stdin=False)
        client.kernel_info()
    client.stop_channels()


def run(path: Path, timeout: int) -> float:
    "Execute one notebook in place; returns the seconds taken. Nothing is written when a cell fails."
    nb, t = nbformat.read(path, as_version=4), time.time()
    with tempfile.TemporaryDirectory() as d:
        # sockets in a folder of their own: two runs at once may be given the same TCP port, and then wait for each other's kernel for ever
        where = {"transport": "ipc", "ip": f"{d}/kernel"} if os.name == "posix" else {}
        client = NotebookClient(
            nb,
            timeout=timeout,
            km=AsyncKernelManager(kernel_name="python3", **where),
            resources={"metadata": {"path": str(path.parent)}},
        )
        done = threading.Event()
        threading.Thread(target=nudge, args=(client.km, done), daemon=True).start()
        try:
            client.execute()
        finally:
            done.set()
    clean(nb)
    tmp = path.with_suffix(".ipynb.tmp")
    nbformat.write(nb, tmp)
    tmp.replace(path)
    return time.time() - t


def main() -> int:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("notebooks", nargs="*", type=Path)
    p.add_argument("--timeout", type=int, default=600, help="seconds a cell may take")
    a = p.parse_args()
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    if os.environ["MPLBACKEND"] == "Agg":
        del os.environ["MPLBACKEND"]
    failed = 0
    for nb in a.notebooks or sorted(
        q for q in (ROOT / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in q.parts
    ):
        try:
            print(f"{nb}: {run(nb.resolve(), a.timeout):.0f} s", flush=True)
        except Exception as e:
            print(f"{nb}: FAILED\n{e}", flush=True)
            failed += 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
