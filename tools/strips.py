"""Draw the overview strip of the five steps, once for each step that a lesson lights.

    python tools/strips.py           write nbs/images/strip_*.svg
    python tools/strips.py --check   fail when a file is not what this script draws
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "nbs" / "images"

STEPS = {  # name: label, colour (Okabe and Ito; the same in every figure), colour of text on it
    "invert": ("1 invert", "#0072B2", "#fff"),
    "tweedie": ("2 Tweedie", "#D55E00", "#fff"),
    "consistency": ("3 consistency", "#009E73", "#000"),
    "lowpass": ("4 low-pass", "#CC79A7", "#000"),
    "renoise": ("5 renoise", "#E69F00", "#000"),
}
LIT = {  # name of the picture: the steps that are lit
    **{name: (name,) for name in STEPS},
    "all": tuple(STEPS),
    "noise": ("invert", "tweedie", "lowpass", "renoise"),  # where the noise level enters
    "network": ("invert", "tweedie", "lowpass"),  # where encoder, denoiser or decoder works
}
TENSORS = ("y", "z\u209c", "x\u0302", "x\u0304", "z\u0304", "z\u209b")  # between the steps
GREY = "#808080"
BOX, GAP, TOP, HIGH, WIDE = 100, 21, 4, 48, 628  # pixels


def place(k: int) -> int:
    "The left edge of box k."
    return GAP + k * (BOX + GAP)


def box(k: int, name: str, lit: bool) -> str:
    "One step: filled with its colour where it is lit, an outline in its colour where it is not."
    label, hue, ink = STEPS[name]
    fill = f'fill="{hue}"' if lit else f'fill="{hue}" fill-opacity="0.1"'
    text = f'fill="{ink}" font-weight="700"' if lit else f'fill="{GREY}"'
    middle = place(k) + BOX / 2
    return (
        f'<rect x="{place(k)}" y="{TOP}" width="{BOX}" height="{HIGH}" rx="6" {fill} '
        f'stroke="{hue}" stroke-width="2"/>'
        f'<text x="{middle}" y="{TOP + 20}" text-anchor="middle" {text}>{label[0]}</text>'
        f'<text x="{middle}" y="{TOP + 38}" text-anchor="middle" {text}>{label[2:]}</text>'
    )


def loop() -> str:
    "The way back from renoising to Tweedie's formula."
    left, right, y = place(1) + BOX / 2, place(4) + BOX / 2, TOP + HIGH
    path = f"M{right} {y + 3}V{y + 18}H{left}V{y + 7}"
    tip = f"M{left - 5} {y + 9}L{left} {y + 3}L{left + 5} {y + 9}Z"
    return (
        f'<path d="{path}" fill="none" stroke="{GREY}" stroke-width="1.5"/>'
        f'<path d="{tip}" fill="{GREY}"/>'
        f'<text x="{(left + right) / 2}" y="{y + 35}" text-anchor="middle" fill="{GREY}">'
        "steps 2 to 5, once for each timestep</text>"
    )


def alt(lit: tuple[str, ...]) -> str:
    "The alternative text of a strip, for the lessons."
    names = ", ".join(STEPS[name][0] for name in lit)
    return f"The five steps in a row; lit here: {names}."


def strip(lit: tuple[str, ...]) -> str:
    "A strip as SVG: legible on white and on black, on a phone and on a laptop."
    steps = "".join(box(k, name, name in lit) for k, name in enumerate(STEPS))
    signs = "".join(
        f'<text x="{place(k) - GAP / 2}" y="{TOP + 30}" text-anchor="middle" fill="{GREY}" '
        f'font-style="italic">{sign}</text>'
        for k, sign in enumerate(TENSORS)
    )
    height = TOP + HIGH + 40
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDE}" height="{height}" '
        f'viewBox="0 0 {WIDE} {height}" font-family="Helvetica, Arial, sans-serif" '
        f'font-size="15" role="img"><title>{alt(lit)}</title>{steps}{signs}{loop()}</svg>\n'
    )


def files() -> dict[Path, str]:
    "Every picture and what it holds."
    return {IMAGES / f"strip_{name}.svg": strip(lit) for name, lit in LIT.items()}


def main() -> int:
    check = "--check" in sys.argv[1:]
    late = [p for p, s in files().items() if not p.exists() or p.read_text("utf-8") != s]
    for path in late:
        print(f"{path.relative_to(ROOT)}: {'run tools/strips.py' if check else 'written'}")
        if not check:
            path.write_text(files()[path], encoding="utf-8")
    return int(check and bool(late))


if __name__ == "__main__":
    sys.exit(main())
