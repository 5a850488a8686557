"""List the packages that pip installs beside visionxl and its extras, with their terms. Fail on
terms that are not on the list below, and on packages that do not say theirs.

    python tools/licences.py            print the list
    python tools/licences.py --audit    also look for known weaknesses with pip-audit

`make test-all` runs it with --audit. Where pip-audit cannot reach its database, "NOT AUDITED" is
printed, with what could be looked up, and it is no failure. Packages for developers (the extra
`dev`) go into nobody's work and are not looked at.
"""

import argparse
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution, distributions, metadata

EXTRAS = ("notebook", "metrics", "ray", "app")
ALLOWED = (  # go with ours when they are imported and not changed
    r"(?i)\b(0?BSD|MIT|Apache|ISC|PSF|Python|CNRI|MPL|Mozilla|Zlib|CC0|BSL|HPND|Historical|LLVM|ZPL|"
    r"Unlicense|Public Domain|LGPL|Lesser|GPL.*exception)\b"
)
REFUSED = r"(?i)SSPL|Commercial|Proprietary"
OWN_TERMS = {  # no licence of the lists: each was read, and it asks nothing of who uses visionxl
    r"docutils$": "the file under the GPL is a mode for Emacs, and not in the wheel",
    r"nvidia-|cuda-": "libraries of the card, which torch asks for and NVIDIA gives to run it",
}
UNREACHED = r"(?i)connection|resolve|timed out|unreachable|HTTPError|status code"
OURS = 2  # visionxl, and one that the machine brings: no database knows them
REMEDY = "Nothing is known about their weaknesses: run it where the network can be reached"


def needed(name: str, extras: tuple[str, ...] = ()) -> set[str]:
    "Names of the distributions that one needs, with those of its extras; other systems' are not."
    from packaging.requirements import Requirement

    found: set[str] = set()
    left = [(name, ("", *extras))]
    while left:
        here, asked = left.pop()
        for text in distribution(here).requires or []:
            r = Requirement(text)
            if r.marker and not any(r.marker.evaluate({"extra": e}) for e in asked):
                continue
            plain = r.name.lower().replace("_", "-")
            if plain not in found:
                found.add(plain)
                left.append((plain, ("", *r.extras)))
    return found


def terms(name: str) -> str:
    "What a distribution says about its licence: an expression, classes or a line; '' for nothing."
    said = metadata(name)
    classes = [c.split(" :: ")[-1] for c in said.get_all("Classifier") or [] if "License" in c]
    classes = [c for c in classes if c != "OSI Approved"]
    line = (said["License"] or "").strip().partition("\n")[0]
    return said["License-Expression"] or "; ".join(classes) or line[:60]


def allowed(part: str) -> bool:
    "Whether terms without a choice are on the list."
    each = re.split(r"(?i)\band\b|;", part)
    return all(re.search(ALLOWED, e) and not re.search(REFUSED, e) for e in each)


def rejected(text: str, name: str = "") -> bool:
    "Whether terms are missing, or not on the list; of a choice, one that is there is enough."
    if any(re.match(own, name) for own in OWN_TERMS):
        return False
    return not any(allowed(part) for part in re.split(r"(?i)\bor\b|/", text))


def audited(said: str, code: int, there: int) -> tuple[str, bool]:
    """What pip-audit found among so many packages, and whether it knows a weakness.

    It calls a package whose name its database does not answer "skipped", and ends well: with no
    database at all it says "No known vulnerabilities found". So it is counted what was looked up.
    """
    missing = "No module named pip_audit" in said
    unknown = re.findall(r"(?m)^(\S+) .*could not be audited", said)
    found = re.sub(r"(?m)^\S+ .*could not be audited.*\n?", "", said).strip()
    looked_up = there - len(unknown)
    if missing or (code and re.search(UNREACHED, said)) or looked_up <= OURS:
        why = "it is not installed" if missing else "its database was not reached"
        return f"NOT AUDITED: pip-audit looked up none of {there} packages ({why}). {REMEDY}", False
    part = "" if looked_up >= there - OURS else f"NOT AUDITED: {len(unknown)} of them. "
    return f"{found}\npip-audit looked up {looked_up} of {there} packages. {part}", code != 0


def audit() -> int:
    "Run pip-audit over what is installed; 1 when it knows a weakness."
    command = [sys.executable, "-m", "pip_audit", "--progress-spinner", "off", "--skip-editable"]
    done = subprocess.run(command, capture_output=True, text=True)
    there = len({d.metadata["Name"] for d in distributions()})
    text, bad = audited((done.stdout + done.stderr).strip(), done.returncode, there)
    print(text)
    return int(bad)


def main() -> int:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--audit", action="store_true", help="known weaknesses too, with pip-audit")
    a = p.parse_args()
    rows = {}
    for extras in ((), *((e,) for e in EXTRAS)):
        try:
            names = needed("visionxl", extras) - set(rows)
        except PackageNotFoundError as e:
            print(f"{e}: {'make install' if not extras else f'{extras[0]} is not looked at'}")
            if not extras:
                return 1
            continue
        print(f"visionxl{list(extras) or ''}")
        for name in sorted(names):
            rows[name] = terms(name)
            print(f"  {name:<28} {rows[name] or 'nothing said'}")
    bad = [name for name, said in rows.items() if rejected(said, name)]
    if bad:
        print(f"terms that have to be looked at: {', '.join(bad)}", file=sys.stderr)
    return int(bool(bad)) | (audit() if a.audit else 0)


if __name__ == "__main__":
    sys.exit(main())
