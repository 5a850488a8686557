"""Fail when the modules are not what the notebooks export.

Exports every notebook into a copy of the tree and compares; the tree itself is not touched.
"""

import filecmp
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def differing(a: Path, b: Path) -> list[str]:
    "Names of generated modules that are missing on one side or differ."
    names = {str(p.relative_to(root)) for root in (a, b) for p in root.rglob("*.py")}
    names.discard("_modidx.py")  # nbdev's index: made anew by every export, and not in git

    def same(n):
        return (a / n).exists() and (b / n).exists() and filecmp.cmp(a / n, b / n, shallow=False)

    return sorted(n for n in names if not same(n))


def main() -> int:
    with tempfile.TemporaryDirectory() as tmp:
        copy = Path(tmp) / "repo"
        shutil.copytree(
            ROOT,
            copy,
            symlinks=True,
            ignore=shutil.ignore_patterns(
                ".venv", ".git", "_docs", "_proc", "assets", "runs", "demo"
            ),
        )
        hand_written = {"__init__.py", "__main__.py"}
        for p in (copy / "visionxl").rglob("*.py"):
            if p.name not in hand_written:
                p.unlink()
        subprocess.run([Path(sys.executable).with_name("nbdev_export")], cwd=copy, check=True)
        bad = differing(ROOT / "visionxl", copy / "visionxl")
    print(
        f"{len(list((ROOT / 'visionxl').rglob('*.py')))} modules compared with their "
        f"notebooks: {len(bad)} differ"
    )
    if bad:
        print("Not what the notebooks export (run nbdev_export and commit): " + ", ".join(bad))
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
