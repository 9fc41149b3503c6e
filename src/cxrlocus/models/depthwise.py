"""Strided and dilated depthwise convolutions, which a CPU computes faster in float32 than in bfloat16."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Float32Depthwise(nn.Conv2d):
    """A strided or dilated depthwise convolution that computes in float32 on a CPU, also under bfloat16 autocast.

    torch has no fast backward pass for these in bfloat16: of 16 x 96 x 128 x 128 with stride 2 it takes 105 ms, in
    float32 13, and of 16 x 960 x 16 x 16 with dilation 2 it takes 80, in float32 33. Together a third of a training
    step of MobileNetV2. Elsewhere, and without autocast, it is the convolution that it is.

    Example:
        >>> conv = Float32Depthwise(4, 4, 3, stride=2, padding=1, groups=4)
        >>> with torch.autocast("cpu", torch.bfloat16):
        ...     seen = conv(torch.ones(1, 4, 8, 8, dtype=torch.bfloat16))
        >>> seen.shape, seen.dtype
        (torch.Size([1, 4, 4, 4]), torch.bfloat16)
    """

    def forward(self, x: Tensor) -> Tensor:
        """The convolution (N, C, h', w') of x (N, C, h, w), in the dtype that autocast asks for."""
        if x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.float()).to(torch.get_autocast_dtype("cpu"))


def depthwise_in_float32(net: nn.Module) -> None:
    """Let every strided or dilated depthwise convolution of a network be a ``Float32Depthwise`` with the same weights.

    Only plain ``nn.Conv2d`` are taken: what a subclass does besides (padding as it goes, say) stays as it is.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(4, 4, 3, stride=2, groups=4), nn.Conv2d(4, 4, 3, stride=2))
        >>> depthwise_in_float32(net)
        >>> [type(part).__name__ for part in net]
        ['Float32Depthwise', 'Conv2d']
    """
    for module in net.modules():
        if type(module) is nn.Conv2d and 1 < module.groups == module.in_channels:
            spread = (*module.stride, *module.dilation)
            if max(spread) > 1:
                module.__class__ = Float32Depthwise
