"""The paper's two stacks of convolutions: the encoder, and the classification block."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from cxrlocus.functional.pooling import average_pool
from cxrlocus.models.again import run

GROUPS = 4
"""Groups of the optional group normalization; every channel count is made a multiple of it."""

NORMS: dict[str, Callable[[int], list[nn.Module]]] = {
    "none": lambda _: [],
    "group": lambda channels: [nn.GroupNorm(GROUPS, channels)],
    "batch": lambda channels: [nn.BatchNorm2d(channels)],
}
"""What stands between a 3x3 convolution and its ReLU, by name; the paper names none."""


def channels_of(paper: int, width: float) -> int:
    """The channel count that stands for one of the paper's at a share ``width`` of its width.

    Example:
        >>> channels_of(64, 1.0), channels_of(16, 0.25), channels_of(64, 0.3)
        (64, 4, 20)
    """
    return max(GROUPS, GROUPS * round(paper * width / GROUPS))


def conv_relu(before: int, after: int, norm: str) -> list[nn.Module]:
    """conv(after, 3x3, relu), with the normalization of that name (``NORMS``) between."""
    # In place: at full resolution each layer then keeps one tensor for the backward pass instead of two.
    return [nn.Conv2d(before, after, 3, padding=1), *NORMS[norm](after), nn.ReLU(inplace=True)]


class OwnStatistics(nn.BatchNorm2d):
    """Batch normalization of maps that come one finding after the other: weights shared, each finding's statistics own.

    In training each finding's maps are normalized by their own batch. One running mean for all would mix them, and the
    network that is evaluated would not be the one that was trained.

    Args:
        channels: D.
        findings: C.

    Example:
        >>> import torch
        >>> norm = OwnStatistics(1, findings=2)
        >>> _ = norm(torch.full((4, 1, 2, 2), 5.0), 1)
        >>> norm.running_mean.tolist()
        [[0.0], [0.5]]
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, findings: int) -> None:
        super().__init__(channels)
        self.running_mean = self.running_mean.repeat(findings, 1)
        self.running_var = self.running_var.repeat(findings, 1)

    def forward(self, x: Tensor, finding: int) -> Tensor:  # type: ignore[override]  # whose maps they are is not in them
        """(N, D, H, W) of the same, of one finding's maps."""
        mean, var = self.running_mean[finding], self.running_var[finding]
        return F.batch_norm(
            x, mean, var, self.weight, self.bias, self.training, cast(float, self.momentum), self.eps
        )  # fmt: skip


class OfFinding(nn.Sequential):
    """Layers in a row, of which ``OwnStatistics`` are told whose map it is."""

    def forward(self, x: Tensor, finding: int) -> Tensor:  # type: ignore[override]  # as above
        """The last layer's output."""
        for layer in self:
            x = layer(x, finding) if isinstance(layer, OwnStatistics) else layer(x)
        return x


class PaperEncoder(nn.Module):
    """p(z|X): films (N, 1, H, W) in [0, 1] to features (N, 16, H/4, W/4), >= 0 (InfoMask, sec. 4).

    conv(64) conv(64) max-pool conv(128) conv(128) max-pool conv(256) conv(16), all 3x3 with ReLU, behind the
    normalization ``(x - mean) / std``.

    Args:
        width: share of these channel counts.
        norm: a name in ``NORMS``.
        mean, std: of the normalization.
        again: compute the full-resolution layers again in the backward pass instead of keeping them.

    Example:
        >>> import torch
        >>> PaperEncoder()(torch.zeros(2, 1, 32, 40)).shape
        torch.Size([2, 16, 8, 10])
    """

    def __init__(
        self, *, width: float = 1.0, norm: str = "none", mean: float = 0.449, std: float = 0.226, again: bool = False
    ) -> None:
        super().__init__()
        self.mean, self.std, self.again = mean, std, again
        a, b, c, self.channels = (channels_of(n, width) for n in (64, 128, 256, 16))
        self.full = nn.Sequential(*conv_relu(1, a, norm), *conv_relu(a, a, norm), nn.MaxPool2d(2))
        self.deep = nn.Sequential(
            *(*conv_relu(a, b, norm), *conv_relu(b, b, norm), nn.MaxPool2d(2)),
            *(*conv_relu(b, c, norm), *conv_relu(c, self.channels, norm)),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Features (N, 16, H/4, W/4) of films (N, 1, H, W)."""
        x = (images - self.mean) / self.std
        features: Tensor = self.deep(run(self.full, x, again=self.again))
        return features


class ClassificationBlock(nn.Module):
    """p(Y|z): a map or features (N, D, H, W) to 64 numbers a film (InfoMask, sec. 4, up to the softmax).

    conv(128) max-pool conv(64) conv(64) max-pool, all 3x3 with ReLU, then global average pooling.

    Args:
        channels: D.
        findings: C, where the block sees the maps of one finding after the other.
        width: share of these channel counts.
        norm: a name in ``NORMS``.
        again: compute all of it again in the backward pass instead of keeping it.

    Example:
        >>> import torch
        >>> ClassificationBlock(1)(torch.zeros(2, 1, 16, 16)).shape
        torch.Size([2, 64])
    """

    def __init__(
        self, channels: int, findings: int = 1, *, width: float = 1.0, norm: str = "none", again: bool = False
    ) -> None:
        super().__init__()
        self.again = again
        a, self.channels = channels_of(128, width), channels_of(64, width)
        layers = [
            *(*conv_relu(channels, a, norm), nn.MaxPool2d(2)),
            *(*conv_relu(a, self.channels, norm), *conv_relu(self.channels, self.channels, norm), nn.MaxPool2d(2)),
        ]
        shared = findings > 1
        self.layers = OfFinding(
            *(
                OwnStatistics(m.num_features, findings) if shared and isinstance(m, nn.BatchNorm2d) else m
                for m in layers
            )
        )

    def forward(self, x: Tensor, finding: int = 0) -> Tensor:
        """Pooled features (N, 64)."""
        return average_pool(run(self.layers, x, finding, again=self.again))
