"""The way down: a film to features of falling resolution, by the paper's ResNet or by a timm backbone."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn

from cxrlocus.errors import ConfigError
from cxrlocus.methods.yao2018.layers import ResidualBlock, conv_norm
from cxrlocus.models.again import run
from cxrlocus.models.backbones import Backbone


def strides_of(size: int, resolution: int, lowest: int) -> tuple[int, ...]:
    """Pixels a cell at each level, the target resolution first.

    Raises:
        ConfigError: the sizes are not each a power of two times the next.

    Example:
        >>> strides_of(512, resolution=64, lowest=16)
        (8, 16, 32)
    """
    if lowest < 1 or not (_is_power_of_two(size, resolution) and _is_power_of_two(resolution, lowest)):
        raise ConfigError(
            f"size, resolution and lowest must each be a power of two times the next (1 included); got {size}, "
            f"{resolution} and {lowest}. Take 512, 64 and 16, say."
        )
    first, steps = size // resolution, (resolution // lowest).bit_length()
    return tuple(first << k for k in range(steps))


def _is_power_of_two(whole: int, part: int) -> bool:
    times, rest = divmod(whole, part) if part > 0 else (0, 1)
    return rest == 0 and times > 0 and times & (times - 1) == 0


class ResNetDown(nn.Module):
    """A ResNet from scratch: halves the grid, doubles the channels (Yao et al. 2018, sec. 3.1).

    At a stride of t pixels a cell it has ``min(max_width, width t)`` channels. The stem is a 3x3 convolution at full
    resolution if a level wants that, else 7x7 of stride 2; each halving is a residual block of stride 2, with
    ``blocks - 1`` behind it that keep the grid.

    Args:
        strides: pixels a cell of the levels that are given out, each twice the one before.
        width: channels a pixel of stride.
        max_width: most channels.
        blocks: residual blocks a halving.
        mean, std: of the normalization that is the first layer.
        again: compute each halving again in the backward pass instead of keeping it.

    Example:
        >>> down = ResNetDown((2, 4), width=4, blocks=1)
        >>> [tuple(level.shape) for level in down(torch.zeros(1, 1, 32, 32))]
        [(1, 8, 16, 16), (1, 16, 8, 8)]
    """

    def __init__(
        self,
        strides: tuple[int, ...],
        *,
        width: int = 16,
        max_width: int = 512,
        blocks: int = 2,
        mean: float = 0.449,
        std: float = 0.226,
        again: bool = False,
    ) -> None:
        super().__init__()
        self.strides, self.mean, self.std, self.again = strides, mean, std, again
        at = {t: min(max_width, width * t) for t in (1 << k for k in range(strides[-1].bit_length()))}
        first = min(strides[0], 2)
        kernel = 3 if first == 1 else 7
        self.stem = nn.Sequential(conv_norm(1, at[first], kernel, first), nn.ReLU(inplace=True))
        self.first = first
        steps = [t for t in at if t > first]
        self.halvings = nn.ModuleList(_halving(at[t // 2], at[t], blocks) for t in steps)
        self.channels = tuple(at[t] for t in strides)

    def forward(self, images: Tensor) -> list[Tensor]:
        """The levels (N, D_l, H / stride_l, W / stride_l) of films (N, 1, H, W) in [0, 1], finest first."""
        x = run(self.stem, (images - self.mean) / self.std, again=self.again)
        levels, stride = [x], self.first
        for halving in self.halvings:
            x = run(halving, x, again=self.again)
            levels.append(x)
            stride *= 2
        return levels[-len(self.strides) :]


def _halving(before: int, after: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(
        ResidualBlock(before, after, stride=2), *(ResidualBlock(after, after) for _ in range(blocks - 1))
    )


class TimmDown(nn.Module):
    """A timm backbone's stages as the way down.

    Args:
        body: the backbone; what no level needs of it is frozen.
        strides: pixels a cell of the levels that are given out.

    Raises:
        ConfigError: the backbone has no stage of one of these strides, or gives out none at all.

    Example:
        >>> down = TimmDown(Backbone("test_resnet"), (4, 8, 16))
        >>> [tuple(level.shape) for level in down(torch.zeros(1, 1, 64, 64))]
        [(1, 32, 16, 16), (1, 48, 8, 8), (1, 192, 4, 4)]
    """

    def __init__(self, body: Backbone, strides: tuple[int, ...]) -> None:
        super().__init__()
        self.body = body
        stages: list[dict[str, Any]] = list(getattr(body.net, "feature_info", None) or [])
        position = {stage["reduction"]: k for k, stage in enumerate(stages)}
        missing = [t for t in strides if t not in position]
        if missing or not hasattr(body.net, "forward_intermediates"):
            raise ConfigError(
                f"backbone {body.name!r} has stages of stride {', '.join(map(str, position)) or 'unknown'}; size, "
                f"resolution and lowest ask for {', '.join(map(str, strides))}. Change them, or take backbone=paper."
            )
        self.indices = [position[t] for t in strides]
        self.channels = tuple(int(stages[k]["num_chs"]) for k in self.indices)
        self._freeze_unused(strides[-1])

    def forward(self, images: Tensor) -> list[Tensor]:
        """The levels (N, D_l, H / stride_l, W / stride_l) of films (N, 1, H, W) in [0, 1], finest first."""
        x = (images - self.body.mean) / self.body.std
        if self.body.stem == "repeat":
            x = x.expand(-1, 3, -1, -1)
        levels: list[Tensor] = self.body.net.forward_intermediates(
            x, indices=self.indices, stop_early=True, intermediates_only=True, output_fmt="NCHW"
        )
        return levels

    def _freeze_unused(self, stride: int) -> None:
        # A later stage, say: it never learns here, and DDP waits forever for the gradient of what is not used.
        was_training = self.training
        self.eval()
        with torch.enable_grad():
            levels = self(torch.zeros(1, 1, 4 * stride, 4 * stride))
            total = torch.stack([level.sum() for level in levels]).sum()
        self.train(was_training)
        learning = [p for p in self.body.parameters() if p.requires_grad]
        for parameter, grad in zip(learning, torch.autograd.grad(total, learning, allow_unused=True), strict=True):
            parameter.requires_grad_(grad is not None)
        for finer, coarser in itertools.pairwise(levels):
            if finer.shape[-1] != 2 * coarser.shape[-1]:
                raise ConfigError(
                    f"backbone {self.body.name!r} must halve its grid from level to level; it gave "
                    f"{[tuple(level.shape[-2:]) for level in levels]}. Choose another."
                )
