"""Lessons have one form, and their texts say what their outputs say.

Nothing is run: the stored outputs are read. How to write one: nbs/howto/write_a_lesson.ipynb.
"""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
NBS = ROOT / "nbs"
sys.path.insert(0, str(ROOT / "tools"))
import pictures  # noqa: E402
from docs_pages import LONG  # noqa: E402

HOST = "https://colab.research.google.com/github/visionxl/visionxl/blob/main"
BINDER = "https://mybinder.org/v2/gh/visionxl/visionxl/main?urlpath=lab/tree"
INSTALL = "%pip install -q git+https://github.com/visionxl/visionxl"
WIDTH = 88  # columns of code, so that no line is cut off on the site
LONG_STRING = 4  # words from which a string in code is prose
NUMBER = r"(?<![\w.])\d+\.\d+(?![\d.]*\w)"
NAMED = r"\b(?:Sec\.|Section|arXiv|torch|SDXL|Python from version)[ :]"  # before a number: a name
MARK = r"<!--given:?\s*(.*?)-->"
LESSONS = sorted((NBS / "course").glob("*.ipynb"))


def text(value) -> str:
    return "".join(value) if isinstance(value, list) else value


def cells(path: Path) -> list[dict]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def sources(nb: list[dict], kind: str) -> list[str]:
    return [text(c["source"]) for c in nb if c["cell_type"] == kind]


# ---------------------------------------------------------------- numbers in texts


def tree_of(source: str) -> ast.AST:
    "The code of a cell; magics of IPython are left out."
    try:
        return ast.parse(re.sub(r"(?m)^(\s*)[%!].*$", r"\1pass", source))
    except SyntaxError:
        return ast.Module([], [])


def long_strings(source: str) -> list[str]:
    "Strings in code that are prose: captions, and the fixed parts of formatted ones."
    found = [
        n.value
        for n in ast.walk(tree_of(source))
        if isinstance(n, ast.Constant) and isinstance(n.value, str)
    ]
    return [s for s in found if len(s.split()) >= LONG_STRING]


def literals(source: str) -> list[float]:
    "Numbers that stand in the code: settings."
    found = [n.value for n in ast.walk(tree_of(source)) if isinstance(n, ast.Constant)]
    return [float(v) for v in found if isinstance(v, int | float) and not isinstance(v, bool)]


def printed(cell: dict) -> str:
    "What a cell printed or returned, without what stands in its code word by word."
    parts = []
    for o in cell.get("outputs", []):
        data = o.get("data", {})
        shown = data.get("text/markdown") or data.get("text/html") or data.get("text/plain", "")
        parts.append(text(o.get("text", "")) or text(shown))
    said = re.sub(r'base64,[^"]*', "", "\n".join(parts))
    for string in sorted(long_strings(text(cell["source"])), key=len, reverse=True):
        said = said.replace(string, " ")
    return said


def prose(markdown: str) -> str:
    "A text without code, formulas, addresses, and the numbers of sections, papers and versions."
    for pattern in (r"```.*?```", r"\$\$.*?\$\$", r"\$[^$\n]+\$", r"`[^`\n]*`", r"\]\([^)]*\)"):
        markdown = re.sub(pattern, " ", markdown, flags=re.S)
    return re.sub(rf"{NAMED}{NUMBER}", " ", markdown)


def numbers(said: str) -> list[float]:
    return [float(n) for n in re.findall(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?", said)]


def marks(markdown: str) -> list[str]:
    "The files that a text names as the source of its numbers, `<!--given: bench/results/a.md-->`."
    return re.findall(MARK, re.sub(r"`[^`\n]*`", " ", markdown))


def cited(markdown: str) -> list[float]:
    "The numbers of the files that a text names as its sources."
    files = [ROOT / m for m in marks(markdown)]
    return [v for f in files if f.is_file() for v in numbers(f.read_text(encoding="utf-8"))]


def not_borne_out(nb: list[dict], captions: bool = True) -> list[str]:
    "Decimal numbers in texts and captions that no output, no code and no named file holds."
    code = [c for c in nb if c["cell_type"] == "code"]
    known = [v for c in code for v in numbers(printed(c))]
    known += [v for c in code for v in literals(text(c["source"]))]
    said = sources(nb, "markdown")
    found = [n for s in said for n in bare(prose(s), known + cited(s))]
    found += [f"no file: {m!r}" for s in said for m in marks(s) if not (ROOT / m).is_file()]
    strings = [s for c in code for s in long_strings(text(c["source"])) if captions]
    return found + [n for s in strings for n in bare(s, known)]


def bare(said: str, known: list[float]) -> list[str]:
    "The decimal numbers of a text that none of the known ones gives."
    return [n for n in re.findall(NUMBER, said) if not rounds_to(n, known)]


def rounds_to(number: str, known: list[float]) -> bool:
    "Whether one of the known numbers gives this one when it is rounded to as many digits."
    half = 0.5 * 10.0 ** -len(number.partition(".")[2]) + 1e-9
    return any(abs(v - float(number)) <= half for v in known)


# ---------------------------------------------------------------- the form of a lesson


def header(nb: list[dict], file: str) -> list[str]:
    "What is missing in the box at the head of a lesson."
    head = "\n".join(sources(nb, "markdown")[:3])
    wanted = {
        "what is learned": r"\| \*\*You will learn\*\* \| .{20,}",
        "what is needed": r"\| \*\*You need\*\* \| .+",
        "the times": r"\| \*\*Time\*\* \| \d+ minutes to read, \d+ seconds to run on a CPU",
        "the link to Colab": re.escape(f"({HOST}/{file})"),
        "the link to Binder": re.escape(f"({BINDER}/{file})"),
        "the strip of the five steps": r"!\[[^\]]{20,}\]\(\.\./images/strip_\w+\.svg\)",
    }
    missing = [name for name, pattern in wanted.items() if not re.search(pattern, head)]
    first = sources(nb, "code")[0]
    return missing + ([] if INSTALL in first else ["the install line in the first cell of code"])


def ending(nb: list[dict]) -> list[str]:
    "What is missing at the end of a lesson."
    said = "\n\n".join(sources(nb, "markdown"))
    box = re.search(r"(?m)^## Takeaways\n+((?:\d\. .+\n?)+)", said + "\n")
    lines = box[1].strip().splitlines() if box else []
    found = [] if len(lines) == 3 else ["takeaways in three lines"]
    found += [] if re.search(r"\d", "".join(s[3:] for s in lines)) else ["a number in them"]
    found += [] if re.search(r"(?m)^\*\*Predict, then run", said) else ["predict, then run"]
    code = sources(nb, "code")
    open_ones = [s for s in code if s.startswith("#| eval: false\n") and "..." in s]
    stubs = [s for s in open_ones if "assert" in s]
    folded = [s for s in code if "#| code-fold: true" in s and "assert" in s]
    return found + ([] if stubs and folded else ["a stub with an assert, and its solution"])


def first_picture(nb: list[dict]) -> list[str]:
    "A picture among the first ten cells."
    for c in nb[:10]:
        data = [o.get("data", {}) for o in c.get("outputs", [])]
        if any(m.startswith(("image/", "text/html")) for d in data for m in d):
            return []
    return ["a picture in the first ten cells"]


def wide(nb: list[dict]) -> list[str]:
    "Lines of code that a page cuts off; long exports are folded, and may have 100 columns."
    code = [s.splitlines() for s in sources(nb, "code")]
    seen = [s for s in code if not s or s[0] != "#| export" or len(s) <= LONG + 1]
    found = [line.strip() for s in seen for line in s if len(line) > WIDTH]
    return [f"{len(found)} lines wider than {WIDTH}, first: {found[0]}"] if found else []


def form(nb: list[dict], file: str) -> list[str]:
    return header(nb, file) + ending(nb) + first_picture(nb) + wide(nb)


# ---------------------------------------------------------------- the tests


@pytest.mark.parametrize("path", LESSONS, ids=lambda p: p.stem)
def test_a_lesson_has_its_form(path):
    missing = form(cells(path), path.relative_to(ROOT).as_posix())
    assert not missing, f"{path.name} lacks: {'; '.join(missing)}"


@pytest.mark.parametrize("path", sorted(NBS.rglob("*.ipynb")), ids=lambda p: p.stem)
def test_numbers_in_texts_are_those_of_the_outputs(path):
    "In lessons and how-to pages captions are texts, too; elsewhere code is full of messages."
    captions = pictures.on_github(path)
    found = not_borne_out(cells(path), captions)
    assert not found, f"{path.name}: in texts, but in no output: {', '.join(found)}"


@pytest.mark.parametrize("path", [LESSONS[14], NBS / "index.ipynb"], ids=lambda p: p.stem)
def test_what_is_said_of_the_ablation_is_in_its_file(path):
    "Outputs that were made from an older file are stale, though their code has not changed."
    kept = json.loads(
        (ROOT / "bench" / "results" / "ablation_white.json").read_text(encoding="utf-8")
    )
    shown = [v for c in cells(path) if c["cell_type"] == "code" for v in numbers(printed(c))]
    means = {r["row"]: [] for r in kept["rows"]}
    for r in kept["rows"]:
        means[r["row"]].append(r["PSNR"])
    for row in ("paper", "best"):
        rows = means[row] if path.parent.name == "course" else [np.mean(means[row])]
        missing = [f"{v:.2f}" for v in rows if not rounds_to(f"{v:.2f}", shown)]
        assert not missing, f"{path.name} shows other figures of {row} than {missing}: run it again"


def test_what_lesson_14_says_is_in_its_file():
    "Its table in bench/results is written by it: the two are of one run."
    file = ROOT / "bench" / "results" / "ablations_64.md"
    rows = [r.split("|") for r in file.read_text(encoding="utf-8").splitlines() if " = " in r]
    wanted = [r[3].strip() for r in rows if len(r) > 6]
    shown = [v for c in cells(LESSONS[13]) if c["cell_type"] == "code" for v in numbers(printed(c))]
    missing = [n for n in wanted if not rounds_to(n, shown)]
    assert len(wanted) > 15 and not missing, f"in {file.name} only: {missing}; run the lesson again"


@pytest.mark.parametrize("path", sorted(NBS.rglob("*.ipynb")), ids=lambda p: p.stem)
def test_links_to_colab_and_binder_open_something_that_runs(path):
    "The page exists, and its first cell of code installs the package there."
    nb = cells(path)
    said = "\n".join(sources(nb, "markdown"))
    asked = re.findall(rf"\(({re.escape(HOST)}|{re.escape(BINDER)})/([^)]+)\)", said)
    others = re.findall(r"\(https://(?:colab|mybinder)[^)]*\)", said)
    assert len(others) == len(asked), f"{path.name}: links in another form: {others}"
    for _, file in asked:
        first = sources(cells(ROOT / file), "code")[0]
        assert INSTALL in first, f"{path.name}: {file} has no install line in its first cell"
    if path.parent.name == "howto":  # the site links these to Colab
        assert INSTALL in sources(nb, "code")[0], f"{path.name} does not install the package first"


def webps(nb: list[dict]) -> int:
    "How many pictures GitHub's view of a notebook would leave out: it is nbconvert's."
    outputs = [o for c in nb for o in c.get("outputs", [])]
    return sum("image/webp" in o.get("data", {}) for o in outputs)


@pytest.mark.parametrize(
    "path", filter(pictures.on_github, sorted(NBS.rglob("*.ipynb"))), ids=lambda p: p.stem
)
def test_pictures_are_shown_on_github(path):
    "When nbconvert knows WebP, its list says so, and this test may go."
    known = pytest.importorskip("nbconvert").HTMLExporter().config.NbConvertBase
    assert "image/webp" not in known.display_data_priority
    assert not webps(cells(path)), f"{path.name}: tools/run_nbs.py --shrink makes them JPEG or PNG"


def test_the_strips_are_what_their_script_draws():
    run = [sys.executable, str(ROOT / "tools" / "strips.py"), "--check"]
    assert subprocess.run(run).returncode == 0


def terms() -> set[str]:
    "Anchors of the glossary."
    said = "\n".join(sources(cells(NBS / "reference" / "glossary.ipynb"), "markdown"))
    return set(re.findall(r'<a id="([\w-]+)"></a>', said))


@pytest.mark.parametrize("path", sorted(NBS.rglob("*.ipynb")), ids=lambda p: p.stem)
def test_links_to_the_glossary_lead_to_a_term(path):
    said = "\n".join(sources(cells(path), "markdown"))
    asked = set(re.findall(r"glossary\.ipynb#([\w-]+)", said))
    assert asked <= terms(), f"{path.name}: not in the glossary: {asked - terms()}"


def test_the_checks_can_fail():
    def code(source, *said):
        outs = [{"output_type": "stream", "text": s} for s in said]
        return {"cell_type": "code", "source": source, "outputs": outs}

    def lines(source):
        return {"cell_type": "markdown", "source": source}

    run = code("print(24.04)", "24.04 dB\n")
    assert not_borne_out([run, lines("It gains 24.0 dB, 24.1 dB, `9.9` and $8.8$.")]) == ["24.1"]
    named = "Section 3.5 of arXiv 2412.00156, with torch 2.13; version 1.2.3."
    assert not_borne_out([run, lines(named)]) == []
    typed = "The middle one has 27.5 dB."
    assert not_borne_out([code(f"show(caption={typed!r})", typed)]) == ["27.5"]
    measured = "It gains 7.7 dB. <!--given: {}-->"
    assert not_borne_out([run, lines(measured.format("once"))]) == ["7.7", "no file: 'once'"]
    assert not_borne_out([run, lines("It gains 24.0<!--given--> dB.")]) == ["no file: ''"]
    assert not_borne_out([run, lines(measured.format("CITATION.cff"))]) == ["7.7"]
    paper = measured.format("visionxl/measure/reproduction/paper.py").replace("7.7", "184.8")
    assert not_borne_out([run, lines(paper)]) == []
    formatted = "show(caption=f'The middle one has {p:.1f} dB.')"
    computed = code(formatted, "The middle one has 27.5 dB.")
    assert not_borne_out([computed, lines("It has 27.5 dB.")]) == []
    assert len(form([lines("# A"), code("x = 1")], "nbs/course/01_a.ipynb")) == 12
    assert wide([code("x = " + "1 + " * 30 + "1")])
    assert webps([{"outputs": [{"data": {"image/webp": ""}}]}]) == 1


def test_terms_become_headings_on_the_site():
    import docs_pages

    said = docs_pages.terms_as_headings('<a id="tau"></a>**Tau ($\\tau$, `tau`).** A level.\n')
    assert said.split("\n\n") == ["### Tau {#tau}", "($\\tau$, `tau`) A level.\n"]
