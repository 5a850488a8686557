"""Operators of one's own for the tests: two methods and two shapes, nothing declared."""

import math

import torch
import torch.nn.functional as F

from visionxl.operators.linear import LinearOperator


class Plain(LinearOperator):
    "Two methods and two shapes, nothing declared."

    def __init__(self, A):
        self.inner, self.in_shape, self.out_shape = A, A.in_shape, A.out_shape
        self.calls = 0

    def forward(self, x):
        self.calls += 1
        return self.inner(x)

    def adjoint(self, y):
        self.calls += 1
        return self.inner.AT(y)


class Kernel(LinearOperator):
    "A kernel with repeated border pixels; the adjoint comes from autograd."

    def __init__(self, shape, kernel):
        self.in_shape = self.out_shape = tuple(shape)
        self.kernel = kernel

    def forward(self, x):
        (h, w), C = self.kernel.shape, x.shape[1]
        wide = F.pad(x, (w // 2, w // 2, h // 2, h // 2), mode="replicate")
        return F.conv2d(wide, self.kernel.to(x)[None, None].expand(C, 1, h, w), groups=C)

    def adjoint(self, y):
        x = torch.zeros(self.in_shape, dtype=y.dtype, requires_grad=True)
        with torch.enable_grad():
            return torch.autograd.grad(self.forward(x), x, y)[0]


class Bayer(LinearOperator):
    "One of three colours at each pixel."

    def __init__(self, shape):
        T, C, H, W = shape
        self.in_shape, self.out_shape = tuple(shape), (T, 1, H, W)
        self.kept = torch.zeros(3, H, W, dtype=torch.float64)
        self.kept[0, ::2, ::2] = 1
        self.kept[1, ::2, 1::2] = 1
        self.kept[1, 1::2, ::2] = 1
        self.kept[2, 1::2, 1::2] = 1

    def forward(self, x):
        return (x * self.kept.to(x)).sum(1, keepdim=True)

    def adjoint(self, y):
        return y * self.kept.to(y)


class Rows(LinearOperator):
    "Half of the rows, drawn at random."

    def __init__(self, shape):
        T, C, H, W = shape
        order = torch.randperm(H, generator=torch.Generator().manual_seed(0))
        self.rows = order[: H // 2].sort().values
        self.in_shape, self.out_shape = tuple(shape), (T, C, H // 2, W)

    def forward(self, x):
        return x[:, :, self.rows]

    def adjoint(self, y):
        x = y.new_zeros(self.in_shape)
        x[:, :, self.rows] = y
        return x


class Radial(LinearOperator):
    "The frequencies on lines through the middle, as real and imaginary parts."

    def __init__(self, shape, lines=12):
        T, C, H, W = shape
        self.kept = torch.zeros(H, W, dtype=torch.bool)
        for i in range(lines):
            angle = math.pi * i / lines
            for r in torch.linspace(-1, 1, 4 * W).tolist():
                u, v = round(r * H / 2 * math.sin(angle)), round(r * W / 2 * math.cos(angle))
                self.kept[u % H, v % W] = True
                self.kept[-u % H, -v % W] = True
        self.in_shape, self.out_shape = tuple(shape), (T, C, int(self.kept.sum()), 2)

    def forward(self, x):
        return torch.view_as_real(torch.fft.fft2(x, norm="ortho")[..., self.kept])

    def adjoint(self, y):
        kind = torch.promote_types(y.dtype, torch.complex64)
        c = torch.zeros(self.in_shape, dtype=kind)
        c[..., self.kept] = torch.view_as_complex(y.contiguous())
        return torch.fft.ifft2(c, norm="ortho").real


def slanted(n=7, s1=2.0, s2=0.7, angle=0.5):
    "A Gaussian kernel longer in one direction, which lies along neither axis."
    i = torch.arange(n, dtype=torch.float64) - n // 2
    u = i[:, None] * math.sin(angle) + i * math.cos(angle)
    v = i[:, None] * math.cos(angle) - i * math.sin(angle)
    k = torch.exp(-0.5 * ((u / s1) ** 2 + (v / s2) ** 2))
    return k / k.sum()
