"""The quickstart in a real JupyterLab: it runs, its slider is dragged, and the picture changes."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from repo.browser import open_chromium

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = ROOT / "nbs" / "course" / "01_quickstart.ipynb"
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
    tmp_path, browser
):  # after the browser: without Chromium there is nothing to start a server for
    """JupyterLab on a folder of its own that holds the quickstart; gives the address of the
    notebook.
    """
    pytest.importorskip("jupyterlab", reason="jupyterlab is missing: pip install -e '.[notebook]'")
    if not QUICKSTART.exists():
        pytest.skip(f"no {QUICKSTART.relative_to(ROOT)}")
    (tmp_path / "nbs").mkdir()
    notebook = json.loads(QUICKSTART.read_text(encoding="utf-8"))
    assert notebook["metadata"]["kernelspec"]["name"] == "python3", (
        "the quickstart does not say which kernel runs it: JupyterLab would ask"
    )
    for c in notebook["cells"]:
        c |= {"outputs": []} if c["cell_type"] == "code" else {}
    (tmp_path / "nbs" / "quickstart.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
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
            yield f"http://127.0.0.1:{port}/lab/tree/quickstart.ipynb?token=t"
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


def test_the_quickstart_runs_and_its_slider_moves_the_picture(lab, browser):
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
    assert len(failed) == 1 and "ellipsis" in failed[0], failed
    found = wait(lambda: browser.find_elements("css selector", ".jp-OutputArea .slider input"), 90)
    assert found, "the quickstart has no slider"
    js("arguments[0].scrollIntoView({block: 'center'})", found[0])
    before, value = shown(browser, found[0]), found[0].get_attribute("value")
    found[0].send_keys(Keys.ARROW_RIGHT)
    assert found[0].get_attribute("value") != value, "the arrow key did not move the slider"
    assert shown(browser, found[0]) != before, "the picture did not change"
