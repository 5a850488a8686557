"""A slider of pictures in a real browser: the keyboard moves it, and it needs no server."""

import pytest
from repo.browser import errors, open_chromium


def draw(value):
    import matplotlib.pyplot as plt

    plt.switch_backend("Agg")
    fig, ax = plt.subplots(figsize=(2, 1))
    ax.plot([0, value])
    print(f"A line that rises to {value}.")


@pytest.fixture
def browser():
    b = open_chromium(800, 600)
    yield b
    b.quit()


def test_the_keyboard_moves_it(tmp_path, browser):
    from selenium.webdriver.common.keys import Keys

    from visionxl.show.slider import Slider

    slider = Slider("How high?", draw, "As high as <3.", play=True, height=[1, 2, 3])
    page = tmp_path / "page.html"
    page.write_text(f"<!doctype html><title>t</title><body>{slider._repr_html_()}")
    browser.get(page.as_uri())
    shown = "return [...document.querySelectorAll('img')].map(e => !e.hidden)"
    told = "return document.querySelector('figcaption').textContent"
    assert browser.execute_script(shown) == [True, False, False]
    handle = browser.find_element("css selector", "input")
    handle.send_keys(Keys.ARROW_RIGHT)
    assert browser.execute_script(shown) == [False, True, False]
    assert browser.execute_script(told) == "A line that rises to 2."
    assert handle.get_attribute("aria-valuetext") == "height = 2"
    handle.send_keys(Keys.END)
    assert browser.execute_script(shown) == [False, False, True]
    button = browser.find_element("css selector", "button")
    button.click()  # a second later it goes on with the first picture
    browser.implicitly_wait(3)
    browser.find_element("css selector", "img:not([hidden])[alt$='1.']")
    button.click()
    assert button.text == "play"
    assert not errors(browser)
