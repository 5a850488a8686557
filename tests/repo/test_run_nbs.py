"""Notebooks are run in a process of their own: order and form of their outputs, errors, deaths."""

import json
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import run_nbs  # noqa: E402


def notebook(folder: Path, *sources: str) -> Path:
    new = nbformat.v4
    nb = new.new_notebook(cells=[new.new_code_cell(s, id=f"c{k}") for k, s in enumerate(sources)])
    path = folder / "try.ipynb"
    path.write_text(nbformat.writes(nb), encoding="utf-8")
    return path


def outputs(path: Path) -> list[list]:
    return [c["outputs"] for c in json.loads(path.read_text(encoding="utf-8"))["cells"]]


def kinds(cell: list) -> list[str]:
    return [o.get("name", o["output_type"]) for o in cell]


def test_outputs_keep_their_order_and_form(tmp_path):
    path = notebook(
        tmp_path,
        "import matplotlib.pyplot as plt\nfrom IPython.display import display\n"
        "print('a'); print('b'); display(1); print('c')\n2",
        "plt.figure(figsize=(1, 1)); plt.plot([1, 2]); plt.show()\nprint('A line.')",
        "2;",
        "handle = display(1, display_id=True)\nhandle.update(3)",
        "import os\nos.getcwd()",
    )
    assert run_nbs.run(path, 60).endswith("new outputs")
    mixed, drawn, quiet, updated, folder = outputs(path)
    assert kinds(mixed) == ["stdout", "display_data", "stdout", "execute_result"]
    assert mixed[0]["text"] == ["a\n", "b\n"] and mixed[3]["data"] == {"text/plain": ["2"]}
    assert kinds(drawn) == ["display_data", "stdout"] and "image/png" in drawn[0]["data"]
    assert quiet == [] and updated[0]["data"] == {"text/plain": ["3"]}
    assert "transient" not in updated[0], "a file of a notebook has no such key"
    assert folder[0]["data"]["text/plain"] == [repr(str(tmp_path))]
    nbformat.validate(nbformat.read(path, as_version=4))
    before = path.read_bytes()
    assert run_nbs.run(path, 60).endswith("as before") and path.read_bytes() == before
    assert not run_nbs.stale(path)


def test_what_a_slider_shows_is_left_to_its_reader(tmp_path):
    pytest.importorskip("ipywidgets")
    show = "from ipywidgets import interact\ninteract(print, x=(0, 9))\nprint('below')"
    path = notebook(tmp_path, show.replace("print, x", "lambda x: print('inside', x), x"))
    run_nbs.run(path, 60)
    text = json.dumps(outputs(path))
    assert "below" in text and "inside" not in text


def test_an_error_names_the_cell_and_leaves_the_file_alone(tmp_path):
    path = notebook(tmp_path, "print(1)", "1 / 0")
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match="(?s)cell 1:\n1 / 0.*ZeroDivisionError"):
        run_nbs.run(path, 60)
    assert path.read_bytes() == before


def test_a_cell_that_takes_too_long_is_stopped(tmp_path):
    path = notebook(tmp_path, "import time", "time.sleep(100)")
    with pytest.raises(TimeoutError, match="cell 1 took over"):
        run_nbs.run(path, 5)


def test_a_process_that_dies_is_started_once_more(tmp_path, capsys):
    once = "import os, pathlib\nseen = pathlib.Path('seen')\nif not seen.exists():\n"
    path = notebook(tmp_path, once + "    seen.touch()\n    os.kill(os.getpid(), 9)\n'alive'")
    run_nbs.run(path, 60)
    assert "ended with code -9" in capsys.readouterr().out
    assert outputs(path)[0][0]["data"]["text/plain"] == ["'alive'"]


def test_a_process_that_dies_twice_is_reported(tmp_path):
    path = notebook(tmp_path, "import os\nos.kill(os.getpid(), 9)")
    with pytest.raises(run_nbs.ChildDied, match="code -9"):
        run_nbs.run(path, 60)


def test_a_stub_must_fail_before_it_is_filled_in(tmp_path):
    stub = "#| eval: false\ndef twice(x):\n    return ...\n\n\nassert twice(2) == four\n"
    path = notebook(tmp_path, "four = 4", stub, "print(four, 'twice' in globals())")
    run_nbs.run(path, 60)
    assert outputs(path)[2][0]["text"] == ["4 False\n"], "the stub has left its names behind"
    path = notebook(tmp_path, "four = 4", stub.replace("== four", "or four"))
    with pytest.raises(RuntimeError, match="holds before anything is filled in"):
        run_nbs.run(path, 60)
