"""A headless Chromium for the browser tests, or a skip that says what to install."""

import contextlib
import functools
import http.server
import shutil
import threading

import pytest

REMEDY = (
    "no {} found: install it (Debian: apt-get install chromium chromium-driver; Python: pip "
    "install -e '.[dev]')"
)


class Quiet(http.server.SimpleHTTPRequestHandler):
    "A file server that does not print."

    def log_message(self, *a):
        pass


@contextlib.contextmanager
def served(folder):
    "The folder from a plain file server; gives its address."
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


def open_chromium(width: int = 1280, height: int = 900):
    "A Selenium driver of the system's Chromium; skips the test when there is none."
    webdriver = pytest.importorskip("selenium.webdriver", reason=REMEDY.format("selenium"))
    from selenium.webdriver.chrome.service import Service

    binary = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    driver = shutil.which("chromedriver")
    if not binary or not driver:
        pytest.skip(REMEDY.format("chromium" if not binary else "chromedriver"))
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for a in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--window-size={width},{height}",
    ):
        options.add_argument(a)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(driver))
    browser.set_page_load_timeout(60)
    return browser


def errors(browser) -> list[str]:
    "What the console said that is an error."
    return [e["message"] for e in browser.get_log("browser") if e["level"] == "SEVERE"]


def screen(
    browser, width: int, height: int = 900, mobile: bool = False, dark: bool = False
) -> None:
    "Give the page another screen."
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile},
    )
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
