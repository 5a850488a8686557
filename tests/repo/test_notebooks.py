"""The notebooks are kept in step: code with its demonstration, figures with their texts, outputs
with their code.
"""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NBS = ROOT / "nbs"
sys.path.insert(0, str(ROOT / "tools"))
import pictures  # noqa: E402
from run_nbs import code_hash  # noqa: E402

PICTURES = ("image/png", "image/svg+xml", "image/webp", "image/jpeg", "image/gif")

# METHOD.md's equations: the notebook, how the paper's number is written there, and what the formula
# must hold once
# spaces, braces and sizes are gone
EQUATIONS = {
    "course/03_operators": ("Eq", [r"A\(|Ax|A\\,x|A x"]),
    "course/06_inversion": (
        r"Eq\w*\.?[ ~]*\(?2",
        [r"\\sqrt(\\bar\\)?\\?(alpha|a)_?s", r"\\sqrt1-"],
    ),
    "course/07_tweedie": (r"Eq\w*\.?[ ~]*\(?[345]", [r"\\sqrt1-", r"\\frac|/"]),
    "course/08_consistency": (r"Eq\w*\.?[ ~]*\(?6", [r"A\^(\\top|T|\\\*|\*|\\mathsfT|\\mathrmT)A"]),
    "course/09_lowpass": (r"Eq\w*\.?[ ~]*\(?[78]", [r"\\lambda\\?,?\\?;?\\sqrt1-"]),
    "course/10_renoise": (r"Eq\w*\.?[ ~]*\(?9", [r"\\eta", r"\\sqrt1-\\eta\^2"]),
}


def notebooks() -> list[Path]:
    return sorted(
        p for p in NBS.rglob("*.ipynb") if not any(q[0] in "._" for q in p.relative_to(NBS).parts)
    )


def text(value) -> str:
    return "".join(value) if isinstance(value, list) else value


def cells(path: Path) -> list[dict]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def called(path: Path) -> str:
    return path.relative_to(NBS).with_suffix("").as_posix()


def defined(source: str) -> list[str]:
    "Public names that a cell exports."
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return []
    return [
        n.name
        for n in body
        if isinstance(n, ast.FunctionDef | ast.ClassDef) and not n.name.startswith("_")
    ]


def not_shown(nb: list[dict], within: int = 3) -> list[str]:
    """Exported definitions that none of the next three cells uses; cells that only export more, and
    texts, are not counted.
    """
    code = [text(c["source"]) for c in nb if c["cell_type"] == "code"]
    exports = [bool(re.match(r"#\s*\|\s*exports?\b", source)) for source in code]
    found = []
    for k, source in enumerate(code):
        after = [c for c, e in zip(code[k + 1 :], exports[k + 1 :]) if not e][:within]
        found += [
            n
            for n in (defined(source) if exports[k] else [])
            if not any(re.search(rf"\b{re.escape(n)}\b", c) for c in after)
        ]
    return found


def without_text(nb: list[dict]) -> int:
    "Pictures that are not followed by printed text, which is their alternative text."
    bad = 0
    for c in nb:
        outs = c.get("outputs", [])
        for o, after in zip(outs, [*outs[1:], {}]):
            picture = any(m in o.get("data", {}) for m in PICTURES)
            bad += picture and not (
                after.get("output_type") == "stream" and len(text(after["text"]).split()) >= 3
            )
    return bad


def bare(formula: str) -> str:
    return re.sub(r"\\(left|right|bigl?|bigr?|,|;|!|quad|qquad)(?![a-z])|[\s{}]", "", formula)


def formulas(nb: list[dict]) -> str:
    prose = "\n".join(text(c["source"]) for c in nb if c["cell_type"] == "markdown")
    return bare("\n".join(re.findall(r"\$\$.+?\$\$|\\\[.+?\\\]|\$[^$\n]+\$", prose, re.S)))


@pytest.fixture(params=notebooks(), ids=lambda p: str(p.relative_to(NBS)))
def path(request):
    return request.param


def claim(path: Path) -> list[str]:
    first = next(text(c["source"]) for c in cells(path) if c["cell_type"] == "markdown")
    return (
        []
        if re.match(r"# .+\n+> .+", first)
        else [f"{path.name} does not open with a title and a claim in a quotation"]
    )


def exports(path: Path) -> list[str]:
    return [
        f"{path.name}: {name} is exported and not shown or tested in the three code cells after it"
        for name in not_shown(cells(path))
    ]


def texts(path: Path) -> list[str]:
    n = without_text(cells(path))
    return [f"{path.name}: {n} pictures without a printed text after them"] if n else []


def outputs(path: Path) -> list[str]:
    nb = json.loads(path.read_text(encoding="utf-8"))
    fresh = nb["metadata"].get("visionxl", {}).get("code") == code_hash(nb["cells"])
    return (
        []
        if fresh
        else [f"{path.name}: outputs are stale, run tools/run_nbs.py nbs/{path.relative_to(NBS)}"]
    )


def equations(path: Path) -> list[str]:
    if called(path) not in EQUATIONS:
        return []
    number, parts = EQUATIONS[called(path)]
    prose, all_of = "\n".join(text(c["source"]) for c in cells(path)), formulas(cells(path))
    missing = [p for p in parts if not re.search(p, all_of)] + (
        [] if re.search(number, prose) else [f"the number ({number})"]
    )
    return [f"{path.name}: the equation of METHOD.md is missing {m}" for m in missing]


CHECKS = {f.__name__: f for f in (claim, exports, texts, outputs, equations)}


def test_a_notebook_is_small(path):
    size = path.stat().st_size
    assert size < 500e3, f"{path.name} holds {size / 1e3:.0f} kB: run tools/run_nbs.py --shrink"


def test_all_notebooks_together_are_small():
    size = sum(p.stat().st_size for p in notebooks())
    assert size < 12e6, f"{size / 1e6:.1f} MB of notebooks; at most 12 may be kept"


def test_pictures_are_small(path):
    found = [pictures.decoded(o) for c in cells(path) for o in c.get("outputs", [])]
    limit = (pictures.PLAIN_LIMITS if pictures.on_github(path) else pictures.LIMITS)[0]
    large = [len(png) for png in found if png and len(png) > limit]
    assert not large, f"{path.name} has pictures of {large} bytes: run tools/run_nbs.py --shrink"


def test_players_are_small():
    pages = list(NBS.rglob("*.html"))
    assert pages and max(p.stat().st_size for p in pages) < 500e3


def test_the_tracked_tree_is_small():
    git = ["git", "ls-files", "-z"]
    found = subprocess.run(git, cwd=ROOT, capture_output=True, text=True)
    if found.returncode:
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in found.stdout.split("\0") if name]
    size = sum(f.stat().st_size for f in files if f.is_file() and not f.is_symlink())
    # 19.5 of them are weights (the bundled priors `tiny` and `white`, LPIPS's), at most 12 are
    # notebooks, 1.5 are the players of the gallery, 0.9 tables and pictures of measurements
    assert size < 41.8e6, f"git tracks {size / 1e6:.1f} MB; at most 41.8 may be kept"


@pytest.mark.parametrize("check", CHECKS)
def test_in_step(path, check):
    found = CHECKS[check](path)
    assert not found, "\n".join(found)


def test_no_errors_are_kept(path):
    errors = [
        o.get("ename")
        for c in cells(path)
        for o in c.get("outputs", [])
        if o.get("output_type") == "error"
    ]
    assert not errors, f"{path.name} keeps {errors}"


def test_every_equation_has_its_notebook():
    assert not [n for n in EQUATIONS if not (NBS / f"{n}.ipynb").exists()]


# ---------------------------------------------------------------- each check is seen to fail once


def code(source, *outputs):
    return {"cell_type": "code", "source": source, "outputs": list(outputs)}


def test_the_checks_can_fail():
    picture, said = (
        {"output_type": "display_data", "data": {"image/png": ""}},
        {"output_type": "stream", "text": "A red flower."},
    )
    export = code("#| export\ndef f(x): return x\ndef g(x): return x")
    assert not_shown([export, code("f(1)")]) == ["g"]
    assert not_shown([export, *[code("1")] * 3, code("f(g(1))")]) == ["f", "g"]
    assert without_text([code("plot()", picture, said)]) == 0
    assert without_text([code("plot()", picture, said, picture)]) == 1
    assert code_hash([code("a = 1")]) != code_hash([code("a = 2")])
    said = code_hash([code("def f():\n    'Says.'\n    return 1")])
    assert said == code_hash([code("def f(): return 1  # without a docstring")])
    assert said != code_hash([code("def f(): return 2")])
    assert not re.search(EQUATIONS["course/10_renoise"][1][1], bare(r"$\sqrt{1 - a_s}$"))
    assert re.search(EQUATIONS["course/10_renoise"][1][1], bare(r"$\sqrt{1 - \eta^2}\,\epsilon$"))


WIDGET = "application/vnd.jupyter.widget-view+json"


def dead_widgets(nb: list[dict]) -> list[str]:
    "Cells that need a running kernel to be moved: on the site nothing happens there."
    code = [c for c in nb if c["cell_type"] == "code"]
    outputs = [o.get("data", {}) for c in code for o in c.get("outputs", [])]
    made = [text(c["source"]) for c in code]
    found = [s for s in made if re.search(r"(?m)^\s*(import|from) ipywidgets|^\s*interact\(", s)]
    return found + [WIDGET for data in outputs if WIDGET in data]


@pytest.mark.parametrize("path", notebooks(), ids=called)
def test_no_page_has_a_dead_widget(path):
    found = dead_widgets(cells(path))
    assert not found, f"{called(path)}: use visionxl.show.slider.Slider in place of {found[0][:80]}"


def test_the_check_of_widgets_can_fail():
    def code(source, **data):
        return {"cell_type": "code", "source": source, "outputs": [{"data": data}]}

    assert dead_widgets([code("from ipywidgets import IntSlider")])
    assert dead_widgets([code("interact(at, n=IntSlider(3));")])
    assert dead_widgets([code("at(3)", **{WIDGET: {}})])
    assert not dead_widgets([code("Slider('Which?', at, 'This.', n=[1, 2, 3])")])
