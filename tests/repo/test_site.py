"""The built site in a real browser: from a file server and from disk, wide and narrow, light and
dark.
"""

import io
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from repo.browser import errors, open_chromium, screen, served

from visionxl.show.player import player_html

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "_docs"
sys.path.insert(0, str(ROOT / "tools"))
import docs_check  # noqa: E402
import docs_tree  # noqa: E402


@pytest.fixture(scope="module")
def browser():
    b = open_chromium()
    yield b
    b.quit()


@pytest.fixture(scope="module")
def site():
    "The site, built when it is missing or older than a notebook."
    pytest.importorskip("smalldocs", reason="smalldocs is missing: pip install -e '.[dev]'")
    sources = [*ROOT.glob("nbs/**/*.ipynb"), *ROOT.glob("tools/*.*"), *ROOT.glob("bench/results/*")]
    index = SITE / "index.html"
    if not index.exists() or index.stat().st_mtime < max(p.stat().st_mtime for p in sources):
        subprocess.run([sys.executable, "tools/docs.py"], cwd=ROOT, check=True, capture_output=True)
    with served(SITE) as url:
        yield url


def wait(what, seconds: float = 10):
    "Call until true; the last answer."
    end = time.time() + seconds
    while not (found := what()) and time.time() < end:
        time.sleep(0.05)
    return found


def pixels(element) -> np.ndarray:
    "A screenshot of one element, (H, W, 3)."
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(element.screenshot_as_png)).convert("RGB")).astype(int)


def search(browser, word: str) -> list[str]:
    "The titles that the search box offers."
    box = wait(
        lambda: [
            e
            for e in browser.find_elements("css selector", ".smalldocs-search input")
            if e.is_displayed()
        ]
    )[0]
    box.clear()
    box.send_keys(word)
    wait(lambda: browser.find_elements("css selector", ".search-result-title, .search-none"))
    shown = "[...document.querySelectorAll('.search-result-title')]"
    titles = f"return {shown}.map(e => e.textContent.trim())"
    found, before = browser.execute_script(titles), None
    while found != before:  # each letter changes the list
        time.sleep(0.4)
        found, before = browser.execute_script(titles), found
    return found


def pages_of(every: bool) -> list[str]:
    "Addresses of pages: all of them, or lessons, how-tos, the top, and each twelfth of the rest."
    found = sorted(
        p.relative_to(SITE).as_posix() for p in SITE.rglob("*.html") if "players" not in p.parts
    )
    read = [p for p in found if p.startswith(("course/", "howto/")) or "/" not in p]
    rest = [p for p in found if p not in read]  # made in one way, from modules and notebooks
    return found if every else read + rest[::12]


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_pages_are_quiet_fit_a_phone_and_draw_their_formulas(browser, site, every):
    pages = pages_of(every)
    assert len(pages) > 50
    errors(browser)
    bad = []
    screen(browser, 390, mobile=True)
    for page in pages:
        browser.get(f"{site}/{page}")
        if found := errors(browser):
            bad.append((page, found))
        wide = browser.execute_script(
            "return document.documentElement.scrollWidth - window.innerWidth"
        )
        if wide > 0:
            bad.append((page, f"scrolls sideways by {wide} pixels"))
        if wrong := [e.text for e in browser.find_elements("css selector", ".katex-error")]:
            bad.append((page, f"formulas that KaTeX cannot read: {wrong}"))
    assert not bad
    screen(browser, 1280)


@pytest.mark.parametrize("where", ["server", "disk"])
def test_search_finds_renoise(browser, site, where):
    browser.get(f"{site}/index.html" if where == "server" else (SITE / "index.html").as_uri())
    assert any("enois" in title for title in search(browser, "renoise"))
    assert not errors(browser)


def test_search_finds_the_words_of_the_glossary(browser, site):
    words = ("adjoint", "null space", "warping error")
    missing = {}
    for word in words:
        browser.get(f"{site}/index.html")
        if "Glossary" not in (titles := search(browser, word)):
            missing[word] = titles
    assert not missing


LESSONS = ("course/quickstart", "course/lowpass", "index", "reference/glossary")
CUT_OFF = """return [...document.querySelectorAll('main pre, main .katex-display')]
  .filter(e => e.scrollWidth > e.clientWidth + 1)
  .filter(e => getComputedStyle(e).overflowX !== 'auto'
    || !getComputedStyle(e).backgroundImage.includes('gradient'))
  .map(e => e.textContent.trim().slice(0, 60))"""
PALE = """
const numbers = c => c.match(/[\\d.]+/g).map(Number)
const light = v => [.2126, .7152, .0722].reduce((s, w, i) => {
  const x = v[i] / 255; return s + w * (x <= .03928 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4)}, 0)
const paper = e => { for (; e; e = e.parentElement) {
  const v = numbers(getComputedStyle(e).backgroundColor); if (v.length < 4 || v[3] > .5) return v }
  return [255, 255, 255] }
const found = {}, walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
while (walk.nextNode()) {
  const e = walk.currentNode.parentElement, said = walk.currentNode.textContent.trim()
  if (!said || !e.getClientRects().length || e.closest('.katex-mathml, script, style')) continue
  const style = getComputedStyle(e), on = paper(e), ink = numbers(style.color)
  const mixed = ink.slice(0, 3).map((x, i) => (ink[3] ?? 1) * x + (1 - (ink[3] ?? 1)) * on[i])
  const [a, b] = [light(mixed), light(on)].sort((x, y) => y - x)
  const least = parseFloat(style.fontSize) >= 24 ? 3 : 4.5
  if ((a + .05) / (b + .05) < least) found[`${style.color} on ${on}`] = said.slice(0, 40)
}
return found"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 820, 1400])
def test_nothing_is_cut_off_or_pale(browser, site, width, dark):
    "A line that goes on beyond the edge scrolls and is shaded there; letters have contrast."
    screen(browser, width, mobile=width < 800, dark=dark)
    bad = {}
    for page in LESSONS:
        browser.get(f"{site}/{page}.html")
        wait(lambda: not browser.find_elements("css selector", ".math:not(:has(.katex))"), 5)
        if found := browser.execute_script(CUT_OFF):
            bad[page, "cut off"] = found
        if found := browser.execute_script(PALE):
            bad[page, "pale"] = found
    screen(browser, 1280)
    assert not bad


def test_the_arrow_keys_move_a_slider(browser, site):
    from selenium.webdriver.common.keys import Keys

    browser.get(f"{site}/course/quickstart.html")
    handle = browser.find_element("css selector", "figure.slider input")
    picture = "return document.querySelector('figure.slider img:not([hidden])').alt"
    before = browser.execute_script(picture)
    handle.send_keys(Keys.ARROW_RIGHT)
    assert browser.execute_script(picture) != before


def test_a_picture_opens_in_its_own_size_on_a_phone(browser, site):
    from selenium.webdriver.common.keys import Keys

    screen(browser, 390, mobile=True)
    browser.get(f"{site}/course/consistency.html")
    pictures = wait(lambda: browser.find_elements("css selector", "main.content img.can-enlarge"))
    is_open = "return document.querySelector('dialog.enlarged').open"
    pictures[0].send_keys(Keys.ENTER)
    assert browser.execute_script(is_open)
    large = browser.find_element("css selector", "dialog.enlarged img")
    width = browser.execute_script("return arguments[0].naturalWidth", pictures[0])
    assert pictures[0].size["width"] <= 390 < large.size["width"] == width
    browser.find_element("css selector", "dialog.enlarged > button").click()
    assert not browser.execute_script(is_open)
    screen(browser, 1280)


def test_maths_is_drawn_from_our_own_files(browser, site):
    page = next(
        (p for p in SITE.rglob("*.html") if "katex.min.js" in p.read_text(encoding="utf-8")), None
    )
    assert page, "no page has maths"
    browser.get(page.as_uri())
    assert wait(lambda: browser.find_elements("css selector", ".katex"))
    assert not browser.execute_script(
        "return performance.getEntriesByType('resource').map(e => e.name).filter(n => "
        "n.startsWith('http'))"
    )


def test_dark_and_light_differ_and_the_toggle_holds(browser, site):
    def ground():
        return sum(
            int(v)
            for v in browser.execute_script(
                "return getComputedStyle(document.body).backgroundColor"
            )
            .strip("rgba()")
            .split(",")[:3]
        )

    screen(browser, 1280, dark=True)
    browser.get(f"{site}/index.html")
    assert ground() < 200
    screen(browser, 1280)
    browser.get(f"{site}/index.html")
    assert ground() > 600
    browser.find_element("css selector", ".quarto-color-scheme-toggle").click()
    assert wait(lambda: ground() < 200)
    browser.refresh()
    assert ground() < 200
    browser.execute_script("localStorage.clear()")


def test_the_course_has_next_and_previous(browser, site):
    seen, page = [], SITE / "index.html"
    while (
        more := re.search(r'nav-page-next"><a href="([^"]+)"', page.read_text(encoding="utf-8"))
    ) and len(seen) < 1000:
        page = (page.parent / more[1]).resolve()
        seen.append(page.relative_to(SITE.resolve()).as_posix())
    assert "gallery.html" in seen and "measures.html" in seen and len(seen) == len(set(seen))
    lessons = [f"{docs_tree.page_name(nb)}.html" for nb in docs_tree.notebooks()]
    course = [page for page in lessons if page.startswith("course/")]
    assert len(course) > 10 and seen[: len(course)] == course
    browser.get(f"{site}/{seen[0]}")
    browser.find_element("css selector", ".nav-page-next a").send_keys("\n")
    assert wait(lambda: browser.current_url == f"{site}/{seen[1]}")
    browser.find_element("css selector", ".nav-page-previous a").send_keys("\n")
    assert wait(lambda: browser.current_url == f"{site}/{seen[0]}")


@pytest.mark.parametrize("page", ["course/solver", "reference/operators/linear", "api/restore"])
def test_the_list_of_pages_shows_where_one_is(browser, site, page):
    screen(browser, 1366, 768)
    browser.get(f"{site}/{page}.html")
    here = (
        "const a = document.querySelector('#quarto-sidebar a.active'), r = a && "
        "a.getBoundingClientRect(); return r && r.top >= 0 && r.bottom <= window.innerHeight"
    )
    assert wait(lambda: browser.execute_script(here), 5), (
        f"{page} is out of sight in the list of pages"
    )


@pytest.mark.slow  # `tools/docs.py --check` does it too, as the part `site` of `make test`
def test_no_link_is_broken_and_nothing_is_remote(site):
    assert not docs_check.check(SITE)


def test_the_link_check_can_fail(tmp_path):
    page = (
        '<a href="b.html">b</a><a href="#x">x</a><a href="#y">y</a><p id="y"></p><script '
        'src="https://a.b/c.js"></script><img src="d.png">'
    )
    (tmp_path / "a.html").write_text(page)
    found = docs_check.check(tmp_path)
    assert len(found) == 4 and all(
        any(w in f for f in found) for w in ("b.html", "#x", "https://a.b/c.js", "d.png")
    )


def test_what_quarto_reads_is_in_step():
    """The same notebooks build with `nbdev_docs` where Quarto exists: its files are valid and name
    every notebook.
    """
    main, side = (
        yaml.safe_load((ROOT / "nbs" / f).read_text(encoding="utf-8"))
        for f in ("_quarto.yml", "sidebar.yml")
    )
    assert main["project"]["type"] == "website" and set(main["metadata-files"]) == {
        "nbdev.yml",
        "sidebar.yml",
    }
    assert "execute" not in main and "html-math-method" not in main["format"]["html"]
    listed = docs_tree.targets(side["website"]["sidebar"]["contents"])
    docs_tree.notebooks.cache_clear()
    found = [p.relative_to(ROOT / "nbs").as_posix() for p in docs_tree.notebooks()]
    assert listed == ["index.ipynb", *found], "run tools/docs.py --sidebar"


def test_the_course_is_read_by_its_numbers_and_the_rest_by_folders():
    pages = [docs_tree.page_name(nb) for nb in docs_tree.notebooks()]
    folders = [page.split("/")[0] for page in pages]
    assert sorted(set(folders), key=folders.index) == ["course", "howto", "reference", "training"]
    assert pages[:3] == ["course/quickstart", "course/two_pixels", "course/operators"]
    model = pages.index("reference/prior/models/families")
    assert pages.index("reference/operators/linear") < model
    entry = docs_tree.entry(docs_tree.NBS / "course" / "11_solver.ipynb", docs_tree.page_name)
    assert entry == {"text": "11 Solver", "href": "course/solver"}


# ---------------------------------------------------------------- the player


@pytest.fixture
def player(browser, tmp_path):
    "A player of a dark and a bright film whose frames differ, from disk, ready and paused."
    t = torch.linspace(0, 0.4, 6).reshape(6, 1, 1, 1)
    before, after = -0.9 + t.expand(6, 3, 48, 80), 0.9 - t.expand(6, 3, 48, 80)
    (tmp_path / "player.html").write_text(
        player_html(before, after, fps=10, caption="dark and bright"), encoding="utf-8"
    )
    screen(browser, 900)
    errors(browser)
    browser.get((tmp_path / "player.html").as_uri())
    assert wait(lambda: browser.find_element("tag name", "body").get_attribute("data-ready"))
    return browser


def frame(browser) -> int:
    return int(browser.find_element("tag name", "body").get_attribute("data-frame"))


def press(browser, *keys):
    from selenium.webdriver.common.action_chains import ActionChains

    ActionChains(browser).send_keys(*keys).perform()


def test_the_player_plays_and_stops(player):
    seen = set()
    wait(lambda: seen.add(frame(player)) or len(seen) >= 4)
    assert len(seen) >= 4
    press(player, " ")
    stopped = frame(player)
    time.sleep(0.4)
    assert frame(player) == stopped
    press(player, ".")
    assert frame(player) == (stopped + 1) % 6
    press(player, ",", ",")
    assert frame(player) == (stopped - 1) % 6
    assert not errors(player)


def test_the_divider_moves_pixels(player):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    press(player, " ")
    canvas = player.find_element("tag name", "canvas")

    def bright():
        return (pixels(canvas)[10:-10, :, 1] > 128).mean()

    assert 0.4 < bright() < 0.6
    press(player, *[Keys.ARROW_LEFT] * 10)
    assert 0.6 < bright() < 0.8
    width = canvas.size["width"]
    ActionChains(player).move_to_element(canvas).click_and_hold().move_by_offset(
        int(0.3 * width), 0
    ).release().perform()
    assert 0.1 < bright() < 0.3
    assert not errors(player)


def test_the_player_fits_a_phone_and_works_by_touch(player):
    screen(player, 360, 640, mobile=True)
    press(player, " ")
    assert player.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    box = player.find_element("tag name", "canvas").rect
    touch = {
        "touchPoints": [{"x": box["x"] + box["width"] * 0.8, "y": box["y"] + box["height"] / 2}]
    }
    player.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    player.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchStart"} | touch)
    player.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    player.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})
    value = float(player.find_element("id", "wipe").get_attribute("value"))
    screen(player, 900)
    assert abs(value - 80) < 2


def test_the_gallery_plays(browser, site):
    browser.get(f"{site}/gallery.html")
    frames = browser.find_elements("css selector", "iframe.player")
    if not frames:
        pytest.skip("no restorations in nbs/gallery: python tools/gallery.py makes them")
    browser.switch_to.frame(frames[0])
    assert wait(lambda: browser.find_element("tag name", "body").get_attribute("data-ready"))
    browser.switch_to.default_content()
    assert not errors(browser)
