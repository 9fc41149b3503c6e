"""The pyramid of Fig. 2: down by a ResNet, a dense block along each resolution, up by upsampling and concatenation."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cxrlocus.methods.yao2018.down import ResNetDown, TimmDown
from cxrlocus.methods.yao2018.layers import DenseBlock, Upsample, Upsampling
from cxrlocus.models.again import run


class Pyramid(nn.Module):
    """``F^l = f(U(F^{l+1}) + F_1^l)`` from the lowest resolution up (Yao et al. 2018, eq. 3); + concatenates channels.

    f is a `DenseBlock` (eq. 2): its first layer fuses the two, the others refine. A level has no more channels than
    twice those that come down to it, so that the finest stay thin.

    Args:
        down: films to levels, finest first.
        layers: of each dense block.
        growth: channels of each layer.
        fused: most channels of a level's result.
        upsampling: U.
        again: compute each dense block again in the backward pass instead of keeping it.

    Example:
        >>> pyramid = Pyramid(ResNetDown((4, 8, 16), width=2, blocks=1), layers=2, growth=4, fused=12)
        >>> pyramid(torch.zeros(2, 1, 64, 64)).shape, pyramid.channels
        (torch.Size([2, 12, 16, 16]), 12)
    """

    def __init__(
        self,
        down: ResNetDown | TimmDown,
        *,
        layers: int,
        growth: int,
        fused: int,
        upsampling: Upsampling = "nearest",
        again: bool = False,
    ) -> None:
        super().__init__()
        self.down, self.again = down, again
        result = [min(fused, 2 * channels) for channels in down.channels]
        from_below = [*result[1:], 0]
        self.blocks = nn.ModuleList(
            DenseBlock(channels + below, layers=layers, growth=min(growth, channels), after=after)
            for channels, below, after in zip(down.channels, from_below, result, strict=True)
        )
        self.up = nn.ModuleList(Upsample(below, upsampling) for below in from_below[:-1])
        self.channels = result[0]

    def forward(self, images: Tensor) -> Tensor:
        """F^0 (N, D, H / stride, W / stride), >= 0, of films (N, 1, H, W) in [0, 1]."""
        levels = self.down(images)
        result: Tensor = run(self.blocks[-1], levels[-1], again=self.again)
        for k in range(len(levels) - 2, -1, -1):
            fused = torch.cat([self.up[k](result), levels[k]], dim=1)
            result = run(self.blocks[k], fused, again=self.again)
        return result
