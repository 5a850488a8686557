"""README.md is what the index notebook says, its links lead somewhere, and it reads in the
package's metadata too.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
sys.path.insert(0, str(ROOT / "tools"))
import readme  # noqa: E402

pytestmark = pytest.mark.skipif(not readme.INDEX.exists(), reason="no nbs/index.ipynb")


def links(text: str) -> list[str]:
    prose = re.sub(r"```.*?```", "", text, flags=re.S)
    return [
        target
        for target in re.findall(r"\]\(([^()\s]+)\)", prose)
        if not re.match(r"[a-z]+:|#", target)
    ]


def test_readme_is_in_step():
    assert README.read_text(encoding="utf-8") == readme.readme(), "run tools/readme.py"


def test_links_lead_somewhere():
    found = links(README.read_text(encoding="utf-8"))
    assert len(found) > 5
    assert not [target for target in found if not (ROOT / target.partition("#")[0]).exists()]


def test_it_holds_what_a_newcomer_needs():
    text = README.read_text(encoding="utf-8")
    assert "make demo" in text and "make test" in text and "```python" in text
    moving = [t for t in links(text) if t.endswith((".webp", ".gif"))]
    assert moving and all((ROOT / t).stat().st_size < 1.5e6 for t in moving)
    assert re.search(r"(?m)^\|.*\d\d\.\d\d.*\|", text), "no table of figures"


def test_the_picture_moves():
    from PIL import Image

    moving = next(
        t for t in links(README.read_text(encoding="utf-8")) if t.endswith((".webp", ".gif"))
    )
    with Image.open(ROOT / moving) as im:
        assert im.n_frames > 10


def test_the_metadata_has_no_relative_links():
    code = (
        "import setuptools; setuptools.setup = lambda **k: print(k['long_description']); "
        "exec(open('setup.py').read())"
    )
    out = subprocess.run(
        [sys.executable, "-c", f"__file__ = 'setup.py'; {code}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "https://" in out and not links(out)


def test_paths_are_taken_from_the_root():
    assert (
        readme.from_root("[a](../x.md) [b](04_inversion.ipynb) ![c](images/d.png) [e](https://f.g)")
        == "[a](x.md) [b](nbs/04_inversion.ipynb) ![c](nbs/images/d.png) [e](https://f.g)"
    )


def test_cells():
    code = {
        "cell_type": "code",
        "source": "#| slow\nf(1)",
        "outputs": [{"output_type": "stream", "text": "1\n"}],
    }
    assert readme.cell(code) == "```python\nf(1)\n```\n\n```\n1\n```"
    assert readme.cell(code | {"source": "#| hide\nf(1)"}) == ""
    assert readme.cell(code | {"source": "#| echo: false\nf(1)"}) == "```\n1\n```"


def test_its_commands_are_known(capsys):
    """Each `visionxl ...` is taken by the parser, each `make ...` is a target, each extra exists.

    What they do is tested elsewhere: the demo from a wheel, restoring in tests/app.
    """
    from visionxl.app.cli.commands import parser

    text = README.read_text(encoding="utf-8")
    lines = re.findall(r"(?m)(?:`|^)visionxl ([^`\n#]+)", text)
    assert {line.split()[0] for line in lines} >= {"restore", "--help"}
    for line in lines:
        try:
            assert parser().parse_args(line.split()).command == line.split()[0]
        except SystemExit as e:
            assert e.code == 0 and "--help" in line, capsys.readouterr().err
    rules = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8")))
    asked = set(re.findall(r"(?m)(?:`|^)make ([a-z-]+)", text))
    assert {"demo", "test"} <= asked <= rules
    settings = (ROOT / "settings.ini").read_text(encoding="utf-8")
    for extra in re.findall(r"visionxl\[([a-z]+)\]", text):
        assert f"{extra}_requirements" in settings or extra == "all"


@pytest.mark.slow
def test_the_lines_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = "\n".join(re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S))
    assert 'video.sample("flower")' in lines
    import matplotlib

    matplotlib.use("Agg")
    exec(
        compile(lines.replace('video.sample("flower")', "few"), "README.md", "exec"),
        {"few": small()},
    )
    assert (tmp_path / "restored.mp4").stat().st_size > 0


def small():
    "A corner of a few frames of the sample, restored in seconds."
    from visionxl import video

    x, fps = video.sample("flower", frames=7)
    return video.Video(x[:, :, 60:124, 120:216].contiguous(), fps)


def test_the_table_is_that_of_the_gallery():
    import json

    clips = json.loads((ROOT / "nbs" / "gallery" / "gallery.json").read_text())["clips"]
    text = README.read_text(encoding="utf-8")
    for c in clips:
        assert all(f"{p:.2f} / {s:.3f}" in text for p, s in c["score"].values()), (
            f"{c['title']}: run tools/run_nbs.py nbs/index.ipynb and tools/readme.py"
        )
