"""The released pipeline, written down plainly from its description: what `official` must equal and
`best` must beat.

Slow on purpose where the released code is slow: dense 61x61 convolutions, two identical UNet
branches, frames one after another, a last step whose result is thrown away. Tested against its
recorded numbers in tests/test_golden.py; used by bench/operators.py and bench/solver.py for timing.
Nothing here is imported by the package.
"""

from pathlib import Path

import torch
import torch.nn.functional as F


def gaussian(sigma: float, size: int = 61) -> torch.Tensor:
    "A dense Gaussian kernel (size, size) that sums to one."
    j = torch.arange(size, dtype=torch.float64) - size // 2
    k = torch.exp(-(j**2) / (2 * sigma**2))
    k = torch.outer(k, k)
    k = k / k.sum()
    return k.where(
        k > 1e-30, 0.0
    ).float()  # subnormal weights would slow the CPU down, and add nothing


def blur(x, kernel):
    "Dense convolution of every frame and channel, the borders mirrored without repeating the edge."
    pad = kernel.shape[-1] // 2
    weight = kernel.to(x).expand(x.shape[1], 1, *kernel.shape)
    return F.conv2d(F.pad(x, (pad,) * 4, mode="reflect"), weight, groups=x.shape[1])


def average(x, window: int = 7):
    "Uniform mean over neighbouring frames, as a 3-D convolution with circular padding."
    v = x.transpose(0, 1)[None]  # (1, C, T, H, W)
    v = F.pad(v, (0, 0, 0, 0, window // 2, window // 2), mode="circular")
    weight = torch.full((x.shape[1], 1, window, 1, 1), 1 / window).to(x)
    return F.conv3d(v, weight, groups=x.shape[1])[0].transpose(0, 1)


def operators(task: str, mask=None):
    "The pair (A, AT) as released; AT is not the adjoint for deblur, and 16 times it for sr."
    plus, kind = task.endswith("+"), task.rstrip("+")
    k = gaussian(3.0) if kind == "deblur" else None
    forward = {
        "deblur": lambda x: blur(x, k),
        "sr": lambda x: F.avg_pool2d(x, 4),
        "inpaint": lambda x: mask * x,
    }[kind]
    back = {
        "deblur": lambda y: y,
        "sr": lambda y: F.interpolate(y, scale_factor=4, mode="nearest"),
        "inpaint": lambda y: mask * y,
    }[kind]
    if not plus:
        return forward, back
    return lambda x: forward(average(x)), lambda y: average(back(y))


def measure(x, task: str, mask=None):
    "The measurement as that code hands it on: brought to full size by AT for sr."
    A, AT = operators(task, mask)
    return AT(A(x)) if task.startswith("sr") else A(x)


def cg(gram, b, x, steps: int = 10, tol: float = 1e-5):
    """Textbook conjugate gradients, one step size for the whole clip, stopped when the residual's
    norm is below `tol`.
    """
    r = b - gram(x)
    p, rr = r.clone(), (r * r).sum()
    for _ in range(steps):
        g = gram(p)
        step = rr / (p * g).sum()
        x, r = x + step * p, r - step * g
        new = (r * r).sum()
        if new.sqrt() < tol:
            break
        p, rr = r + new / rr * p, new
    return x


def cast(v, net):
    "A tensor in the precision of a network."
    return v.to(next(net.parameters()).dtype)


class Nets:
    "VAE and UNet of a diffusers folder, called one frame at a time."

    def __init__(self, vae, unet, alphas_cumprod, condition=None):
        self.vae, self.unet, self.alphas_cumprod, self.condition = (
            vae,
            unet,
            alphas_cumprod,
            condition,
        )
        self.evaluations = 0

    @classmethod
    def load(cls, folder, prompt_embeds, pooled_prompt_embeds, time_ids):
        from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel

        scheduler = DDIMScheduler.from_pretrained(Path(folder), subfolder="scheduler")
        nets = [
            c.from_pretrained(Path(folder), subfolder=p).eval().requires_grad_(False)
            for c, p in ((AutoencoderKL, "vae"), (UNet2DConditionModel, "unet"))
        ]
        cond = dict(
            text_embeds=pooled_prompt_embeds, time_ids=torch.tensor([time_ids], dtype=torch.float32)
        )
        return cls(*nets, scheduler.alphas_cumprod, (prompt_embeds, cond))

    def encode(self, x):
        "Frames (T, 3, H, W) to latents: a sample of the posterior, frame by frame."
        return (
            torch.cat(
                [self.vae.encode(cast(f[None], self.vae)).latent_dist.sample() for f in x]
            ).to(x)
            * self.vae.config.scaling_factor
        )

    def decode(self, z):
        z = z / self.vae.config.scaling_factor
        return torch.cat([self.vae.decode(cast(f[None], self.vae)).sample for f in z]).to(z)

    def eps(self, z, t, guidance: float = 0.6):
        "Guided noise of every frame: both branches see the empty prompt."
        out = []
        for f in z:
            args = {}
            if self.condition is not None:
                text, added = self.condition
                args = dict(
                    encoder_hidden_states=text.repeat(2, 1, 1),
                    added_cond_kwargs={k: v.repeat(2, 1) for k, v in added.items()},
                )
            pair = cast(f[None].repeat(2, 1, 1, 1), self.unet)
            plain, guided = self.unet(pair, t, **args).sample.to(z).chunk(2)
            self.evaluations += 2
            out.append(plain + guidance * (guided - plain))
        return torch.cat(out)


def invert(first, nets, steps: int = 25, time: int = 300):
    "The first frame of the measurement, encoded and inverted up to `time`: (1, c, h, w)."
    table, gap = (
        torch.cat([torch.ones(1), nets.alphas_cumprod]),
        1000 // steps,
    )  # read at t: alpha_bar of t - 1
    z = nets.encode(first)
    for t in range(1, time + 1, gap):
        a_t, a_s = (table[t - gap] if t >= gap else nets.alphas_cumprod[0]), table[t]
        e = nets.eps(z, t)
        z = a_s.sqrt() * (z - (1 - a_t).sqrt() * e) / a_t.sqrt() + (1 - a_s).sqrt() * e
    return z


def step(
    z, t: int, y, task: str, nets, noise, mask=None, steps=25, eta=0.2, cg_steps=10, lpf_scale=2.0
):
    "One sampling step: the decoded Tweedie estimate, and the latents of the next step."
    table, gap = torch.cat([torch.ones(1), nets.alphas_cumprod]), 1000 // steps
    A, AT = operators(task, mask)
    a_t, a_s = table[t], table[t - gap]  # at the last step the index wraps around
    e = nets.eps(z, t)
    x_hat = nets.decode((z - (1 - a_t).sqrt() * e) / a_t.sqrt())
    x_bar = cg(lambda x: AT(A(x)), y if task == "sr" else AT(y), x_hat, cg_steps)
    x_lp = blur(x_bar, gaussian(float((lpf_scale * (1 - a_t)).sqrt())))
    z_bar = nets.encode(x_lp)
    return x_hat, a_s.sqrt() * z_bar + (1 - a_s).sqrt() * (eta * noise + (1 - eta**2) ** 0.5 * e)


@torch.no_grad()
def restore(y, task: str, nets, noise, mask=None, steps=25, time=300) -> dict:
    """Restore the measurement `y` (T, 3, H, W), noise (steps, 1, c, h, w); what the golden files
    record.
    """
    if task == "sr+":
        raise ValueError("the released code stops on sr+: it pads one frame circularly by three")
    z_tau = invert(y[:1], nets, steps, time)
    z, seen = z_tau.repeat(len(y), 1, 1, 1), []
    for i, t in enumerate(reversed(range(1, time + 1, 1000 // steps))):
        seen.append((z, *step(z, t, y, task, nets, noise[i], mask, steps)))
        z = seen[-1][-1]
    return dict(
        z_tau=z_tau, z=torch.stack([s[0] for s in seen]), x0_first=seen[0][1], output=seen[-1][1]
    )
