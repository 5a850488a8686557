"""Figures as they are kept: JSON with a row on a line, numbers to six digits."""

import json
from pathlib import Path


def write_json(
    kept: dict,  # figures; what `lists` names is a list of rows
    path: Path,
    *lists: str,  # keys whose items stand on a line each
) -> None:
    "Write figures so that a changed row is a changed line."
    short = json.loads(json.dumps(kept), parse_float=_short)
    parts = []
    for key, value in short.items():
        text = json.dumps(value)
        if key in lists and value:
            rows = ",\n  ".join(json.dumps(r) for r in value)
            text = f"[\n  {rows}\n ]"
        parts.append(f"{json.dumps(key)}: {text}")
    path.write_text("{\n " + ",\n ".join(parts) + "\n}\n", encoding="utf-8")


def _short(text: str) -> float:
    "A number of a JSON to six digits."
    return float(f"{float(text):.6g}")
