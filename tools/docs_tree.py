"""Which pages the site has, in which order, and under which headings: the map of nbs/."""

import functools
import json
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
NBS = ROOT / "nbs"

COURSE, HOWTO, HOOD, TRAINING = "Course", "How to", "Under the hood", "Training the prior"
PARTS = {"course": COURSE, "howto": HOWTO, "reference": HOOD, "training": TRAINING}
GROUPS = {  # a folder of nbs/reference and of visionxl, in the order of their imports
    "": "The whole",
    "media": "Files of video",
    "operators": "Operators",
    "prior": "The model",
    "steps": "The five steps",
    "extras": "What best adds",
    "compare": "What it is compared with",
    "scale": "More than one worker",
    "measure": "Measuring",
    "show": "Showing",
    "app": "The application",
    "training": "Training",
}
FIRST = (  # what a reader wants before the rest of its folder; everything else by name
    "architecture",
    "method",
    "glossary",
    "presets",
    "preset",
    "video",
    "cosine",
    "bases",
    "factors",
    "diagonal",
    "passes",
    "polynomial",
    "your_own_video",
    "your_own_operator",
    "photos",
    "loop",
    "train",
)


def page_name(nb: Path) -> str:
    "The page of a notebook, relative to the site: folders kept, numbers dropped."
    rel = nb.relative_to(NBS).with_suffix("")
    return str(rel.with_name(re.sub(r"^\d+[a-z]?_", "", rel.name)))


def folder(nb: Path) -> str:
    "The sub-package that a reference notebook describes; empty beside the sub-packages."
    parts = nb.relative_to(NBS).parts
    return parts[1] if parts[0] == "reference" and len(parts) > 2 else ""


def place(nb: Path) -> tuple:
    "Where a notebook stands in the order in which one reads them: sub-folders come last."
    part = list(PARTS).index(nb.relative_to(NBS).parts[0])
    group = list(GROUPS).index(folder(nb))
    inner = nb.relative_to(NBS).parts[2:-1]
    early = FIRST.index(nb.stem) if nb.stem in FIRST else len(FIRST)
    return part, group, inner, early, nb.name


@functools.cache
def notebooks() -> list[Path]:
    "Every notebook but the index, in the order in which one reads them."
    found = [p for p in NBS.rglob("*.ipynb") if p != NBS / "index.ipynb"]
    shown = [p for p in found if not any(q[0] in "._" for q in p.relative_to(NBS).parts)]
    return sorted(shown, key=place)


@functools.cache
def title(nb: Path) -> str:
    "The heading of a notebook."
    cells = json.loads(nb.read_text(encoding="utf-8"))["cells"]
    texts = ("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    return next(texts, nb.stem).partition("\n")[0].lstrip("# ")


def entry(nb: Path, name) -> str | dict:
    "A line of the sidebar: a lesson shows its number, anything else the title of its page."
    number = re.match(r"(\d+)_", nb.name)
    if not number:
        return name(nb)
    return {"text": f"{int(number[1])} {title(nb)}", "href": name(nb)}


def sidebar(name, first: str) -> list[dict]:
    """The sections of the sidebar.

    `name` makes the target of a notebook, `first` is that of the index.
    """
    sections = [{"section": "Start", "contents": [first]}]
    for part, heading in PARTS.items():
        found = [nb for nb in notebooks() if nb.relative_to(NBS).parts[0] == part]
        if part != "reference":
            contents: list = [entry(nb, name) for nb in found]
        else:
            contents = grouped({g: [name(nb) for nb in found if folder(nb) == g] for g in GROUPS})
        if contents:
            sections.append({"section": heading, "contents": contents})
    return sections


def grouped(pages: dict[str, list]) -> list:
    "Pages by folder as sections of their own; those beside the folders come first, without one."
    sections = [{"section": GROUPS[g], "contents": p} for g, p in pages.items() if g and p]
    return pages.get("", []) + sections


def targets(contents: list) -> list[str]:
    "The targets in a sidebar, in the order in which they are read."
    found = []
    for item in contents:
        if isinstance(item, str):
            found.append(item)
        elif "contents" in item:
            found += targets(item["contents"])
        else:
            found.append(item["href"])
    return found


def write_sidebar() -> Path:
    "Write nbs/sidebar.yml, for `nbdev_docs` where Quarto exists."
    contents = sidebar(lambda nb: nb.relative_to(NBS).as_posix(), "index.ipynb")
    out = NBS / "sidebar.yml"
    text = yaml.safe_dump({"website": {"sidebar": {"contents": contents}}}, sort_keys=False)
    out.write_text(text, encoding="utf-8")
    return out
