"""Packaging, read from settings.ini so that nbdev and pip agree."""

import re
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

here = Path(__file__).parent
parser = ConfigParser(delimiters=["="])
parser.read(here / "settings.ini", encoding="utf-8")
cfg = parser["DEFAULT"]
extras = {k: cfg[f"{k}_requirements"].split() for k in ("notebook", "metrics", "ray", "app", "dev")}
extras["all"] = extras["notebook"] + extras["metrics"] + extras["ray"] + extras["app"]
extras["dev"] += extras["notebook"] + extras["metrics"] + extras["ray"] + extras["app"]
readme = here / "README.md"


def absolute(text):
    """Links into the repository with its host in front: a reader of the package's page has no
    repository beside it.
    """
    git = cfg["git_url"]
    text = re.sub(r"(!\[[^\]]*\]\()(?![a-z]+:|#)", rf"\1{git}/raw/{cfg['branch']}/", text)
    return re.sub(r"((?<!!)\[[^\]]*\]\()(?![a-z]+:|#)", rf"\1{git}/blob/{cfg['branch']}/", text)


class WithoutIndex(build_py):
    """The modules of the package without nbdev's index, which only an export writes.

    So the wheel of a working tree is that of a clean clone.
    """

    def find_package_modules(self, package, package_dir):
        modules = super().find_package_modules(package, package_dir)
        return [found for found in modules if found[1] != "_modidx"]


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
    license_expression="Apache-2.0 AND BSD-2-Clause AND BSD-3-Clause AND CC-BY-3.0",
    license_files=["LICENSE", "THIRD_PARTY_NOTICES.md", "visionxl/assets/lpips/LICENSE"],
    url=cfg["git_url"],
    project_urls={
        "Documentation": f"{cfg['doc_host']}{cfg['doc_baseurl']}",
        "Source": cfg["git_url"],
        "Issues": f"{cfg['git_url']}/issues",
        "Changelog": f"{cfg['git_url']}/blob/{cfg['branch']}/CHANGELOG.md",
    },
    keywords=cfg["keywords"].split(),
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Environment :: Console",
        "Framework :: Jupyter",
        "Intended Audience :: Developers",
        "Intended Audience :: Education",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in (10, 11, 12, 13)),
        "Topic :: Multimedia :: Video",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Processing",
        "Typing :: Typed",
    ],
    python_requires=f">={cfg['min_python']}",
    packages=find_packages(include=["visionxl", "visionxl.*"]),
    package_data={"visionxl": ["py.typed", "assets/**/*"]},
    include_package_data=False,
    install_requires=cfg["requirements"].split(),
    extras_require=extras,
    cmdclass={"build_py": WithoutIndex},
    entry_points={"console_scripts": cfg["console_scripts"].split()},
    zip_safe=False,
)
