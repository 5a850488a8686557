"""Small folders of every model family, random weights in the real classes: no download, tenths of a
second each.

`build(name, folder)` writes one as `save_pretrained` does. The tokenizer's vocabulary is the 256
bytes, twice, and two marks. What visionxl refuses is written as configurations only: a refusal must
not need weights.
"""

import json
from pathlib import Path

import torch

BLOCKS = (32, 64)  # channels of the networks: two blocks, so that a latent is halved once


def _seeded(make, **config):
    "A network with weights that its configuration and one seed decide."
    torch.manual_seed(0)
    net = make(**config).eval()
    with torch.no_grad():
        for p in net.parameters():
            if p.ndim == 1:
                p.add_(0.1 * torch.randn_like(p))
    return net


def unet(**changes):
    "A UNet of Stable Diffusion's kind: 2 blocks, one of them with attention to the text."
    from diffusers import UNet2DConditionModel

    config = dict(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=BLOCKS,
        layers_per_block=1,
        cross_attention_dim=32,
        attention_head_dim=8,
        norm_num_groups=8,
    )
    return _seeded(UNet2DConditionModel, **config | changes)


def sdxl_unet(**changes):
    "The same with SDXL's second condition: pooled text and six sizes."
    return unet(
        **dict(
            cross_attention_dim=32 + 48,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=40 + 6 * 8,
            use_linear_projection=True,
            attention_head_dim=(4, 8),
            transformer_layers_per_block=(1, 2),
        )
        | changes
    )


def vae(**changes):
    "An autoencoder of Stable Diffusion's kind that halves three times."
    from diffusers import AutoencoderKL

    config = dict(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 16, 16),
        norm_num_groups=4,
        latent_channels=4,
        sample_size=128,
        scaling_factor=0.18215,
    )
    return _seeded(AutoencoderKL, **config | changes)


def taesd(**changes):
    "The light autoencoder of TAESD, with fewer channels."
    from diffusers import AutoencoderTiny

    config = dict(
        encoder_block_out_channels=(8,) * 4,
        decoder_block_out_channels=(8,) * 4,
        num_encoder_blocks=(1, 1, 1, 1),
        num_decoder_blocks=(1, 1, 1, 1),
    )
    return _seeded(AutoencoderTiny, **config | changes)


def text_encoder(width=32, projection=None, layers=3):
    "A CLIP text encoder; with `projection` the one of SDXL's second kind."
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    cls = CLIPTextModel if projection is None else CLIPTextModelWithProjection
    config = CLIPTextConfig(
        vocab_size=514,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=77,
        projection_dim=projection or width,
        bos_token_id=512,
        eos_token_id=2,  # as in the published configurations: read as "the largest token"
        pad_token_id=1,
        hidden_act="quick_gelu" if projection is None else "gelu",
    )
    torch.manual_seed(width)
    net = cls(config).eval()
    with torch.no_grad():  # transformers' own initialisation is so small that all texts look alike
        for p in net.parameters():
            if p.ndim == 2:
                p.mul_(4)
    return net


def tokenizer(folder, pad="<|endoftext|>"):
    "A CLIP tokenizer without merges: every byte is a token."
    from transformers import CLIPTokenizer

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    # the 256 printable signs that CLIP writes bytes with
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    signs = [chr(b) for b in plain] + [chr(256 + i) for i in range(256 - len(plain))]
    words = signs + [s + "</w>" for s in signs] + ["<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tok = CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), pad_token=pad, model_max_length=77
    )
    tok.save_pretrained(folder)
    if not (folder / "vocab.json").exists():
        (folder / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(words)}))
    return tok


SD = dict(
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    num_train_timesteps=1000,
    steps_offset=1,
)


def _scheduler(name, **changes):
    import diffusers

    return getattr(diffusers, name)(**SD | changes)


def _sdxl(folder, scheduler, variant=None, autoencoder=None, layers=3, **changes):
    from diffusers import StableDiffusionXLPipeline

    pipe = StableDiffusionXLPipeline(
        vae=autoencoder or vae(scaling_factor=0.13025, force_upcast=True),
        text_encoder=text_encoder(32),
        text_encoder_2=text_encoder(48, projection=40, layers=layers),
        tokenizer=tokenizer(folder / "tokenizer"),
        tokenizer_2=tokenizer(folder / "tokenizer_2", pad="!"),
        unet=sdxl_unet(**changes),
        scheduler=scheduler,
        add_watermarker=False,
    )
    if variant:
        pipe = pipe.to(torch.float16)
    pipe.save_pretrained(folder, variant=variant, safe_serialization=True)


def _sd(folder, scheduler, pipeline="StableDiffusionPipeline", **changes):
    import diffusers

    pipe = getattr(diffusers, pipeline)(
        vae=vae(),
        text_encoder=text_encoder(32),
        tokenizer=tokenizer(folder / "tokenizer"),
        unet=unet(**changes),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.save_pretrained(folder, safe_serialization=True)


SERVED = {
    "sdxl": lambda f: _sdxl(f, _scheduler("EulerDiscreteScheduler")),
    "sdxl-fp16": lambda f: _sdxl(f, _scheduler("EulerDiscreteScheduler"), variant="fp16"),
    "sdxl-turbo": lambda f: _sdxl(
        f, _scheduler("EulerAncestralDiscreteScheduler", timestep_spacing="trailing")
    ),
    "sdxl-lightning": lambda f: _sdxl(
        f, _scheduler("EulerDiscreteScheduler", timestep_spacing="trailing")
    ),
    "sdxl-taesd": lambda f: _sdxl(f, _scheduler("DDIMScheduler"), autoencoder=taesd()),
    "sd15": lambda f: _sd(f, _scheduler("PNDMScheduler", skip_prk_steps=True)),
    "sd21-v": lambda f: _sd(
        f,
        _scheduler("DDIMScheduler", prediction_type="v_prediction", set_alpha_to_one=False),
        attention_head_dim=(4, 8),
        use_linear_projection=True,
    ),
    "zero-snr": lambda f: _sd(
        f,
        _scheduler(
            "DDIMScheduler",
            prediction_type="v_prediction",
            rescale_betas_zero_snr=True,
            timestep_spacing="trailing",
        ),
    ),
    "lcm": lambda f: _sd(
        f,
        _scheduler("LCMScheduler"),
        pipeline="LatentConsistencyModelPipeline",
        time_cond_proj_dim=16,
    ),
}


def _meta(cls, folder, **config):
    "Only the configuration of a network: its weights are never made."
    with torch.device("meta"):
        cls(**config).save_config(folder)


def _as_unet(cls_name, folder, keep=(), **config):
    "A network of another class in the place of the UNet."
    import diffusers

    for f in (folder / "unet").iterdir():
        f.unlink()
    _meta(getattr(diffusers, cls_name), folder / "unet", **config)


def _drop_weights(folder):
    for f in folder.rglob("*.safetensors"):
        f.unlink()


def _edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _edm(f):
    from diffusers import EDMEulerScheduler

    SERVED["sdxl"](f)
    EDMEulerScheduler().save_pretrained(f / "scheduler")


def _euler_edm(f):
    SERVED["sdxl"](f)
    _scheduler(
        "EulerDiscreteScheduler",
        timestep_type="continuous",
        prediction_type="v_prediction",
        use_karras_sigmas=True,
        sigma_min=0.002,
        sigma_max=120.0,
    ).save_pretrained(f / "scheduler")


def _flow_unet(f):
    from diffusers import FlowMatchEulerDiscreteScheduler

    SERVED["sdxl"](f)
    FlowMatchEulerDiscreteScheduler().save_pretrained(f / "scheduler")


def _flow_sigmas(f):
    SERVED["sd15"](f)
    from diffusers import UniPCMultistepScheduler

    UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True
    ).save_pretrained(f / "scheduler")


def _transformer(f, pipeline, name, **config):
    import diffusers

    diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0).save_pretrained(f / "scheduler")
    _meta(getattr(diffusers, name), f / "transformer", **config)
    vae(latent_channels=16, scaling_factor=1.5305, shift_factor=0.0609).save_config(f / "vae")
    index = {
        "_class_name": pipeline,
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "transformer": ["diffusers", name],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (f / "model_index.json").write_text(json.dumps(index))


def _sd3(f):
    _transformer(
        f,
        "StableDiffusion3Pipeline",
        "SD3Transformer2DModel",
        sample_size=16,
        in_channels=16,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=32,
        caption_projection_dim=32,
        pooled_projection_dim=64,
        out_channels=16,
    )


def _flux(f):
    _transformer(
        f,
        "FluxPipeline",
        "FluxTransformer2DModel",
        in_channels=64,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=(4, 4, 8),
    )


def _refiner(f):
    from diffusers import StableDiffusionXLImg2ImgPipeline

    StableDiffusionXLImg2ImgPipeline(
        vae=vae(scaling_factor=0.13025),
        text_encoder=None,
        tokenizer=None,
        text_encoder_2=text_encoder(48, projection=40),
        tokenizer_2=tokenizer(f / "tokenizer_2", pad="!"),
        unet=sdxl_unet(cross_attention_dim=48, projection_class_embeddings_input_dim=40 + 5 * 8),
        scheduler=_scheduler("EulerDiscreteScheduler"),
        requires_aesthetics_score=True,
        add_watermarker=False,
    ).save_pretrained(f)


def _channels(f, **changes):
    SERVED["sd15"](f)
    unet(**changes).save_config(f / "unet")


def _pixel_unet():
    "A network on pixels, without text."
    from diffusers import UNet2DModel

    return _seeded(
        UNet2DModel,
        sample_size=16,
        in_channels=3,
        out_channels=3,
        block_out_channels=BLOCKS,
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
        norm_num_groups=8,
    )


def _pixels(f):
    from diffusers import DDPMPipeline, DDPMScheduler

    net = _pixel_unet()
    DDPMPipeline(net, DDPMScheduler()).save_pretrained(f)


def _if(f):
    "DeepFloyd IF: pixels, T5."
    SERVED["sd15"](f)
    _edit(
        f / "unet" / "config.json", in_channels=3, out_channels=6, encoder_hid_dim_type="text_proj"
    )
    for p in (f / "vae").iterdir():
        p.unlink()
    (f / "vae").rmdir()


def _video(f, name, **config):
    SERVED["sd15"](f)
    _as_unet(name, f, **config)


def _vq(f):
    from diffusers import DDIMScheduler, LDMPipeline, VQModel

    net = _pixel_unet()
    vq = _seeded(
        VQModel,
        block_out_channels=(8, 8),
        norm_num_groups=4,
        num_vq_embeddings=16,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    )
    LDMPipeline(vq, net, DDIMScheduler()).save_pretrained(f)


def _vq_vae(f):
    from diffusers import VQModel

    SERVED["sd15"](f)
    for p in (f / "vae").iterdir():
        p.unlink()
    _meta(VQModel, f / "vae", latent_channels=4)


VIDEO = dict(
    block_out_channels=(32, 64),
    down_block_types=("DownBlock3D", "CrossAttnDownBlock3D"),
    up_block_types=("CrossAttnUpBlock3D", "UpBlock3D"),
    cross_attention_dim=32,
    attention_head_dim=8,
    layers_per_block=1,
    norm_num_groups=8,
)

# what visionxl cannot serve: how to write one, and the class and the reason that its message must
# name
REFUSED = {
    "edm": (_edm, "EDMEulerScheduler", "EDM"),
    "euler-edm": (_euler_edm, "EulerDiscreteScheduler", "continuous"),
    "flow-unet": (_flow_unet, "FlowMatchEulerDiscreteScheduler", "flow matching"),
    "flow-sigmas": (_flow_sigmas, "UniPCMultistepScheduler", "flow matching"),
    "sd3": (_sd3, "SD3Transformer2DModel", "flow matching"),
    "flux": (_flux, "FluxTransformer2DModel", "flow matching"),
    "refiner": (_refiner, "StableDiffusionXLImg2ImgPipeline", "refiner"),
    "inpainting": (lambda f: _channels(f, in_channels=9), "UNet2DConditionModel", "9 channels"),
    "edit": (lambda f: _channels(f, in_channels=8), "UNet2DConditionModel", "8 channels"),
    "upscaler": (
        lambda f: _channels(f, in_channels=7, num_class_embeds=1000),
        "UNet2DConditionModel",
        "7 channels",
    ),
    "class-labels": (
        lambda f: _channels(f, class_embed_type="timestep"),
        "UNet2DConditionModel",
        "class labels",
    ),
    "ip-adapter": (
        lambda f: _channels(f, encoder_hid_dim=8, encoder_hid_dim_type="image_proj"),
        "UNet2DConditionModel",
        "image_proj",
    ),
    "pixels": (_pixels, "UNet2DModel", "pixels"),
    "if": (_if, "UNet2DConditionModel", "pixels"),
    "video-3d": (
        lambda f: _video(f, "UNet3DConditionModel", **VIDEO),
        "UNet3DConditionModel",
        "videos",
    ),
    "svd": (
        lambda f: _video(
            f,
            "UNetSpatioTemporalConditionModel",
            block_out_channels=(32, 64),
            down_block_types=("DownBlockSpatioTemporal", "CrossAttnDownBlockSpatioTemporal"),
            up_block_types=("CrossAttnUpBlockSpatioTemporal", "UpBlockSpatioTemporal"),
            num_attention_heads=(4, 8),
            cross_attention_dim=32,
            layers_per_block=1,
        ),
        "UNetSpatioTemporalConditionModel",
        "videos",
    ),
    "ldm-vq": (_vq, "VQModel", "code book"),
    "vq-vae": (_vq_vae, "VQModel", "vae="),
}


def build_refused(name, folder, weights=False):
    "Write what cannot serve, without weights: a refusal must not need them."
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    REFUSED[name][0](folder)
    if not weights:
        _drop_weights(folder)
    return folder


def build(name, folder):
    "Write the family `name` into `folder`, which it returns."
    folder = Path(folder)
    if name == "sdxl-deep":  # diffusers knows a single file of SDXL by the tenth layer
        _sdxl(folder, _scheduler("EulerDiscreteScheduler"), layers=11)
    else:
        SERVED[name](folder)
    return folder
