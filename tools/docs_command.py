"""The page of the command line: every command with its options and examples, from its parser."""

import argparse
import html
from pathlib import Path

CODES = {
    0: "done",
    1: "it could not be done; one sentence on stderr says why and what helps",
    2: "the words were not understood, or ask for what does not exist",
    130: "interrupted (Ctrl-C); the same command with `--resume` goes on",
}
HEAD = """---
title: The command line
---

`visionxl COMMAND` does one thing that people want. What follows is made from the parser that the
command itself uses, so it says what `visionxl COMMAND --help` says.
"""


def parsers() -> dict[str, argparse.ArgumentParser]:
    "The parser of each command by its name, in the order of the help."
    from visionxl.app.cli.commands import parser
    from visionxl.app.cli.completion import command_parsers, whole_parsers

    return whole_parsers(command_parsers(parser()))


def cell(text: str) -> str:
    "A text in a cell of a table."
    return html.escape(" ".join(text.split()), quote=False).replace("|", "&#124;")


def option(action: argparse.Action) -> str:
    "How an argument is written: its names and its value."
    if not action.option_strings:
        return str(action.metavar or action.dest)
    shown = action.metavar or action.dest.upper()
    if isinstance(shown, tuple):
        shown = f"{shown[0]} [{shown[1]} ...]"
    if action.choices:
        shown = "{" + ",".join(map(str, action.choices)) + "}"
    value = "" if action.nargs == 0 else f" {shown}"
    return ", ".join(action.option_strings) + value


def rows(parser: argparse.ArgumentParser) -> list[str]:
    "A table of the options of each group of a parser."
    found = []
    for group in parser._action_groups:
        actions = [a for a in group._group_actions if a.help != argparse.SUPPRESS]
        if not actions or [a.dest for a in actions] == ["help"]:
            continue
        title = str(group.title or "options").capitalize()
        found.append(f"\n| {title} | |\n|:--|:--|")
        for a in actions:
            text = parser._get_formatter()._expand_help(a) if a.help else ""
            name = option(a).replace("|", "\\|")
            found.append(f"| `{name}` | {cell(text)} |")
    return found


def page() -> str:
    "The whole page, as Quarto's Markdown."
    lines = [HEAD]
    for name, parser in parsers().items():
        usage = parser.format_usage().removeprefix("usage: ").strip()
        lines += [f"\n## visionxl {name}\n\n{parser.description}\n", f"```\n{usage}\n```"]
        lines += rows(parser)
        if parser.epilog:
            kind, _, examples = parser.epilog.partition("\n")
            lines.append(f"\n{kind.capitalize().rstrip(':')}\n\n```sh\n{dedented(examples)}\n```")
    lines.append("\n## Exit codes\n\n| code | meaning |\n|--:|:--|")
    lines += [f"| {code} | {meaning} |" for code, meaning in CODES.items()]
    return "\n".join(lines) + "\n"


def dedented(text: str) -> str:
    "Lines without the blanks before them."
    return "\n".join(line.strip() for line in text.splitlines())


def write(stage: Path) -> None:
    "Put the page among the sources of the site."
    (stage / "command_line.qmd").write_text(page(), encoding="utf-8")
