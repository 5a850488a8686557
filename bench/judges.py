"""LPIPS and FVD of held-out clips, by our own modules and by those of others.

    pip download --no-deps lpips==0.1.4 cd-fvd==0.1.1     unpack both into FOLDER
    python bench/judges.py FOLDER                         writes bench/results/judges.json and .md

LPIPS is that of its authors' package with the heads that come in it; the convolutions of AlexNet,
which it would download, are ours. I3D is the one of piergiaj/pytorch-i3d, which the package cd-fvd
carries, with our weights; the distance is taken with scipy's root of a matrix. So the figures check
the networks' layers and the arithmetic, LPIPS's heads, and not where the other weights come from:
the page on weights says that. What is judged is each clip's measurement, brought to size.
"""

import argparse
import importlib
import json
import sys
import types
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from kept import write_json  # noqa: E402

from visionxl.compare.rivals import upsample  # noqa: E402
from visionxl.measure import metrics  # noqa: E402
from visionxl.measure.clip_metrics import load_networks, measure, video_distances  # noqa: E402
from visionxl.measure.experiment.given import at_size, default_clips, find_operator  # noqa: E402
from visionxl.measure.perception.weights import find_weights  # noqa: E402
from visionxl.measure.tables import markdown  # noqa: E402

RESULTS = Path(__file__).parent / "results"
TASKS = ("deblur", "sr")
BLOCK = {"0.Conv3d_0a": "b0", "1.Conv3d_0a": "b1a", "1.Conv3d_0b": "b1b"}
BLOCK |= {"2.Conv3d_0a": "b2a", "2.Conv3d_0b": "b2b", "3.Conv3d_0b": "b3b"}


def alexnet() -> torch.nn.Sequential:
    "The layers of torchvision's AlexNet that LPIPS takes, with random weights."
    layers: list = []
    shapes = ((3, 64, 11, 4, 2), (64, 192, 5, 1, 2), (192, 384, 3, 1, 1), (384, 256, 3, 1, 1))
    for i, shape in enumerate((*shapes, (256, 256, 3, 1, 1))):
        layers += [torch.nn.Conv2d(*shape), torch.nn.ReLU()]
        layers += [torch.nn.MaxPool2d(3, 2)] if i < 2 else []
    return torch.nn.Sequential(*layers)


def their_lpips(folder: Path, d: dict) -> torch.nn.Module:
    "LPIPS of its authors' package; `d` has AlexNet's convolutions."
    given = types.ModuleType("torchvision")
    given.models = types.SimpleNamespace(alexnet=lambda **k: types.SimpleNamespace(features=net))
    sys.modules["torchvision"] = given
    for name in ("lpips.trainer", "skimage", "tqdm", "IPython"):  # what trains it is not needed
        sys.modules.setdefault(name, types.ModuleType(name))
    net = alexnet()
    net.load_state_dict({k.removeprefix("features."): v.float() for k, v in d.items() if "fe" in k})
    sys.path.insert(0, str(next(folder.rglob("lpips/lpips.py")).parent.parent))
    return importlib.import_module("lpips.lpips").LPIPS(net="alex", verbose=False)


def their_name(name: str) -> str:
    "What pytorch-i3d calls one of our weights."
    name = name.replace("conv.", "conv3d.")
    if name.startswith("Logits"):
        return name.replace("Logits.Conv3d_0c_1x1", "logits")
    if not name.startswith("Mixed"):
        return name
    block, rest = name.split(".Branch_")
    branch, layer, *last = rest.split(".")
    return ".".join([block, BLOCK[f"{branch}.{layer[:9]}"], *last])


def their_i3d(folder: Path, d: dict) -> torch.nn.Module:
    "I3D of pytorch-i3d, with our weights `d`; it has a scale too, and another epsilon."
    file = next(folder.rglob("i3d/pytorch_i3d.py"))
    sys.path.insert(0, str(file.parent))
    net = importlib.import_module("pytorch_i3d").InceptionI3d(400, in_channels=3).eval()
    lost = net.load_state_dict({their_name(k): v.float() for k, v in d.items()}, strict=False)
    assert not lost.unexpected_keys, lost.unexpected_keys
    assert all(k.endswith(("bn.weight", "bn.num_batches_tracked")) for k in lost.missing_keys)
    for m in net.modules():
        if isinstance(m, torch.nn.BatchNorm3d):
            m.eps = 1e-3
    return net


def far(a: np.ndarray, b: np.ndarray) -> float:
    "The distance of two normal distributions, with scipy's root."
    from scipy.linalg import sqrtm

    ca, cb = np.cov(a.T), np.cov(b.T)
    root = sqrtm(ca @ cb).real
    return float(np.square(a.mean(0) - b.mean(0)).sum() + np.trace(ca + cb - 2 * root))


@torch.no_grad()
def rows_of(a: argparse.Namespace) -> list[dict]:
    "A row for each task: both figures of both metrics."
    from safetensors.torch import load_file

    nets = load_networks()
    lpips = their_lpips(a.folder, load_file(find_weights("lpips")))
    i3d = their_i3d(a.folder, load_file(find_weights("i3d")))
    out = []
    for name in TASKS:
        ours, features, theirs, seen = [], [], [], ([], [])
        for clip in default_clips(a.clips).values():
            x = at_size(clip, a.size, a.frames)
            A = find_operator(name)(tuple(x.shape), 0)
            got = upsample(A(x), A)
            row, found = measure(x, got, nets)
            ours.append(row["LPIPS"])
            features.append(found)
            sides = [metrics.to_unit(v)[0] for v in (x, got)]
            theirs.append(float(lpips(*[2 * v - 1 for v in sides]).mean()))
            for side, v in zip(seen, sides):
                side.append(i3d(metrics.fvd_preprocess(v)[None])[0].double().numpy())
        fvd = [video_distances(features)["FVD"], far(*[np.stack(s) for s in seen])]
        gap = max(abs(p - q) for p, q in zip(ours, theirs))
        row = {"task": name, "clips": str(len(ours)), "LPIPS, ours": float(np.mean(ours))}
        row |= {"LPIPS, its authors'": float(np.mean(theirs)), "largest gap of a clip": gap}
        out.append(row | {"FVD, ours": fvd[0], "FVD, pytorch-i3d and scipy": fvd[1]})
    return out


def shown(name: str, figure: str | float) -> str:
    "A figure with the digits that tell the two apart."
    if isinstance(figure, str):
        return figure
    return f"{figure:.3f}" if name.startswith("FVD") else f"{figure:.6f}"


def page(kept: dict) -> str:
    "The figures as Markdown."
    rows = [{k: shown(k, v) for k, v in r.items()} for r in kept["rows"]]
    worst = max(abs(r["FVD, ours"] / r["FVD, pytorch-i3d and scipy"] - 1) for r in kept["rows"])
    return (
        "# LPIPS and FVD by our modules and by those of others\n\nMeasurements brought to size of "
        f"the held-out clips, short side {kept['size']}, {kept['frames']} frames. Made by `python "
        "bench/judges.py`, which says what is whose.\n\n"
        f"{markdown(rows, bold=False)}\n\n"
        f"- FVD differs by {max(worst, 1e-6):.0e} of it at most (asked: 1e-3).\n"
        "- LPIPS ships in half precision, and its figure is that of the shipped weights.\n"
    )


def main(argv: list | None = None) -> int:
    "Judge the clips by both, and keep the figures."
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("folder", type=Path, help="with both packages, unpacked")
    p.add_argument("--clips", help="folder of clips; default as bench/quality.py")
    p.add_argument("--size", type=int, default=96)
    p.add_argument("--frames", type=int, default=10)
    p.add_argument("--out", type=Path, default=RESULTS / "judges.json")
    a = p.parse_args(argv)
    kept = {"size": a.size, "frames": a.frames, "rows": rows_of(a)}
    write_json(kept, a.out, "rows")
    text = page(json.loads(a.out.read_text(encoding="utf-8")))
    a.out.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
