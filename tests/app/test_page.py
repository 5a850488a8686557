"The page for people who do not use terminals: its functions, and all of it in a browser."

import contextlib
import os
import re
import subprocess
import sys
import time

import pytest
from app.exact import Gaussian
from repo.browser import errors, open_chromium

from visionxl import video
from visionxl.app.cli.main import main
from visionxl.app.page.desk import Desk
from visionxl.app.page.questions import options_for
from visionxl.prior.latent import Prior

FEW = {"preset": "paper", "changes": {"route.steps": 2, "consistency.steps": 1}}


@pytest.fixture
def clip(tmp_path):
    return video.write(tmp_path / "mine.mp4", video.fit(video.sample("tears", 3).x, 32, 48), 24)


def test_a_preview_without_a_browser(tmp_path, clip, monkeypatch):
    monkeypatch.setattr(Prior, "load", classmethod(lambda cls, name, vae=None: Gaussian()))
    desk = Desk(tmp_path / "desk", **FEW)
    desk.clip = clip
    done = desk.preview(options_for("small", "2"))
    assert (done.frames, done.size) == (3, (64, 96)) and desk.share == 1
    page = desk.compared(done).read_text()
    assert "restored" in page and not re.findall(r'(?:src|href)="https?:', page)
    assert desk.place("../../x/.y.mp4") == tmp_path / "desk" / "given" / "y.mp4"
    assert desk.place("a %22b%22.mp4").name == 'a "b".mp4'
    desk.clip = desk.place("ü" * 120 + ".mp4")
    assert desk.clip.suffix == ".mp4" and video.check_out(desk.result)


def test_without_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "nicegui", None)
    assert main(["app", "--no-browser"]) == 1
    assert "pip install 'visionxl[app]'" in capsys.readouterr().err


@contextlib.contextmanager
def served(folder, *options):
    "The page by the command, in a process of its own; gives its address."
    line = [sys.executable, "-m", "visionxl", "app", "--port", "0", "--no-browser"]
    line += ["--folder", str(folder), *options]
    env = {k: v for k, v in os.environ.items() if k != "PYTEST_CURRENT_TEST"}  # NiceGUI looks
    process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True, env=env)
    try:
        yield re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())[0]
    finally:
        process.terminate()
        process.wait(30)


def until(true, seconds=90):
    "Wait until something is so."
    end = time.monotonic() + seconds
    while not (value := true()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.2)
    return value


@pytest.mark.slow
def test_the_page_in_a_browser(tmp_path, clip):
    "Drop, answer, preview, restore, stop, compare, save; nothing is asked of another machine."
    pytest.importorskip("nicegui")
    from selenium.common.exceptions import StaleElementReferenceException
    from selenium.webdriver.common.by import By

    browser = open_chromium(900, 1600)
    down = tmp_path / "saved"
    behave = {"behavior": "allow", "downloadPath": str(down)}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", behave)
    with served(tmp_path / "desk", "--preset", "paper", "--set", "route.steps=4") as address:

        def text():
            return browser.find_element(By.TAG_NAME, "body").text

        def press(words):
            with contextlib.suppress(StaleElementReferenceException):  # it was drawn anew
                return pressed(words)
            return press(words)

        def pressed(words):
            for kind in ("button", "*[@role='radio']"):
                for found in browser.find_elements(By.XPATH, f"//{kind}[contains(., '{words}')]"):
                    until(found.is_enabled)
                    return found.click()
            return browser.find_element(By.XPATH, f"//*[@aria-label='{words}']").click()

        until(lambda: browser.get(address) or True)
        until(lambda: "Drop a clip here" in text())
        drop = browser.find_elements(By.CSS_SELECTOR, "input[type=file]")[0]
        drop.send_keys(str(clip))
        until(lambda: "3 frames of 48x32" in text())
        press("It is too small")
        until(lambda: "How many times larger?" in browser.page_source)
        press("Preview three frames")
        until(lambda: "The whole clip will take about" in text())
        assert browser.find_elements(By.CSS_SELECTOR, "iframe[title='before and after']")
        press("Restore the whole clip")
        until(lambda: "Restored 3 frames" in text())
        press("Save the film")
        saved = until(lambda: list(down.glob("*-restored.mp4")))
        assert video.read(saved[0]).x.shape == (3, 3, 64, 96)
        for name in ("second.mp4", "third.mp4"):  # as from a folder: several, one of them broken
            other = clip.with_name(name)
            other.write_bytes(clip.read_bytes() if name == "second.mp4" else b"no film")
        drop = browser.find_elements(By.CSS_SELECTOR, "input[type=file]")[0]  # drawn anew
        drop.send_keys("\n".join(str(clip.with_name(n)) for n in ("second.mp4", "third.mp4")))
        until(lambda: "second.mp4: 3 frames of 48x32" in text())
        until(lambda: "third.mp4 cannot be read as a video" in text())
        press("Restore the whole clip")
        until(lambda: "Restored 6 frames of 2 of 2 clips" in text())
        assert len(browser.find_elements(By.CSS_SELECTOR, "iframe[title='before and after']")) == 2
        press("Something covers a part of it")
        press("Restore the whole clip")
        until(lambda: "Say which part is covered" in text())
        if where := os.environ.get("VISIONXL_SCREENSHOT"):
            browser.save_screenshot(where)
        asked = browser.execute_script(
            "return performance.getEntriesByType('resource').map(e => e.name)"
        )
        assert asked and all(a.startswith((address, "data:", "blob:")) for a in asked), asked
        assert not errors(browser)
    browser.quit()
