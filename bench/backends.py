"""One evaluation of the networks by other back ends: torch.compile, ONNX Runtime, OpenVINO.

    pip install onnx onnxruntime openvino
    python bench/backends.py            adds a run to bench/results/backends.json

A frame of 192x320 on one thread; all back ends take turns, processor time, medians. `times as fast`
is the median of the ratio to PyTorch in the same round, `error` the largest difference over the
largest value. OpenVINO's own precision is bfloat16 where the processor has it.
"""

import argparse
import json
import statistics
import time
from functools import partial
from pathlib import Path

import torch
from torch import nn

from visionxl.prior.latent import Prior

RESULTS = Path(__file__).parent / "results"


class Sample(nn.Module):
    "A network of diffusers that returns a tensor."

    def __init__(self, call):
        super().__init__()
        self.call = call

    def forward(self, *args):
        return self.call(*args).sample


@torch.no_grad()
def eager(net, args):
    "As PyTorch does it."
    return net(*args)


def rounded(net, args):
    "In bfloat16, as the preset `fast` does it."
    with torch.autocast("cpu", torch.bfloat16):
        return eager(net, args)


def others(net, args, file: Path) -> dict:
    "The back ends that read an ONNX file, as functions."
    import onnxruntime
    import openvino

    names = [f"i{k}" for k in range(len(args))]
    torch.onnx.export(net, args, file, opset_version=17, dynamo=False, input_names=names)
    given = {n: a.numpy() for n, a in zip(names, args)}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    core, one = openvino.Core(), {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
    exact = core.compile_model(file, "CPU", one | {"INFERENCE_PRECISION_HINT": "f32"})
    own = core.compile_model(file, "CPU", one)
    return {
        "ONNX Runtime": lambda: torch.from_numpy(session.run(None, given)[0]),
        "OpenVINO": lambda: torch.from_numpy(exact(given)[0]),
        "OpenVINO, own precision": lambda: torch.from_numpy(own(given)[0]),
    }


def measured(runs: dict, rounds: int) -> dict:
    "Milliseconds, ratio and error of each back end."
    seconds = {k: [] for k in runs}
    answers = {k: f().float() for k, f in runs.items()}
    for _ in range(rounds):
        for k, f in runs.items():
            began = time.process_time()
            f()
            seconds[k].append(time.process_time() - began)
    plain, found = seconds["PyTorch"], {}
    for k, v in seconds.items():
        error = (answers[k] - answers["PyTorch"]).abs().max() / answers["PyTorch"].abs().max()
        ratio = statistics.median(a / b for a, b in zip(plain, v))
        ms = round(1000 * statistics.median(v), 1)
        found[k] = {"ms": ms, "times as fast": round(ratio, 3), "error": float(f"{error:.2g}")}
    return found


def main():
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--prior", default="tiny")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--files", type=Path, default=Path("runs"), help="folder for ONNX files")
    a = p.parse_args()
    torch.set_num_threads(1)
    a.files.mkdir(exist_ok=True)
    prior, z = Prior.load(a.prior, device="cpu"), torch.randn(1, 16, 48, 80)
    parts = {"unet": (prior.unet, (z, torch.tensor(175))), "decode": (prior.vae.decode, (z,))}
    found = {}
    for part, (call, args) in parts.items():
        net = Sample(call).eval()
        runs = {"PyTorch": partial(eager, net, args), "bfloat16": partial(rounded, net, args)}
        runs["torch.compile"] = partial(eager, torch.compile(net), args)
        runs |= others(net, args, a.files / f"{part}.onnx")
        found[part] = measured(runs, a.rounds)
        for name, row in found[part].items():
            print(part, name, row, flush=True)
    out = RESULTS / "backends.json"
    kept = json.loads(out.read_text(encoding="utf-8")) if out.exists() else []
    kept.append({"rounds": a.rounds} | found)
    out.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
