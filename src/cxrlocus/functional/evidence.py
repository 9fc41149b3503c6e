"""Evidence: what each cell of the feature grid says for each finding."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def linear_evidence(features: Tensor, weight: Tensor) -> Tensor:
    """CAMs of all findings at once: ``M_c(i, j) = sum_d w_cd F_d(i, j)`` (Zhou et al. 2016, eq. 2).

    With average pooling and a linear head, the film's logit is the mean of this map plus the head's bias: the map is
    the classifier, not an afterthought. The bias belongs to the film and is not in the map.

    Args:
        features: (N, D, h, w).
        weight: (C, D), the head's weights.

    Returns:
        (N, C, h, w) raw evidence, kind "logit".

    Raises:
        ValueError: D differs between the two.

    Example:
        >>> import torch
        >>> features = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])
        >>> linear_evidence(features, torch.tensor([[1.0, -1.0]]))
        tensor([[[[-2., -2.]]]])
    """
    if features.ndim != 4 or weight.ndim != 2 or features.shape[1] != weight.shape[1]:
        raise ValueError(
            f"features must be (N, D, h, w) and weight (C, D) with one D; got {tuple(features.shape)} and "
            f"{tuple(weight.shape)}."
        )
    return F.conv2d(features, weight[:, :, None, None].to(features.dtype))


def pool_then_linear(pooled: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The film's logits from pooled features: ``s_c = w_c . p + b_c``, whatever the autocast in float32 or better.

    In bfloat16 logits come in steps of .02 and more: films tie that do not, and rounding chooses checkpoints.

    Args:
        pooled: (N, D).
        weight: (C, D).
        bias: (C,).

    Returns:
        (N, C).

    Example:
        >>> import torch
        >>> pool_then_linear(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 1.0]]), torch.tensor([0.5]))
        tensor([[3.5000]])
    """
    with torch.autocast(pooled.device.type, enabled=False):
        wide = torch.promote_types(pooled.dtype, torch.float32)
        return F.linear(pooled.to(wide), weight.to(wide), bias.to(wide))


def label_directions(pooled: Tensor, target: Tensor, known: Tensor, ridge: float = 1e-3) -> Tensor:
    """The directions in which films' average features tell their labels: linear least squares, each finding by itself.

        w_c = (S + ridge mean(diag S) I)^-1 s_c,     S = cov(p, p),  s_c = cov(p, y_c) over the films whose y_c is known

    As the weights of ``linear_evidence`` they give the map of the best linear classifier of average features, in closed
    form and without the films' levels.

    Args:
        pooled: (N, D), each film's features averaged over the grid.
        target: (N, C), 0 or 1.
        known: (N, C), which labels are.
        ridge: share of the mean variance added to each.

    Returns:
        (C, D); 0 for a finding whose known labels are all the same, or none.

    Raises:
        ValueError: shapes disagree, or ``ridge`` is not positive.

    Example:
        >>> pooled = torch.tensor([[1.0, 5.0], [1.0, 7.0], [3.0, 5.0], [3.0, 7.0]])
        >>> target = torch.tensor([[0.0], [0.0], [1.0], [1.0]])
        >>> label_directions(pooled, target, torch.ones(4, 1, dtype=torch.bool)).round(decimals=2)
        tensor([[0.5000, 0.0000]])
    """
    if pooled.ndim != 2 or target.shape != known.shape or target.shape[:1] != pooled.shape[:1] or target.ndim != 2:
        raise ValueError(
            "pooled must be (N, D), target and known (N, C) of the same films; got "
            f"{tuple(pooled.shape)}, {tuple(target.shape)} and {tuple(known.shape)}."
        )
    if not ridge > 0:
        raise ValueError(f"ridge must be positive; got {ridge}.")
    rows = []
    for y, there in zip(target.T, known.T, strict=True):
        features, label = pooled[there].double(), y[there].double()
        if not len(label):
            rows.append(pooled.new_zeros(pooled.shape[1]))
            continue
        features, label = features - features.mean(dim=0), label - label.mean()
        cov = features.T @ features / len(label)
        # A feature that never changes (a dead channel) has variance 0, and all of them may.
        level = ridge * cov.diagonal().mean() + torch.finfo(cov.dtype).tiny ** 0.5
        solved = torch.linalg.solve(cov + level * torch.eye(len(cov), dtype=cov.dtype), features.T @ label / len(label))
        rows.append(solved.to(pooled.dtype))
    return torch.stack(rows)
