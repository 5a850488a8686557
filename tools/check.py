"""Run everything that must hold, part by part, and print how long each part took.

    python tools/check.py                  all parts
    python tools/check.py lint types       some parts
    python tools/check.py --slow           notebooks and tests with what is marked slow as well

All parts run, also after one that failed; the exit status says whether any did.
"""

import argparse
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent


def parts(slow: bool) -> dict[str, list[str]]:
    "The command of each part, in the order in which they run: the quick ones first."
    python = sys.executable
    tests = [str(BIN / "pytest"), "-n", "2", "--dist", "loadfile", "--durations=12"]
    notebooks = [str(BIN / "nbdev_test"), "--n_workers", "2", "--timing", "--pause", "0.2"]
    return {
        "modules": [python, "tools/check_export.py"],
        "lint": [str(BIN / "ruff"), "check", "."],
        "types": [str(BIN / "mypy")],
        "site": [python, "tools/docs.py", "--check"],
        "notebooks": notebooks + (["--flags", "slow"] if slow else []),
        "tests": tests + (["-m", ""] if slow else []),
    }


def environment(part: str) -> dict[str, str]:
    "The environment of a part: notebooks and tests run two at a time, so each gets one thread."
    threads = {"OMP_NUM_THREADS": "1"} if part in ("notebooks", "tests") else {}
    return {**os.environ, "MPLBACKEND": "Agg", **threads}


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
    rows, start = [], time.time()
    for name in a.parts or commands:
        print(f"== {name}: {' '.join(commands[name])}", flush=True)
        begin = time.time()
        failed = subprocess.run(commands[name], cwd=ROOT, env=environment(name)).returncode
        rows.append((name, time.time() - begin, "FAILED" if failed else "passed"))
    print("\nTime by part")
    for name, seconds, said in rows:
        print(f"  {name:<10} {seconds:6.0f} s   {said}")
    print(f"  {'all':<10} {time.time() - start:6.0f} s")
    return int(any(said == "FAILED" for _, _, said in rows))


if __name__ == "__main__":
    sys.exit(main())
