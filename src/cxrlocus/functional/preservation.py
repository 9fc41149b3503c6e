"""Knowledge preservation (Cai et al. 2018): how far an updated network's features moved from the original's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

OVER = ("film", "batch")
"""What one distance of eq. 4 is over: each film's features (then their mean), or all films' features at once."""


def gap_distance(ours: Tensor, theirs: Tensor, *, over: str = "film", squared: bool = False) -> Tensor:
    """``L^k = 1/(N - n) ||g(X_A) - g(X_B)||_2`` of one layer's pooled features (Cai et al. 2018, eq. 4).

    "film" reads the factor as a mean: the distance of each film's features, averaged over films. "batch" is the formula
    to the letter: one norm over all films and channels, divided by the number of films; it falls with their root.

    Args:
        ours: (M, D), g(X_B) of the M = N - n films that are not mined.
        theirs: (M, D), g(X_A).
        over: a name in OVER.
        squared: take squared norms.

    Returns:
        A scalar, >= 0; 0 with zero gradient for M = 0, and zero gradient where the two are equal.

    Raises:
        ValueError: the shapes differ or are not (M, D), or ``over`` is unknown.

    Example:
        >>> a, b = torch.tensor([[3.0, 4.0], [0.0, 0.0]]), torch.zeros(2, 2)
        >>> gap_distance(a, b), gap_distance(a, b, squared=True)
        (tensor(2.5000), tensor(12.5000))
    """
    if ours.shape != theirs.shape or ours.ndim != 2:
        raise ValueError(f"both features must be (M, D); got {tuple(ours.shape)} and {tuple(theirs.shape)}.")
    if over not in OVER:
        raise ValueError(f"over must be one of {', '.join(OVER)}; got {over!r}.")
    difference = ours.float() if ours.dtype in (torch.bfloat16, torch.float16) else ours
    difference = difference - theirs.to(difference.dtype)
    if squared:
        total = difference.square().sum()
    elif over == "film":
        total = torch.linalg.vector_norm(difference, dim=1).sum()
    else:
        total = torch.linalg.vector_norm(difference)
    return total / max(1, len(ours))


def preservation_loss(
    ours: Sequence[Tensor], theirs: Sequence[Tensor], *, over: str = "film", squared: bool = False
) -> Tensor:
    """``L_KP = 1/|K| sum_k L^k`` over the chosen layers (Cai et al. 2018, eq. 5).

    Args:
        ours: pooled features (M, D_k) of the updated network, one a layer.
        theirs: those of the original network, in the same order.
        over: as ``gap_distance``'s.
        squared: as ``gap_distance``'s.

    Returns:
        A scalar, >= 0.

    Raises:
        ValueError: no layer is given, the numbers of layers differ, or as ``gap_distance``.

    Example:
        >>> preservation_loss([torch.ones(2, 4), torch.ones(2, 9)], [torch.zeros(2, 4), torch.zeros(2, 9)])
        tensor(2.5000)
    """
    if not ours or len(ours) != len(theirs):
        raise ValueError(f"both networks must give features of the same layers; got {len(ours)} and {len(theirs)}.")
    each = [gap_distance(a, b, over=over, squared=squared) for a, b in zip(ours, theirs, strict=True)]
    return torch.stack(each).mean()
