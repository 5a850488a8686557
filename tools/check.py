"""Run everything that must hold, part by part, and print how long each part took.

    python tools/check.py                  all parts
    python tools/check.py lint types       some parts
    python tools/check.py --slow           notebooks and tests with what is marked slow as well

The notebooks run beside all other parts, so that no core waits for the last test or notebook of a
part. What a part says is printed when it is done. All parts run, also after one that failed; the
exit status says whether any did.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
WORKERS = str(max(2, min(4, os.cpu_count() or 2)))  # of the notebooks, and as many of the tests
ASIDE = "notebooks"  # this part runs beside the others
PRINTING = threading.Lock()


@dataclass
class Done:
    "How a part went."

    name: str
    seconds: float
    processor: float  # seconds of one core: those of its worker processes are among them
    passed: bool


def folders() -> list[str]:
    "The tests, folder by folder, with the longest files first: they would be the last to end."
    found = sorted((ROOT / "tests").glob("test_*.py")) + sorted((ROOT / "tests").glob("*/"))
    names = [str(p.relative_to(ROOT)) for p in found if not p.name.startswith(("_", "."))]
    return sorted(names, key=lambda name: name != "tests/repo")


def parts(slow: bool) -> dict[str, list[str]]:
    "The command of each part, in the order in which they run: the quick ones first."
    python = sys.executable
    tests = [str(BIN / "pytest"), "-n", WORKERS, "--dist", "loadfile", "--durations=12"]
    tests += ["--no-loadscope-reorder", *(["-m", ""] if slow else []), *folders()]
    licences = {"licences": [python, "tools/licences.py", "--audit"]}
    return {
        "modules": [python, "tools/check_export.py"],
        "lint": [str(BIN / "ruff"), "check", "."],
        "types": [str(BIN / "mypy")],
        **(licences if slow else {}),
        "site": [python, "tools/docs.py", "--check"],
        "notebooks": [python, "tools/test_nbs.py", WORKERS, *(["slow"] if slow else [])],
        "tests": tests,
    }


def environment(part: str) -> dict[str, str]:
    "The environment of a part: notebooks and tests run two at a time, so each gets one thread."
    threads = {"OMP_NUM_THREADS": "1"} if part in ("notebooks", "tests") else {}
    return {**os.environ, "MPLBACKEND": "Agg", **threads}


def run(name: str, command: list[str]) -> Done:
    "Run one part; what it says is printed at its end, in one piece."
    begin = time.time()
    with tempfile.TemporaryFile() as said:
        env = environment(name)
        child = subprocess.Popen(command, cwd=ROOT, env=env, stdout=said, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        text = said.read().decode(errors="replace")
    with PRINTING:
        print(f"== {name}: {' '.join(command)}\n{text}", flush=True)
    seconds, processor = time.time() - begin, used.ru_utime + used.ru_stime
    return Done(name, seconds, processor, child.returncode == 0)


def run_all(commands: dict[str, list[str]]) -> list[Done]:
    "Run parts in their order, and the notebooks beside them; returns how each went."
    found: dict[str, Done] = {}

    def lane(names: list[str]) -> None:
        for name in names:
            found[name] = run(name, commands[name])

    lanes = [[n for n in commands if (n == ASIDE) is aside] for aside in (True, False)]
    threads = [threading.Thread(target=lane, args=(names,)) for names in lanes if names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [found[name] for name in commands]


def main() -> int:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("parts", nargs="*", help=f"default: {' '.join(parts(False))}")
    p.add_argument("--slow", action="store_true", help="with what is marked slow")
    a = p.parse_args()
    commands = parts(a.slow)
    if unknown := [name for name in a.parts if name not in commands]:
        p.error(f"no part is called {', '.join(unknown)}: give {', '.join(commands)}")
    if find_spec("smalldocs") is None:  # it asks for Python 3.11
        del commands["site"]
        print("== site: skipped, smalldocs is not installed")
    chosen = {n: c for n, c in commands.items() if n in (a.parts or commands)}
    start = time.time()
    print(f"running {', '.join(chosen)}", flush=True)
    rows = run_all(chosen)
    print("Time by part, and time of processors; notebooks run beside the rest")
    for done in rows:
        said = "passed" if done.passed else "FAILED"
        print(f"  {done.name:<10} {done.seconds:6.0f} s {done.processor:6.0f} s   {said}")
    used = sum(done.processor for done in rows)
    print(f"  {'all':<10} {time.time() - start:6.0f} s {used:6.0f} s")
    return int(not all(done.passed for done in rows))


if __name__ == "__main__":
    sys.exit(main())
