"""Build the site into _docs, from the notebooks as they are, without a network and without Quarto.

    python tools/docs.py            build
    python tools/docs.py --check    build, and fail on a broken link or anything remote
    python tools/docs.py --sidebar  only write nbs/sidebar.yml, which Quarto reads

No notebook is run: outputs are the kept ones.
"""

import argparse
import contextlib
import io
import json
import os
import shutil
import sys
import time
import warnings
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import docs_check  # noqa: E402
import docs_command  # noqa: E402
import docs_pages  # noqa: E402
import docs_tree  # noqa: E402
from docs_tree import NBS, notebooks, page_name  # noqa: E402

OUT, STAGE, CACHE = ROOT / "_docs", ROOT / "_proc" / "site", ROOT / "_proc" / "nbs"
GIT = "https://github.com/visionxl/visionxl"
INSTALL = "%pip install -q git+https://github.com/visionxl/visionxl"
COLAB = "https://colab.research.google.com/github/visionxl/visionxl/blob/main"


def filtered(nb: Path, cached: Path) -> None:
    "Write a notebook after nbdev's own filters: hidden cells gone, names linked."
    from nbdev.processors import FilterDefaults
    from nbdev.serve_drv import main as filter_one

    cached.parent.mkdir(parents=True, exist_ok=True)
    raw, tmp = cached.with_suffix(".raw.ipynb"), cached.with_suffix(".tmp.ipynb")
    cells = json.loads(nb.read_text(encoding="utf-8"))
    source = docs_pages.shown(cells, fold=nb.parent.name == "course")
    raw.write_text(json.dumps(source), encoding="utf-8")
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        filter_one((raw, tmp, FilterDefaults))
    raw.unlink()
    tmp.replace(cached)


def process(nb: Path) -> dict:
    """A notebook after nbdev's filters, from the cache when that is newer.

    Exported cells lose that flag first, so that the course shows their code; nbdev would show their
    signatures, which here stand in the reference.
    """
    cached = CACHE / nb.relative_to(NBS)
    newest = max(nb.stat().st_mtime, Path(docs_pages.__file__).stat().st_mtime)
    if not cached.exists() or cached.stat().st_mtime < newest:
        filtered(nb, cached)
    return json.loads(cached.read_text(encoding="utf-8"))


def stage_notebook(nb: Path, pages: dict[str, str]) -> list[str]:
    "Write the source of one notebook's page into STAGE; returns what went wrong."
    problems, source = [], str(nb.relative_to(ROOT))
    try:
        cells = process(nb)
    except Exception as e:
        said = str(e).partition("\n")[0] or type(e).__name__
        problems.append(f"{source}: not processed by nbdev: {said}")
        cells = json.loads(nb.read_text(encoding="utf-8"))
    dest = STAGE / f"{page_name(nb)}.ipynb"
    dest.parent.mkdir(parents=True, exist_ok=True)
    links: dict = {"colab": f"{COLAB}/{source}", "host": f"{GIT}/blob/main", "file": source}
    links["installs"] = INSTALL in nb.read_text(encoding="utf-8")
    docs_pages.page(cells, dest, STAGE, pages, links)
    dest.write_text(json.dumps(cells), encoding="utf-8")
    return problems


def stage() -> list[str]:
    "Write every source of the site into STAGE; returns what went wrong, one line each."
    shutil.rmtree(STAGE, ignore_errors=True)
    STAGE.mkdir(parents=True)
    pages = {str(nb.relative_to(ROOT)): page_name(nb) for nb in notebooks()}
    problems = []
    for nb in [NBS / "index.ipynb", *notebooks()]:
        problems += stage_notebook(nb, pages)
    docs_pages.gallery(STAGE, ROOT)
    docs_pages.measures(STAGE, ROOT)
    docs_command.write(STAGE)
    if (NBS / "images").is_dir():
        shutil.copytree(NBS / "images", STAGE / "images", dirs_exist_ok=True)
    return problems


def api_pages() -> list:
    "The pages of the API by sub-package, for the sidebar."
    pages: dict[str, list] = {g: [] for g in docs_tree.GROUPS}
    for file in sorted((STAGE / "api").glob("*.qmd")):
        parts = docs_pages.module_of(file).split(".")
        group = parts[1] if len(parts) > 2 else ""
        pages[group].append({"text": parts[-1], "href": f"api/{file.name}"})
    return docs_tree.grouped(pages)


def config() -> dict:
    "The site's settings, on top of the titles in _quarto.yml."
    web = yaml.safe_load((ROOT / "_quarto.yml").read_text(encoding="utf-8"))["website"]
    contents = docs_tree.sidebar(lambda nb: page_name(nb) + ".ipynb", "index.ipynb")
    contents += [
        {"section": "What it does", "contents": ["gallery.qmd", "measures.qmd"]},
        {"section": "The command line", "contents": ["command_line.qmd"]},
        {"section": "Every function", "contents": api_pages()},
    ]
    first = page_name(notebooks()[0]) + ".ipynb"
    links = [
        {"text": "Course", "href": first},
        {"text": "Gallery", "href": "gallery.qmd"},
        {"text": "Measures", "href": "measures.qmd"},
        {"text": "Reference", "href": "api/solver.qmd"},
    ]
    return {
        "project": {
            "type": "website",
            "output-dir": "_site",
            "resources": ["figures/**", "players/**", "results/**", "images/**"],
        },
        "website": {
            "title": web["title"],
            "description": web["description"],
            "repo-url": GIT,
            "page-navigation": True,
            "favicon": "favicon.svg",
            "navbar": {
                "left": links,
                "right": [{"icon": "github", "text": "source", "href": GIT}],
                "background": "primary",
                "search": True,
            },
            "sidebar": {"style": "floating", "contents": contents},
            "search": {"location": "navbar"},
        },
        "theme": {"light": "cosmo", "dark": "darkly"},
        "toc": True,
        "toc-depth": 3,
        "code-copy": True,
        "css": ["site.css"],
        "linkify": True,
    }


def reference() -> list[str]:
    "API pages of every module, with the errors each function raises; returns what went wrong."
    from smalldocs import api

    try:
        with contextlib.redirect_stdout(io.StringIO()):
            api.build(api.Settings(STAGE, ["visionxl"], root=ROOT, source=f"{GIT}/blob/main"))
    except (ImportError, OSError, SyntaxError) as e:
        return [f"no reference pages: {e}"]
    for f in (STAGE / "api").glob("*.qmd"):
        if f.stem.startswith("_"):
            f.unlink()
        else:
            docs_pages.add_errors(f, ROOT)
    return []


def remember_links() -> None:
    """Let smalldocs make each link of the sidebar once for a folder.

    It looks for the link among all pages, anew on every page: 155,000 times.
    """
    from smalldocs.layout import Layout

    if hasattr(Layout.href, "known"):
        return
    make, known = Layout.href, {}

    def href(self: Layout, target: str) -> str:
        key = self.site.out, self.page.out.parent, target
        if key not in known:
            known[key] = make(self, target)
        return known[key]

    href.known = known
    Layout.href = href


def build() -> list[str]:
    "Stage, render, copy into OUT; returns what went wrong."
    problems = stage() + reference()
    for f in ("site.css", "favicon.svg"):
        shutil.copy(ROOT / "tools" / f, STAGE / f)
    settings = yaml.safe_dump(config(), sort_keys=False)
    (STAGE / "_smalldocs.yml").write_text(settings, encoding="utf-8")
    from smalldocs.site import build as render

    remember_links()
    site = render(STAGE, quiet=True)
    # nbdev writes the key output-file, smalldocs names pages itself
    problems += [w for w in site.warnings if "output-file" not in w]
    docs_pages.own_assets(STAGE / "_site", ROOT / "tools")
    shutil.rmtree(OUT, ignore_errors=True)
    shutil.move(STAGE / "_site", OUT)
    return problems


def main() -> int:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--check", action="store_true", help="fail on a problem in the built pages")
    p.add_argument("--sidebar", action="store_true", help="only write nbs/sidebar.yml")
    a = p.parse_args()
    os.environ.setdefault("MPLBACKEND", "Agg")
    if a.sidebar:
        print(docs_tree.write_sidebar())
        return 0
    start = time.time()
    problems = build()
    problems += docs_check.check(OUT) if a.check else []
    for line in problems:
        print(line, file=sys.stderr)
    pages, seconds = len(list(OUT.rglob("*.html"))), time.time() - start
    print(f"{pages} pages in {OUT.name} ({seconds:.0f} s), {len(problems)} problems")
    print(f"open {OUT / 'index.html'}")
    return int(bool(problems) and a.check)


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # nbdev leaves a shell for each notebook, and closing them takes longer than all
