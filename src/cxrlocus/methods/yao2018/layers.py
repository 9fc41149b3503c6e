"""What the pyramid is built of: residual blocks, dense blocks, upsampling."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Upsampling = Literal["nearest", "bilinear", "transposed"]


def conv_norm(before: int, after: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """A convolution that keeps the grid (or divides it by its stride), and batch normalization in place of its bias."""
    conv = nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(after))


class ResidualBlock(nn.Module):
    """``F' = relu(g(F) + f(F))`` (Yao et al. 2018, sec. 3.1): g two 3x3 convolutions, f the identity or a 1x1.

    Args:
        before, after: channels.
        stride: 2 halves the grid.

    Example:
        >>> ResidualBlock(4, 8, stride=2)(torch.zeros(2, 4, 16, 16)).shape
        torch.Size([2, 8, 8, 8])
    """

    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.g = nn.Sequential(
            conv_norm(before, after, 3, stride), nn.ReLU(inplace=True), conv_norm(after, after, 3)
        )  # fmt: skip
        same = before == after and stride == 1
        self.f = nn.Identity() if same else conv_norm(before, after, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, after, H / stride, W / stride) of (N, before, H, W)."""
        return F.relu(self.g(x) + self.f(x), inplace=True)


class DenseBlock(nn.Module):
    """``F_{m+1} = relu(f(F_1 + F_2 + ... + F_m))``, + the concatenation of channels (Yao et al. 2018, eq. 2).

    Each layer's f is a 3x3 convolution to ``growth`` channels; the last f is 1x1 (DenseNet's transition) and gives what
    the next resolution is made of.

    Args:
        before: channels of F_1.
        layers: 3x3 layers, at least 1.
        growth: channels of each.
        after: channels of the last feature map.

    Example:
        >>> DenseBlock(4, layers=2, growth=3, after=5)(torch.zeros(2, 4, 8, 8)).shape
        torch.Size([2, 5, 8, 8])
    """

    def __init__(self, before: int, *, layers: int, growth: int, after: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(conv_norm(before + k * growth, growth, 3) for k in range(layers))
        self.transition = conv_norm(before + layers * growth, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, after, H, W) of (N, before, H, W)."""
        for layer in self.layers:
            x = torch.cat([x, F.relu(layer(x), inplace=True)], dim=1)
        return F.relu(self.transition(x), inplace=True)


class Upsample(nn.Module):
    """U of eq. 3: a grid twice as fine, by nearest neighbours, bilinear, or a learned transposed convolution.

    Args:
        channels: of what is upsampled.
        how: which.

    Example:
        >>> Upsample(1, "nearest")(torch.tensor([[[[1.0, 2.0]]]]))
        tensor([[[[1., 1., 2., 2.],
                  [1., 1., 2., 2.]]]])
    """

    def __init__(self, channels: int, how: Upsampling) -> None:
        super().__init__()
        self.how = how
        self.conv = nn.ConvTranspose2d(channels, channels, 2, 2) if how == "transposed" else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, D, 2 h, 2 w) of (N, D, h, w)."""
        if self.conv is not None:
            learned: Tensor = self.conv(x)
            return learned
        if self.how == "nearest":
            return F.interpolate(x, scale_factor=2, mode="nearest")
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
