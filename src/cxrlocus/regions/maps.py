"""A map on the film it belongs to: resampled through its frame, put on a scale from its least to its greatest value."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from cxrlocus.types import BoolArray

FloatMap = NDArray[np.float32]

FLAT = 1e-6
"""A range below this share of a map's greatest magnitude is none: interpolating a constant in float32 makes as much."""


def raster_shape(size: tuple[int, int], raster: int) -> tuple[int, int]:
    """Rows and columns (gh, gw) of a grid over a film of (width, height): the longest side has ``raster`` cells.

    Raises:
        ValueError: a side or ``raster`` is below 1.

    Example:
        >>> raster_shape((1024, 512), 128)
        (64, 128)
    """
    width, height = size
    if not (width >= 1 and height >= 1):
        raise ValueError(f"size must be a positive (width, height) in pixels; got {tuple(size)}.")
    if raster < 1:
        raise ValueError(f"raster must be at least 1 cell; got {raster}.")
    longest = max(width, height)
    return max(1, round(raster * height / longest)), max(1, round(raster * width / longest))


def to_film(
    values: NDArray[np.floating], frame: NDArray[np.float64], size: tuple[int, int], raster: int = 128
) -> tuple[FloatMap, BoolArray | None]:
    """Resample a map onto a grid that covers the film.

    Cell (i, j) of the grid is the map at the cell's centre ((j + .5) W/gw, (i + .5) H/gh), interpolated bilinearly
    between the centres of the map's own cells (``align_corners=False``) and continued unchanged beyond the outermost.

    Args:
        values: the map (h, w), raw.
        frame: (2, 3), the map's unit square to pixels of the film (``types.Frame.matrix``).
        size: (width, height) of the film in pixels.
        raster: cells along the film's longest side.

    Returns:
        The grid, float32 (gh, gw), and which of its cells lie within the map's square (None: all of them).

    Raises:
        ValueError: the map is not 2-D or empty, the frame is not an invertible 2x3, or size or raster is below 1.

    Example:
        >>> grid, inside = to_film(np.eye(2), np.array([[8.0, 0, 0], [0, 8.0, 0]]), (8, 8), raster=4)
        >>> grid[0].tolist(), inside
        ([1.0, 0.75, 0.25, 0.0], None)
    """
    grid = np.ascontiguousarray(values, dtype=np.float32)
    if grid.ndim != 2 or not grid.size:
        raise ValueError(f"a map must be (h, w) with at least one cell; got shape {grid.shape}.")
    gh, gw = raster_shape(size, raster)
    a, b, c, d, e, f = _rows(frame)
    if (a, b, c, d, e, f) == (size[0], 0.0, 0.0, 0.0, size[1], 0.0):
        whole = cv2.resize(grid, (gw, gh), interpolation=cv2.INTER_LINEAR)
        return np.asarray(whole, dtype=np.float32).reshape(gh, gw), None
    unit = _raster_to_unit((a, b, c, d, e, f), size, (gh, gw))
    cells = unit * np.array([[grid.shape[1]], [grid.shape[0]]]) - np.array([[0.0, 0.0, 0.5], [0.0, 0.0, 0.5]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(grid, cells, (gw, gh), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(warped, dtype=np.float32).reshape(gh, gw), _inside(unit, gh, gw)


def value_range(values: FloatMap, inside: BoolArray | None = None) -> tuple[float, float] | None:
    """Least and greatest value of a map within ``inside``; None where there is no range.

    There is none when the map is constant (up to float32 rounding), NaN throughout, or has no cell inside.

    Raises:
        ValueError: some cells are NaN or infinite and others are not.

    Example:
        >>> value_range(np.array([[0.0, 2.0]])), value_range(np.ones((2, 2)))
        ((0.0, 2.0), None)
    """
    cells = values if inside is None else values[inside]
    if not cells.size:
        return None
    lo, hi = float(cells.min()), float(cells.max())
    if not (np.isfinite(lo) and np.isfinite(hi)):
        if np.isnan(cells).all():
            return None
        broken = int((~np.isfinite(cells)).sum())
        raise ValueError(
            f"a map must be finite (or NaN throughout, for none); got {broken} of {cells.size} cells that are not."
        )
    return (lo, hi) if hi - lo > FLAT * max(abs(lo), abs(hi)) else None


def place_in_range(values: NDArray[np.floating], extent: tuple[float, float]) -> NDArray[np.float64]:
    """Where values of any shape lie in an extent of least and greatest, 0 and 1 at its ends.

        (v - min) / (max - min)

    Example:
        >>> place_in_range(np.array([-1.0, 0.0, 5.0]), (-1.0, 3.0)).tolist()
        [0.0, 0.25, 1.5]
    """
    low, high = extent
    return np.asarray((np.asarray(values, dtype=np.float64) - low) / (high - low))


def minmax(values: NDArray[np.floating]) -> FloatMap:
    """A map (h, w) from 0, its least value, to 1, its greatest (``place_in_range``); zeros where it has no range.

    Raises:
        ValueError: some cells are NaN or infinite and others are not.

    Example:
        >>> minmax(np.array([[-1.0, 0.0, 3.0]])).tolist(), minmax(np.full((1, 2), 7.0)).tolist()
        ([[0.0, 0.25, 1.0]], [[0.0, 0.0]])
    """
    given = np.asarray(values, dtype=np.float32)
    found = value_range(given)
    if found is None:
        return np.zeros_like(given)
    return np.asarray(place_in_range(given, found), dtype=np.float32)


def _rows(frame: NDArray[np.float64]) -> tuple[float, float, float, float, float, float]:
    matrix = np.asarray(frame, dtype=np.float64)
    if matrix.shape != (2, 3):
        raise ValueError(f"frame must be a 2x3 affine; got shape {matrix.shape}.")
    (a, b, c), (d, e, f) = matrix.tolist()
    determinant = a * e - b * d
    if not (np.isfinite(c) and np.isfinite(f) and np.isfinite(determinant) and abs(determinant) >= 1e-12):
        raise ValueError(f"frame must be a finite, invertible affine; got {matrix.tolist()}.")
    return a, b, c, d, e, f


def _raster_to_unit(
    frame: tuple[float, float, float, float, float, float], size: tuple[int, int], shape: tuple[int, int]
) -> NDArray[np.float64]:
    """The affine from (column, row) of a grid cell to the place of its centre in the map's unit square."""
    a, b, c, d, e, f = frame
    inverse = np.array([[e, -b, b * f - c * e], [-d, a, c * d - a * f]]) / (a * e - b * d)
    sx, sy = size[0] / shape[1], size[1] / shape[0]
    cell = np.array([[sx, 0.0, 0.5 * sx], [0.0, sy, 0.5 * sy], [0.0, 0.0, 1.0]])
    return np.asarray(inverse @ cell)


def _inside(unit: NDArray[np.float64], gh: int, gw: int) -> BoolArray | None:
    corners = unit @ np.array([[0.0, gw - 1.0, 0.0, gw - 1.0], [0.0, 0.0, gh - 1.0, gh - 1.0], [1.0, 1.0, 1.0, 1.0]])
    if ((corners >= 0.0) & (corners <= 1.0)).all():
        return None
    column, row = np.arange(gw), np.arange(gh)[:, None]
    u = unit[0, 0] * column + unit[0, 1] * row + unit[0, 2]
    v = unit[1, 0] * column + unit[1, 1] * row + unit[1, 2]
    return np.asarray((u >= 0.0) & (u <= 1.0) & (v >= 0.0) & (v <= 1.0))
