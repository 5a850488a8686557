"The Tab key knows commands, options, choices and files: bash itself is asked."

import shutil
import subprocess

import pytest

from visionxl.app.cli.commands import parser
from visionxl.app.cli.completion import completion
from visionxl.app.cli.main import main


@pytest.fixture(scope="module")
def script():
    return completion(parser(), "bash")


@pytest.fixture
def tab(script, tmp_path):
    "What bash offers after some words; all in one call, as a shell takes a while to read it."
    (tmp_path / "clip.mkv").write_text("")

    def offers(*lines):
        function = next(w for w in script.split() if w.startswith("_shtab_visionxl()"))[:-2]
        call = ""
        for words in lines:
            quoted = " ".join(f"'{w}'" for w in words)
            call += f"COMP_WORDS=(visionxl {quoted}); COMP_CWORD={len(words)}; COMPREPLY=()\n"
            call += f"{function} visionxl; echo ${{COMPREPLY[@]}}\n"
        done = subprocess.run(
            ["bash"], input=script + "\n" + call, capture_output=True, text=True, cwd=tmp_path
        )
        return [line.split() for line in done.stdout.splitlines()]

    return offers


def test_bash(tab):
    commands, options, choices, files, table, metrics = tab(
        ["re"],
        ["restore", "in.mkv", "--over"],
        ["restore", "in.mkv", "--codec", "pro"],
        ["info", "cl"],
        ["reproduce", "table"],
        ["evaluate", "--"],
    )
    assert sorted(commands) == ["reproduce", "restore"]
    assert sorted(options) == ["--overlap", "--overwrite"]
    assert choices == ["prores"] and "clip.mkv" in files
    assert {"table2", "table7"} <= set(table) and "--json" in metrics


def test_zsh(tmp_path, capsys):
    assert pytest.raises(SystemExit, main, ["--print-completion", "zsh"]).value.code == 0
    script = capsys.readouterr().out
    assert script.startswith("#compdef visionxl") and "--print-completion" in script
    if shutil.which("zsh"):
        subprocess.run(["zsh", "-n", "-c", script], check=True)


def test_other_shells(capsys):
    assert pytest.raises(SystemExit, main, ["--print-completion", "tcsh"]).value.code == 2
    with pytest.raises(ValueError, match="bash or zsh"):
        completion(parser(), "tcsh")
