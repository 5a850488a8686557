"""Lines that can be reviewed: the rules that ruff does not know, for all code and notebooks.

ruff holds the line to 100 columns and the imports to their places; here stand the rules for
conditional expressions, for statements on one line, and for the types of public arguments.
"""

import ast
import json
import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("visionxl", "tests", "tools", "bench", "nbs")

def cells(path: Path) -> list[str]:
    "The code of a notebook, cell by cell, without what only IPython understands."
    nb = json.loads(path.read_text(encoding="utf-8"))
    code = ["".join(c["source"]) for c in nb["cells"] if c["cell_type"] == "code"]
    return [re.sub(r"(?m)^(\s*)[%!].*$", r"\1pass", source) for source in code]


def sources() -> dict[str, list[str]]:
    "Every file with code, and the pieces of code in it."
    found = {"setup.py": [(ROOT / "setup.py").read_text(encoding="utf-8")]}
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.*")):
            parts = path.relative_to(ROOT).parts
            if any(p.startswith((".", "_modidx")) for p in parts):
                continue
            if path.suffix == ".py":
                found["/".join(parts)] = [path.read_text(encoding="utf-8")]
            if path.suffix == ".ipynb":
                found["/".join(parts)] = cells(path)
    return found


def nested_conditionals(tree: ast.AST) -> list[int]:
    "Lines of conditional expressions that hold another one."
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.IfExp):
            inner = [n for n in ast.walk(node) if isinstance(n, ast.IfExp) and n is not node]
            found += [node.lineno] if inner else []
    return found


def crowded_lines(tree: ast.AST) -> list[int]:
    "Lines that hold more than one statement."
    lines = Counter(n.lineno for n in ast.walk(tree) if isinstance(n, ast.stmt))
    return [line for line, count in lines.items() if count > 1]


def untyped(tree: ast.AST) -> list[str]:
    "Arguments without a type, of public functions and of public methods of public classes."
    found = []

    def visit(body, prefix=""):
        for node in body:
            public = not getattr(node, "name", "_").startswith("_")
            if isinstance(node, ast.ClassDef) and public:
                visit(node.body, f"{node.name}.")
            if isinstance(node, ast.FunctionDef) and (public or node.name == "__init__"):
                found.extend(f"{prefix}{node.name}({a})" for a in bare_arguments(node))

    visit(tree.body)
    return found


def bare_arguments(function: ast.FunctionDef) -> list[str]:
    "Names of the arguments of a function that have no type, `self` left out."
    given = function.args
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    return [a.arg for a in every if a and not a.annotation and a.arg not in ("self", "cls")]


def found_in(check) -> list[str]:
    "What a check finds in all code, as `file:line`."
    found = []
    for name, pieces in sources().items():
        for piece in pieces:
            found += [f"{name}:{line}" for line in check(ast.parse(piece))]
    return found


def test_conditional_expressions_are_not_nested():
    assert not found_in(nested_conditionals)


def test_lines_of_modules_are_short():
    "`__all__` is left out: nbdev writes it, in lines of 120 columns."
    found = []
    for name, pieces in sources().items():
        if not name.startswith("visionxl/"):
            continue
        code = re.sub(r"(?ms)^__all__ = \[.*?\]$", "", pieces[0])
        found += [f"{name}: {line}" for line in code.split("\n") if len(line) > 100]
    assert not found, "\n".join(["break these in their notebooks:", *found])


def test_a_line_holds_one_statement():
    assert not found_in(crowded_lines)


def test_public_arguments_have_types():
    found = []
    for name, pieces in sources().items():
        if name.startswith("visionxl/"):
            found += [f"{name}: {what}" for what in untyped(ast.parse(pieces[0]))]
    assert not found, "\n".join(["give these arguments a type:", *found])


def test_the_checks_can_fail():
    assert nested_conditionals(ast.parse("x = 1 if a else (2 if b else 3)")) == [1]
    assert not nested_conditionals(ast.parse("x = 1 if a else 2\ny = 1 if b else 2"))
    assert crowded_lines(ast.parse("if a:\n    b = 1; c = 2\n")) == [2]
    assert crowded_lines(ast.parse("if a: b = 1")) == [1]
    code = "def f(a, b: int, *c): pass\nclass D:\n    def g(self, h): pass\ndef _p(q): pass"
    assert untyped(ast.parse(code)) == ["f(a)", "f(c)", "D.g(h)"]
