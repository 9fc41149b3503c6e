"""A mask or a map against boxes, pixel by pixel: IoP, FPR, FNR and DICE at one threshold or at many, or at none."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxrlocus.types import BoolArray, FloatArray


class Overlap(NamedTuple):
    """Cell counts of masks against a truth: marked and true, marked, true, all; arrays that broadcast."""

    common: NDArray[np.int64]
    marked: NDArray[np.int64]
    true: NDArray[np.int64]
    cells: NDArray[np.int64]


def box_mask(boxes: ArrayLike, size: tuple[float, float], shape: tuple[int, int]) -> BoolArray:
    """The union of boxes on a grid that covers a film: the cells whose centres lie in some box.

    Cell (i, j) has its centre at ((j + .5) W/gw, (i + .5) H/gh); boxes are half-open, so a centre on a left or upper
    edge is in and one on a right or lower edge is out. Overlapping boxes count once.

    Args:
        boxes: (n, 4) xyxy in pixels of the film; n may be 0, and what lies beyond the film marks nothing.
        size: (width, height) of the film in pixels.
        shape: (gh, gw) cells.

    Returns:
        (gh, gw) bool.

    Raises:
        ValueError: a box is not four numbers, or the film or the grid has no size.

    Example:
        >>> box_mask([[0, 0, 4, 2], [2, 0, 8, 2]], (8, 8), (4, 4)).astype(int).tolist()
        [[1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    """
    given = np.asarray(boxes, dtype=np.float64)
    given = given.reshape(0, 4) if given.size == 0 else given
    if given.ndim != 2 or given.shape[1] != 4 or np.isnan(given).any():
        raise ValueError(f"boxes must be (n, 4) xyxy numbers; got shape {given.shape}. Stack one box a row.")
    (width, height), (gh, gw) = size, shape
    if not (width > 0 and height > 0 and gh > 0 and gw > 0):
        raise ValueError(f"size and shape must be positive; got {tuple(size)} and {tuple(shape)}.")
    x, y = (np.arange(gw) + 0.5) * (width / gw), (np.arange(gh) + 0.5) * (height / gh)
    marked = np.zeros((gh, gw), dtype=np.bool_)
    for x0, y0, x1, y1 in given.tolist():
        left, right = np.searchsorted(x, [x0, x1])
        top, bottom = np.searchsorted(y, [y0, y1])
        marked[top:bottom, left:right] = True
    return marked


def overlap_above(values: ArrayLike, truth: ArrayLike, thresholds: ArrayLike) -> Overlap:
    """Cell counts of the masks ``values > t`` against a truth, for each of T thresholds.

    Args:
        values: (gh, gw), a map; a cell that is NaN is above no threshold.
        truth: (gh, gw) bool.
        thresholds: (T,).

    Returns:
        The counts: common and marked (T,), true and cells ().

    Raises:
        ValueError: shapes differ, or truth is not bool.

    Example:
        >>> counts = overlap_above([[0.0, 0.5, 1.0]], np.array([[False, True, True]]), [0.0, 0.5, 1.0])
        >>> counts.common.tolist(), counts.marked.tolist(), int(counts.true), int(counts.cells)
        ([2, 1, 0], [2, 1, 0], 2, 3)
    """
    grid, box, levels = np.asarray(values), np.asarray(truth), np.asarray(thresholds)
    if grid.ndim != 2 or grid.shape != box.shape or box.dtype != np.bool_ or levels.ndim != 1:
        raise ValueError(
            f"values, truth and thresholds must be (gh, gw), bool (gh, gw) and (T,); "
            f"got {grid.shape}, {box.dtype} {box.shape} and {levels.shape}."
        )
    within = grid[box]
    common, marked = (
        np.array([np.count_nonzero(cells > t) for t in levels], dtype=np.int64) for cells in (within, grid)
    )
    return Overlap(common, marked, np.array(within.size), np.array(grid.size))


def iop(counts: Overlap) -> FloatArray:
    """Share of the mask that lies in the truth: ``|M and T| / |M|`` in [0, 1]; NaN for an empty mask.

    Intersection over predicted area, InfoMask (Taghanaki et al. 2019), section 3.

    Example:
        >>> iop(mask_overlap([[1, 1, 0, 0]], [[0, 1, 1, 1]])).item()
        0.5
    """
    return _ratio(counts.common, counts.marked)


def fpr(counts: Overlap) -> FloatArray:
    """Share of what is not true that is marked: ``|M and not T| / |not T|`` in [0, 1]; NaN where all is true.

    False positive rate, InfoMask (Taghanaki et al. 2019), section 3.

    Example:
        >>> fpr(mask_overlap([[1, 1, 0, 0]], [[0, 1, 1, 1]])).item()
        1.0
    """
    return _ratio(counts.marked - counts.common, counts.cells - counts.true)


def fnr(counts: Overlap) -> FloatArray:
    """Share of the truth that is not marked: ``|T and not M| / |T|`` in [0, 1]; NaN without any truth.

    False negative rate, InfoMask (Taghanaki et al. 2019), section 3.

    Example:
        >>> round(fnr(mask_overlap([[1, 1, 0, 0]], [[0, 1, 1, 1]])).item(), 4)
        0.6667
    """
    return _ratio(counts.true - counts.common, counts.true)


def covered(counts: Overlap) -> FloatArray:
    """Share of all cells that is marked: ``|M| / |cells|`` in [0, 1]; the mask's area.

    Example:
        >>> covered(mask_overlap([[1, 1, 0, 0]], [[0, 1, 1, 1]])).item()
        0.5
    """
    return _ratio(counts.marked, counts.cells)


def dice(counts: Overlap) -> FloatArray:
    """Overlap of mask and truth: ``2 |M and T| / (|M| + |T|)`` in [0, 1]; NaN where both are empty (Dice 1945).

    Example:
        >>> dice(mask_overlap([[1, 1, 0, 0]], [[0, 1, 1, 1]])).item()
        0.4
    """
    return _ratio(2 * counts.common, counts.marked + counts.true)


def dice_from(iop: ArrayLike, fnr: ArrayLike) -> FloatArray:
    """DICE of masks whose IoP and FNR are known: the harmonic mean of IoP and 1 - FNR; 0 for an empty mask.

        2 |M and B| / (|M| + |B|)

    Args:
        iop: any shape; NaN for an empty mask.
        fnr: the same shape; NaN where there is no box, and so is the DICE.

    Example:
        >>> dice_from([0.5, float("nan"), 0.5], [1 / 3, 1.0, float("nan")]).round(3).tolist()
        [0.571, 0.0, nan]
    """
    met = 1 - np.asarray(fnr, dtype=np.float64)
    inside = np.where(np.isnan(iop) & ~np.isnan(met), 0.0, np.asarray(iop, dtype=np.float64))
    both = inside + met
    out = np.divide(2 * inside * met, both, out=np.zeros_like(both), where=both > 0)
    return np.asarray(np.where(np.isnan(both), np.nan, out))


def soft_dice(values: ArrayLike, truth: ArrayLike) -> float:
    """Overlap of a map of probabilities with a truth, without a threshold.

        DICE = 2 sum S G / (sum S^2 + sum G^2)          (Yao et al. 2018, section 4.2; Milletari et al. 2016)

    Of a map that is 0 or 1 it is ``dice``. Unlike that it also asks for height: a map that is p in the truth and 0
    elsewhere has 2 p / (p^2 + 1).

    Args:
        values: S (gh, gw) in [0, 1].
        truth: G (gh, gw) in [0, 1], or bool.

    Returns:
        A number in [0, 1]; NaN where both are 0 throughout.

    Raises:
        ValueError: shapes differ, or a cell is outside [0, 1] or NaN.

    Example:
        >>> soft_dice([[0.5, 0.5]], [[0.0, 1.0]])
        0.6666666666666666
    """
    found, box = np.asarray(values, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if found.ndim != 2 or found.shape != box.shape:
        raise ValueError(f"values and truth must be (gh, gw) alike; got {found.shape} and {box.shape}.")
    for name, grid in (("values", found), ("truth", box)):
        if not ((grid >= 0) & (grid <= 1)).all():
            raise ValueError(f"{name} must be in [0, 1]; got {grid.min()} to {grid.max()}. Give probabilities.")
    below = float(np.vdot(found, found) + np.vdot(box, box))
    return 2 * float(np.vdot(found, box)) / below if below else float("nan")


def mask_overlap(mask: ArrayLike, truth: ArrayLike) -> Overlap:
    """Cell counts of one mask (gh, gw) against a truth (gh, gw), both 0 or 1: each of shape ().

    Raises:
        ValueError: shapes differ, or a cell is neither 0 nor 1.

    Example:
        >>> [int(n) for n in mask_overlap([[1, 1, 0, 0]], [[0, 1, 1, 1]])]
        [1, 2, 3, 4]
    """
    found, box = np.asarray(mask), np.asarray(truth)
    if not (np.isin(found, (0, 1)).all() and np.isin(box, (0, 1)).all()):
        raise ValueError("mask and truth must be 0 or 1; got other values. Threshold the map first (overlap_above).")
    counts = overlap_above(found.astype(np.int8), box.astype(np.bool_), [0])
    return Overlap(counts.common[0], counts.marked[0], counts.true, counts.cells)


def _ratio(above: NDArray[np.int64], below: NDArray[np.int64]) -> FloatArray:
    top, bottom = np.broadcast_arrays(np.asarray(above, np.float64), np.asarray(below, np.float64))
    return np.asarray(np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom > 0))
