"""What a stranger gets: the wheel and its metadata, no pickles, a quick import, one version."""

import ast
import email
import re
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import licences  # noqa: E402

TEXTS = ("LICENSE", "THIRD_PARTY_NOTICES.md", "visionxl/assets/lpips/LICENSE")
ALONE = """
import sys

sys.path[:0] = [{wheel!r}]

from importlib.machinery import PathFinder

class Without:  # as if they were not installed: `find_spec` answers None, an import fails
    def find_spec(self, name, path=None, target=None):
        missing = name.partition(".")[0] in {refused!r}
        return None if missing else PathFinder.find_spec(name, path, target)

    find_distributions = staticmethod(PathFinder.find_distributions)

sys.meta_path = [Without() if finder is PathFinder else finder for finder in sys.meta_path]
import visionxl
assert visionxl.__file__.startswith({wheel!r}), visionxl.__file__
from visionxl.app.cli.main import main
sys.exit(main({argv!r}))
"""
DEVELOPING = {
    *("nbdev", "execnb", "IPython", "jupyterlab", "jupyter_client", "ipywidgets", "nbformat"),
    *("pytest", "hypothesis", "ray", "stlpips_pytorch", "smalldocs", "selenium", "pandas"),
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    "The wheel of the files that git tracks, or would."
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    pytest.importorskip("setuptools", "77", reason="setuptools of 77 or newer builds the wheel")
    command += ["--disable-pip-version-check", "-w", str(folder), str(sources(folder / "src"))]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return next(folder.glob("*.whl"))


def sources(folder: Path) -> Path:
    "A copy of what the wheel is built from, so that building leaves nothing here."
    import shutil

    folder.mkdir()
    for name in (*TEXTS[:2], "setup.py", "settings.ini", "pyproject.toml", "MANIFEST.in"):
        shutil.copy(ROOT / name, folder)
    for path in ROOT.glob("*.md"):
        shutil.copy(path, folder)
    shutil.copytree(
        ROOT / "visionxl", folder / "visionxl", ignore=shutil.ignore_patterns("__pycache__")
    )
    return folder


@pytest.fixture(scope="module")
def names(wheel):
    with zipfile.ZipFile(wheel) as z:
        return z.namelist()


@pytest.fixture(scope="module")
def metadata(wheel, names):
    with zipfile.ZipFile(wheel) as z:
        text = z.read(next(n for n in names if n.endswith(".dist-info/METADATA")))
    return email.message_from_bytes(text)


def test_the_wheel_holds_what_runs_and_nothing_else(wheel, names):
    assert wheel.stat().st_size < 24e6
    inside = {n for n in names if n.startswith("visionxl/")}
    here = {p.relative_to(ROOT).as_posix() for p in (ROOT / "visionxl").rglob("*") if p.is_file()}
    here = {n for n in here if "__pycache__" not in n and not n.endswith("_modidx.py")}
    beside = {n.partition("/")[0] for n in names if n not in inside}
    assert here == inside and len(beside) == 1 and beside.pop().endswith(".dist-info")
    assert "visionxl/py.typed" in names
    assert all(any(n.endswith(f"licenses/{text}") for n in names) for text in TEXTS)


def test_what_ships_is_listed_with_its_terms(names):
    text = (ROOT / "visionxl" / "assets" / "README.md").read_text(encoding="utf-8")
    inside = {n.split("/")[2] for n in names if n.startswith("visionxl/assets/")} - {"README.md"}
    assert len(inside) > 8 and not [name for name in inside if f"`{name}" not in text]


def test_the_metadata_are_complete(metadata):
    assert metadata["License-Expression"].startswith("Apache-2.0")
    extras = set(metadata.get_all("Provides-Extra"))
    assert extras == {"notebook", "metrics", "ray", "app", "all", "dev"}
    links = dict(url.split(", ") for url in metadata.get_all("Project-URL"))
    assert {"Documentation", "Source", "Issues", "Changelog"} <= set(links)
    kinds = metadata.get_all("Classifier")
    assert {"Typing :: Typed", "Programming Language :: Python :: 3.13"} <= set(kinds)
    needed = [r for r in metadata.get_all("Requires-Dist") if "extra ==" not in r]
    assert not [r for r in needed if re.match("nbdev|jupyter|ipy|pytest|ray", r)]


def test_what_an_entry_point_names_is_there(wheel, names):
    "A wheel from a clean clone once named nbdev's index, which only an export writes."
    found = ConfigParser(delimiters=["="])
    with zipfile.ZipFile(wheel) as z:
        found.read_string(z.read(next(n for n in names if "entry_points" in n)).decode())
    assert found.sections() == ["console_scripts"]
    for place in found["console_scripts"].values():
        assert f"{place.partition(':')[0].replace('.', '/')}.py" in names


def test_the_form_is_that_of_the_index(wheel):
    "What an upload would be refused for."
    pytest.importorskip("twine", reason="twine is missing: pip install -e '.[dev]'")
    command = [sys.executable, "-m", "twine", "check", "--strict", str(wheel)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "argv",
    [
        ["degrade", "{wheel}/visionxl/assets/flower.mp4", "-o", "y.mkv", "--task", "sr"],
        pytest.param(["demo"], marks=pytest.mark.slow),
    ],
    ids=lambda argv: argv[0],
)
def test_the_wheel_alone_works_in_an_empty_folder(wheel, tmp_path, argv):
    "Nothing of this repository, of nbdev or of Jupyter can be imported."
    unpacked, empty = tmp_path / "site", tmp_path / "empty"
    with zipfile.ZipFile(wheel) as z:
        z.extractall(unpacked)
    empty.mkdir()
    argv = [word.format(wheel=unpacked) for word in argv]
    code = ALONE.format(wheel=str(unpacked), refused=DEVELOPING, argv=argv)
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd=empty, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert list(empty.rglob("*.mkv")) + list(empty.rglob("*.mp4"))


def test_one_version():
    "settings.ini says it; the changelog, the citation and the package repeat it."
    cfg = ConfigParser(delimiters=["="])
    cfg.read(ROOT / "settings.ini")
    version = cfg["DEFAULT"]["version"]
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert str(cited["version"]) == version and cited["cff-version"] == "1.2.0"
    assert f'__version__ = "{version}"' in (ROOT / "visionxl" / "__init__.py").read_text()
    assert re.match(r"\d+\.\d+\.\d+$", version)


# ---------------------------------------------------------------- pickles

MAY = {  # each has a reason in SECURITY.md
    "visionxl/measure/perception/i3d.py": "pickle",  # a reader that refuses all but arrays
    "visionxl/measure/perception/networks.py": "torch.load",  # an installed package, weights_only
    "visionxl/scale/pack.py": "pickle",  # between processes of one run, as Ray does; never a file
}


def pickles(tree: ast.AST) -> list[str]:
    "Readers and writers of pickles in a module; `torch.load` with `weights_only=True` apart."
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names] + [getattr(node, "module", None) or ""]
            unsafe = {"pickle", "dill", "joblib", "shelve", "cloudpickle"}
            found += [n for n in names if n.partition(".")[0] in unsafe]
        if isinstance(node, ast.Call):
            called, given = ast.unparse(node.func), {k.arg for k in node.keywords}
            found += [called] if called in ("torch.load", "torch.save") else []
            if "allow_pickle" in given:
                found.append(f"{called}(allow_pickle)")
            if called == "torch.load" and "weights_only" not in given:
                found.append("torch.load without weights_only")
    return found


def test_no_pickle_is_read_or_written():
    for folder in ("visionxl", "tools", "bench"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name, tree = path.relative_to(ROOT).as_posix(), ast.parse(path.read_text("utf-8"))
            found = set(pickles(tree)) - {MAY.get(name)}
            assert not found, f"{name} uses {found}: keep safetensors, JSON or npz"


def test_the_search_for_pickles_can_fail():
    code = "import pickle\ntorch.load(f)\nnp.load(f, allow_pickle=True)\nfrom dill import load"
    found = pickles(ast.parse(code))
    assert {"pickle", "torch.load", "np.load(allow_pickle)", "dill"} <= set(found)
    assert "torch.load without weights_only" in found
    assert pickles(ast.parse("torch.load(f, weights_only=True)")) == ["torch.load"]


# ---------------------------------------------------------------- the import


def test_the_import_is_quick():
    "`import visionxl` takes under 0.15 of `import torch`, and does not import it."
    code = (
        "import sys, time\na = time.process_time()\nimport visionxl\nb = time.process_time()\n"
        "early = 'torch' in sys.modules\nimport torch\nc = time.process_time()\n"
        "print(early, (b - a) / (c - b))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    early, ratio = run.stdout.split()
    print(f"import visionxl takes {float(ratio):.3f} of import torch")
    assert early == "False" and float(ratio) < 0.15


# ---------------------------------------------------------------- terms of what it needs


def test_what_is_needed_goes_with_our_terms():
    needed = licences.needed("visionxl")
    assert {"torch", "diffusers", "numpy"} <= needed and "nbdev" not in needed
    assert "ipywidgets" in licences.needed("visionxl", ("notebook",)) - needed
    assert not [name for name in needed if licences.rejected(licences.terms(name), name)]


@pytest.mark.parametrize(
    "text, bad",
    [
        ("Apache-2.0 OR GPL-3.0", False),
        ("GPL-3.0-only", True),
        ("LGPL-2.1", False),
        ("", True),
        ("GNU Affero General Public License (AGPL)", True),
        ("Free for non-commercial use", True),
        ("MIT AND GPL-3.0-only", True),
        ("MIT-0 AND (Apache-2.0 OR GPL-2.0)", False),
        ("Other; MIT License", True),
        ("Permitted to all", True),
    ],
)
def test_terms_that_are_looked_at(text, bad):
    assert licences.rejected(text) is bad


QUIET = "No known vulnerabilities found"
SKIPPED = "{} Dependency not found on PyPI and could not be audited: {} (1.0)"
WEAK = "Found 1 known vulnerability in 1 package\nName Version ID\naiohttp 3.1 PYSEC-1"


def skipped(names):
    "What pip-audit says where it could not look up some packages."
    return "\n".join([QUIET, *(SKIPPED.format(name, name) for name in names)])


@pytest.mark.parametrize(
    "said, code, line, bad",
    [
        (QUIET, 0, "looked up 9 of 9", False),
        (skipped("abcdefghi"), 0, "NOT AUDITED", False),
        (skipped("abcd"), 0, "AUDITED: 4 of", False),
        (WEAK, 1, "PYSEC-1", True),
        ("ConnectionError: Failed to resolve pypi.org", 1, "database was not reached", False),
        ("python: No module named pip_audit", 1, "not installed", False),
    ],
    ids=["all", "none", "some", "weak", "no network", "no pip-audit"],
)
def test_what_was_not_audited_is_said(said, code, line, bad):
    "pip-audit itself ends well, and says that it found nothing, where it could not look."
    text, weak = licences.audited(said, code, 9)
    assert line in text and weak is bad
    assert (QUIET in text) is (line.startswith(("looked", "AUDITED")))
