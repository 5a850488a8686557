"""A diffusers folder as one safetensors file, in the names of Stable Diffusion's authors."""

import re
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
LAST = 3  # number of the autoencoder's last block: theirs count from the other end
TOP = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}


def _unet_name(name: str, layers: int) -> str:
    for ours, theirs in TOP.items():
        if name.startswith(ours + "."):
            return name.replace(ours, theirs, 1)
    m = re.match(r"mid_block\.(resnets|attentions)\.(\d)\.(.*)", name)
    if m:
        return f"middle_block.{2 * int(m[2]) if m[1] == 'resnets' else 1}.{_inner(m[1], m[3])}"
    m = re.match(r"(down|up)_blocks\.(\d)\.(\w+)\.(\d)\.(.*)", name)
    way, block, kind, layer, rest = m[1], int(m[2]), m[3], int(m[4]), m[5]
    if kind == "downsamplers":
        return f"input_blocks.{(layers + 1) * (block + 1)}.0.{rest.replace('conv', 'op', 1)}"
    if way == "down":
        place = f"input_blocks.{(layers + 1) * block + layer + 1}"
    else:
        place = f"output_blocks.{(layers + 1) * block + layer}"
    if kind == "upsamplers":
        return f"output_blocks.{(layers + 1) * block + layers}.UP.{rest}"
    return f"{place}.{0 if kind == 'resnets' else 1}.{_inner(kind, rest)}"


def _inner(kind: str, rest: str) -> str:
    if kind != "resnets":
        return rest
    head, tail = rest.split(".", 1)
    return f"{RESNET[head]}.{tail}"


def _unet(state: dict, layers: int) -> dict:
    named = {_unet_name(k, layers): v for k, v in state.items()}
    for name in [n for n in named if ".UP." in n]:  # after the attention, where there is one
        place = name.split(".UP.")[0]
        at = 2 if any(n.startswith(f"{place}.1.") for n in named) else 1
        named[name.replace(".UP.", f".{at}.")] = named.pop(name)
    return {"model.diffusion_model." + k: v.clone() for k, v in named.items()}


def _vae(state: dict) -> dict:
    out = {}
    for name, value in state.items():
        name = re.sub(r"down_blocks\.(\d)\.resnets\.(\d)", r"down.\1.block.\2", name)
        name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
        name = re.sub(
            r"up_blocks\.(\d)\.resnets\.(\d)",
            lambda m: f"up.{LAST - int(m[1])}.block.{m[2]}",
            name,
        )
        name = re.sub(
            r"up_blocks\.(\d)\.upsamplers\.0",
            lambda m: f"up.{LAST - int(m[1])}.upsample",
            name,
        )
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
        for ours, theirs in (
            ("mid_block.attentions.0", "mid.attn_1"),
            ("group_norm", "norm"),
            ("to_q", "q"),
            ("to_k", "k"),
            ("to_v", "v"),
            ("to_out.0", "proj_out"),
            ("conv_norm_out", "norm_out"),
            ("conv_shortcut", "nin_shortcut"),
        ):
            name = name.replace(ours, theirs)
        if "attn_1" in name and name.endswith("weight") and "norm" not in name:
            value = value[:, :, None, None]
        out["first_stage_model." + name] = value.clone()
    return out


def _clip(state: dict, prefix: str) -> dict:
    plain = {k.removeprefix("text_model."): v for k, v in state.items()}
    return {f"{prefix}text_model.{k}": v.clone() for k, v in plain.items()}


def _open_clip(state: dict, prefix: str) -> dict:
    s = {k.removeprefix("text_model."): v for k, v in state.items()}
    out = {
        "token_embedding.weight": s["embeddings.token_embedding.weight"],
        "positional_embedding": s["embeddings.position_embedding.weight"],
        "text_projection": s["text_projection.weight"].T,
        "ln_final.weight": s["final_layer_norm.weight"],
        "ln_final.bias": s["final_layer_norm.bias"],
    }
    names = {
        "layer_norm1": "ln_1",
        "layer_norm2": "ln_2",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
        "self_attn.out_proj": "attn.out_proj",
    }
    count = 1 + max(int(m[1]) for m in (re.match(r"encoder\.layers\.(\d+)", k) for k in s) if m)
    for i in range(count):
        ours, theirs = f"encoder.layers.{i}", f"transformer.resblocks.{i}"
        for kind in ("weight", "bias"):
            qkv = [s[f"{ours}.self_attn.{p}_proj.{kind}"] for p in "qkv"]
            out[f"{theirs}.attn.in_proj_{kind}"] = torch.cat(qkv)
            for a, b in names.items():
                out[f"{theirs}.{b}.{kind}"] = s[f"{ours}.{a}.{kind}"]
    return {prefix + k: v.contiguous().clone() for k, v in out.items()}


def single_file(folder: Path, path: Path, layers: int = 1) -> Path:
    "Write the model of `folder` into `path`; `layers` of each block of its UNet."

    def state(part):
        return load_file(next((folder / part).glob("*.safetensors")))

    out = _unet(state("unet"), layers) | _vae(state("vae"))
    if (folder / "text_encoder_2").is_dir():
        out |= _clip(state("text_encoder"), "conditioner.embedders.0.transformer.")
        out |= _open_clip(state("text_encoder_2"), "conditioner.embedders.1.model.")
    else:
        out |= _clip(state("text_encoder"), "cond_stage_model.transformer.")
    save_file(out, path)
    return path
