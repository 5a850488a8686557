"""Run the notebooks as tests: `nbdev_test`, with figures drawn in a few pixels.

    python tools/test_nbs.py WORKERS [FLAG]    FLAG: also the cells that are marked so, e.g. slow
    python tools/test_nbs.py WORKERS --lines   lines of exported cells count as those of the module

nbdev draws each figure with twice as many pixels either way, for pages that it does not write here,
and waits a while before each notebook. A notebook runs the code of its own cells, not the module
that was written from them: to `make coverage`, which asks for --lines, it is the same code.
"""

import ast
import json
import sys
from pathlib import Path

import nbdev.test
from execnb.shell import CaptureShell
from IPython.core.compilerop import code_name

ROOT = Path(__file__).resolve().parent.parent


def plain(source: str) -> str:
    "The code of a cell without its directives."
    return "\n".join(s for s in source.splitlines() if not s.startswith("#|")).strip()


def exported(notebook: Path) -> dict[str, tuple[str, int]]:
    "Where the exported cells of a notebook stand: {code: (module's file, number of line before)}."
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    texts = {c["id"]: "".join(c["source"]) for c in cells if c["cell_type"] == "code"}
    names = [s.split()[2] for t in texts.values() for s in t.splitlines() if "| default_exp" in s]
    module = ROOT / "visionxl" / f"{names[0].replace('.', '/')}.py" if names else notebook
    if not names or not module.exists():
        return {}
    heads = {
        line.rpartition("#")[2]: number
        for number, line in enumerate(module.read_text(encoding="utf-8").splitlines(), 1)
        if line.startswith("# %% ") and ".ipynb #" in line
    }
    return {plain(t): (str(module), heads[k]) for k, t in texts.items() if k in heads}


class Coarse(CaptureShell):
    "A shell that draws each figure once, with few pixels: nobody sees it."

    def __init__(self, path: Path, **options: object):
        from matplotlib_inline.backend_inline import set_matplotlib_formats

        super().__init__(path, mpl_format="png", **options)
        set_matplotlib_formats("png", dpi=40)


class AsModule(Coarse):
    "A shell in which the code of an exported cell has the file and the lines of its module."

    def __init__(self, path: Path, **options: object):
        super().__init__(path, **options)
        self.places, self.shift = exported(Path(path)), 0
        self.compile.get_code_name = self.name_of
        self.ast_transformers.append(self)

    def name_of(self, raw: str, transformed: str, number: int) -> str:
        "The file that a cell's code counts to."
        self.shift = 0
        if plain(raw) not in self.places:  # a name for each cell: its source is looked up by it
            return code_name(transformed, number)
        name, line = self.places[plain(raw)]
        head = [s.startswith("#|") or not s.strip() for s in transformed.splitlines()]
        self.shift = line - (head.index(False) if False in head else 0)
        return name

    def visit(self, tree: ast.AST) -> ast.AST:
        "The code of a cell with the numbers of its lines in the module."
        return ast.increment_lineno(tree, self.shift)


def main() -> None:
    words = [w for w in sys.argv[1:] if w != "--lines"]
    nbdev.test.CaptureShell = AsModule if "--lines" in sys.argv else Coarse
    nbdev.test.nbdev_test.__wrapped__(
        n_workers=int(words[0]), flags=" ".join(words[1:]), timing=True, pause=0
    )


if __name__ == "__main__":
    main()
