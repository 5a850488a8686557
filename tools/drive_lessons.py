"""Run lessons in a real JupyterLab in Chromium, as a reader does, and move every slider.

    python tools/drive_lessons.py                 all of them, in about half an hour
    python tools/drive_lessons.py 07 solver       those whose names hold one of these words

Each lesson is opened without outputs and all its cells are run. Only its exercise may fail. Then
each slider is moved by its arrow key, and its picture must change. One line for each lesson says
how it went and how long it took. The test is tests/repo/test_jupyter.py; `make test` runs it for
the first lesson only.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEST = "tests/repo/test_jupyter.py"


def lessons(words: list[str]) -> list[str]:
    "The names of the lessons that hold one of the words; all where there is none."
    names = sorted(p.stem for p in (ROOT / "nbs" / "course").glob("*.ipynb"))
    return [n for n in names if not words or any(w in n for w in words)]


def drive(name: str) -> bool:
    "Run one lesson in JupyterLab; say how it went, and what failed."
    start = time.time()
    command = [sys.executable, "-m", "pytest", TEST, "-m", "", "-x", "-k", name]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    said = "skipped" if "1 skipped" in done.stdout else "passed"
    said = said if done.returncode == 0 else "FAILED"
    print(f"{name}: {said} in {time.time() - start:.0f} s", flush=True)
    if said != "passed":
        print(done.stdout[-3000:] + done.stderr[-1000:], flush=True)
    return said == "passed"


def main() -> int:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("words", nargs="*", help="only lessons whose names hold one of these")
    chosen = lessons(p.parse_args().words)
    if not chosen:
        p.error(f"no lesson holds these words: there are {', '.join(lessons([]))}")
    return sum(not drive(name) for name in chosen)


if __name__ == "__main__":
    sys.exit(main())
