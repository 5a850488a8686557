"""List the packages that pip installs beside visionxl, with their terms; fail on terms that the
package's own do not go with, and on packages that do not say theirs.

    python tools/licences.py            print the list
    python tools/licences.py --audit    also look for known weaknesses with pip-audit

`make test-all` runs it with --audit. Where pip-audit cannot reach its database, that is said, and
is no failure.
"""

import argparse
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution, metadata

REFUSED = r"(?i)\bA?GPL|SSPL|Commercial|Proprietary|Non-?Commercial"
ALLOWED = r"\bLGPL"  # a library that is imported, not changed
UNREACHED = r"(?i)connection|resolve|timed out|unreachable|HTTPError|status code"


def needed(name: str) -> set[str]:
    "Names of the distributions that one needs, without those of extras; those of other systems go."
    from packaging.requirements import Requirement

    found: set[str] = set()
    left = [name]
    while left:
        here = left.pop()
        for text in distribution(here).requires or []:
            r = Requirement(text)
            if r.marker and not r.marker.evaluate({"extra": ""}):
                continue
            plain = r.name.lower().replace("_", "-")
            if plain not in found:
                found.add(plain)
                left.append(plain)
    return found


def terms(name: str) -> str:
    "What a distribution says about its licence: an expression, a class or a line; '' for nothing."
    said = metadata(name)
    classes = [c.split(" :: ")[-1] for c in said.get_all("Classifier") or [] if "License" in c]
    line = (said["License"] or "").strip().partition("\n")[0]
    return said["License-Expression"] or "; ".join(classes) or line[:60]


def rejected(text: str) -> bool:
    "Whether terms are missing, or do not go with ours; of a choice, one that does is enough."
    parts = re.split(r"(?i)\bor\b|;|/", re.sub(ALLOWED, "", text))
    return all(re.search(REFUSED, part) for part in parts) if text else True


def audit() -> int:
    "Run pip-audit over what is installed; 1 when it knows a weakness."
    command = [sys.executable, "-m", "pip_audit", "--progress-spinner", "off", "--skip-editable"]
    done = subprocess.run(command, capture_output=True, text=True)
    said = (done.stdout + done.stderr).strip()
    if done.returncode and (re.search(UNREACHED, said) or "No module named pip_audit" in said):
        print(f"pip-audit could not look anything up: {said.splitlines()[-1][:200]}")
        return 0
    unknown = re.findall(r"(?m)^(\S+) .*could not be audited", said)
    print(re.sub(r"(?m)^\S+ .*could not be audited.*\n?", "", said))
    if unknown:
        print(f"{len(unknown)} packages are not in the database that pip-audit reached")
    return int(done.returncode != 0)


def main() -> int:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--audit", action="store_true", help="known weaknesses too, with pip-audit")
    a = p.parse_args()
    try:
        rows = sorted((name, terms(name)) for name in needed("visionxl"))
    except PackageNotFoundError as e:
        print(f"{e}: make install", file=sys.stderr)
        return 1
    for name, said in rows:
        print(f"  {name:<28} {said or 'nothing said'}")
    bad = [name for name, said in rows if rejected(said)]
    if bad:
        print(f"terms that have to be looked at: {', '.join(bad)}", file=sys.stderr)
    return int(bool(bad)) | (audit() if a.audit else 0)


if __name__ == "__main__":
    sys.exit(main())
