"""Disease masks (Kim et al. 2021, sec. 3.1): where a finding occurs, from maps of many films, and what it gates."""

from __future__ import annotations

import torch
from torch import Tensor

from cxrlocus.functional.mining import unit_scale

KEEPS = ("soft", "binary")
"""What T of eq. 3 leaves of a mask above its threshold: its values, or ones."""


def mirror(maps: Tensor, offset: float = 0.0) -> Tensor:
    """``H(L)``: maps of the film seen in a mirror (Kim et al. 2021, eq. 3).

    A cell that looks ``offset`` cells beside its own centre does so in the mirror too, so that column j shows what
    column ``w - 1 - j - 2 offset`` did: interpolated between columns, and continued unchanged beyond the last.

    Args:
        maps: (..., h, w).
        offset: in cells (``models.registration``); 0 flips the grid, as printed.

    Example:
        >>> mirror(torch.tensor([[1.0, 2.0, 3.0]])), mirror(torch.tensor([[1.0, 2.0, 3.0]]), -0.5)
        (tensor([[3., 2., 1.]]), tensor([[3., 3., 2.]]))
    """
    flipped, last = maps.flip(-1), maps.shape[-1] - 1
    if not offset:
        return flipped
    place = (torch.arange(last + 1, device=maps.device) + 2 * offset).clamp(0, last)
    left = place.floor().long()
    share = (place - left).to(maps.dtype)
    return flipped[..., left] * (1 - share) + flipped[..., (left + 1).clamp(max=last)] * share


def place_maps(evidence: Tensor, mirrored: Tensor, offset: float = 0.0) -> Tensor:
    """``N(L)``, or ``N(H(L) + L)`` for findings of both sides (Kim et al. 2021, eq. 3).

    H is ``mirror``, N takes each map's least value to 0 and its greatest to 1 (a constant map to 0).

    Args:
        evidence: (N, C, h, w) raw maps on aligned films, any range.
        mirrored: (C,) bool, which findings occur on both sides alike (not cardiomegaly, m of eq. 3).
        offset: of the cells, for ``mirror``.

    Returns:
        (N, C, h, w) in [0, 1], float32.

    Raises:
        ValueError: ``evidence`` is not (N, C, h, w), or ``mirrored`` not (C,) bool.

    Example:
        >>> place_maps(torch.tensor([[[[1.0, 0.0, 5.0]]]]), torch.tensor([True]))
        tensor([[[[1., 0., 1.]]]])
    """
    if evidence.ndim != 4 or mirrored.shape != (evidence.shape[1],) or mirrored.dtype != torch.bool:
        raise ValueError(
            f"evidence must be (N, C, h, w) and mirrored (C,) bool; got {tuple(evidence.shape)} and "
            f"{tuple(mirrored.shape)} {mirrored.dtype}."
        )
    maps = evidence.float().contiguous()
    maps = torch.where(mirrored[:, None, None], maps + mirror(maps, offset), maps)
    return unit_scale(maps, torch.ones_like(maps, dtype=torch.bool))


def stream_mean(mean: Tensor, count: Tensor, maps: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """The mean over d of eq. 3 with further maps taken in: ``mean + sum(chosen (map - mean)) / (count + chosen)``.

    Args:
        mean: (C, h, w), of the maps so far; zeros at first.
        count: (C,), how many they are.
        maps: (N, C, h, w).
        chosen: (N, C) bool, which of these count.

    Returns:
        The new mean and count, in the dtype of ``mean`` and of ``count``.

    Raises:
        ValueError: the shapes disagree.

    Example:
        >>> maps, chosen = torch.tensor([1.0, 2.0, 6.0]).reshape(3, 1, 1, 1), torch.tensor([[True], [True], [False]])
        >>> mean, count = stream_mean(torch.zeros(1, 1, 1), torch.zeros(1), maps, chosen)
        >>> mean.item(), count.item()
        (1.5, 2.0)
    """
    if maps.shape[1:] != mean.shape or chosen.shape != maps.shape[:2] or count.shape != mean.shape[:1]:
        raise ValueError(
            "mean, count, maps and chosen must be (C, h, w), (C,), (N, C, h, w) and (N, C); got "
            f"{tuple(mean.shape)}, {tuple(count.shape)}, {tuple(maps.shape)} and {tuple(chosen.shape)}."
        )
    weight = chosen.to(mean.dtype)[:, :, None, None]
    total = count + chosen.sum(0).to(count.dtype)
    change = (weight * (maps.to(mean.dtype) - mean)).sum(0)
    return mean + change / total.clamp(min=1).to(mean.dtype)[:, None, None], total


def disease_mask(mean: Tensor, threshold: float = 0.5, keep: str = "soft", *, rescale: bool = True) -> Tensor:
    """``psi = T(mean)``: only the areas where a finding occurs often (Kim et al. 2021, eq. 3).

    Args:
        mean: (C, h, w) in [0, 1], means of ``place_maps``.
        threshold: T keeps what is above it, in [0, 1).
        keep: "soft" keeps these values, "binary" makes them 1; the rest is 0.
        rescale: take each mean from its least to its greatest value to [0, 1] before T. Means of many maps, of nodules
            say, are flat, and may be above no threshold at all.

    Returns:
        (C, h, w) in [0, 1].

    Raises:
        ValueError: the shape is another, the threshold is outside its range, or ``keep`` is unknown.

    Example:
        >>> mean = torch.tensor([[[0.1, 0.2, 0.3]]])
        >>> disease_mask(mean), disease_mask(mean, 0.25, "binary", rescale=False)
        (tensor([[[0., 0., 1.]]]), tensor([[[0., 0., 1.]]]))
    """
    if mean.ndim != 3 or not 0 <= threshold < 1:
        raise ValueError(f"mean must be (C, h, w) and threshold in [0, 1); got {tuple(mean.shape)} and {threshold}.")
    if keep not in KEEPS:
        raise ValueError(f"keep must be one of {', '.join(KEEPS)}; got {keep!r}.")
    values = unit_scale(mean[None], torch.ones_like(mean[None], dtype=torch.bool))[0] if rescale else mean
    above = values > threshold
    return above.to(mean.dtype) if keep == "binary" else torch.where(above, values, 0.0)


def attend(evidence: Tensor, masks: Tensor) -> Tensor:
    """Evidence of attention guided features: ``S'_c = sum_k w_ck (psi_c f_k + f_k)`` (Kim et al. 2021, eq. 4, 5).

    The gate is the same for all features of a finding, so it is applied to their weighted sum:
    ``S'_c = (1 + psi_c) S_c``. A mask of zeros changes nothing.

    Args:
        evidence: (N, C, h, w), S.
        masks: (C, h, w), psi.

    Returns:
        (N, C, h, w).

    Raises:
        ValueError: the shapes disagree.

    Example:
        >>> attend(torch.tensor([[[[2.0, -2.0]]]]), torch.tensor([[[0.0, 0.5]]]))
        tensor([[[[ 2., -3.]]]])
    """
    if evidence.ndim != 4 or masks.shape != evidence.shape[1:]:
        raise ValueError(
            f"evidence must be (N, C, h, w) and masks (C, h, w); got {tuple(evidence.shape)} and {tuple(masks.shape)}."
        )
    return (1 + masks.to(evidence.dtype)) * evidence
