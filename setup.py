"""Packaging, read from settings.ini so that nbdev and pip agree."""

import re
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
parser = ConfigParser(delimiters=["="])
parser.read(here / "settings.ini", encoding="utf-8")
cfg = parser["DEFAULT"]
extras = {k: cfg[f"{k}_requirements"].split() for k in ("notebook", "metrics", "dev")}
extras["dev"] += extras["notebook"] + extras["metrics"]
readme = here / "README.md"


def absolute(text):
    """Links into the repository with its host in front: a reader of the package's page has no
    repository beside it.
    """
    git = cfg["git_url"]
    text = re.sub(r"(!\[[^\]]*\]\()(?![a-z]+:|#)", rf"\1{git}/raw/{cfg['branch']}/", text)
    return re.sub(r"((?<!!)\[[^\]]*\]\()(?![a-z]+:|#)", rf"\1{git}/blob/{cfg['branch']}/", text)


setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=absolute(readme.read_text(encoding="utf-8"))
    if readme.exists()
    else cfg["description"],
    long_description_content_type="text/markdown",
    author=cfg["author"],
    author_email=cfg["author_email"],
    license="Apache-2.0",
    url=cfg["git_url"],
    keywords=cfg["keywords"],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
    ],
    python_requires=f">={cfg['min_python']}",
    packages=find_packages(include=["visionxl", "visionxl.*"]),
    include_package_data=True,
    install_requires=cfg["requirements"].split(),
    extras_require=extras,
    entry_points={
        "console_scripts": cfg["console_scripts"].split(),
        "nbdev": [f"{cfg['lib_path']}={cfg['lib_path']}._modidx:d"],
    },
    zip_safe=False,
)
