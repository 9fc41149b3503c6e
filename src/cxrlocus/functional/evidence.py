"""Evidence: what each cell of the feature grid says for each finding."""

from __future__ import annotations

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
    """The film's logits from pooled features: ``s_c = w_c . p + b_c``.

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
    return F.linear(pooled, weight.to(pooled.dtype), bias.to(pooled.dtype))
