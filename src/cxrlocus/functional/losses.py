"""Losses on logits, with unknown labels masked out."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def _check(logits: Tensor, target: Tensor, known: Tensor) -> None:
    if not logits.shape == target.shape == known.shape:
        raise ValueError(
            f"logits, target and known must have one shape; got {tuple(logits.shape)}, {tuple(target.shape)} and "
            f"{tuple(known.shape)}."
        )


def masked_bce(logits: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Binary cross-entropy, mean over the K known labels: ``-1/K sum y ln p + (1 - y) ln(1 - p)``.

    Args:
        logits: (N, C), any range.
        target: (N, C), 0 or 1; its value where ``known`` is False has no influence.
        known: (N, C) bool.

    Returns:
        A scalar; 0 with zero gradient when nothing is known.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> masked_bce(torch.tensor([[0.0, 9.0]]), torch.tensor([[1.0, 0.0]]), torch.tensor([[True, False]]))
        tensor(0.6931)
    """
    _check(logits, target, known)
    each = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return torch.where(known, each, 0.0).sum() / known.sum().clamp(min=1)


def weighted_bce(logits: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Batch-weighted cross-entropy W-CEL (Wang et al. 2017, eq. 1), as a mean instead of a sum.

    ``beta_P sum_{y=1} -ln p + beta_N sum_{y=0} -ln(1 - p)``, ``beta_P = (|P| + |N|) / |P|``,
    ``beta_N = (|P| + |N|) / |N|``, where |P| and |N| count the ones and zeros among all labels of the batch. The
    paper sums; dividing by |P| + |N| makes the size of a step independent of the batch's size. A batch without ones
    (or zeros) has no such term rather than a division by zero.

    Args:
        logits: (N, C), any range.
        target: (N, C), 0 or 1; its value where ``known`` is False has no influence.
        known: (N, C) bool.

    Returns:
        A scalar: mean loss of the positives plus mean loss of the negatives.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> weighted_bce(torch.zeros(2, 2), torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.ones(2, 2, dtype=torch.bool))
        tensor(1.3863)
    """
    _check(logits, target, known)
    each = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    positive, negative = known & (target > 0.5), known & (target <= 0.5)
    of_positives = torch.where(positive, each, 0.0).sum() / positive.sum().clamp(min=1)
    of_negatives = torch.where(negative, each, 0.0).sum() / negative.sum().clamp(min=1)
    return of_positives + of_negatives


def cell_bce(logits: Tensor, shares: Tensor, told: Tensor, rare: float = 1.0) -> Tensor:
    """Cross-entropy of map cells against the share of each that a finding covers, mean over the maps that are told.

    ``-(rare s ln p + (1 - s) ln(1 - p))``, p the sigmoid of the cell's logit and s its share: at ``rare`` = 1 the least
    value is at p = s, at more, covered cells count so many times as much as empty ones and p rises above s.

    Args:
        logits: (N, C, h, w), any range.
        shares: (N, C, h, w) in [0, 1].
        told: (N, C) bool, the maps whose shares are known.
        rare: positive.

    Returns:
        A scalar; 0 with zero gradient when nothing is told.

    Raises:
        ValueError: the shapes disagree.

    Example:
        >>> logits, told = torch.zeros(1, 2, 2, 2), torch.tensor([[True, False]])
        >>> cell_bce(logits, torch.ones(1, 2, 2, 2), told), cell_bce(logits, torch.ones(1, 2, 2, 2), told, rare=3.0)
        (tensor(0.6931), tensor(2.0794))
    """
    if logits.ndim != 4 or logits.shape != shares.shape or told.shape != logits.shape[:2]:
        raise ValueError(
            "logits and shares must be (N, C, h, w) and told (N, C); got "
            f"{tuple(logits.shape)}, {tuple(shares.shape)} and {tuple(told.shape)}."
        )
    weight = logits.new_tensor(rare)
    each = F.binary_cross_entropy_with_logits(logits, shares, pos_weight=weight, reduction="none").mean(dim=(-2, -1))
    return torch.where(told, each, 0.0).sum() / told.sum().clamp(min=1)


LOSSES = {"bce": masked_bce, "weighted_bce": weighted_bce}
"""Classification losses by name: (logits, target, known) -> scalar."""
