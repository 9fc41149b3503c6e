"""Maps of a finding from the activations of a layer and the gradient of the finding's logit there; always raw."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def grad_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """Grad-CAM (Selvaraju et al. 2017, eq. 1-2): ``ReLU(sum_d a_d A_d)``, ``a_d = 1/S sum_ij dy/dA_d(i, j)``.

    Args:
        activations: A (N, D, h, w) of a layer.
        gradients: dy_c/dA (N, D, h, w) of one finding's logit.

    Returns:
        (N, h, w), >= 0, not normalized.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> A = torch.tensor([[[[1.0, 2.0]], [[3.0, 1.0]]]])
        >>> grad_cam(A, torch.tensor([[[[2.0, 0.0]], [[-0.5, 0.0]]]]))
        tensor([[[0.2500, 1.7500]]])
    """
    _check(activations, gradients)
    return F.relu((gradients.mean(dim=(-2, -1), keepdim=True) * activations).sum(dim=1))


def grad_cam_plus_plus(activations: Tensor, gradients: Tensor) -> Tensor:
    """Grad-CAM++ (Chattopadhay et al. 2018, eq. 19) for an exponential score, so that powers of the gradient suffice.

    ``ReLU(sum_d w_d A_d)``, ``w_d = sum_ij alpha_dij ReLU(g_dij)``, ``alpha = g^2 / (2 g^2 + sum_ij(A_d) g^3)``; cells
    with zero gradient have alpha = 0.

    Args:
        activations: A (N, D, h, w) of a layer.
        gradients: g = dy_c/dA (N, D, h, w) of one finding's logit.

    Returns:
        (N, h, w), >= 0, not normalized.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> A = torch.tensor([[[[1.0, 2.0]]]])
        >>> grad_cam_plus_plus(A, torch.tensor([[[[1.0, 0.0]]]]))
        tensor([[[0.2000, 0.4000]]])
    """
    _check(activations, gradients)
    total = activations.sum(dim=(-2, -1), keepdim=True)
    bottom = 2 * gradients**2 + total * gradients**3
    alpha = torch.where(bottom != 0, gradients**2 / torch.where(bottom != 0, bottom, 1.0), 0.0)
    weight = (alpha * F.relu(gradients)).sum(dim=(-2, -1), keepdim=True)
    return F.relu((weight * activations).sum(dim=1))


def layer_cam(activations: Tensor, gradients: Tensor) -> Tensor:
    """LayerCAM (Jiang et al. 2021, eq. 6): ``ReLU(sum_d ReLU(g_d) A_d)``, a weight for each cell.

    Args:
        activations: A (N, D, h, w) of a layer.
        gradients: g = dy_c/dA (N, D, h, w) of one finding's logit.

    Returns:
        (N, h, w), >= 0, not normalized.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> A = torch.tensor([[[[1.0, 2.0]]]])
        >>> layer_cam(A, torch.tensor([[[[1.0, -1.0]]]]))
        tensor([[[1., 0.]]])
    """
    _check(activations, gradients)
    return F.relu((F.relu(gradients) * activations).sum(dim=1))


ATTRIBUTIONS = {"gradcam": grad_cam, "gradcam++": grad_cam_plus_plus, "layercam": layer_cam}
"""Gradient maps by name: (activations, gradients) -> (N, h, w)."""


def _check(activations: Tensor, gradients: Tensor) -> None:
    if activations.ndim != 4 or activations.shape != gradients.shape:
        raise ValueError(
            f"activations and gradients must both be (N, D, h, w); got {tuple(activations.shape)} and "
            f"{tuple(gradients.shape)}."
        )
