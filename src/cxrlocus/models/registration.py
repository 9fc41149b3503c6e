"""Where the cells of a map lie: not where the grid is drawn, but where they look.

A convolution of stride 2 and a kernel of 3, padded alike on both sides, looks at pixels 0, 2, 4 ... and not at the
middle of each pair; after five of them a cell of 32 pixels is centred on its own corner. Drawn on the plain grid such a
map lies half a cell too far right and down, 16 pixels of a ResNet or a MobileNet.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from cxrlocus.functional.alignment import warp
from cxrlocus.models.backbones import Backbone
from cxrlocus.types import FloatArray

Net = TypeVar("Net", bound=nn.Module)

LEAST = 0.05
"""Share of a cell below which nothing is moved: interpolation between cells does not show it."""

_WIDE, _LOW = 512, 64
_FAINT = 1e-3


def centre_offset(net: Net, features: Callable[[Net, Tensor], Tensor] = nn.Module.__call__) -> float:
    """How far from its own centre a cell of a network's features looks, in cells, right and down; -.48 for a ResNet.

    The network is copied with weights that are all positive and equal and norms that do nothing, so that what a cell
    gathers falls off alike on all sides of the place it looks at; that place is the centroid of its gradient. It is
    a matter of kernels, strides and paddings alone, which timm's networks have alike in both directions.

    Args:
        net: the network; it is left as it is.
        features: ``features(net, images)``, its features (N, D, h, w) of images (N, 1, H, W); by default what it gives.

    Returns:
        The offset; 0 where it cannot be told (a cell gathers nothing, or everything alike), or is below ``LEAST``.

    Example:
        >>> two = nn.Sequential(*(nn.Conv2d(1, 1, 3, stride=2, padding=1) for _ in range(2)))
        >>> centre_offset(two)  # looks at pixel 4 i, in a cell from 4 i to 4 i + 4
        -0.375
        >>> centre_offset(nn.Conv2d(1, 1, 4, stride=4))
        0.0
    """
    probe = copy.deepcopy(net).cpu().double().eval()
    for module in probe.modules():
        _make_plain(module)
    film = torch.full((1, 1, _LOW, _WIDE), _FAINT, dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():
        said = features(probe, film)
        rows, cells = said.shape[-2:]
        (gathered,) = torch.autograd.grad(said[0, :, rows // 2, cells // 2].sum(), film)
    along = gathered[0, 0].sum(dim=0)
    # What a cell gathers of the whole film alike (squeeze and excitation) is of no place.
    along = along - along.min()
    place = float((along * (torch.arange(_WIDE) + 0.5)).sum() / along.sum())
    offset = place * cells / _WIDE - (cells // 2 + 0.5)
    return offset if math.isfinite(offset) and LEAST <= abs(offset) <= 1 else 0.0


def registered(frames: FloatArray, offset: float, cells: Sequence[int]) -> FloatArray:
    """Frames of maps whose cells lie where they look.

    The film's last strip, half a cell wide or less, is then out of the maps' reach: no cell looks there.

    Args:
        frames: (N, 2, 3), of the plain grid: its unit square to pixels.
        offset: as ``centre_offset`` gives it; with 0 nothing changes.
        cells: (h, w) of the grid.

    Example:
        >>> frame = np.array([[[8.0, 0.0, 0.0], [0.0, 8.0, 0.0]]])
        >>> registered(frame, -0.5, (2, 4))[0].tolist()  # cells of 2 x 4 pixels
        [[8.0, 0.0, -1.0], [0.0, 8.0, -2.0]]
    """
    h, w = cells
    return composed(frames, np.array([[[1.0, 0.0, offset / w], [0.0, 1.0, offset / h]]]))


def composed(frames: FloatArray, inner: FloatArray) -> FloatArray:
    """``types.Frame.compose`` of each frame (N, 2, 3) with its affine (N, 2, 3) or one for all (1, 2, 3), unit -> unit.

    Example:
        >>> frames = np.array([[[1024.0, 0.0, 0.0], [0.0, 1024.0, 0.0]]])
        >>> composed(frames, np.array([[[0.5, 0.0, 0.25], [0.0, 1.0, 0.0]]])).tolist()
        [[[512.0, 0.0, 256.0], [0.0, 1024.0, 0.0]]]
    """
    both = frames[:, :, :2] @ inner
    both[:, :, 2] += frames[:, :, 2]
    return np.asarray(both)


def on_film(maps: Tensor, side: int, offset: float) -> Tensor:
    """Maps (N, C, h, w) as pictures (N, C, side, side) on the square of the film that the network saw, in float32.

    Example:
        >>> on_film(torch.tensor([[[[0.0, 4.0, 8.0, 8.0]]]]), 4, -0.5)[0, 0, 0].tolist()
        [2.0, 6.0, 8.0, 8.0]
    """
    grown = F.interpolate(maps.float(), size=(side, side), mode="bilinear", align_corners=False)
    if not offset:
        return grown
    shift = [[1.0, 0.0, -offset / maps.shape[-1]], [0.0, 1.0, -offset / maps.shape[-2]]]
    return warp(grown, grown.new_tensor(shift).expand(len(maps), 2, 3), "border")


def _make_plain(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.constant_(module.weight, 1 / module.weight[0].numel())
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, _BatchNorm):
        # Not the identity: timm's come with an activation of their own.
        module.reset_running_stats()
        if module.affine:
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm | nn.GroupNorm):
        module.forward = _as_it_is  # type: ignore[method-assign,assignment]  # of a copy that is thrown away
    elif isinstance(module, nn.MaxPool2d):
        # All of its window are greatest alike, but only one of them would get the gradient.
        size, stride, padding = module.kernel_size, module.stride, module.padding
        module.forward = lambda x: F.avg_pool2d(x, size, stride, padding)  # type: ignore[method-assign,assignment]
    elif isinstance(module, Backbone):
        module.mean, module.std = 0.0, 1.0


def _as_it_is(x: Tensor) -> Tensor:
    return x
