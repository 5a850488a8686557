"""`make test`'s own machine: parts run, two beside each other, and a failure is seen."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import check  # noqa: E402

WORK = "import sys, time\nwhile time.process_time() < {}: pass\nprint('said', 3)\nsys.exit({})"


def command(seconds: float, code: int = 0) -> list[str]:
    return [sys.executable, "-S", "-c", WORK.format(seconds, code)]


def test_parts_and_what_they_took(capsys):
    parts = {"quick": command(0), check.ASIDE: command(0.3), "bad": command(0.1, 1)}
    quick, aside, bad = check.run_all(parts)
    assert [quick.passed, aside.passed, bad.passed] == [True, True, False]
    assert aside.name == check.ASIDE and aside.processor >= 0.3 > quick.processor
    assert capsys.readouterr().out.count("said 3") == 3


def test_one_part_runs_alone(monkeypatch, capsys):
    monkeypatch.setattr(check, "parts", lambda slow: {"a": command(0), "b": command(0, 1)})
    monkeypatch.setattr(sys, "argv", ["check.py", "a"])
    assert check.main() == 0
    monkeypatch.setattr(sys, "argv", ["check.py"])
    assert check.main() == 1
    said = capsys.readouterr().out
    assert "passed" in said and "FAILED" in said and "Time by part" in said


def test_every_folder_of_tests_is_run():
    found = {ROOT / name for name in check.folders()}
    files = (ROOT / "tests").rglob("test_*.py")
    assert all(found & {f, *f.parents} for f in files)
    assert check.folders()[0] == "tests/repo"
