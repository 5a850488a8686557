"Every example in the help of a command is run, on tiny clips that have the names of the examples."

import shlex
from pathlib import Path

import pytest
import torch
from app.exact import run
from PIL import Image

from visionxl import video
from visionxl.app.cli import commands
from visionxl.operators.tasks import task

pytestmark = pytest.mark.usefixtures("no_weights")
# run elsewhere: in test_cli, test_page, tests/measure, tests/prior
ELSEWHERE = ("demo", "app", "reproduce", "doctor")
SMALL = {"--frames": "2", "--height": "32"}  # in place of what an example asks for
MINE = """from visionxl.operators.blurs import Blur

def make(shape):
    return Blur.box(shape, 3)
"""
TOML = 'input = "clip.mp4"\nout = "from_toml.mp4"\ntask = "deblur"\n'


def examples() -> list[str]:
    "The lines of all helps, without the word `visionxl`."
    found = []
    for text in commands._EXAMPLES.values():
        found += [line.strip().removeprefix("visionxl ") for line in text.splitlines()]
    return list(dict.fromkeys(found))


@pytest.fixture(scope="module")
def films(tmp_path_factory, tears):
    "A folder with all that the examples take."
    folder = tmp_path_factory.mktemp("films")
    x = tears[:7, :, :32, :32].contiguous()
    x = task("deblur", x.shape)(x)  # as the examples say
    for name in ("clip.mp4", "small.mp4", "scratched.mp4", "clip.webm", "clean.webm"):
        video.write(folder / name, x, 24)
    for name in ("long.mp4", "clip.mkv", "hdr.mov", "shaken.mkv", "measured.mkv"):
        video.write(folder / name, x, 24)
    for name in ("clean.mp4", "restored.mp4", "other.mp4"):
        video.write(folder / name, x, 24)
    (folder / "clips").mkdir()
    video.write(folder / "clips" / "one.mp4", x, 24)
    scratches = torch.zeros(32, 32, dtype=torch.uint8)
    scratches[8:10] = 255
    Image.fromarray(scratches.numpy()).save(folder / "scratches.png")
    (folder / "my_operator.py").write_text(MINE)
    (folder / "run.toml").write_text(TOML)
    return folder


def test_all_commands_have_examples():
    assert len(examples()) > 20
    words = {line.split()[0] for line in examples()}
    assert words == set(commands._EXAMPLES) - {""}


@pytest.mark.parametrize("line", examples())
def test_it_is_understood(line):
    argv = shlex.split(line)
    if argv[-1] == "--help":
        assert pytest.raises(SystemExit, run, *argv).value.code == 0
    elif "--config" not in argv:  # a file of settings brings the rest
        assert commands.parser().parse_args(argv).command == argv[0]


@pytest.mark.slow
@pytest.mark.parametrize("line", [e for e in examples() if e.split()[0] not in ELSEWHERE])
def test_it_runs(line, films, monkeypatch, capsys):
    monkeypatch.chdir(films)
    argv = shlex.split(line)
    asked = [SMALL.get(before, word) for before, word in zip(["", *argv], argv)]
    if argv[0] in ("restore", "degrade"):
        asked.append("--overwrite")
    if "deblur+" in asked and "--simulate" in asked:
        asked[asked.index("2")] = "7"  # frames are averaged
    assert run(*asked) == 0, capsys.readouterr().err
    outputs = [Path(argv[k + 1]) for k, word in enumerate(argv) if word in ("-o", "--report")]
    assert all(path.exists() for path in outputs)
