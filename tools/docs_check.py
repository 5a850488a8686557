"""The link check of tools/docs.py: every local target and anchor exists, and a page asks nothing of
other hosts.
"""

import functools
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADS = {
    ("script", "src"),
    ("img", "src"),
    ("iframe", "src"),
    ("source", "src"),
    ("video", "src"),
    ("audio", "src"),
}


class Links(HTMLParser):
    "The ids, links and loaded files of one page."

    def __init__(self):
        super().__init__()
        self.ids, self.links, self.loads = set(), [], []

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        self.ids |= {a[k] for k in ("id", "name") if a.get(k)}
        if tag in ("a", "area") and a.get("href"):
            self.links.append(a["href"])
        if tag == "link" and a.get("href") and a.get("rel") not in ("canonical", "alternate"):
            self.loads.append(a["href"])
        self.loads += [a[k] for t, k in LOADS if t == tag and a.get(k)]


def without_sidebar(text: str) -> str:
    "A page without the list of all pages."
    before, found, rest = text.partition('<nav id="quarto-sidebar"')
    return before + rest.partition("</nav>")[2] if found else text


def read(page: Path, sidebar: bool = True) -> Links:
    "Parse a page, with its sidebar or without."
    links, text = Links(), page.read_text(encoding="utf-8")
    links.feed(text if sidebar else without_sidebar(text))
    return links


def read_all(site: Path) -> dict[Path, Links]:
    "Parse all pages. The sidebar is that of the folder: it is read on one page of each."
    found: dict[Path, Links] = {}
    folders = set()
    for page in sorted(p.resolve() for p in site.rglob("*.html")):
        found[page] = read(page, sidebar=page.parent not in folders)
        folders.add(page.parent)
    return found


def target_of(folder: Path, path: str) -> Path | None:
    "The file that a link leads to from a page of a folder; None when there is none."
    target = (folder / unquote(path)).resolve()
    target = target / "index.html" if target.is_dir() else target
    return target if target.exists() else None


def broken(page: Path, links: Links, pages: dict[Path, Links], find) -> list[str]:
    "What is wrong with the local links of a page. `find` is `target_of`, which may remember."
    found = []
    for url in links.links + links.loads:
        u = urlsplit(url)
        if u.scheme or url.startswith("//"):
            continue
        target = find(page.parent, u.path) if u.path else page
        if target is None:
            found.append(f"broken link {url}")
        elif u.fragment and target in pages:
            anchors = pages[target].ids | {"top"}
            found += [] if unquote(u.fragment) in anchors else [f"no anchor {url}"]
    return found


def check(site: Path) -> list[str]:
    "One line for each broken link, missing anchor or remote file in the pages of a built site."
    pages = read_all(site)
    find, found = functools.cache(target_of), []
    for page, links in pages.items():
        name = page.relative_to(site.resolve())
        remote = [
            f"loads {url} from elsewhere"
            for url in links.loads
            if urlsplit(url).scheme not in ("", "data") or url.startswith("//")
        ]
        found += [f"{name}: {what}" for what in remote + broken(page, links, pages, find)]
    for css in site.rglob("*.css"):
        if "url(http" in css.read_text(encoding="utf-8"):
            found.append(f"{css.relative_to(site)}: loads from elsewhere")
    return list(dict.fromkeys(found))
