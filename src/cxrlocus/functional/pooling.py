"""Pooling a map over its cells: (N, C, h, w) -> (N, C)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def average_pool(maps: Tensor) -> Tensor:
    """Global average pooling: ``1/S sum_ij x_ij`` with S = h * w.

    Args:
        maps: (N, C, h, w), any range.

    Returns:
        (N, C).

    Example:
        >>> average_pool(torch.tensor([[[[0.0, 1.0], [2.0, 5.0]]]]))
        tensor([[2.]])
    """
    return maps.mean(dim=(-2, -1))


def max_pool(maps: Tensor) -> Tensor:
    """Global max pooling: ``max_ij x_ij``.

    Args:
        maps: (N, C, h, w), any range.

    Returns:
        (N, C).

    Example:
        >>> max_pool(torch.tensor([[[[0.0, 1.0], [2.0, 5.0]]]]))
        tensor([[5.]])
    """
    return maps.amax(dim=(-2, -1))


def lse_pool(maps: Tensor, r: float = 10.0) -> Tensor:
    """Log-sum-exp pooling, ``x* + 1/r log(1/S sum_ij exp(r (x_ij - x*)))`` (Wang et al. 2017, eq. 2).

    r -> 0 is the average, r -> infinity the maximum. There x* = max |x|; any x* gives the same value, and logsumexp's
    own never overflows.

    Args:
        maps: (N, C, h, w), any range.
        r: sharpness, > 0.

    Returns:
        (N, C), between the average and the maximum.

    Raises:
        ValueError: r is not a positive number.

    Example:
        >>> lse_pool(torch.tensor([[[[0.0, 1.0], [2.0, 5.0]]]]), r=10.0)
        tensor([[4.8614]])
    """
    if not (r > 0 and math.isfinite(r)):
        raise ValueError(f"r must be a positive number; got {r}. Use average_pool for 0, max_pool for infinity.")
    cells = maps.shape[-2] * maps.shape[-1]
    return (torch.logsumexp(r * maps, dim=(-2, -1)) - math.log(cells)) / r


POOLS: dict[str, Callable[[Tensor], Tensor]] = {"average": average_pool, "max": max_pool, "lse": lse_pool}
"""Every pool by name, at its default sharpness."""
