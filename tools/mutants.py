"""Change the code in a random sample of places and see whether the tests notice.

    python tools/mutants.py                   25 mutants of each area, seed 0 (about an hour)
    python tools/mutants.py steps --count 5   five of one area
    python tools/mutants.py --seconds 150     stop after so long; the next call goes on
    python tools/mutants.py --again           meet those that survived once more, with today's tests

cosmic-ray (`pip install cosmic-ray`) makes the changes: another operator of the same kind, a number
one more or one less, a condition turned round, a loop that never runs, a decorator gone, another
exception. Types of arguments are left alone. A sample is of *places*, each with one change, so that
a formula with many possible changes counts as often as a short one. The tests of an area run in a
copy of the tree, the quickest first as soon as their times are known. The first that fails, or a
time limit, kills the mutant. Results are kept at once in OUT (bench/results/mutants.json, which git
ignores), and a page of them beside it; --tree measures another copy.
"""

import argparse
import ast
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
AREAS = {  # modules, and the tests that meet their mutants
    "steps": (["steps"], ["steps", "solver", "compare/test_golden.py"]),
    "operators": (["operators"], ["operators", "test_own_operators.py", "steps"]),
    "solver": (["solver.py", "presets.py"], ["solver", "steps", "compare/test_golden.py"]),
    "schedule": (["prior/schedule.py"], ["prior/test_schedule.py", "solver", "prior/test_toy.py"]),
    "motion": (
        ["extras/motion.py", "extras/flow.py"],
        ["extras/test_motion.py", "extras/test_shrinkage.py", "solver"],
    ),
}
KINDS = [  # an operator becomes one of its own kind: another would only raise TypeError
    {"Add", "Sub", "Mul", "Div", "FloorDiv", "Mod", "Pow"},
    {"RShift", "LShift", "BitOr", "BitAnd", "BitXor"},
    {"Eq", "NotEq", "Lt", "LtE", "Gt", "GtE"},
    {"Is", "IsNot"},
    {"In", "NotIn"},
    {"UAdd", "USub", "Invert"},
]
LIMIT = 600  # seconds for the tests of one mutant
SLOW = ("threads_change_nothing", "resume_at_every_step", "may_be_estimated", "words_lead_to")
LEFT_OUT = " and ".join(f"not {name}" for name in SLOW)  # two thirds of the time of these tests


@dataclass
class Mutant:
    "One change of one place, and what became of it."

    area: str
    module: str
    line: int
    column: int
    change: str
    occurrence: int
    code: str
    result: str = ""
    test: str = ""
    seconds: float = 0.0
    reason: str = ""  # why it may survive, written by hand


def operators() -> dict:
    "The changes that are made, by name."
    try:
        from cosmic_ray.plugins import get_operator, operator_names
    except ImportError as e:
        raise SystemExit("cosmic-ray is missing: pip install cosmic-ray") from e
    found = {}
    for name in operator_names():
        operator = get_operator(name)
        words = set(name.rpartition("/")[2].split("_")[1:])
        if not operator.arguments() and (not words or any(words <= kind for kind in KINDS)):
            found[name] = operator
    return found


def apart(source: str) -> set[tuple[int, int]]:
    "Positions that no mutant touches: types of arguments and results, and `__all__`."
    spans: list[ast.AST | None] = []
    for node in ast.walk(ast.parse(source)):
        spans += [getattr(node, name, None) for name in ("annotation", "returns")]
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            spans.append(node.value)
    inside = set()
    for s in filter(None, spans):
        for line in range(s.lineno, s.end_lineno + 1):
            first = s.col_offset if line == s.lineno else 0
            last = s.end_col_offset if line == s.end_lineno else 1000
            inside |= {(line, column) for column in range(first, last)}
    return inside


def places(path: Path, changes: dict) -> dict[tuple[int, int], list[tuple[str, int]]]:
    "The places of a module that can change, each with its changes as (name, occurrence)."
    from cosmic_ray.ast import get_ast

    source, found = path.read_text(encoding="utf-8"), {}
    skipped, counts = apart(source), dict.fromkeys(changes, 0)
    made = {name: operator() for name, operator in changes.items()}
    todo = [get_ast(source)]
    while todo:
        node = todo.pop()
        todo += reversed(getattr(node, "children", []))
        for name, operator in made.items():
            for start, *_ in operator.mutation_positions(node):
                if start not in skipped:
                    found.setdefault(start, []).append((name, counts[name]))
                counts[name] += 1
    return found


def sample(area: str, tree: Path, count: int, seed: int) -> list[Mutant]:
    "So many mutants of an area: places at random, and one change of each at random."
    changes, every = operators(), []
    for name in AREAS[area][0]:
        path = tree / "visionxl" / name
        for module in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            lines = module.read_text(encoding="utf-8").splitlines()
            for (line, column), kinds in sorted(places(module, changes).items()):
                every.append((module, line, column, kinds, lines[line - 1].strip()))
    chance = random.Random(f"{area} {seed}")
    out = []
    for module, line, column, kinds, code in chance.sample(every, min(count, len(every))):
        change, occurrence = chance.choice(kinds)
        name = module.relative_to(tree).as_posix()
        out.append(Mutant(area, name, line, column, change, occurrence, code))
    return out


def mutated(mutant: Mutant, source: str) -> str:
    "The module with its change."
    from cosmic_ray.mutating import mutate_code

    return mutate_code(source, operators()[mutant.change](), mutant.occurrence)


class Quick:
    "A plugin of pytest: the quickest tests first; notes how long each takes and which failed."

    def __init__(self, seconds: dict):
        self.seconds, self.new, self.failed = seconds, {}, ""

    def pytest_collection_modifyitems(self, items: list) -> None:
        items.sort(key=self._seconds)

    def _seconds(self, item) -> float:
        return self.seconds.get(item.nodeid, 0.0)

    def pytest_runtest_logreport(self, report) -> None:
        self.new[report.nodeid] = self.new.get(report.nodeid, 0.0) + report.duration
        if report.failed and not self.failed:
            self.failed = report.nodeid


def tested(tree: Path, area: str, seconds: dict, limit: float) -> dict:
    "The outcome of an area's tests in a fork of this process, which has loaded torch already."
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "said.json"
        child = os.fork()
        if child == 0:
            own = 3
            try:
                own = in_child(tree, area, seconds, said)
            finally:
                os._exit(own)
        until = time.time() + limit
        code: int | None = None
        while code is None and time.time() < until:
            done, status = os.waitpid(child, os.WNOHANG)
            code = os.waitstatus_to_exitcode(status) if done else None
            time.sleep(0.02)
        if code is None:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return {"code": "time", "failed": "", "seconds": {}}
        found = json.loads(said.read_text()) if said.exists() else {"failed": "", "seconds": {}}
        return {"code": code} | found


def in_child(tree: Path, area: str, seconds: dict, said: Path) -> int:
    "Run the tests of an area; returns pytest's exit code."
    import pytest

    os.chdir(tree)
    sys.path[:0] = [str(tree)]
    sys.dont_write_bytecode = True
    log = os.open(said.parent / "log", os.O_WRONLY | os.O_CREAT)
    os.dup2(log, 1)
    os.dup2(log, 2)
    plugin = Quick(seconds)
    names = [f"tests/{name}" for name in AREAS[area][1]]
    options = ["-x", "-q", "-p", "no:cacheprovider", "--no-header", "--assert=plain"]
    options += ["-k", LEFT_OUT, f"--basetemp={said.parent / 'pt'}"]
    code = pytest.main([*options, *names], plugins=[plugin])
    said.write_text(json.dumps({"failed": plugin.failed, "seconds": plugin.new}))
    return int(code)


def copied(tree: Path, folder: Path) -> Path:
    "A copy of what the tests need; a mutant never stands in the tree itself."
    for name in ("visionxl", "tests", "bench", "tools"):
        ignored = shutil.ignore_patterns("__pycache__", ".*")
        shutil.copytree(tree / name, folder / name, ignore=ignored, dirs_exist_ok=True)
    for name in ("pyproject.toml", "settings.ini", "setup.py"):
        shutil.copy(tree / name, folder)
    (folder / "nbs").symlink_to(tree / "nbs")
    return folder


def load_heavy() -> None:
    "Import what every test needs, once, before the forks; nothing of visionxl."
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import torch

    torch.set_num_threads(1)


def meet(todo: list[Mutant], a: argparse.Namespace, kept: dict, save: Callable) -> None:
    "Let mutants meet the tests of their area until the time is up; fills in their results."
    until = time.time() + a.seconds
    with tempfile.TemporaryDirectory() as name:
        copy = copied(a.tree, Path(name))
        subprocess.run([sys.executable, "-m", "compileall", "-q", str(copy / "visionxl")])
        for mutant in todo:
            timings = kept["seconds"].setdefault(mutant.area, {})
            if time.time() > until:
                return
            path = copy / mutant.module
            source, when = path.read_text(encoding="utf-8"), path.stat().st_mtime_ns
            path.write_text(mutated(mutant, source), encoding="utf-8")
            began = time.time()
            done = tested(copy, mutant.area, timings, min(LIMIT, a.patience))
            timings.update(done["seconds"])
            path.write_text(source, encoding="utf-8")
            os.utime(path, ns=(when, when))  # what was compiled of it is valid again
            mutant.seconds = round(time.time() - began, 1)
            decide(mutant, done, a.patience < LIMIT)
            print(said(mutant), flush=True)
            save()


def decide(mutant: Mutant, done: dict, hurried: bool) -> None:
    "Note what became of a mutant; nothing when its time was cut short."
    if done["code"] == "time" and hurried:
        return
    mutant.result = "survived" if done["code"] == 0 else "killed"
    if mutant.result == "killed":
        mutant.test = "time limit" if done["code"] == "time" else done["failed"] or "import"


def change_of(m: Mutant) -> str:
    "The change in short."
    return re.sub(r"^core/|Replace(Binary|Comparison|Unary)Operator_", "", m.change)


def said(m: Mutant) -> str:
    "A line on a mutant."
    return f"{m.result:8} {m.module}:{m.line}:{m.column} {change_of(m)}: {m.code}  {m.test}"


def page(mutants: list[Mutant]) -> str:
    "What was found, as Markdown: how many of each area were killed, and who survived."
    lines = [
        "# Mutants",
        "",
        "A random sample of places, each with one change (`tools/mutants.py`, seed 0). A mutant is "
        "killed when a test of its area fails.",
        "",
        "| area | places | killed | share |",
        "|---|---|---|---|",
    ]
    for area in AREAS:
        met = [m for m in mutants if m.area == area and m.result]
        if met:
            killed = sum(m.result == "killed" for m in met)
            lines.append(f"| {area} | {len(met)} | {killed} | {killed / len(met):.0%} |")
    left = [m for m in mutants if m.result == "survived"]
    lines += ["", "Those that survived:", ""]
    lines += ["| place | change | code | why |", "|---|---|---|---|"]
    for m in left:
        code = m.code.replace("|", "\\|")
        lines.append(f"| {m.module}:{m.line} | {change_of(m)} | `{code}` | {m.reason} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("areas", nargs="*", help=f"default: {' '.join(AREAS)}")
    p.add_argument("--count", type=int, default=25)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--seconds", type=float, default=1e9)
    p.add_argument("--patience", type=float, default=1e9, help="leave slower mutants for later")
    p.add_argument("--again", action="store_true", help="those that survived, once more")
    p.add_argument("--tree", type=Path, default=ROOT)
    p.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "mutants.json")
    a = p.parse_args()
    kept = {"seconds": {}, "mutants": []}
    if a.out.exists():
        kept = json.loads(a.out.read_text())
    mutants = [Mutant(**m) for m in kept["mutants"]]
    for area in a.areas or AREAS:
        if not any(m.area == area for m in mutants):
            mutants += sample(area, a.tree, a.count, a.seed)

    def save() -> None:
        kept["mutants"] = [asdict(m) for m in mutants]
        if all(m.result for m in mutants):
            kept["seconds"] = {}
        a.out.write_text(json.dumps(kept, indent=0))
        a.out.with_suffix(".md").write_text(page(mutants))

    mine = [m for m in mutants if m.area in (a.areas or AREAS)]
    todo = [m for m in mine if m.result in ("", "survived" if a.again else "")]
    load_heavy()
    turn = {id(m): k for area in AREAS for k, m in enumerate(m for m in todo if m.area == area)}
    todo.sort(key=lambda m: (m.seconds, turn[id(m)]))  # areas in turns; those left for later last
    meet(todo, a, kept, save)
    for area in AREAS:
        met = [m for m in mutants if m.area == area and m.result]
        if met:
            killed = sum(m.result == "killed" for m in met)
            print(f"{area:10} {killed} of {len(met)} killed ({killed / len(met):.0%})")
    for m in mutants:
        if m.result == "survived":
            print(said(m))
    return int(any(not m.result for m in mine))


if __name__ == "__main__":
    sys.exit(main())
