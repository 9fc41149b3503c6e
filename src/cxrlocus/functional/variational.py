"""InfoMask's latent map (Taghanaki et al. 2019): sampling, divergence from the prior, and the mask."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

Reduction = Literal["none", "mean", "sum"]
"""Elements as they are, their mean, or their sum over a film averaged over films."""

SIGMAS = ("softplus", "exp")
"""What ``positive_sigma`` may put behind the standard deviation."""

SIGMA_FLOOR = 1e-6
"""Added to every sigma: in float32 both activations can underflow to 0, where ``ln sigma`` is not finite."""


def positive_sigma(raw: Tensor, activation: str = "softplus", shift: float = 0.0) -> Tensor:
    """A standard deviation from an unbounded map; InfoMask says of it only that it is "derived" from A.

    softplus: ``sigma = ln(1 + exp(raw + shift))`` (Alemi et al. 2016, sec. 4.1, with shift = -5);
    exp: ``sigma = exp((raw + shift) / 2)``, so that raw is a log variance (Kingma and Welling 2014, app. B).

    Args:
        raw: any shape and range.
        activation: a name in SIGMAS.
        shift: added to raw; -5 starts nearly without noise.

    Returns:
        sigma, same shape, at least SIGMA_FLOOR.

    Raises:
        ValueError: the activation is unknown.

    Example:
        >>> positive_sigma(torch.tensor([0.0, 5.0]), "softplus", shift=-5.0)
        tensor([0.0067, 0.6931])
        >>> positive_sigma(torch.tensor([0.0, 2.0]), "exp")
        tensor([1.0000, 2.7183])
    """
    if activation not in SIGMAS:
        raise ValueError(f"activation must be one of {', '.join(SIGMAS)}; got {activation!r}.")
    shifted = raw + shift
    return (F.softplus(shifted) if activation == "softplus" else torch.exp(0.5 * shifted)) + SIGMA_FLOOR


def reparameterize(mu: Tensor, sigma: Tensor, eps: Tensor) -> Tensor:
    """Sample of N(mu, sigma^2) from a standard normal one: ``z = mu + sigma * eps`` (InfoMask, above eq. 3).

    Args:
        mu: any shape.
        sigma: the standard deviation, >= 0, same shape.
        eps: a sample of N(0, 1), of a shape that broadcasts to mu's; zeros give the mean.

    Returns:
        z, same shape.

    Example:
        >>> reparameterize(torch.tensor([1.0, 1.0]), torch.tensor([0.5, 0.0]), torch.tensor([2.0, 2.0]))
        tensor([2., 1.])
    """
    return mu + sigma * eps


def kl_standard_normal(mu: Tensor, sigma: Tensor, reduction: Reduction = "mean") -> Tensor:
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
    return _reduced(0.5 * (mu**2 + sigma**2 - 1.0) - torch.log(sigma), reduction)


def l1_norm(mask: Tensor, reduction: Reduction = "mean") -> Tensor:
    """``|M|`` of each element: the sparsity penalty of InfoMask's rival RegL1 (sec. 4), in place of the KL.

    Args:
        mask: (N, ...), any range.
        reduction: as ``kl_standard_normal``'s.

    Returns:
        >= 0; a scalar, or the shape of mask for "none".

    Raises:
        ValueError: the reduction is unknown.

    Example:
        >>> l1_norm(torch.tensor([[0.0, 0.5], [0.5, 0.2]]), "sum")
        tensor(0.6000)
    """
    return _reduced(mask.abs(), reduction)


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


def flat_masks(mask: Tensor, tolerance: float = 1e-6) -> Tensor:
    """Which masks are dead: the same value everywhere (all zero, or all open), so that they point nowhere.

    Args:
        mask: (N, C, h, w).
        tolerance: largest minus smallest value that still counts as the same.

    Returns:
        (N, C) bool.

    Example:
        >>> flat_masks(torch.tensor([[[[0.0, 0.0]], [[0.5, 0.5]], [[0.0, 0.1]]]]))
        tensor([[ True,  True, False]])
    """
    return mask.amax(dim=(-2, -1)) - mask.amin(dim=(-2, -1)) <= tolerance


def _reduced(each: Tensor, reduction: str) -> Tensor:
    if reduction == "none":
        return each
    if reduction == "mean":
        return each.mean()
    if reduction == "sum":
        return each.flatten(1).sum(dim=1).mean()
    raise ValueError(f"reduction must be none, mean or sum; got {reduction!r}.")
