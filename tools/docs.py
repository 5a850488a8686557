"""Build the site into _docs, from the notebooks as they are, without a network and without Quarto.

    python tools/docs.py            build
    python tools/docs.py --check    build, and fail on a broken link, a missing anchor or anything remote
    python tools/docs.py --sidebar  only write nbs/sidebar.yml, which Quarto reads

No notebook is run: outputs are the kept ones.
"""

import argparse
import contextlib
import functools
import io
import json
import os
import re
import shutil
import sys
import time
import warnings
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import docs_check  # noqa: E402
import docs_pages  # noqa: E402

NBS, OUT, STAGE, CACHE = (
    ROOT / "nbs",
    ROOT / "_docs",
    ROOT / "_proc" / "site",
    ROOT / "_proc" / "nbs",
)
GIT = "https://github.com/visionxl/visionxl"
COLAB = "https://colab.research.google.com/github/visionxl/visionxl/blob/main"
PARTS = (
    "Course",
    "How to",
    "Reference: videos, operators and presets",
    "Reference: the model",
    "Reference: what best adds, and rivals",
    "Reference: measuring and showing",
    "Reference: the application",
    "Training the prior",
)
FOLDERS = {  # which part a folder of nbs/reference belongs to
    "operators": 2,
    "prior": 3,
    "extras": 4,
    "compare": 4,
    "measure": 5,
    "show": 5,
    "app": 6,
}


def page_name(nb: Path) -> str:
    "The page of a notebook, relative to the site: folders kept, numbers dropped."
    rel = nb.relative_to(NBS).with_suffix("")
    return str(rel.with_name(re.sub(r"^\d+[a-z]?_", "", rel.name)))


def part(nb: Path) -> int:
    "Which part of the site a notebook belongs to."
    parts = nb.relative_to(NBS).parts
    if parts[0] != "reference":
        return {"course": 0, "howto": 1, "training": 7}[parts[0]]
    return FOLDERS.get(parts[1], 2)


@functools.cache
def notebooks() -> list[Path]:
    "Every notebook but the index, in the order in which one reads them; the quickstart comes first."
    found = sorted(
        p for p in NBS.rglob("*.ipynb") if not any(q[0] in "._" for q in p.relative_to(NBS).parts)
    )
    found = [p for p in found if p != NBS / "index.ipynb"]
    return sorted(found, key=lambda p: (part(p), str(p)))


def sections(name=page_name, suffix: str = "") -> list[tuple[str, list[str]]]:
    "The course: (title of the part, its pages)."
    found: dict[str, list[str]] = {"Start": ["index" + suffix]}
    for nb in notebooks():
        found.setdefault(PARTS[part(nb)], []).append(name(nb) + suffix)
    return list(found.items())


def write_sidebar() -> Path:
    "nbs/sidebar.yml for `nbdev_docs` where Quarto exists."
    contents = [
        {"section": title, "contents": pages}
        for title, pages in sections(lambda p: str(p.relative_to(NBS)))
    ]
    contents[0]["contents"] = [
        p if p != "index" else "index.ipynb" for p in contents[0]["contents"]
    ]
    out = NBS / "sidebar.yml"
    out.write_text(
        yaml.safe_dump({"website": {"sidebar": {"contents": contents}}}, sort_keys=False),
        encoding="utf-8",
    )
    return out


def process(nb: Path) -> dict:
    """A notebook after nbdev's own filters (hidden cells gone, names linked), from the cache when it is newer.

    Exported cells lose that flag first, so that the course shows their code; nbdev would show their signatures, which
    here stand in the reference.
    """
    from nbdev.processors import FilterDefaults
    from nbdev.serve_drv import main as filter_one

    cached = CACHE / nb.relative_to(NBS)
    if not cached.exists() or cached.stat().st_mtime < max(
        nb.stat().st_mtime, Path(__file__).stat().st_mtime
    ):
        cached.parent.mkdir(parents=True, exist_ok=True)
        raw, tmp = cached.with_suffix(".raw.ipynb"), cached.with_suffix(".tmp.ipynb")
        raw.write_text(
            json.dumps(docs_pages.shown(json.loads(nb.read_text(encoding="utf-8")))),
            encoding="utf-8",
        )
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            filter_one((raw, tmp, FilterDefaults))
        raw.unlink()
        tmp.replace(cached)
    return json.loads(cached.read_text(encoding="utf-8"))


def stage() -> list[str]:
    "Write every source of the site into STAGE; returns what went wrong, one line each."
    shutil.rmtree(STAGE, ignore_errors=True)
    STAGE.mkdir(parents=True)
    pages = {str(nb.relative_to(ROOT)): page_name(nb) for nb in notebooks()}
    problems = []
    index = [NBS / "index.ipynb"] if (NBS / "index.ipynb").exists() else []
    for nb in index + notebooks():
        try:
            cells = process(nb)
        except Exception as e:
            problems.append(
                f"{nb.relative_to(ROOT)}: not processed by nbdev: {str(e).splitlines()[0] if str(e) else type(e).__name__}"
            )
            cells = json.loads(nb.read_text(encoding="utf-8"))
        dest = STAGE / ("index.ipynb" if nb in index else page_name(nb) + ".ipynb")
        dest.parent.mkdir(parents=True, exist_ok=True)
        source = str(nb.relative_to(ROOT))
        docs_pages.page(
            cells,
            dest,
            STAGE,
            pages,
            {"colab": f"{COLAB}/{source}", "host": f"{GIT}/blob/main", "file": source},
        )
        dest.write_text(json.dumps(cells), encoding="utf-8")
    if not index:
        (STAGE / "index.qmd").write_text(
            "---\ntitle: visionxl\n---\n\nThe notebook `nbs/index.ipynb` is missing.\n",
            encoding="utf-8",
        )
    docs_pages.gallery(STAGE, ROOT)
    docs_pages.measures(STAGE, ROOT)
    if (NBS / "images").is_dir():
        shutil.copytree(NBS / "images", STAGE / "images", dirs_exist_ok=True)
    return problems


def config() -> dict:
    "The site's settings, on top of the titles in _quarto.yml."
    web = yaml.safe_load((ROOT / "_quarto.yml").read_text(encoding="utf-8"))["website"]
    contents = [
        {
            "section": t,
            "contents": [
                p + (".ipynb" if (STAGE / f"{p}.ipynb").exists() else ".qmd") for p in pages
            ],
        }
        for t, pages in sections()
    ]
    api = sorted(p.name for p in (STAGE / "api").glob("*.qmd"))
    contents += [
        {"section": "What it does", "contents": ["gallery.qmd", "measures.qmd"]},
        {"section": "Reference", "contents": [f"api/{p}" for p in api]},
    ]
    links = [
        {
            "text": "Course",
            "href": "index.ipynb" if (STAGE / "index.ipynb").exists() else "index.qmd",
        },
        {"text": "Gallery", "href": "gallery.qmd"},
        {"text": "Measures", "href": "measures.qmd"},
    ]
    if api:
        links.append(
            {
                "text": "Reference",
                "href": f"api/{'restore.qmd' if 'restore.qmd' in api else api[0]}",
            }
        )
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
            docs_pages.add_errors(f, ROOT / "visionxl")
    return []


def build() -> list[str]:
    "Stage, render, copy into OUT; returns what went wrong."
    problems = stage() + reference()
    for f in ("site.css", "favicon.svg"):
        shutil.copy(ROOT / "tools" / f, STAGE / f)
    (STAGE / "_smalldocs.yml").write_text(
        yaml.safe_dump(config(), sort_keys=False), encoding="utf-8"
    )
    from smalldocs.site import build as render

    site = render(STAGE, quiet=True)
    problems += [
        w for w in site.warnings if "output-file" not in w
    ]  # nbdev writes that key, smalldocs names pages itself
    docs_pages.own_assets(STAGE / "_site", ROOT / "tools")
    shutil.rmtree(OUT, ignore_errors=True)
    shutil.move(STAGE / "_site", OUT)
    return problems


def main() -> int:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument(
        "--check",
        action="store_true",
        help="fail on broken links, missing anchors and anything remote",
    )
    p.add_argument("--sidebar", action="store_true", help="only write nbs/sidebar.yml")
    a = p.parse_args()
    os.environ.setdefault("MPLBACKEND", "Agg")
    if a.sidebar:
        return print(write_sidebar()) or 0
    start = time.time()
    problems = build()
    problems += docs_check.check(OUT) if a.check else []
    for line in problems:
        print(line, file=sys.stderr)
    pages = len(list(OUT.rglob("*.html")))
    print(
        f"{pages} pages in {OUT.relative_to(ROOT)} ({time.time() - start:.0f} s), {len(problems)} problems; open {OUT / 'index.html'}"
    )
    return bool(problems) if a.check else 0


if __name__ == "__main__":
    sys.exit(main())
