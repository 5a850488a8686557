"""Run notebooks in a clean process and keep their outputs, small and free of what changes by
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
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(Path(__file__).parent)]

import pictures  # noqa: E402
from docs_pages import LONG, only_imports  # noqa: E402

SHELL = str(Path(__file__).with_name("nb_shell.py"))
WIDGET = "application/vnd.jupyter.widget-view+json"


class ChildDied(RuntimeError):
    "The process of a notebook ended without a word: most often there was no memory left."


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


def imports(source: str) -> bool:
    "Whether an exported cell does no more than import."
    try:
        return source.startswith("#| export") and only_imports(ast.parse(source).body)
    except SyntaxError:
        return False


def metadata(source: str, lesson: bool) -> dict:
    """What JupyterLab is told of a cell: to hide set-up, long exports and solutions of lessons
    until they are asked for, and to run the cells after an exercise although that fails.
    """
    long_export = source.startswith("#| export") and len(source.splitlines()) > LONG + 1
    setup = source.startswith(("#| hide", "#| default_exp")) or imports(source)
    if "#| code-fold: true" in source or (lesson and (long_export or setup)):
        return {"jupyter": {"source_hidden": True}}
    return {"tags": ["raises-exception"]} if is_stub(source) and lesson else {}


def clean(nb: nbformat.NotebookNode, lesson: bool) -> None:
    "Drop what a run changes by itself; keep results, pictures and the hash of their code."
    kernel = {"display_name": "python3", "language": "python", "name": "python3"}
    meta = {"kernelspec": kernel, "visionxl": {"code": code_hash(nb.cells)}}
    nb.metadata = nbformat.from_dict(meta)
    fold(nb, lesson)
    for c in nb.cells:
        if c.cell_type == "code":
            c.execution_count = None
            c.outputs = kept(c.outputs)


def fold(nb: nbformat.NotebookNode, lesson: bool) -> None:
    "Tell JupyterLab which cells to fold; ids stay, since markers in the modules name them."
    for c in nb.cells:
        code = c.source if c.cell_type == "code" else ""
        c.metadata = nbformat.from_dict(metadata(code, lesson))


def wait(child: subprocess.Popen, timeout: float) -> str | None:
    """Wait for a child that prints a line before each cell; None when it ended by itself.

    A child that says nothing for `timeout` seconds is stopped: then where it stood is returned.
    """
    heard = [time.time(), "start"]

    def listen() -> None:
        for line in child.stdout or ():
            heard[:] = time.time(), line.strip()

    threading.Thread(target=listen, daemon=True).start()
    while child.poll() is None:
        if time.time() - heard[0] > timeout:
            child.send_signal(signal.SIGABRT)  # faulthandler then says where each thread is
            time.sleep(1)
            child.kill()
            child.wait()
            return str(heard[1])
        time.sleep(0.05)
    return None


def execute(nb: nbformat.NotebookNode, folder: Path, timeout: float) -> None:
    "Run the cells of a notebook in a process of their own and put their outputs into it."
    where = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, where))}
    if env.get("MPLBACKEND") == "Agg":  # as `make` asks: figures belong into the notebook
        del env["MPLBACKEND"]
    with tempfile.TemporaryDirectory() as d, open(Path(d) / "log", "w+") as log:
        source, target = Path(d) / "notebook.ipynb", Path(d) / "outputs.json"
        source.write_text(nbformat.writes(nb), encoding="utf-8")
        child = subprocess.Popen(
            [sys.executable, SHELL, str(source), str(target)],
            cwd=folder,
            env=env,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        stopped_at = wait(child, timeout)
        log.seek(0)
        said = log.read()[-2000:]
        if stopped_at:
            raise TimeoutError(f"{stopped_at} took over {timeout:g} s (--timeout)\n{said}")
        if not target.exists():
            raise ChildDied(f"the process ended with code {child.returncode}\n{said}")
        found = json.loads(target.read_text(encoding="utf-8"))
    if found["error"]:
        raise RuntimeError(found["error"])
    for number, outputs in found["outputs"].items():
        nb.cells[int(number)].outputs = [nbformat.from_dict(o) for o in outputs]


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
    try:
        execute(nb, path.parent, timeout)
    except ChildDied as e:
        print(f"{path.name}: {e}\nonce more", flush=True)
        execute(nb, path.parent, timeout)
    clean(nb, lesson=path.parent.name == "course")
    webps = not pictures.on_github(path)
    pictures.shrink_outputs(nb.cells, webps=webps)
    pictures.keep_same(nb.cells, before.cells, webps)
    changed = "new outputs" if write(nb, path) else "as before"
    return f"{time.time() - start:.0f} s, {changed}"


def shrink(path: Path) -> str:
    "Make the kept pictures of one notebook small; says what that saved."
    nb = nbformat.read(path, as_version=4)
    webps = not pictures.on_github(path)
    saved = pictures.shrink_outputs(nb.cells, old=True, webps=webps)
    fold(nb, lesson=path.parent.name == "course")
    write(nb, path)
    return f"{path.stat().st_size / 1e3:.0f} kB, {saved / 1e3:.0f} kB saved"


def main() -> int:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("notebooks", nargs="*", type=Path, help="default: the stale ones")
    p.add_argument("--all", action="store_true", help="every notebook")
    p.add_argument("--list", action="store_true", help="name the stale ones; run nothing")
    p.add_argument("--shrink", action="store_true", help="shrink pictures, fold cells; run nothing")
    p.add_argument("--stale", action="store_true", help="the default, said aloud")
    p.add_argument("--timeout", type=int, default=600, help="seconds a cell may take")
    a = p.parse_args()
    chosen = [nb.resolve() for nb in a.notebooks] or notebooks()
    if a.stale or a.list or not (a.notebooks or a.all or a.shrink):
        chosen = [nb for nb in chosen if stale(nb)]
    if a.list:
        print("\n".join(str(nb.relative_to(ROOT)) for nb in chosen))
        return int(bool(chosen))
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
