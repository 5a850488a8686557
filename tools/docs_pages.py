"""What tools/docs.py does to single pages: figures with alternative texts, links, the gallery, the
measures, our own assets.
"""

import ast
import base64
import html
import json
import os
import re
import shutil
import struct
from pathlib import Path

from ground import clear_ground

LONG = 15  # lines of exported code that a lesson shows unfolded
MIMES = {"image/png": "png", "image/webp": "webp", "image/jpeg": "jpg", "image/gif": "gif"}


def text_of(value) -> str:
    "A notebook's text, which may be a list of lines."
    return "".join(value) if isinstance(value, list) else value


def png_width(data: bytes) -> str:
    "` width=.. height=..` of a PNG, so that a page does not jump while it loads."
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        return ""
    w, h = struct.unpack(">II", data[16:24])
    return f' width="{w}" height="{h}"'


def figure(data: dict, alt: str, path: Path, to_root: str) -> dict:
    "An output of a picture as a figure that stands in a file of its own."
    mime = next(m for m in MIMES if m in data)
    raw = base64.b64decode(text_of(data[mime]))
    if mime == "image/jpeg":  # a white sheet on a dark page
        raw, mime = clear_ground(raw), "image/webp"
    path = path.with_suffix("." + MIMES[mime])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)
    caption = f"<figcaption>{html.escape(alt)}</figcaption>" if alt else ""
    img = (
        f'<img src="{to_root}figures/{path.name}" alt="{html.escape(alt, quote=True)}" '
        f'class="img-fluid" loading="lazy"{png_width(raw)}>'
    )
    return {
        "output_type": "display_data",
        "metadata": {},
        "data": {"text/html": f'<figure class="figure">{img}{caption}</figure>'},
    }


def first_line(outputs: list, k: int) -> str:
    """The line printed right after output `k`, taken out of the outputs: it is the figure's
    alternative text.
    """
    if k + 1 >= len(outputs) or outputs[k + 1].get("output_type") != "stream":
        return ""
    head, _, rest = text_of(outputs[k + 1]["text"]).partition("\n")
    outputs[k + 1]["text"] = rest
    return head.strip()


def outputs(cell: dict, stem: str, stage: Path, to_root: str) -> None:
    "Pictures into figures, in place; text that was their caption goes with them."
    outs = cell.get("outputs", [])
    for k, o in enumerate(outs):
        if any(m in o.get("data", {}) for m in MIMES):
            outs[k] = figure(
                o["data"], first_line(outs, k), stage / "figures" / f"{stem}-{k}", to_root
            )
    cell["outputs"] = [
        o for o in outs if o.get("output_type") != "stream" or text_of(o["text"]).strip()
    ]


def relink(text: str, pages: dict, here: Path, stage: Path, links: dict) -> str:
    """Links to notebooks by their file names become links to their pages, links to other files of
    the repository go to its host.
    """

    def new(m):
        target, tail = m[1], m[2] or ""
        target = re.sub(r"\.html$", ".ipynb", target)
        file = os.path.normpath(f"{os.path.dirname(links['file'])}/{target}")
        alike = [v for k, v in pages.items() if k.endswith("/" + target.rsplit("/", 1)[-1])]
        if file == "nbs/index.ipynb":
            page = "index"
        elif file in pages:
            page = pages[file]
        elif len(alike) == 1:  # a link made by nbdev, which writes them from its own folder
            page = alike[0]
        else:
            own = file.startswith(("nbs/images/", ".."))
            return m[0] if own else f"]({links['host']}/{file}{tail})"
        return f"]({os.path.relpath(stage / page, here.parent)}.ipynb{tail})"

    return re.sub(r"\]\((?![a-z]+:|/|#)([^()\s#]+)(#[^()\s]*)?\)", new, text)


def terms_as_headings(text: str) -> str:
    "The glossary with a heading for each term, so that the search leads to it."
    term = r'<a id="([\w-]+)"></a>\*\*(.+?)(?: (\([^\n]+?\)))?\.\*\* '
    return re.sub(term, lambda m: f"### {m[2]} {{#{m[1]}}}\n\n{m[3] or ''} ", text)


def page(nb: dict, dest: Path, stage: Path, pages: dict, links: dict) -> None:
    "Prepare one processed notebook for rendering, in place."
    to_root = "../" * (len(dest.relative_to(stage).parts) - 1)
    stem = str(dest.relative_to(stage).with_suffix("")).replace("/", "-")
    for n, cell in enumerate(nb["cells"]):
        if cell["cell_type"] == "code":
            outputs(cell, f"{stem}-{n}", stage, to_root)
            for data in (o.get("data", {}) for o in cell["outputs"]):
                if said := text_of(data.get("text/markdown", "")):
                    data["text/markdown"] = relink(said, pages, dest, stage, links)
        if cell["cell_type"] == "markdown":
            cell["source"] = relink(text_of(cell["source"]), pages, dest, stage, links)
            if links["file"].endswith("/glossary.ipynb"):
                cell["source"] = terms_as_headings(cell["source"])
    said = "".join(c["source"] for c in nb["cells"][:4] if c["cell_type"] == "markdown")
    if links["colab"] in said:  # a lesson has its own links, in the box at its head
        return
    # without an install line the first import would fail there: Colab has no visionxl
    there = f'<a href="{links["colab"]}">open in Colab</a> ' if links["installs"] else ""
    bar = f'<p class="open">{there}<a href="{links["host"]}/{links["file"]}">notebook</a></p>'
    at = next(
        (n + 1 for n, c in enumerate(nb["cells"]) if c["cell_type"] in ("raw", "markdown")), 0
    )
    nb["cells"].insert(
        at, {"cell_type": "markdown", "metadata": {}, "source": f"```{{=html}}\n{bar}\n```"}
    )


def markdown(source: str) -> dict:
    "A cell of text."
    return {"cell_type": "markdown", "metadata": {}, "source": source}


def split_head(cell: dict) -> list[dict]:
    "The first text of a notebook as two cells: title and first claim, which nbdev keeps, and rest."
    text = text_of(cell["source"])
    head = re.match(r"\s*# .*\n(\s*> .*\n)?", text + "\n")
    if not head or not text[head.end() :].strip():
        return [cell]
    rest = re.sub(r"\A(> .*\n?)+", lambda m: m[0].replace("> ", ""), text[head.end() :].lstrip())
    return [cell | {"source": head[0].strip()}, markdown(rest)]


def folded(code: str, names: list[str]) -> str:
    "Long code of a lesson: the site shows it when it is asked for."
    what = ", ".join(names) or "this step"
    summary = f"The code of {what} ({len(code.splitlines())} lines)"
    return f'#| code-fold: true\n#| code-summary: "{summary}"\n{code}'


def only_imports(body: list[ast.stmt]) -> bool:
    "Whether code does no more than import names and pass them on."
    passed_on = [n for n in body if isinstance(n, ast.Assign | ast.AugAssign)]
    targets = [t for n in passed_on for t in getattr(n, "targets", [getattr(n, "target", None)])]
    others = [n for n in body if not isinstance(n, ast.Import | ast.ImportFrom)]
    return len(others) == len(passed_on) and all(ast.unparse(t) == "_all_" for t in targets)


def plain_export(cell: dict, fold: bool) -> list[dict]:
    "An exported cell as a plain one, followed by links to what it defines; imports are left out."
    code = text_of(cell["source"]).partition("\n")[2]
    cell = cell | {"source": code}
    try:
        body = ast.parse(code).body
    except SyntaxError:
        return [cell]
    if only_imports(body):
        return []
    names = [n.name for n in body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    if fold and len(code.splitlines()) > LONG:
        cell = cell | {"source": folded(code, names)}
    links = ", ".join(f"`{n}`" for n in names if not n.startswith("_"))
    return [cell, markdown(f"::: {{.refs}}\nreference: {links}\n:::")] if links else [cell]


def shown(nb: dict, fold: bool = False) -> dict:
    """A notebook whose exported cells are plain cells, each followed by links to what it defines.

    `fold` is for lessons: exported code of more than `LONG` lines is folded.
    """
    cells, first = [], next((c for c in nb["cells"] if c["cell_type"] == "markdown"), {})
    for cell in nb["cells"]:
        exports = re.match(r"#\s*\|\s*exports?\b", text_of(cell["source"]))
        if cell is first:
            cells += split_head(cell)
        elif cell["cell_type"] == "code" and exports:
            cells += plain_export(cell, fold)
        else:
            cells.append(cell)
    return nb | {"cells": cells}


def errors_of(f: ast.AST) -> list[str]:
    "What a function raises: `ValueError: message`, with `...` for the values in it."
    found = []
    for node in ast.walk(f):
        if not isinstance(node, ast.Raise) or not isinstance(node.exc, ast.Call):
            continue
        message = node.exc.args[0] if node.exc.args else None
        parts = message.values if isinstance(message, ast.JoinedStr) else [message]
        text = "".join(
            str(p.value) if isinstance(p, ast.Constant) else "…" for p in parts if p is not None
        )
        found.append(
            f"`{ast.unparse(node.exc.func)}`: {html.escape(text)}"
            if text
            else f"`{ast.unparse(node.exc.func)}`"
        )
    return list(dict.fromkeys(found))


# a table of parameters that has neither a type nor a word to add to the signature above it
BARE_TABLE = (
    r"(?m)^\| Parameter \| Type \| Default \| Description \|\n\|[ |-]+\|\n(?:\| `[^|\n]+` \| "
    r"(?:None)? \| [^|\n]+ \|  \|\n)+(?!\|)\n?"
)


def module_of(page: Path) -> str:
    "The module that an API page describes: its title, for instance `visionxl.operators.tasks`."
    found = re.search(r'(?m)^title: "([\w.]+)"', page.read_text(encoding="utf-8"))
    if not found:
        raise ValueError(f"{page} has no title with the name of a module")
    return found[1]


def add_errors(page: Path, root: Path) -> None:
    "Append to each entry of an API page the errors that its code raises, and drop empty tables."
    module = root / (module_of(page).replace(".", "/") + ".py")
    if not module.exists():
        return
    tree = ast.parse(module.read_text(encoding="utf-8"))
    found = {
        n.name: errors_of(n)
        for n in ast.walk(tree)
        if isinstance(n, ast.FunctionDef | ast.ClassDef)
    }
    blocks = re.split(r"(?m)^(?=#{2,} )", re.sub(BARE_TABLE, "", page.read_text(encoding="utf-8")))
    for k, block in enumerate(blocks):
        name = re.match(r"#+ .*\{#([\w.]+)\}", block)
        raised = found.get(name[1].rsplit(".", 1)[-1], []) if name else []
        if raised:
            blocks[k] = (
                block.rstrip() + "\n\nRaises\n\n" + "\n".join(f"- {r}" for r in raised) + "\n\n"
            )
    page.write_text("".join(blocks), encoding="utf-8")


def gallery(stage: Path, root: Path) -> None:
    "The gallery: every player in nbs/gallery with its facts."
    folder = root / "nbs" / "gallery"
    facts = (
        json.loads((folder / "gallery.json").read_text(encoding="utf-8"))
        if (folder / "gallery.json").exists()
        else {"clips": []}
    )
    body = [
        "---\ntitle: Gallery\ntoc: false\n---\n",
        "Real restorations with the bundled prior, played beside what they were made from. "
        "Drag the border; space plays, "
        "arrow keys move the border, comma and full stop step through the frames.\n",
        facts.get("note", ""),
    ]
    (stage / "players").mkdir(exist_ok=True)
    import gallery as made

    old = [c["title"] for c in facts["clips"] if c.get("weights") != made.weights()]
    if old:
        body.append(
            "Made with earlier weights of the bundled prior than the ones in the package: "
            f"{'; '.join(old)}. `python tools/gallery.py` makes them again.\n"
        )
    for clip in facts["clips"]:
        source = (folder / clip["file"]).read_text(encoding="utf-8")
        (stage / "players" / clip["file"]).write_text(source, encoding="utf-8")
        frame = (
            f'<iframe class="player" title="{html.escape(clip["title"])}" '
            f'srcdoc="{html.escape(source)}" '
            f'style="height:{clip["height"]}px"></iframe>'
        )
        body.append(
            f"## {clip['title']}\n\n{clip['text']}\n\n```{{=html}}\n{frame}\n```\n\n[the "
            f"player alone](players/{clip['file']})\n"
        )
    if not facts["clips"]:
        body.append("No restorations yet: `python tools/gallery.py` makes them.")
    (stage / "gallery.qmd").write_text("\n\n".join(body), encoding="utf-8")


TITLES = {
    "operators": "Speed: the operators and the consistency step",
    "solver": "Speed and memory: the whole restoration",
}
ORDER = ("quality", "operators", "solver", "scale", "ablations", "tune")


def place(result: Path) -> int:
    "Where a result stands on the page: what most readers come for first, the tuning last."
    return next((k for k, name in enumerate(ORDER) if result.name.startswith(name)), len(ORDER))


def short_numbers(text: str) -> str:
    "Numbers with more than six decimals, which are settings and not measurements, cut to three."
    return re.sub(r"(\d\.\d{3})\d{4,}", r"\1", text)


def last_print(text: str) -> str:
    """A benchmark that prints its rows as they come prints the whole table at the end again: that
    one.
    """
    head = text.lstrip().partition("\n")[0]
    return text[text.rfind(head) :].rstrip()


def measures(stage: Path, root: Path) -> None:
    "The measures: how and what, from the texts in bench/results."
    folder, out = root / "bench" / "results", stage / "results"
    out.mkdir(exist_ok=True)
    intro = root / "bench" / "README.md"
    body = [
        "---\ntitle: What is measured, and how\n---\n",
        intro.read_text(encoding="utf-8")
        if intro.exists()
        else "A figure counts as a ratio of two things measured in the same run, interleaved "
        "and repeated; median and spread are given. "
        "`make bench` repeats the short versions.\n",
    ]
    kinds = (".md", ".txt", ".webp", ".json")
    kept = (
        [f for f in folder.glob("*") if f.suffix in kinds and not f.name.startswith("partial_")]
        if folder.is_dir()
        else []
    )
    for f in sorted(kept, key=lambda f: (place(f), kinds.index(f.suffix), f.name)):
        shutil.copy(f, out / f.name.replace(".md", ".txt"))
        text = "" if f.suffix == ".webp" else short_numbers(f.read_text(encoding="utf-8"))
        if f.suffix == ".webp":
            body.append(
                f"![{f.stem.replace('_', ' ')}: the middle frame, a crop and a temporal "
                f"slice of every method](results/{f.name})\n"
            )
        if f.suffix == ".md":
            body.append(re.sub(r"(?m)^#(?=#* )", "##", text))
        if f.suffix == ".txt":
            body.append(f"## {TITLES.get(f.stem, f.stem)}\n\n```\n{last_print(text)}\n```\n")
        if f.suffix == ".json":
            body.append(f"The raw numbers: [{f.name}](results/{f.name}).\n")
    if len(body) == 2:
        body.append("No results are kept yet.")
    else:
        import results

        results.write(out)
        body.insert(2, "[Every row in one table](results/table.html), to sort and to filter.\n")
    (stage / "measures.qmd").write_text("\n\n".join(body), encoding="utf-8")


SCRIPTS = ("search-from-disk.js", "enlarge.js")  # of every page, from tools/


def font_inside(css: str, folder: Path) -> str:
    "A style sheet with its fonts in it: a page opened from disk may not load them."

    def font(m):
        data = base64.b64encode((folder / m[1]).read_bytes()).decode()
        return f"url(data:font/woff2;base64,{data})"

    return re.sub(r"url\((fonts/[^)]+)\)", font, css)


def localised(page: str, up: str) -> str:
    "A page that loads KaTeX and the search from this site; `up` leads to the site's root."
    cdn = r"https://cdn\.jsdelivr\.net/npm/katex@[\d.]+/dist/(?:contrib/)?"
    page = re.sub(cdn, f"{up}site_libs/katex/", page)
    theirs = f'<script src="{up}site_libs/smalldocs.js"'
    ours = "".join(f'<script src="{up}site_libs/{name}"></script>' for name in SCRIPTS)
    return page.replace(theirs, ours + theirs)


def own_assets(site: Path, tools: Path) -> None:
    "Make a site ask nothing of other hosts, and search work from disk."
    libs = site / "site_libs"
    katex = libs / "katex"
    shutil.copytree(tools / "katex", katex, dirs_exist_ok=True)
    sheet = katex / "katex.min.css"
    sheet.write_text(font_inside(sheet.read_text(encoding="utf-8"), katex), encoding="utf-8")
    shutil.rmtree(katex / "fonts")
    for css in libs.rglob("*.css"):
        text = css.read_text(encoding="utf-8")
        css.write_text(re.sub(r"@import url\(https?:[^)]*\);?", "", text), encoding="utf-8")
    for name in SCRIPTS:
        shutil.copy(tools / name, libs)
    index = (site / "search.json").read_text(encoding="utf-8")
    (site / "search.js").write_text(f"window.searchIndex = {index};\n", encoding="utf-8")
    for page in site.rglob("*.html"):
        up = "../" * (len(page.relative_to(site).parts) - 1)
        text = page.read_text(encoding="utf-8")
        page.write_text(localised(text, up), encoding="utf-8")
