"""Lessons in a real JupyterLab: each runs, its sliders are moved, and their pictures change."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from repo.browser import open_chromium

ROOT = Path(__file__).resolve().parents[2]
LESSONS = sorted((ROOT / "nbs" / "course").glob("*.ipynb"))
PARAMS = [pytest.param(p, id=p.stem, marks=pytest.mark.slow) for p in LESSONS]
SETTINGS = {
    "notebook-extension/tracker": {
        "windowingMode": "none",
        "autoStartDefaultKernel": True,
    },  # every cell is in the page, seen or not
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}


def wait(what, seconds: float):
    "Call until true; the last answer."
    end = time.time() + seconds
    while not (found := what()) and time.time() < end:
        time.sleep(0.2)
    return found


def answers(url: str) -> bool:
    try:
        return urllib.request.urlopen(url, timeout=2).status == 200
    except OSError:
        return False


@pytest.fixture
def browser():
    b = open_chromium(1400, 1000)
    yield b
    b.quit()


@pytest.fixture
def lab(
    tmp_path, browser, request
):  # after the browser: without Chromium there is nothing to start a server for
    """JupyterLab on a folder of its own that holds one lesson without outputs; gives the address
    of the notebook.
    """
    pytest.importorskip("jupyterlab", reason="jupyterlab is missing: pip install -e '.[notebook]'")
    (tmp_path / "nbs" / "course").mkdir(parents=True)
    (tmp_path / "bench" / "results").mkdir(parents=True)
    for kept in ("ablation_white.json", "ablation.json"):  # lesson 15 would ask the web for them
        shutil.copy(ROOT / "bench/results" / kept, tmp_path / "bench/results" / kept)
    notebook = json.loads(request.param.read_text(encoding="utf-8"))
    assert notebook["metadata"]["kernelspec"]["name"] == "python3", (
        f"{request.param.name} does not say which kernel runs it: JupyterLab would ask"
    )
    for c in notebook["cells"]:
        c |= {"outputs": []} if c["cell_type"] == "code" else {}
    lesson = tmp_path / "nbs" / "course" / "lesson.ipynb"
    lesson.write_text(json.dumps(notebook), encoding="utf-8")
    for name, value in SETTINGS.items():
        file = tmp_path / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(value))
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    env = {k: v for k, v in os.environ.items() if k != "MPLBACKEND"} | {
        "PYTHONPATH": str(ROOT),
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "JUPYTER_CONFIG_DIR": str(tmp_path / "config"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
        "OMP_NUM_THREADS": "2",
    }
    flags = [
        "--no-browser",
        "--allow-root",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        "--ServerApp.token=t",
        "--expose-app-in-browser",
        f"--ServerApp.root_dir={tmp_path / 'nbs'}",
        f"--LabApp.user_settings_dir={tmp_path / 'settings'}",
        f"--LabApp.workspaces_dir={tmp_path / 'spaces'}",
    ]
    with open(tmp_path / "log", "w") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *flags],
            cwd=tmp_path,
            env=env,
            stdout=log,
            stderr=log,
        )
        try:
            if not wait(lambda: answers(f"http://127.0.0.1:{port}/api?token=t"), 60):
                pytest.fail((tmp_path / "log").read_text()[-2000:])
            yield f"http://127.0.0.1:{port}/lab/tree/course/lesson.ipynb?token=t"
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()


def shown(browser, slider) -> str:
    "The alternative text of the picture that a slider shows."
    return browser.execute_script(
        "return arguments[0].closest('figure').querySelector('img:not([hidden])').alt", slider
    )


@pytest.mark.parametrize("lab", PARAMS, indirect=True)
def test_a_lesson_runs_and_its_sliders_move_the_pictures(lab, browser, request):
    from selenium.webdriver.common.keys import Keys

    browser.get(lab)
    js = browser.execute_script
    panel = "window.jupyterapp && jupyterapp.shell.currentWidget"
    ready = (
        f"const p = {panel}; return !!(p && p.sessionContext && p.sessionContext.session && "
        "p.sessionContext.session.kernel && p.content.widgets.length > 2)"
    )
    assert wait(lambda: js(ready), 180), "the notebook did not open"
    js(
        f"window.ran = ''; const p = {panel}; "
        "jupyterapp.commands.execute('notebook:run-all-cells').then("
        "() => p.sessionContext.session.kernel.requestKernelInfo()).then(() => { "
        "window.ran = 'done' }, e => { window.ran = String(e) })"
    )
    assert wait(lambda: js("return window.ran"), 540) == "done"
    failed = js(
        f"return {panel}.content.widgets.flatMap(c => c.model.type === 'code' ? "
        "c.model.sharedModel.getOutputs() : [])"
        ".filter(o => o.output_type === 'error').map(o => o.ename + ': ' + o.evalue)"
    )
    # only the exercise fails: it holds an ellipsis where the reader's line belongs
    wrong = ("TypeError", "AssertionError", "ValueError: lowpass=OwnStep")
    assert len(failed) == 1 and failed[0].startswith(wrong), failed
    wanted = Path(request.node.callspec.params["lab"]).read_text(encoding="utf-8").count('"Slider(')
    found = wait(lambda: browser.find_elements("css selector", ".jp-OutputArea .slider input"), 90)
    assert len(found or []) == wanted, f"{wanted} sliders are made, {len(found or [])} are shown"
    for slider in found or []:
        js("arguments[0].scrollIntoView({block: 'center'})", slider)
        before, value = shown(browser, slider), slider.get_attribute("value")
        slider.send_keys(Keys.ARROW_RIGHT)
        assert slider.get_attribute("value") != value, "the arrow key did not move the slider"
        assert shown(browser, slider) != before, "the picture did not change"
    if folder := os.environ.get("VISIONXL_SCREENSHOTS"):
        browser.save_screenshot(str(Path(folder) / f"{request.node.callspec.id}.png"))
