"""Alignment of chests (Kim et al. 2021, sec. 3.2): an affine from five numbers, the warp, and what it is judged by."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

BORDERS = ("zeros", "border")
"""What is seen beyond the film: black, or its edge repeated."""

REDUCTIONS = ("mean", "sum", "squared")
"""Eq. 8 over the pixels of a film: their mean or, as printed, their sum; or the mean of squares."""

NORMS = ("squared", "letter")
"""Eq. 7: squared norms as in Johnson et al. 2016, eq. 2, whom Kim et al. cite, or the norm as Kim et al. print it."""


def bounded_pose(raw: Tensor, *, scale: float, shift: float, angle: float) -> Tensor:
    """Five free numbers to a pose that can neither zoom to nothing nor leave the film; zeros give the identity.

        s_x, s_y = exp(ln(scale) tanh r),  t_x, t_y = 2 shift tanh r,  theta = angle tanh r

    Args:
        raw: (N, 5), any range, in the order s_x, s_y, t_x, t_y, theta.
        scale: largest zoom, >= 1; the least is its inverse.
        shift: largest shift, a share of the film's side, >= 0.
        angle: largest turn, degrees, in [0, 180).

    Returns:
        (N, 5): s_x, s_y in [1/scale, scale], t_x, t_y in half sides, theta in radians; float32 for half precision.

    Raises:
        ValueError: ``raw`` is not (N, 5), or a bound is outside its range.

    Example:
        >>> bounded_pose(torch.zeros(1, 5), scale=1.5, shift=0.2, angle=20.0)
        tensor([[1., 1., 0., 0., 0.]])
        >>> bounded_pose(torch.full((1, 5), 99.0), scale=1.5, shift=0.2, angle=90.0)
        tensor([[1.5000, 1.5000, 0.4000, 0.4000, 1.5708]])
    """
    _five(raw, "raw")
    if not (1 <= scale < math.inf and 0 <= shift < math.inf and 0 <= angle < 180):
        raise ValueError(
            f"scale must be at least 1, shift at least 0 and angle in [0, 180); got {scale}, {shift}, {angle}."
        )
    unit = torch.tanh(raw if raw.dtype == torch.float64 else raw.float())
    reach = unit.new_tensor([2 * shift, 2 * shift, math.radians(angle)])
    return torch.cat([torch.exp(math.log(scale) * unit[:, :2]), reach * unit[:, 2:]], dim=1)


def pose_affine(pose: Tensor) -> Tensor:
    """The affine of a pose, from the unit square of the aligned film to that of the film (Kim et al. 2021, eq. 6).

        | s_x cos(theta)  -s_y sin(theta)  t_x |
        | s_x sin(theta)   s_y cos(theta)  t_y |

    Eq. 6 is read as spatial transformers have it: it takes a place of the output to the place of the input that is seen
    there, both in [-1, 1] from the film's middle. So s > 1 shows more of the film, smaller; here it is written for unit
    squares, as ``types.Frame`` has them: ``frame.compose(A)`` is the aligned film's frame.

    Args:
        pose: (N, 5), s_x, s_y, t_x, t_y (half sides), theta (radians; positive turns the film's content
            counter-clockwise as one sees it, y pointing down).

    Returns:
        (N, 2, 3).

    Raises:
        ValueError: ``pose`` is not (N, 5).

    Example:
        >>> torch.equal(pose_affine(torch.tensor([[1.0, 1.0, 0.0, 0.0, 0.0]]))[0], torch.eye(2, 3))
        True
        >>> pose_affine(torch.tensor([[1.0, 1.0, 0.5, 0.0, 0.0]]))[0, :, 2]
        tensor([0.2500, 0.0000])
    """
    _five(pose, "pose")
    sx, sy, tx, ty, theta = pose.unbind(1)
    cos, sin = torch.cos(theta), torch.sin(theta)
    linear = torch.stack([sx * cos, -sy * sin, sx * sin, sy * cos], dim=1).reshape(-1, 2, 2)
    # u = (x + 1) / 2 on both sides: the middle of the square goes to its middle and half the shift.
    moved = 0.5 + 0.5 * torch.stack([tx, ty], dim=1) - 0.5 * linear.sum(dim=2)
    return torch.cat([linear, moved[:, :, None]], dim=2)


def warp(images: Tensor, affine: Tensor, border: str = "zeros") -> Tensor:
    """Films as seen through an affine: ``y(u) = x(A u)``, bilinear between pixel centres (``align_corners=False``).

    Args:
        images: (N, C, H, W).
        affine: (N, 2, 3), the new unit square to the old one.
        border: a name in BORDERS.

    Returns:
        (N, C, H, W); float32 for half precision.

    Raises:
        ValueError: the shapes disagree or ``border`` is unknown.

    Example:
        >>> row = torch.arange(4.0).reshape(1, 1, 1, 4)
        >>> warp(row, torch.tensor([[[1.0, 0.0, 0.25], [0.0, 1.0, 0.0]]]), "border").flatten().tolist()
        [1.0, 2.0, 3.0, 3.0]
    """
    if images.ndim != 4 or affine.shape != (len(images), 2, 3):
        raise ValueError(
            f"images must be (N, C, H, W) and affine (N, 2, 3); got {tuple(images.shape)} and {tuple(affine.shape)}."
        )
    if border not in BORDERS:
        raise ValueError(f"border must be one of {', '.join(BORDERS)}; got {border!r}.")
    # Sums and products only: a matrix product would run in bfloat16 under autocast, and lose whole pixels.
    images = images if images.dtype == torch.float64 else images.float()
    # To grid_sample's [-1, 1] before it is spread over the pixels: a pass over the grid costs as much as the sampling.
    signed = 2 * affine.to(images.dtype) - affine.new_tensor([0.0, 0.0, 1.0], dtype=images.dtype)
    grid = torch.stack(_places(signed, *images.shape[2:]), dim=-1)
    return F.grid_sample(images, grid, padding_mode=border, align_corners=False)


def _places(affine: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Where an affine (N, 2, 3) takes the centre of each cell of the unit square, (N, H, W) twice."""
    u = (torch.arange(width, device=affine.device, dtype=affine.dtype) + 0.5) / width
    v = ((torch.arange(height, device=affine.device, dtype=affine.dtype) + 0.5) / height)[:, None]
    a, b, c, d, e, f = affine.reshape(-1, 6, 1, 1).unbind(1)
    return (a * u + c) + b * v, (d * u + f) + e * v


def coverage(affine: Tensor, cells: int = 32) -> Tensor:
    """The share (N,) of an aligned film that lies on the film it comes from, on a grid of ``cells`` x ``cells``.

    Args:
        affine: (N, 2, 3), the aligned film's unit square to the film's.
        cells: along a side, at least 1.

    Raises:
        ValueError: the shape is another, or ``cells`` is below 1.

    Example:
        >>> coverage(torch.tensor([[[1.0, 0.0, 0.25], [0.0, 1.0, 0.0]]]))
        tensor([0.7500])
    """
    if affine.ndim != 3 or affine.shape[1:] != (2, 3) or cells < 1:
        raise ValueError(f"affine must be (N, 2, 3) and cells at least 1; got {tuple(affine.shape)} and {cells}.")
    u, v = _places(affine, cells, cells)
    return ((u >= 0) & (u <= 1) & (v >= 0) & (v <= 1)).float().mean(dim=(-2, -1))


def blur(images: Tensor, kernel: int = 16) -> Tensor:
    """``B(G(x))``: averages of ``kernel`` x ``kernel`` pixels, grown bilinearly (Kim et al. 2021, eq. 6).

    A film becomes as smooth as the anchor, which is a mean of many.

    Args:
        images: (N, C, H, W).
        kernel: side and stride of the average, pixels; a divisor of H and W. 1 changes nothing.

    Raises:
        ValueError: ``kernel`` does not divide the sides.

    Example:
        >>> blur(torch.tensor([[[[0.0, 4.0, 8.0, 12.0]] * 2]]), 2)[0, 0, 0].tolist()
        [2.0, 4.0, 8.0, 10.0]
    """
    if images.ndim != 4 or kernel < 1 or images.shape[-1] % kernel or images.shape[-2] % kernel:
        raise ValueError(f"kernel must divide the sides of images (N, C, H, W); got {kernel}, {tuple(images.shape)}.")
    if kernel == 1:
        return images
    small = F.avg_pool2d(images, kernel)
    return F.interpolate(small, size=images.shape[-2:], mode="bilinear", align_corners=False)


def perceptual_loss(anchor: Sequence[Tensor], films: Sequence[Tensor], norm: str = "squared") -> Tensor:
    """``L_p = sum_s 1/(C^s H^s W^s) ||F_s(A) - F_s(phi(I))||_2``, mean over films (Kim et al. 2021, eq. 7).

    Args:
        anchor: features (1, C_s, H_s, W_s) of the anchor, one a stage.
        films: features (N, C_s, H_s, W_s) of the blurred, aligned films, in the same order.
        norm: "squared" (Johnson et al. 2016, eq. 2: the mean squared difference) or "letter".

    Returns:
        A scalar, >= 0; zero gradient where the two are equal.

    Raises:
        ValueError: no stage is given, the stages' shapes disagree, or ``norm`` is unknown.

    Example:
        >>> a, f = [torch.zeros(1, 2, 2, 2)], [torch.full((3, 2, 2, 2), 2.0)]
        >>> perceptual_loss(a, f), perceptual_loss(a, f, "letter")
        (tensor(4.), tensor(0.7071))
    """
    if not films or [t.shape[1:] for t in anchor] != [t.shape[1:] for t in films]:
        raise ValueError(
            "anchor and films must have features of the same stages; got "
            f"{[tuple(t.shape) for t in anchor]} and {[tuple(t.shape) for t in films]}."
        )
    if norm not in NORMS:
        raise ValueError(f"norm must be one of {', '.join(NORMS)}; got {norm!r}.")
    stages: list[Tensor] = []
    for theirs, ours in zip(anchor, films, strict=True):
        difference = (ours - theirs).flatten(1)
        if difference.dtype in (torch.bfloat16, torch.float16):
            difference = difference.float()
        of_films = difference.square().sum(1) if norm == "squared" else torch.linalg.vector_norm(difference, dim=1)
        stages.append(of_films.mean() / difference.shape[1])
    return torch.stack(stages).sum()


def euclidean_loss(anchor: Tensor, films: Tensor, reduction: str = "mean") -> Tensor:
    """``L_e = sum_ij ||A_ij - phi(I)_ij||_2``, the norm over a pixel's channels (Kim et al. 2021, eq. 8).

    "sum" is the formula, mean over films; "mean" divides it by the number of pixels, so that its weight against eq. 7
    does not depend on the film's size. "squared" is the mean of squares, the pixel loss of Johnson et al. 2016 (sec.
    3.2), whom Kim et al. cite for eq. 7: few large differences, a diaphragm in another place, outweigh many small ones.

    Args:
        anchor: (1, C, H, W).
        films: (N, C, H, W), blurred and aligned.
        reduction: a name in REDUCTIONS.

    Returns:
        A scalar, >= 0.

    Raises:
        ValueError: the shapes disagree or ``reduction`` is unknown.

    Example:
        >>> a, f = torch.zeros(1, 2, 2, 2), torch.tensor([3.0, 4.0]).reshape(1, 2, 1, 1).expand(5, 2, 2, 2)
        >>> euclidean_loss(a, f), euclidean_loss(a, f, "sum")
        (tensor(5.), tensor(20.))
    """
    if films.ndim != 4 or anchor.shape != (1, *films.shape[1:]):
        raise ValueError(
            f"anchor must be (1, C, H, W) and films (N, C, H, W); got {tuple(anchor.shape)} and {tuple(films.shape)}."
        )
    if reduction not in REDUCTIONS:
        raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}; got {reduction!r}.")
    if reduction == "squared":
        return (films - anchor).square().sum(dim=1).mean()
    of_pixels: Tensor = torch.linalg.vector_norm(films - anchor, dim=1)
    return of_pixels.mean() if reduction == "mean" else of_pixels.sum() / len(films)


def _five(values: Tensor, name: str) -> None:
    if values.ndim != 2 or values.shape[1] != 5:
        raise ValueError(f"{name} must be (N, 5): s_x, s_y, t_x, t_y, theta; got {tuple(values.shape)}.")
