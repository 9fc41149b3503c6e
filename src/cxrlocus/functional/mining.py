"""Attention mining on evidence maps (Cai et al. 2018): erase the region of the peak, look again, put it together.

A class-wise gate on features commutes with a linear head: ``(X * M_c) w_c = M_c * (X w_c)``. So a mask M_c is applied
to the evidence (N, C, h, w), and no C-fold copy of the features exists. Masks are bool, True where a cell is open.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

SCALES = ("minmax", "relu")
"""How a map is brought to [0, 1]: least open value to 0 and greatest to 1, or negative values to 0, greatest to 1."""

ROUNDS = 2
"""Dilations between two looks whether a flood still grows: on a GPU each look waits for it."""


class Mined(NamedTuple):
    """T mining steps: raw maps H_t (T, N, C, h, w), zero where erased, and open cells M_0 ... M_T (T + 1, N, C, h, w).

    The steps are the first axis.
    """

    maps: Tensor
    open: Tensor


def erased_evidence(evidence: Tensor, open_cells: Tensor) -> Tensor:
    """Evidence of erased features, ``H_c = (X * M_c) w_c = M_c * (X w_c)`` (Cai et al. 2018, eq. 1 and 7).

    Args:
        evidence: (N, C, h, w) raw.
        open_cells: (N, C, h, w) bool; False cells are erased.

    Returns:
        (N, C, h, w), zero where erased.

    Raises:
        ValueError: the shapes differ, or the mask is not bool.

    Example:
        >>> erased_evidence(torch.tensor([[[[-1.0, 2.0]]]]), torch.tensor([[[[True, False]]]]))
        tensor([[[[-1.,  0.]]]])
    """
    _check(evidence, open_cells)
    return torch.where(open_cells, evidence, 0.0)


def erased_logits(evidence: Tensor, open_cells: Tensor, bias: Tensor) -> Tensor:
    """Logits of erased features, ``w_c . g(X * M_c) + b_c = 1/S sum_ij M_c H_c + b_c`` (Cai et al. 2018, eq. 1 and 2).

    The average g is over all S cells, erased ones too, as over any feature map.

    Args:
        evidence: (N, C, h, w) raw.
        open_cells: (N, C, h, w) bool.
        bias: (C,).

    Returns:
        (N, C).

    Raises:
        ValueError: the shapes differ, or the mask is not bool.

    Example:
        >>> erased_logits(torch.tensor([[[[-1.0, 2.0]]]]), torch.tensor([[[[True, False]]]]), torch.tensor([0.25]))
        tensor([[-0.2500]])
    """
    return erased_evidence(evidence, open_cells).mean(dim=(-2, -1)) + bias.to(evidence.dtype)


def unit_scale(evidence: Tensor, open_cells: Tensor, scale: str = "minmax") -> Tensor:
    """A map on [0, 1] over its open cells (Cai et al. 2018, below eq. 7: "normalized to [0, 1]").

    "minmax" is ``(x - min) / (max - min)``, "relu" is ``max(x, 0) / max``; the least and the greatest value are those
    of the open cells. Erased cells are 0, and so is all of a map whose open cells are constant (minmax), nowhere
    positive (relu) or none.

    Args:
        evidence: (N, C, h, w), any range.
        open_cells: (N, C, h, w) bool.
        scale: a name in SCALES.

    Returns:
        (N, C, h, w) in [0, 1].

    Raises:
        ValueError: the shapes differ, the mask is not bool, or the scale is unknown.

    Example:
        >>> maps, all_open = torch.tensor([[[[-1.0, 1.0, 3.0]]]]), torch.ones(1, 1, 1, 3, dtype=torch.bool)
        >>> unit_scale(maps, all_open), unit_scale(maps, all_open, "relu")
        (tensor([[[[0.0000, 0.5000, 1.0000]]]]), tensor([[[[0.0000, 0.3333, 1.0000]]]]))
    """
    _check(evidence, open_cells)
    if scale not in SCALES:
        raise ValueError(f"scale must be one of {', '.join(SCALES)}; got {scale!r}.")
    high = evidence.masked_fill(~open_cells, -torch.inf).amax(dim=(-2, -1), keepdim=True)
    if scale == "minmax":
        low = evidence.masked_fill(~open_cells, torch.inf).amin(dim=(-2, -1), keepdim=True)
    else:
        low = torch.zeros_like(high)
    says = open_cells & (high > low)
    # Where nothing is said the range may be 0 or infinite; a range of 1 keeps NaN out of what is thrown away.
    span = torch.where(high > low, high - low, 1.0)
    return torch.where(says, (evidence - low) / span, 0.0).clamp(0.0, 1.0)


def flood(seeds: Tensor, cells: Tensor, connectivity: int = 8) -> Tensor:
    """The connected components of ``cells`` that hold a seed: dilation within ``cells`` until nothing changes.

    All maps at once; the number of dilations is that of the longest way from a seed.

    Args:
        seeds: (..., h, w) bool.
        cells: (..., h, w) bool.
        connectivity: 8 (cells that touch at a corner belong together) or 4.

    Returns:
        (..., h, w) bool.

    Raises:
        ValueError: the shapes differ, a tensor is not bool, or connectivity is neither 4 nor 8.

    Example:
        >>> cells = torch.tensor([[True, False, False], [False, True, False], [False, False, False]])
        >>> seeds = torch.zeros(3, 3, dtype=torch.bool)
        >>> seeds[0, 0] = True
        >>> flood(seeds, cells).sum(), flood(seeds, cells, connectivity=4).sum()
        (tensor(2), tensor(1))
    """
    if seeds.shape != cells.shape or seeds.ndim < 2 or seeds.dtype != torch.bool or cells.dtype != torch.bool:
        raise ValueError(
            f"seeds and cells must be bool of one shape (..., h, w); got {seeds.dtype} {tuple(seeds.shape)} and "
            f"{cells.dtype} {tuple(cells.shape)}."
        )
    if connectivity not in (4, 8):
        raise ValueError(f"connectivity must be 4 or 8; got {connectivity}.")
    height, width = cells.shape[-2:]
    within = cells.reshape(-1, height, width)
    found = seeds.reshape(-1, height, width) & within
    done = torch.zeros_like(found)
    growing = torch.arange(len(found), device=found.device)
    while len(growing):
        grown = found
        for _ in range(ROUNDS):
            grown = _dilated(grown, connectivity) & within
        done[growing] = grown
        # Most regions are small: only the maps that still grow are looked at again.
        more = (grown != found).flatten(1).any(dim=1).nonzero().squeeze(1)
        growing, found, within = growing[more], grown[more], within[more]
    return done.reshape(cells.shape)


def peak_component(
    evidence: Tensor, open_cells: Tensor, *, threshold: float = 0.5, scale: str = "minmax", connectivity: int = 8
) -> Tensor:
    """The region that a mining step erases: what is above the threshold and connected with the map's peak.

    The peak is looked for among open cells only. (An erased cell is 0 in eq. 7, and with evidence that is negative
    elsewhere it would be the greatest value; mining would stall.) Of equal peaks the first in reading order counts.

    Args:
        evidence: (N, C, h, w) raw.
        open_cells: (N, C, h, w) bool.
        threshold: on the scale of ``unit_scale``, in [0, 1); cells strictly above it belong to a region.
        scale: a name in SCALES.
        connectivity: 8 or 4.

    Returns:
        (N, C, h, w) bool, within the open cells; empty for a map that says nothing there (see ``unit_scale``).

    Raises:
        ValueError: an argument is out of its range, shapes differ, or the mask is not bool.

    Example:
        >>> maps = torch.tensor([[[[0.0, 3.0, 2.0, 0.0, 2.5]]]])
        >>> peak_component(maps, torch.ones(1, 1, 1, 5, dtype=torch.bool)).int()
        tensor([[[[0, 1, 1, 0, 0]]]], dtype=torch.int32)
    """
    if not 0.0 <= threshold < 1.0:
        raise ValueError(f"threshold must be in [0, 1); got {threshold}.")
    scaled = unit_scale(evidence, open_cells, scale)
    flat = evidence.masked_fill(~open_cells, -torch.inf).flatten(-2)
    seeds = torch.zeros_like(open_cells).flatten(-2)
    seeds = seeds.scatter(-1, flat.argmax(dim=-1, keepdim=True), True).view_as(open_cells)
    return flood(seeds, scaled > threshold, connectivity)


def erase_step(
    evidence: Tensor, open_cells: Tensor, *, threshold: float = 0.5, scale: str = "minmax", connectivity: int = 8
) -> Tensor:
    """M_t from M_{t-1}: the component of the peak is closed too (Cai et al. 2018, below eq. 7). Masks are cumulative.

    Args:
        evidence: (N, C, h, w) raw.
        open_cells: (N, C, h, w) bool, M_{t-1}.
        threshold: as ``peak_component``'s.
        scale: as ``peak_component``'s.
        connectivity: as ``peak_component``'s.

    Returns:
        (N, C, h, w) bool, the cells that are still open.

    Raises:
        ValueError: as ``peak_component``.

    Example:
        >>> maps, all_open = torch.tensor([[[[-9.0, -1.0, -7.0, -2.0]]]]), torch.ones(1, 1, 1, 4, dtype=torch.bool)
        >>> once = erase_step(maps, all_open)
        >>> once.int(), erase_step(maps, once).int()
        (tensor([[[[1, 0, 1, 1]]]], dtype=torch.int32), tensor([[[[1, 0, 1, 0]]]], dtype=torch.int32))
    """
    return open_cells & ~peak_component(
        evidence, open_cells, threshold=threshold, scale=scale, connectivity=connectivity
    )


def mine_maps(
    evidence: Sequence[Tensor], *, threshold: float = 0.5, scale: str = "minmax", connectivity: int = 8
) -> Mined:
    """T mining steps, ``H_t = (X * M_{t-1}) w`` and M_t from it (Cai et al. 2018, eq. 7 and below).

    Args:
        evidence: the raw evidence (N, C, h, w) of each step: the same tensor T times for one network, or that of the
            network as each step left it.
        threshold: as ``peak_component``'s.
        scale: as ``peak_component``'s.
        connectivity: as ``peak_component``'s.

    Returns:
        The maps and the masks of all steps.

    Raises:
        ValueError: there is no step, or as ``peak_component``.

    Example:
        >>> mined = mine_maps([torch.tensor([[[[0.0, 4.0, 1.0, 3.0]]]])] * 2)
        >>> mined.maps.flatten(1).tolist(), mined.open.flatten(1).int().tolist()
        ([[0.0, 4.0, 1.0, 3.0], [0.0, 0.0, 1.0, 3.0]], [[1, 1, 1, 1], [1, 0, 1, 1], [1, 0, 1, 0]])
    """
    if not evidence:
        raise ValueError("evidence must hold a map for each of at least 1 step; got none.")
    masks = [torch.ones_like(evidence[0], dtype=torch.bool)]
    maps = []
    for one in evidence:
        maps.append(erased_evidence(one, masks[-1]))
        masks.append(erase_step(one, masks[-1], threshold=threshold, scale=scale, connectivity=connectivity))
    return Mined(torch.stack(maps), torch.stack(masks))


def final_map(mined: Mined) -> Tensor:
    """``H_f = 1/T sum_t [H_t + sum_{t'<t} H_t' * (1 - M_t')]`` (Cai et al. 2018, eq. 8).

    What was erased at a step is filled in from the map of that step. M is cumulative, so (1 - M_t') covers what earlier
    steps erased as well; that adds nothing, because a raw H_t' is zero there (a map that was scaled to [0, 1] before
    need not be).

    If all steps have the same evidence E (one network), H_f = E for any T: at each step the open cells hold E, and the
    erased ones are filled in with E. The sum is another map only if the network learnt between the steps, or if the
    maps were scaled one by one.

    Args:
        mined: maps (T, N, C, h, w) and open cells (T + 1, N, C, h, w) of ``mine_maps``.

    Returns:
        (N, C, h, w).

    Raises:
        ValueError: the shapes are not those of T steps.

    Example:
        >>> first, second = torch.tensor([[[[4.0, 1.0]]]]), torch.tensor([[[[9.0, 3.0]]]])
        >>> final_map(mine_maps([first, second]))
        tensor([[[[4., 2.]]]])
    """
    maps, open_cells = mined
    if maps.ndim != 5 or open_cells.shape != (len(maps) + 1, *maps.shape[1:]) or not len(maps):
        raise ValueError(
            f"mined must be maps (T, N, C, h, w) and open cells (T + 1, N, C, h, w); got {tuple(maps.shape)} and "
            f"{tuple(open_cells.shape)}."
        )
    filled = torch.where(open_cells[1:], 0.0, maps).cumsum(dim=0)
    return (maps.sum(dim=0) + filled[:-1].sum(dim=0)) / len(maps)


def steps_found(open_cells: Tensor) -> Tensor:
    """The mining step, from 1, that found each cell: the step that erased it; 1 for a cell that none did.

    Args:
        open_cells: M_0 ... M_T, (T + 1, N, C, h, w) bool.

    Returns:
        (N, C, h, w) int64 in 1..T.

    Raises:
        ValueError: there is no step.

    Example:
        >>> steps_found(mine_maps([torch.tensor([[[[0.0, 4.0, 1.0, 3.0]]]])] * 2).open)
        tensor([[[[1, 1, 1, 2]]]])
    """
    if len(open_cells) < 2:
        raise ValueError(f"open_cells must hold the masks of at least 1 step and M_0; got {len(open_cells)}.")
    before = torch.sum(open_cells[:-1], dim=0)
    return torch.where(open_cells[-1], 1, before)


def _dilated(cells: Tensor, connectivity: int) -> Tensor:
    # Shifts of bytes; a max-pooling of floats takes several times as long.
    wide = cells.clone()
    wide[..., 1:] |= cells[..., :-1]
    wide[..., :-1] |= cells[..., 1:]
    by_column = wide if connectivity == 8 else cells
    tall = wide.clone()
    tall[..., 1:, :] |= by_column[..., :-1, :]
    tall[..., :-1, :] |= by_column[..., 1:, :]
    return tall


def _check(evidence: Tensor, open_cells: Tensor) -> None:
    if evidence.shape != open_cells.shape or evidence.ndim != 4 or open_cells.dtype != torch.bool:
        raise ValueError(
            f"evidence and open cells must be (N, C, h, w), the latter bool; got {tuple(evidence.shape)} and "
            f"{open_cells.dtype} {tuple(open_cells.shape)}."
        )
