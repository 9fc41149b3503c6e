"""Maps against boxes without choosing a threshold, or with all of them: MaxBoxAcc, PxAP and the pointing game."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxrlocus.types import FloatArray


def best_at_levels(level: ArrayLike, overlap: ArrayLike, levels: int) -> FloatArray:
    """The best overlap of each of m true boxes at each level: (m, levels); 0 where a level has no box.

    Compared with delta it is the hit of MaxBoxAcc at a level tau (Choe et al. 2020, section 3.3).

    Args:
        level: (K,) the level of each detected box, below ``levels``.
        overlap: (K, m), at least 0, of each detected box with each true one.
        levels: how many there are.

    Raises:
        ValueError: lengths differ, a level is out of range, or an overlap is negative or NaN.

    Example:
        >>> best_at_levels([0, 0, 2], [[0.2], [0.6], [0.1]], 3).tolist()
        [[0.6, 0.0, 0.1]]
    """
    at, value = np.asarray(level, dtype=np.int64), np.asarray(overlap, dtype=np.float64)
    if at.ndim != 1 or value.ndim != 2 or len(at) != len(value) or not (value >= 0).all():
        raise ValueError(f"level and overlap must be (K,) and (K, m), not negative; got {at.shape} and {value.shape}.")
    if at.size and not 0 <= at.min() <= at.max() < levels:
        raise ValueError(f"level must be below {levels}; got {at.min()} to {at.max()}.")
    found = np.zeros((levels, value.shape[1]))
    np.maximum.at(found, at, value)
    return np.ascontiguousarray(found.T)


def value_counts(values: ArrayLike, truth: ArrayLike, bins: int) -> NDArray[np.int64]:
    """How many cells of a map on a scale from 0 to 1 have which value, outside and inside a truth: (2, bins).

    Bin k holds the values from k / bins up to, not including, (k + 1) / bins; the last holds 1, too.

    Args:
        values: (gh, gw) in [0, 1].
        truth: (gh, gw) bool.
        bins: how many, at least 1.

    Returns:
        Counts, ascending in value; row 0 of cells that are not true, row 1 of those that are.

    Raises:
        ValueError: shapes differ, truth is not bool, a value is outside [0, 1] or NaN, or ``bins`` is below 1.

    Example:
        >>> value_counts([[0.0, 0.5, 1.0]], np.array([[False, True, True]]), 2).tolist()
        [[1, 0], [0, 2]]
    """
    grid, box = np.asarray(values, dtype=np.float64), np.asarray(truth)
    if grid.shape != box.shape or box.dtype != np.bool_ or bins < 1:
        raise ValueError(
            f"values and truth must be (gh, gw) and bool alike, bins at least 1; "
            f"got {grid.shape}, {box.dtype} {box.shape} and {bins}."
        )
    if not ((grid >= 0) & (grid <= 1)).all():
        raise ValueError(f"values must be in [0, 1]; got {grid.min()} to {grid.max()}. Put the map on a scale first.")
    place = np.minimum((grid * bins).astype(np.int64), bins - 1) + bins * box
    return np.bincount(place.ravel(), minlength=2 * bins).reshape(2, bins)


def pixel_average_precision(counts: ArrayLike) -> FloatArray:
    """PxAP: average precision of cells, from how many false and true ones have each of L ascending values.

        PxAP = sum over tau of P(tau) (R(tau) - R(tau+)),   tau+ the next value above

    P is the share of cells with a value of at least tau that are true, R the share of true cells that have such a
    value: Choe et al. 2020, section 3.3, with their thresholds at the L values. Cells of one value are taken together.

    Args:
        counts: (..., 2, L), not negative; row 0 false cells, row 1 true ones. Weighted counts need not be whole.

    Returns:
        (...) areas in [0, 1]; NaN without a true cell.

    Raises:
        ValueError: counts are not (..., 2, L) or negative.

    Example:
        >>> pixel_average_precision([[1, 1, 0], [0, 1, 1]]).round(4).tolist()
        0.8333
    """
    cells = np.asarray(counts, dtype=np.float64)
    if cells.ndim < 2 or cells.shape[-2] != 2 or not (cells >= 0).all():
        raise ValueError(f"counts must be (..., 2, L) and not negative; got shape {cells.shape}.")
    true = cells[..., 1, ::-1]
    taken = np.cumsum(cells[..., ::-1].sum(axis=-2), axis=-1)
    kept = np.cumsum(true, axis=-1)
    precision = np.divide(kept, taken, out=np.zeros_like(kept), where=taken > 0)
    area, total = (true * precision).sum(axis=-1), true.sum(axis=-1)
    return np.asarray(np.divide(area, total, out=np.full_like(area, np.nan), where=total > 0))


def pointing_share(points: ArrayLike, boxes: ArrayLike, tolerance: float = 0.0) -> float:
    """The share of a map's peaks that lie in a true box, or within ``tolerance`` of one.

    The pointing game (Zhang et al. 2016, excitation backprop, section 4.1: 15 pixels) asks one point a map. Where k
    cells share the greatest value, this is what one of them, drawn at random, scores in the mean.

    Args:
        points: (k, 2) x, y of the peaks, in pixels of the film.
        boxes: (m, 4) half-open xyxy, in pixels of the film.
        tolerance: in pixels of the film, at least 0; the distance to a box may be so much.

    Returns:
        A number in [0, 1]; NaN without a point.

    Raises:
        ValueError: shapes are others, or the tolerance is negative.

    Example:
        >>> pointing_share([[5.0, 5.0]], [[0, 0, 4, 8]]), pointing_share([[5.0, 5.0]], [[0, 0, 4, 8]], tolerance=1)
        (0.0, 1.0)
    """
    xy, truth = np.asarray(points, dtype=np.float64), np.asarray(boxes, dtype=np.float64)
    xy, truth = (a.reshape(0, n) if a.size == 0 else a for a, n in ((xy, 2), (truth, 4)))
    if xy.ndim != 2 or xy.shape[1] != 2 or truth.ndim != 2 or truth.shape[1] != 4 or not tolerance >= 0:
        raise ValueError(
            f"points and boxes must be (k, 2) and (m, 4), tolerance at least 0; "
            f"got {xy.shape}, {truth.shape} and {tolerance}."
        )
    if not len(xy):
        return float("nan")
    low, high = truth[None, :, :2], truth[None, :, 2:]
    at = xy[:, None]
    within = ((at >= low) & (at < high)).all(axis=-1)
    away = np.maximum(np.maximum(low - at, at - high), 0.0)
    near = (np.hypot(away[..., 0], away[..., 1]) <= tolerance) & (tolerance > 0)
    return float((within | near).any(axis=1).mean())
