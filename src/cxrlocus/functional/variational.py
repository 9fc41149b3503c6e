"""InfoMask's latent map (Taghanaki et al. 2019): sampling, divergence from the prior, and the mask."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F


def reparameterize(mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    """Sample of N(mu, sigma^2) from a standard normal one: ``z = mu + sigma * eps`` (InfoMask, above eq. 3).

    Args:
        mu: any shape.
        sigma: the standard deviation, >= 0, same shape.
        eps: a sample of N(0, 1), same shape; zeros give the mean.

    Returns:
        z, same shape.

    Example:
        >>> reparameterize(torch.tensor([1.0, 1.0]), torch.tensor([0.5, 0.0]), torch.tensor([2.0, 2.0]))
        tensor([2., 1.])
    """
    return mu + sigma * eps


def kl_standard_normal(mu: Tensor, sigma: Tensor, reduction: Literal["none", "mean", "sum"] = "mean") -> Tensor:
    """``KL(N(mu, sigma^2) || N(0, 1)) = (mu^2 + sigma^2 - 1) / 2 - ln sigma`` of each element (InfoMask, eq. 3).

    Args:
        mu: (N, ...).
        sigma: > 0, same shape.
        reduction: "none" keeps the elements, "mean" is over all elements, "sum" sums the elements of a film and
            averages over films, as Alemi et al. 2016 do.

    Returns:
        >= 0; a scalar, or the shape of mu for "none".

    Raises:
        ValueError: the reduction is unknown.

    Example:
        >>> kl_standard_normal(torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 1.0]]), "none")
        tensor([[0.0000, 0.5000]])
    """
    each = 0.5 * (mu**2 + sigma**2 - 1.0) - torch.log(sigma)
    if reduction == "none":
        return each
    if reduction == "mean":
        return each.mean()
    if reduction == "sum":
        return each.flatten(1).sum(dim=1).mean()
    raise ValueError(f"reduction must be none, mean or sum; got {reduction!r}.")


def clipped_mask(z: Tensor, tau: float = 0.5, straight_through: bool = False) -> Tensor:
    """The mask ``M = min(max(sigmoid(z) - tau, 0), 1)`` (InfoMask, eq. 4).

    sigmoid(z) < 1, so the upper bound never acts and M is in [0, 1 - tau]. Below tau the gradient is zero: a map that
    lies there everywhere (a dead mask) cannot come back. ``straight_through`` lets the gradient of ``sigmoid(z) - tau``
    through everywhere; it is not in the paper.

    Args:
        z: any shape and range.
        tau: in [0, 1).
        straight_through: pass the gradient where the mask is zero too.

    Returns:
        M, same shape, in [0, 1 - tau].

    Raises:
        ValueError: tau is outside [0, 1).

    Example:
        >>> clipped_mask(torch.tensor([-1.0, 0.0, 100.0]), tau=0.5)
        tensor([0.0000, 0.0000, 0.5000])
    """
    if not 0 <= tau < 1:
        raise ValueError(f"tau must be in [0, 1); got {tau}.")
    inner = torch.sigmoid(z) - tau
    mask = F.relu(inner).clamp(max=1.0)
    return inner + (mask - inner).detach() if straight_through else mask
