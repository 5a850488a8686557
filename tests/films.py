"""Pieces of the sample clips, as a file holds them."""

import torch


def in_file(y: torch.Tensor) -> torch.Tensor:
    "Rounded and clipped as in a file of 8 bits."
    return ((y.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1
