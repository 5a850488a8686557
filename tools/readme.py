"""Write README.md from nbs/index.ipynb, without Quarto.

    python tools/readme.py           write it
    python tools/readme.py --check   fail when it is not what the notebook says

A cell with `#| hide` is left out, of one with `#| echo: false` only what it printed is kept. Paths
are made relative to the root of the repository.
"""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INDEX, README = ROOT / "nbs" / "index.ipynb", ROOT / "README.md"
HEAD = "<!-- Written by tools/readme.py from nbs/index.ipynb: change that. -->\n\n"


def text(value) -> str:
    return "".join(value) if isinstance(value, list) else value


def from_root(markdown: str) -> str:
    "Links relative to nbs/ become relative to the root; `../x` becomes `x`."

    def new(m):
        target = m[2]
        if re.match(r"[a-z]+:|#|/", target):
            return m[0]
        return m[1] + (target[3:] if target.startswith("../") else f"nbs/{target}")

    markdown = re.sub(r"(\]\()([^()\s]+)(?=\))", new, markdown)
    return re.sub(r"(src=\")([^\"]+)(?=\")", new, markdown)


def output(o: dict) -> str:
    "One output as Markdown: Markdown as it is, text as a block."
    data = o.get("data", {})
    if "text/markdown" in data:
        return text(data["text/markdown"]).strip()
    said = text(o.get("text", data.get("text/plain", ""))).rstrip()
    return f"```\n{said}\n```" if said else ""


def cell(c: dict) -> str:
    "One cell as Markdown."
    source = text(c["source"]).strip()
    if c["cell_type"] == "markdown":
        return source
    flags = re.findall(r"(?m)^#\s*\|\s*(.+?)\s*$", source)
    if any(f.startswith(("hide", "include: false", "default_exp")) for f in flags):
        return ""
    code = re.sub(r"(?m)^#\s*\|.*\n?", "", source).strip()
    parts = [] if "echo: false" in flags or not code else [f"```python\n{code}\n```"]
    return "\n\n".join(parts + [o for o in map(output, c.get("outputs", [])) if o])


def readme() -> str:
    "The whole README."
    cells = json.loads(INDEX.read_text(encoding="utf-8"))["cells"]
    whole = "\n\n".join(filter(None, map(cell, cells)))
    return HEAD + from_root(whole.replace("<!--given-->", "")) + "\n"


def main() -> int:
    if "--check" not in sys.argv[1:]:
        return README.write_text(readme(), encoding="utf-8") and 0
    same = README.exists() and README.read_text(encoding="utf-8") == readme()
    if not same:
        print("README.md is not what nbs/index.ipynb says: run tools/readme.py")
    return not same


if __name__ == "__main__":
    sys.exit(main())
