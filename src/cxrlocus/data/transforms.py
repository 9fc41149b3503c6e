"""Random changes of training images, a batch at a time, with the affine that lets frames and boxes follow."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

_DARK = 1e-6
"""Stands for black where a logarithm is taken: far below one of 255 steps."""
_GROUP_PIXELS = 2_000_000


@dataclass(frozen=True)
class Augmentation:
    """How far an image is changed at random; every number is half the width of a uniform range, 0 turns it off.

    Args:
        rotation: degrees, in [0, 180].
        shift: part of a side, in [0, 1]; of the film as ``scale`` leaves it.
        zoom: log of the scale, in [0, 1]: 0.1 is 0.90 to 1.11 times.
        brightness: added, in [0, 1].
        contrast: log of the factor around mid-grey, in [0, 1].
        gamma: log of the exponent, in [0, 1].
        flip: probability of a left-right flip, in [0, 1]; 0 by default, because the heart has a side.
        border: what comes in from outside: "zeros" (black) or "border" (the edge repeated).
        scale: (smallest, largest) of a uniform range of scales in [0.1, 10], on top of ``zoom`` and drawn with it:
            (0.25, 0.75) shrinks every film.

    Raises:
        ValueError: a number is outside its range or ``border`` unknown.

    Example:
        >>> Augmentation(rotation=0.0).shift
        0.05
    """

    rotation: float = 5.0
    shift: float = 0.05
    zoom: float = 0.1
    brightness: float = 0.1
    contrast: float = 0.1
    gamma: float = 0.1
    flip: float = 0.0
    border: Literal["zeros", "border"] = "zeros"
    scale: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        for name in ("rotation", "shift", "zoom", "brightness", "contrast", "gamma", "flip"):
            value, top = getattr(self, name), 180.0 if name == "rotation" else 1.0
            if not 0.0 <= value <= top:
                raise ValueError(f"Augmentation.{name} must be in [0, {top:g}]; got {value}.")
        if self.border not in ("zeros", "border"):
            raise ValueError(f"Augmentation.border must be 'zeros' or 'border'; got {self.border!r}.")
        low, high = self.scale
        if not 0.1 <= low <= high <= 10.0:
            raise ValueError(f"Augmentation.scale must be (smallest, largest) in [0.1, 10]; got {self.scale}.")


def augment(images: Tensor, generator: torch.Generator, config: Augmentation) -> tuple[Tensor, Tensor]:
    """Rotate, shift, zoom (and flip) each image by one bilinear resampling, then change gamma, contrast, brightness.

    ``y = clip(((x^g) - 0.5) k + 0.5 + b, 0, 1)`` after ``x(u) = image(A u)``.

    Args:
        images: (N, 1, H, W) in [0, 1], any device.
        generator: where all randomness comes from; each call draws 8 N numbers whatever is turned off.
        config: how far.

    Returns:
        The images (N, 1, H, W) in [0, 1], and the affines A (N, 2, 3), float64 on the CPU, from the new unit square to
        the old one: ``frame.compose(A[i].numpy())`` is the new image's frame.

    Raises:
        ValueError: images are not (N, 1, H, W) floating point.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> still = Augmentation(0, 0, 0, 0, 0, 0)
        >>> images, affine = augment(torch.ones(1, 1, 2, 2), generator, still)
        >>> images.flatten().tolist(), torch.equal(affine[0], torch.eye(2, 3).double())
        ([1.0, 1.0, 1.0, 1.0], True)
    """
    if images.ndim != 4 or images.shape[1] != 1 or not images.is_floating_point():
        raise ValueError(f"images must be (N, 1, H, W) floating point; got {tuple(images.shape)} {images.dtype}.")
    n, _, height, width = images.shape
    draws = torch.rand(8, n, generator=generator, dtype=torch.float64, device=generator.device).cpu()
    affine = _affines(draws[:5], width / height, config)
    # A few images at a time: a grid of the whole batch would be fresh memory for the system to clear at each call.
    groups = range(0, n, max(1, _GROUP_PIXELS // (height * width)))
    spread, changed = draws[5:] * 2 - 1, torch.empty_like(images)
    for part in (slice(start, start + groups.step) for start in groups):
        changed[part] = _retouch(_warp(images[part], affine[part], config), spread[:, part], config)
    return changed, affine


def _affines(draws: Tensor, aspect: float, config: Augmentation) -> Tensor:
    """New unit square to old: about the centre; rotation in pixels, so that an oblong image is not sheared."""
    spread = draws * 2 - 1
    angle = spread[0] * math.radians(config.rotation)
    low, high = config.scale
    shrunk = low + (high - low) * draws[1]
    scale = torch.exp(-spread[1] * config.zoom) / shrunk
    mirror = 1.0 - 2.0 * (draws[4] < config.flip).double()
    cos, sin = scale * torch.cos(angle), scale * torch.sin(angle)
    linear = torch.stack([cos * mirror, -sin / aspect, sin * aspect * mirror, cos], dim=1).reshape(-1, 2, 2)
    centre = torch.full((2,), 0.5, dtype=torch.float64)
    moved = centre + config.shift * spread[2:4].T / shrunk[:, None] - linear @ centre
    return torch.cat([linear, moved[:, :, None]], dim=2)


def _warp(images: Tensor, affine: Tensor, config: Augmentation) -> Tensor:
    if not (config.rotation or config.shift or config.zoom or config.flip or config.scale != (1.0, 1.0)):
        return images
    return F.grid_sample(
        images, _grid(affine.to(images), *images.shape[2:]), padding_mode=config.border, align_corners=False
    )


def _grid(affine: Tensor, height: int, width: int) -> Tensor:
    """``F.affine_grid`` of unit-square affines, six times as fast: (n, H, W, 2), grid_sample's x = 2 u - 1."""
    u = (torch.arange(width, device=affine.device, dtype=affine.dtype) + 0.5) / width
    v = (torch.arange(height, device=affine.device, dtype=affine.dtype) + 0.5) / height
    grid = affine.new_empty(len(affine), height, width, 2)
    for axis in range(2):
        a, b, c = (2 * affine[:, axis, :, None]).unbind(1)
        torch.add((a * u + c - 1)[:, None, :], (b * v)[:, :, None], out=grid[..., axis])
    return grid


def _retouch(images: Tensor, spread: Tensor, config: Augmentation) -> Tensor:
    gamma, contrast, brightness = spread.to(images).reshape(3, -1, 1, 1, 1)
    if config.gamma:
        # exp(g log x): torch's pow of two tensors takes five times as long.
        images = images.clamp(_DARK, 1.0).log_().mul_(torch.exp(gamma * config.gamma)).exp_()
    if config.contrast or config.brightness:
        factor = torch.exp(contrast * config.contrast)
        images = images.mul(factor).add_(0.5 - 0.5 * factor + brightness * config.brightness)
    return images.clamp(0.0, 1.0)
