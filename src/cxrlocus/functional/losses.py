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


LOSSES = {"bce": masked_bce, "weighted_bce": weighted_bce}
"""Classification losses by name: (logits, target, known) -> scalar."""
