"""Whatever is asked of a preset or of the command line: it does just that, or says why not."""

import contextlib
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visionxl.app.cli.main import main
from visionxl.app.cli.options import preset_change
from visionxl.extras.best import best
from visionxl.extras.best_white import best_white
from visionxl.extras.fast import fast, fast_white
from visionxl.operators.tasks import TASKS
from visionxl.presets import PRESETS, choose

NUMBERS = st.one_of(
    st.integers(-3, 1000),
    st.floats(-2, 2, allow_nan=False),
    st.booleans(),
    st.none(),
)
PLAIN = st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False))
COMMANDS = st.sampled_from(["restore", "degrade", "info"])
WORDS = st.one_of(
    st.sampled_from(
        ["--task", "sr", "deblur+", "nonsense", "--sigma-y", "-1", "estimate", "--frames", "0"]
        + ["--set", "renoise.eta=2", "route.tau", "--chunk", "1e9", "--overlap", "--mask", "0,0"]
        + ["--height", "7.5", "--preset", "paper", "--seed", "--json", "-o", "there.mkv", "--"]
    ),
    st.text(max_size=8),
)


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(sorted(PRESETS)), st.sampled_from([None, *TASKS]))
def test_a_change_changes_one_setting_or_is_refused(data, name, task):
    before = choose(name, task).settings()
    key = data.draw(st.sampled_from(sorted(before)), "setting")
    value = data.draw(NUMBERS, "value")
    try:
        after = choose(name, task, changes={key: value}).settings()
    except (ValueError, TypeError) as e:
        assert str(e)
        return
    assert after == before | {key: value}


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(PRESETS)), st.text(min_size=1, max_size=20))
def test_an_unknown_setting_is_refused_by_its_name(name, key):
    preset = choose(name)
    if key in preset.settings() or hasattr(preset, key):
        return
    with pytest.raises(ValueError, match="is no setting of this preset"):
        choose(name, changes={key: 1})


@settings(max_examples=200, deadline=None)
@given(PLAIN)
def test_numbers_pass_the_command_line_unchanged(value):
    key, found = preset_change(f"renoise.eta={value!r}")
    assert key == "renoise.eta" and found == value and type(found) is type(value)


@settings(max_examples=100, deadline=None)
@given(COMMANDS, st.lists(WORDS, max_size=7))
def test_no_words_lead_to_a_traceback(command, words):
    "There is no such film, so nothing is ever written."
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([command, "no/such/film.mp4", *words])
        except SystemExit as e:
            code = e.code
    said = err.getvalue()
    assert code in (1, 2) or (code == 0 and "usage" in out.getvalue())
    assert code == 0 or (said.startswith("visionxl") and "Traceback" not in said)
    assert "unexpected" not in said


@pytest.mark.parametrize("task", [None, "blur", "mosaic", "still", *TASKS])
@pytest.mark.parametrize("sigma", [0.0, 0.05])
def test_settings_belong_to_the_prior(task, sigma):
    "With a prior whose noise is white in the pixels `best` and `fast` are others, the rest is not."
    for name, own, theirs in (("best", best, best_white), ("fast", fast, fast_white)):
        assert choose(name, task, sigma, prior="white") == theirs(task, sigma)
        assert choose(name, task, sigma, prior="tiny") == own(task, sigma)
        assert choose(name, task, sigma) == own(task, sigma)
        assert theirs(task, sigma).route != own(task, sigma).route
    assert choose("paper", task, prior="white") == choose("paper", task)
