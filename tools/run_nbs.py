"""Run notebooks from a clean kernel and keep their outputs, small and free of what changes by
itself.

    python tools/run_nbs.py                    those whose code has changed since their outputs
    python tools/run_nbs.py NOTEBOOK ...       these
    python tools/run_nbs.py --all              every notebook
    python tools/run_nbs.py --list             only say which outputs are stale
    python tools/run_nbs.py --shrink [NB ...]  make the kept pictures small; run nothing

A notebook that gives the same outputs as before keeps its bytes.
"""

import argparse
import ast
import hashlib
import json
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
sys.path[:0] = [str(Path(__file__).parent)]

import pictures  # noqa: E402
from docs_pages import LONG  # noqa: E402

WIDGET = "application/vnd.jupyter.widget-view+json"


def same_code(source: str) -> str:
    "The code of a cell without layout, comments and docstrings: those make no output stale."
    try:
        tree = ast.parse(source)
    except SyntaxError:  # a magic of IPython
        return source.strip()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)


def code_hash(cells: list) -> str:
    "What the code of a notebook is; kept with its outputs, so that a test can compare them."
    code = [same_code("".join(c["source"])) for c in cells if c["cell_type"] == "code"]
    return hashlib.sha256("\0".join(code).encode()).hexdigest()[:16]


def notebooks() -> list[Path]:
    "Every notebook of the repository, by its path."
    found = (ROOT / "nbs").rglob("*.ipynb")
    return sorted(p for p in found if not any(q.startswith(".") for q in p.parts))


def stale(path: Path) -> bool:
    "Whether the outputs of a notebook belong to other code than the one that it holds."
    nb = json.loads(path.read_text(encoding="utf-8"))
    return nb["metadata"].get("visionxl", {}).get("code") != code_hash(nb["cells"])


def kept(outputs: list) -> list:
    "The outputs that stay: no widget state, no terminal noise, no counts and metadata."
    found = []
    for o in outputs:
        noise = o.output_type == "stream" and o.name == "stderr"
        if noise or WIDGET in o.get("data", {}):
            continue
        if "execution_count" in o:
            o.execution_count = None
        if "metadata" in o:
            o.metadata = nbformat.from_dict({})
        found.append(o)
    return found


def is_stub(source: str) -> bool:
    "Whether a cell waits for a reader to fill it in: it is not run."
    return source.startswith("#| eval: false")


def metadata(source: str, lesson: bool) -> dict:
    """What JupyterLab is told of a cell: to hide long exports of lessons and solutions until they
    are asked for, and to run the cells after an exercise although that fails.
    """
    long_export = lesson and source.startswith("#| export") and len(source.splitlines()) > LONG + 1
    if long_export or "#| code-fold: true" in source:
        return {"jupyter": {"source_hidden": True}}
    return {"tags": ["raises-exception"]} if is_stub(source) and lesson else {}


def clean(nb: nbformat.NotebookNode, lesson: bool) -> None:
    "Drop what a run changes by itself; keep results, pictures and the hash of their code."
    kernel = {"display_name": "python3", "language": "python", "name": "python3"}
    meta = {"kernelspec": kernel, "visionxl": {"code": code_hash(nb.cells)}}
    nb.metadata = nbformat.from_dict(meta)
    for c in nb.cells:
        code = c.source if c.cell_type == "code" else ""
        # ids stay: the markers in the modules name them
        c.metadata = nbformat.from_dict(metadata(code, lesson))
        if c.cell_type == "code":
            c.execution_count = None
            c.outputs = kept(c.outputs)


def nudge(km: AsyncKernelManager, done: threading.Event, every: float = 5.0) -> None:
    """Ask the kernel how it is, now and then.

    On a busy machine a kernel that has missed its wake-up call would wait for ever.
    """
    while not km.has_kernel and not done.wait(0.5):
        pass
    client = BlockingKernelClient(connection_file=km.connection_file)
    while not done.wait(every):
        if not client.channels_running:
            client.load_connection_file()
            client.start_channels(hb=False, stdin=False)
        client.kernel_info()
    client.stop_channels()


def execute(nb: nbformat.NotebookNode, folder: Path, timeout: int) -> None:
    "Run the cells of a notebook in a kernel of their own."
    with tempfile.TemporaryDirectory() as d:
        # Sockets in a folder of their own: two runs at once may be given the same TCP port,
        # and then each waits for the other's kernel for ever.
        where = {"transport": "ipc", "ip": f"{d}/kernel"} if os.name == "posix" else {}
        client = NotebookClient(
            nb,
            timeout=timeout,
            km=AsyncKernelManager(kernel_name="python3", **where),
            resources={"metadata": {"path": str(folder)}},
        )
        done = threading.Event()
        threading.Thread(target=nudge, args=(client.km, done), daemon=True).start()
        try:
            client.execute()
        finally:
            done.set()


def write(nb: nbformat.NotebookNode, path: Path) -> bool:
    "Write a notebook at once or not at all; False when the file holds it already."
    text = nbformat.writes(nb) + "\n"
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    tmp = path.with_suffix(".ipynb.tmp")
    tmp.write_text(text, encoding="utf-8")
    tmp.replace(path)
    return True


def run(path: Path, timeout: int) -> str:
    "Execute one notebook in place; says what came of it. Nothing is written when a cell fails."
    before, start = nbformat.read(path, as_version=4), time.time()
    nb = nbformat.read(path, as_version=4)
    for c in nb.cells:
        if c.cell_type == "code" and is_stub(c.source):
            c.outputs, c.metadata.tags = [], ["skip-execution"]
    execute(nb, path.parent, timeout)
    clean(nb, lesson=path.parent.name == "course")
    pictures.shrink_outputs(nb.cells)
    pictures.keep_same(nb.cells, before.cells)
    changed = "new outputs" if write(nb, path) else "as before"
    return f"{time.time() - start:.0f} s, {changed}"


def shrink(path: Path) -> str:
    "Make the kept pictures of one notebook small; says what that saved."
    nb = nbformat.read(path, as_version=4)
    saved = pictures.shrink_outputs(nb.cells)
    write(nb, path)
    return f"{path.stat().st_size / 1e3:.0f} kB, {saved / 1e3:.0f} kB saved"


def use_inline_figures() -> None:
    "Figures of a kernel belong into the notebook, whatever backend `make` has asked for."
    if os.environ.get("MPLBACKEND") == "Agg":
        del os.environ["MPLBACKEND"]
    else:
        os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")


def main() -> int:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("notebooks", nargs="*", type=Path, help="default: the stale ones")
    p.add_argument("--all", action="store_true", help="every notebook")
    p.add_argument("--list", action="store_true", help="name the stale ones; run nothing")
    p.add_argument("--shrink", action="store_true", help="make kept pictures small; run nothing")
    p.add_argument("--stale", action="store_true", help="the default, said aloud")
    p.add_argument("--timeout", type=int, default=600, help="seconds a cell may take")
    a = p.parse_args()
    chosen = [nb.resolve() for nb in a.notebooks] or notebooks()
    if a.stale or a.list or not (a.notebooks or a.all or a.shrink):
        chosen = [nb for nb in chosen if stale(nb)]
    if a.list:
        print("\n".join(str(nb.relative_to(ROOT)) for nb in chosen))
        return int(bool(chosen))
    use_inline_figures()
    failed = 0
    for nb in chosen:
        name = nb.relative_to(ROOT)
        try:
            print(f"{name}: {shrink(nb) if a.shrink else run(nb, a.timeout)}", flush=True)
        except Exception as e:
            print(f"{name}: FAILED\n{e}", flush=True)
            failed += 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
