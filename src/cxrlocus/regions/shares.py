"""Maps of different methods on one grid and one scale: where each cell stands among the cells of its own map."""

from __future__ import annotations

from typing import Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from cxrlocus.regions.maps import FloatMap, to_film, value_range
from cxrlocus.types import FloatArray

Scale = Literal["tail", "rank"]
"""What a cell becomes: the logarithm of the share of the film that is hotter, or its rank."""

SCALES: tuple[str, ...] = get_args(Scale)


def on_unit_square(values: NDArray[np.floating], frame: FloatArray, size: tuple[int, int], cells: int) -> FloatMap:
    """A map (h, w) on ``cells`` x ``cells`` cells of its film's unit square; NaN where the map does not reach.

    A map finer than the grid is averaged first; then ``regions.maps.to_film`` samples it through its frame, which may
    be turned.

    Args:
        values: the map, raw.
        frame: (2, 3), its unit square to pixels of the film.
        size: (width, height) of the film in pixels.
        cells: of the grid, a side.

    Raises:
        ValueError: as ``to_film``.

    Example:
        >>> left = np.array([[4.0, 0, 0], [0, 8.0, 0]])
        >>> on_unit_square(np.array([[1.0, 3.0]]), left, (8, 8), 4)[0].tolist()
        [1.0, 3.0, nan, nan]
    """
    grid: FloatMap = np.ascontiguousarray(values, dtype=np.float32)
    if grid.ndim == 2 and max(grid.shape) > cells:
        smaller = (min(grid.shape[1], cells), min(grid.shape[0], cells))
        grid = np.asarray(cv2.resize(grid, smaller, interpolation=cv2.INTER_AREA), dtype=np.float32).reshape(
            smaller[::-1]
        )
    # Divided first, so that a map of the whole film is seen to be one.
    unit = np.asarray(frame, dtype=np.float64) / np.array([[size[0]], [size[1]]]) * cells
    there, inside = to_film(grid, unit, (cells, cells), cells)
    return there if inside is None else np.where(inside, there, np.float32(np.nan))


def share_scale(grid: FloatMap, scale: Scale = "tail") -> FloatMap:
    """A map's cells as where they stand among the map's own cells on the film, in [0, 1]; NaN stays NaN.

        u = (r - 1/2) / n,   r the rank among the n cells that are not NaN, from 1, ties averaged

        rank:  u
        tail:  -log(1 - u) / log(2 N),   N all cells of the grid

    ``1 - u`` is the share of the film that is at least as hot. On the rank scale half the film lies above one half, and
    a nodule between .995 and 1; the tail scale gives each halving of the area the same room (on 64 x 64 cells .1 is
    41 % of the film, .5 is 1.1 %, .9 one cell in 3300). Its mean over maps is Fisher's (1932) way to combine shares.

    Args:
        grid: (h, w), any unit, NaN where there is no map.
        scale: "tail" or "rank".

    Returns:
        The same shape; a map without a range is one tie, u = 1/2 throughout.

    Raises:
        ValueError: the scale is unknown, or a cell is infinite.

    Example:
        >>> share_scale(np.array([[-7.0, 3.0], [3.0, 900.0]]), "rank").tolist()
        [[0.125, 0.5], [0.5, 0.875]]
        >>> share_scale(np.array([[-7.0, 3.0], [3.0, 900.0]])).astype(float).round(3).tolist()
        [[0.064, 0.333], [0.333, 1.0]]
    """
    if scale not in SCALES:
        raise ValueError(f"scale must be one of {', '.join(SCALES)}; got {scale!r}.")
    there = ~np.isnan(grid)
    cells = np.asarray(grid[there], dtype=np.float32)
    if not cells.size:
        return np.full(grid.shape, np.nan, np.float32)
    if value_range(cells) is None:
        cells = np.zeros_like(cells)
    _, place, count = np.unique(cells, return_inverse=True, return_counts=True)
    # The mean rank of a tie, less one half: cells below it, and half of its own.
    share = ((np.cumsum(count) - 0.5 * count) / cells.size)[place]
    values = share if scale == "rank" else -np.log1p(-share) / np.log(2 * grid.size)
    scaled = np.full(grid.shape, np.nan, np.float32)
    scaled[there] = values
    return scaled


def weighted_mean(maps: NDArray[np.floating], weights: FloatArray) -> FloatMap:
    """Mean (h, w) of K maps (K, h, w) over those that reach a cell (are not NaN there) and weigh something.

        sum_k w_k m_k / sum_k w_k

    Returns:
        0, the least there is, in a cell that no map reaches; NaN throughout where no map reaches any.

    Raises:
        ValueError: weights are not K numbers that are finite and not negative.

    Example:
        >>> two = np.array([[[0.0, 1.0, np.nan]], [[1.0, np.nan, np.nan]]])
        >>> weighted_mean(two, np.array([3.0, 1.0])).tolist()
        [[0.25, 1.0, 0.0]]
    """
    each = np.asarray(weights, dtype=np.float64)
    if each.shape != maps.shape[:1] or not (np.isfinite(each) & (each >= 0)).all():
        raise ValueError(f"weights must be {len(maps)} finite numbers of at least 0; got {each.tolist()}.")
    there = ~np.isnan(maps)
    below = np.tensordot(each, there, axes=1)
    above = np.tensordot(each, np.where(there, maps, 0.0), axes=1)
    if not below.any():
        return np.full(maps.shape[1:], np.nan, np.float32)
    return np.asarray(np.divide(above, below, out=np.zeros_like(above), where=below > 0), dtype=np.float32)
