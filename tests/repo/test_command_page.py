"""The page of the command line says all that the commands take, and how they end."""

import argparse
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import docs_command  # noqa: E402

from visionxl.app.cli.main import main  # noqa: E402

COMMANDS = ("restore", "degrade", "demo", "info", "doctor", "app", "evaluate", "reproduce")


def section(name: str) -> str:
    "What the page says about one command."
    return docs_command.page().split(f"## visionxl {name}\n")[1].split("\n## ")[0]


def test_every_command_has_a_section():
    assert set(docs_command.parsers()) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_and_example_is_there(name):
    parser, said = docs_command.parsers()[name], section(name)
    for action in parser._actions:
        if action.help != argparse.SUPPRESS:
            assert f"`{docs_command.option(action)}`".replace("|", "\\|") in said
    examples = [line.strip() for line in parser.epilog.splitlines()[1:]]
    assert examples and all(f"\n{line}\n" in said for line in examples)
    assert "%(" not in said


def code_of(argv: list[str]) -> int:
    try:
        return main(argv)
    except SystemExit as e:
        return e.code


@pytest.mark.parametrize(
    "argv, code",
    [
        (["info", "visionxl/assets/flower.mp4"], 0),
        (["--version"], 0),
        (["info", "no_such_film.mp4"], 1),
        (["restore", "--no-such-option"], 2),
        (["no-such-command"], 2),
    ],
)
def test_the_exit_codes_are_those_of_the_page(argv, code, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert code_of(argv) == code
    assert f"| {code} | {docs_command.CODES[code]} |" in docs_command.page()
