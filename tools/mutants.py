"""Change the code in a random sample of places and see whether the tests notice.

    python tools/mutants.py                   25 mutants of each area, seed 0 (about an hour)
    python tools/mutants.py steps --count 5   five of one area
    python tools/mutants.py --seconds 150     stop after so long; the next call goes on
    python tools/mutants.py --again           meet those that survived once more, with today's tests

cosmic-ray (`pip install cosmic-ray`) makes the changes: another operator of the same kind, a number
one more or one less, a condition turned round, a loop that never runs, a decorator gone, another
exception. Types of arguments are left alone. A sample is of *places*, each with one change, so that
a formula with many possible changes counts as often as a short one. The tests of an area run once,
to see which lines each of them reaches. Then a mutant meets those that reach its place (or its
module, where it is no line of a function), the quickest first, in a copy of the tree. The first
that fails kills the mutant, and so does a loop without end: a limit in seconds of the processor.
What a busy machine may cause counts for nothing: a test that fails since it waited too long, or a
long time by the clock. Results are kept at once in OUT (bench/results/mutants.json, which git
ignores), and a page of them beside it; --tree measures another copy.
"""

import argparse
import ast
import gc
import inspect
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable
from dataclasses import asdict, dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
AREAS = {  # modules, and the tests that meet their mutants
    "steps": (["steps"], ["steps/test_kinds.py", "steps", "solver"]),
    "operators": (
        ["operators"],
        ["operators", "test_own_operators.py", "steps/test_consistency.py"],
    ),
    "solver": (["solver.py", "presets.py"], ["steps/test_kinds.py", "solver"]),
    "schedule": (["prior/schedule.py"], ["steps/test_kinds.py", "prior/test_schedule.py"]),
    "motion": (
        ["extras/motion.py", "extras/flow.py"],
        ["steps/test_kinds.py", "extras/test_motion.py", "extras/test_shrinkage.py"],
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
LIMIT = 300  # seconds of the processor for the tests of one mutant
LONGEST = 3600  # seconds by the clock: after that nothing is known
BROKEN, NOT_LIVING = 3, 4  # exit codes of a fork
LATE = re.compile("DeadlineExceeded|TimeoutExpired|TimeoutError|timed out|waited in vain")
SLOW = ("threads_change_nothing", "resume_at_every_step", "may_be_estimated", "words_lead_to")
LEFT_OUT = " and ".join(f"not {name}" for name in SLOW)  # two thirds of the time of these tests
OPTIONS = ["-x", "-q", "-p", "no:cacheprovider", "--no-header", "--assert=plain", "-k", LEFT_OUT]


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
    spans: list[Any] = []
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
    drawn, out = chance.sample(every, min(count, len(every))), []
    while drawn:
        module, line, column, kinds, code = drawn.pop(0)
        change, occurrence = chance.choice(kinds)
        name = module.relative_to(tree).as_posix()
        mutant = Mutant(area, name, line, column, change, occurrence, code)
        if compiles(mutated(mutant, module.read_text(encoding="utf-8"))):
            out.append(mutant)
        else:
            drawn.append(chance.choice(every))  # a star between arguments is no multiplication
    return out


def compiles(source: str) -> bool:
    "Whether a source is Python."
    try:
        ast.parse(source)
    except SyntaxError:
        return False
    return True


def mutated(mutant: Mutant, source: str) -> str:
    "The module with its change."
    from cosmic_ray.mutating import mutate_code

    return mutate_code(source, operators()[mutant.change](), mutant.occurrence)


def codes(code: types.CodeType) -> dict:
    "The code objects of a module: {(qualified name, first line): code}."
    found, todo = {}, [code]
    while todo:
        each = todo.pop()
        found[each.co_qualname, each.co_firstlineno] = each
        todo += [c for c in each.co_consts if isinstance(c, types.CodeType)]
    return found


def alone(code: types.CodeType) -> tuple:
    "What a code object does by itself: that of functions within it is left out."
    plain = [repr(c) for c in code.co_consts if not isinstance(c, types.CodeType)]
    return code.co_code, plain, code.co_names, code.co_varnames, code.co_exceptiontable


def changed_functions(path: Path, source: str) -> dict | None:
    "The functions that a mutated source changes; None where it changes a module or a class."
    before = codes(compile(path.read_text(encoding="utf-8"), str(path), "exec"))
    after = codes(compile(source, str(path), "exec"))
    if set(before) != set(after):
        return None
    found = {k: c for k, c in after.items() if alone(c) != alone(before[k])}
    functions = all(c.co_flags & inspect.CO_OPTIMIZED for c in found.values())
    return found if functions else None


def put_in(path: Path, found: dict, after: dict) -> bool:
    "Give living functions of a module their mutated code; says whether any lives."
    done = False
    for f in gc.get_objects():
        if isinstance(f, types.FunctionType) and f.__code__.co_filename == str(path):
            key = f.__code__.co_qualname, f.__code__.co_firstlineno
            outer = [k for k in found if k == key or k[0].startswith(f"{key[0]}.<locals>.")]
            if outer:
                f.__code__ = after[key]
                done = True
    return done


class Meeting:
    "A plugin of pytest: collects the tests once, and runs them for each mutant in a fork."

    def __init__(self, todo: list[Mutant], tree: Path, a: argparse.Namespace, kept: dict, save):
        self.todo, self.tree, self.a, self.kept, self.save = todo, tree, a, kept, save
        self.area = todo[0].area
        self.until, self.failed, self.new = time.time() + a.seconds, "", {}

    def pytest_runtest_logreport(self, report) -> None:
        self.new[report.nodeid] = self.new.get(report.nodeid, 0.0) + report.duration
        if report.failed and not self.failed and not LATE.search(report.longreprtext):
            self.failed = report.nodeid

    def pytest_runtestloop(self, session) -> bool:
        "In place of pytest's own loop."
        seconds = self.kept["seconds"].setdefault(self.area, {})
        if untraced := [item for item in session.items if item.nodeid not in seconds]:
            self.trace(untraced)
        session.items.sort(key=lambda item: seconds.get(item.nodeid, 0.0))
        for mutant in self.todo:
            if self.over():
                break
            began, path = time.time(), self.tree / mutant.module
            source = mutated(mutant, path.read_text(encoding="utf-8"))
            found = changed_functions(path, source)
            items = self.reaching(session.items, mutant, found is None)
            if not items:
                done = {"code": 0, "failed": ""}
            else:
                done = {"code": NOT_LIVING}
                if found is not None:
                    after = codes(compile(source, str(path), "exec"))
                    done = self.in_fork(self.run_all, items, path, found, after)
                if done["code"] == NOT_LIVING:
                    done = anew(self.tree, mutant, source, items, min(LONGEST, self.a.patience))
            mutant.seconds = round(time.time() - began, 1)
            decide(mutant, done)
            print(f"{said(mutant)}  {len(items)} tests", file=sys.stderr, flush=True)
            self.save()
        return True

    def over(self) -> bool:
        "Whether the time for this call is used."
        return time.time() > self.until

    def reaching(self, items: list, mutant: Mutant, everywhere: bool) -> list:
        "The tests that reach the place of a mutant; everywhere: those that reach its module."
        reach = self.kept["reach"][self.area].get(mutant.module, {})
        text = (self.tree / mutant.module).read_text(encoding="utf-8")
        lines = map(int, reach) if everywhere else statement(ast.parse(text), mutant.line)
        names = {name for line in lines for name in reach.get(str(line), ())}
        found = [item for item in items if item.nodeid in names]
        return items if everywhere and not found else found

    def in_fork(self, run: Callable, *args: Any) -> dict:
        "What `run` tells in a process of its own."
        with tempfile.TemporaryDirectory() as folder:
            told = Path(folder) / "told.json"
            child = os.fork()
            if child == 0:
                code = BROKEN
                try:
                    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                    code = run(told, *args)
                except BaseException as error:
                    print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
                finally:
                    os._exit(code)
            return waited(child, told, min(LONGEST, self.a.patience))

    def trace(self, items: list) -> None:
        "Find out which lines of the package tests reach, and how long they take."
        done = self.in_fork(self.run_traced, items)
        self.kept["seconds"][self.area] |= done["seconds"]
        known = self.kept["reach"].setdefault(self.area, {})
        for module, lines in done["reach"].items():
            for line, names in lines.items():
                known.setdefault(module, {}).setdefault(line, []).extend(names)
        self.save()

    def run_traced(self, told: Path, items: list) -> int:
        "In the child: run tests while there is time, and tell which lines each of them reaches."
        import coverage

        tracer = coverage.Coverage(data_file=None, source=[str(self.tree / "visionxl")])
        tracer.start()
        self.run_items(items, lambda item: tracer.switch_context(item.nodeid), self.over)
        tracer.stop()
        data, reach = tracer.get_data(), {}
        for file in data.measured_files():
            lines = data.contexts_by_lineno(file)
            reach[Path(file).relative_to(self.tree).as_posix()] = {
                line: [n for n in names if n] for line, names in lines.items()
            }
        told.write_text(json.dumps({"reach": reach, "seconds": self.new}))
        return 0

    def run_items(self, items: list, before: Callable, until: Callable = bool) -> None:
        "Run tests one after another."
        for k, item in enumerate(items):
            before(item)
            following = items[k + 1] if k + 1 < len(items) else None
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if until():
                break

    def run_all(self, told: Path, items: list, path: Path, found: dict, after: dict) -> int:
        "In the child: run the tests until one fails."
        limited()
        if not put_in(path, found, after):
            return NOT_LIVING
        self.run_items(items, str, lambda: self.failed)
        told.write_text(json.dumps({"failed": self.failed}))
        return int(bool(self.failed))


def statement(tree: ast.Module, line: int) -> range:
    "The lines of the smallest statement that has this line; of a compound one those of its head."
    first, last = line, line
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt) and node.lineno <= line <= (node.end_lineno or line):
            body = getattr(node, "body", None)
            end = body[0].lineno - 1 if body else node.end_lineno or line
            if line <= end:  # inner ones come later
                first, last = node.lineno, end
    return range(first, last + 1)


def limited() -> None:
    "This process ends, by a signal, when it has used its seconds of the processor."
    resource.setrlimit(resource.RLIMIT_CPU, (LIMIT, LIMIT + 10))


def waited(child: int, told: Path, limit: float) -> dict:
    "The outcome of a child process, which is ended when its time is over."
    until = time.time() + limit
    while time.time() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            found = json.loads(told.read_text()) if told.exists() else {"failed": ""}
            return {"code": os.waitstatus_to_exitcode(status)} | found
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return {"code": "late", "failed": ""}


def anew(tree: Path, mutant: Mutant, source: str, items: list, limit: float) -> dict:
    "The outcome with a changed module or class: a process that imports all anew."
    path = tree / mutant.module
    before, when = path.read_text(encoding="utf-8"), path.stat().st_mtime_ns
    path.write_text(source, encoding="utf-8")
    command = [sys.executable, "-B", "-m", "pytest", *OPTIONS, *(i.nodeid for i in items)]
    try:
        done = subprocess.run(
            command, cwd=tree, capture_output=True, text=True, timeout=limit, preexec_fn=limited
        )
        if LATE.search(done.stdout):
            return {"code": "late", "failed": ""}
        first = re.search(r"(?m)^(?:FAILED|ERROR) (\S+)", done.stdout)
        failed = first.group(1) if first else ""
        return {"code": done.returncode, "failed": failed}
    except subprocess.TimeoutExpired:
        return {"code": "late", "failed": ""}
    finally:
        path.write_text(before, encoding="utf-8")
        os.utime(path, ns=(when, when))  # what was compiled of it is valid again


def tests_of(area: str) -> list[str]:
    "The tests that meet the mutants of an area."
    return [f"tests/{name}" for name in AREAS[area][1]]


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


def meet(area: str, todo: list[Mutant], a: argparse.Namespace, kept: dict, save: Callable) -> None:
    "In a fork: let mutants of an area meet its tests until the time is up; keeps their results."
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    import pytest

    with tempfile.TemporaryDirectory() as name:
        copy = copied(a.tree, Path(name))
        subprocess.run([sys.executable, "-m", "compileall", "-q", str(copy / "visionxl")])
        os.chdir(copy)
        sys.path.insert(0, str(copy))
        os.environ["PYTHONPATH"] = str(copy)
        plugin = Meeting(todo, copy, a, kept, save)
        pytest.main([*OPTIONS, f"--basetemp={name}/pt", *tests_of(area)], plugins=[plugin])
    os._exit(0)


def decide(mutant: Mutant, done: dict) -> None:
    "Note what became of a mutant; nothing when it is not known."
    if done["code"] in ("late", BROKEN):
        return
    mutant.result = "survived" if done["code"] == 0 else "killed"
    if mutant.result == "killed":
        endless = done["code"] == -signal.SIGXCPU
        mutant.test = "time limit" if endless else done["failed"] or "import"


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
        "killed when a test of its area fails, or by a limit in seconds of the processor.",
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
    kept = {"seconds": {}, "reach": {}, "mutants": []}
    if a.out.exists():
        kept = json.loads(a.out.read_text())
    mutants = [Mutant(**m) for m in kept["mutants"]]
    for area in a.areas or AREAS:
        if not any(m.area == area for m in mutants):
            mutants += sample(area, a.tree, a.count, a.seed)

    def save() -> None:
        kept["mutants"] = [asdict(m) for m in mutants]
        a.out.write_text(json.dumps(kept))
        a.out.with_suffix(".md").write_text(page(mutants))

    load_heavy()
    start = time.time()
    for area in a.areas or AREAS:
        wanted = ("", "survived" if a.again else "")
        todo = [m for m in mutants if m.area == area and m.result in wanted]
        if todo and time.time() - start < a.seconds:
            left = argparse.Namespace(**vars(a) | {"seconds": a.seconds - (time.time() - start)})
            meet(area, sorted(todo, key=attrgetter("seconds")), left, kept, save)
            kept = json.loads(a.out.read_text())
            mutants = [Mutant(**m) for m in kept["mutants"]]
    mine = [m for m in mutants if m.area in (a.areas or AREAS)]
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
