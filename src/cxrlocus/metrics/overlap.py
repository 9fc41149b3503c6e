"""Hits and misses of boxes: which detected box meets which true one, and how well at best.

A protocol asks "does any detected box of this film and finding overlap this true box by more than T?". The best overlap
of each true box, and of each detected one, answers that for every T at once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxrlocus.types import BoolArray, FloatArray


def same_key_pairs(a: ArrayLike, b: ArrayLike) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """All pairs (i, j) with ``a[i] == b[j]``, as two arrays of positions.

    Args:
        a: (K,) integer keys, e.g. film and finding of each detected box.
        b: (M,) integer keys, e.g. film and finding of each true box.

    Raises:
        ValueError: a or b is not (n,) integers.

    Example:
        >>> i, j = same_key_pairs([7, 5, 7], [7, 9])
        >>> i.tolist(), j.tolist()
        ([0, 2], [0, 0])
    """
    left, right = _keys(a, "a"), _keys(b, "b")
    order = np.argsort(left, kind="stable")
    first = np.searchsorted(left[order], right, side="left")
    count = np.searchsorted(left[order], right, side="right") - first
    j = np.repeat(np.arange(len(right)), count)
    within = np.arange(len(j)) - np.repeat(np.cumsum(count) - count, count)
    return order[first[j] + within], j


def best(position: ArrayLike, value: ArrayLike, n: int) -> FloatArray:
    """The greatest ``value`` of each of n boxes; 0 for a box that stands in no pair.

    Args:
        position: (Q,) the box that each pair is about, below n.
        value: (Q,) the pair's overlap, at least 0.
        n: number of boxes.

    Raises:
        ValueError: lengths differ, a position is out of range, or a value is negative or NaN.

    Example:
        >>> best([0, 0, 2], [0.2, 0.6, 0.1], 3).tolist()
        [0.6, 0.0, 0.1]
    """
    where, overlap = _keys(position, "position"), np.asarray(value, dtype=np.float64)
    if where.shape != overlap.shape or not (overlap >= 0).all():
        raise ValueError(f"value must be an overlap of at least 0 a pair; got {overlap.shape} for {where.shape} pairs.")
    if where.size and not 0 <= where.min() <= where.max() < n:
        raise ValueError(f"position must be below {n}; got {where.min()} to {where.max()}.")
    found = np.zeros(n)
    np.maximum.at(found, where, overlap)
    return found


def passes(overlap: ArrayLike, thresholds: ArrayLike) -> BoolArray:
    """Whether each of n overlaps exceeds each of T thresholds, strictly: (n, T).

    Example:
        >>> passes([0.5, 0.6], [0.5]).tolist()
        [[False], [True]]
    """
    return np.asarray(np.asarray(overlap)[:, None] > np.asarray(thresholds)[None])


def tally(events: ArrayLike, row: ArrayLike, column: ArrayLike, shape: tuple[int, int]) -> FloatArray:
    """Sum events (n, T) by row and column: (rows, columns, T), e.g. hits by patient and finding.

    Raises:
        ValueError: lengths differ, or a row or column is out of range.

    Example:
        >>> tally([[1], [1], [1]], row=[0, 0, 1], column=[1, 1, 0], shape=(2, 2)).tolist()
        [[[0.0], [2.0]], [[1.0], [0.0]]]
    """
    counts, rows, columns = np.asarray(events, dtype=np.float64), _keys(row, "row"), _keys(column, "column")
    if counts.ndim != 2 or not len(counts) == len(rows) == len(columns):
        raise ValueError(f"events must be (n, T) with a row and a column each; got {counts.shape}.")
    for name, key, n in (("row", rows, shape[0]), ("column", columns, shape[1])):
        if key.size and not 0 <= key.min() <= key.max() < n:
            raise ValueError(f"{name} must be below {n}; got {key.min()} to {key.max()}.")
    summed = np.zeros((*shape, counts.shape[1]))
    np.add.at(summed, (rows, columns), counts)
    return summed


def _keys(values: ArrayLike, name: str) -> NDArray[np.int64]:
    keys = np.asarray(values)
    if keys.ndim != 1 or (keys.size and not np.issubdtype(keys.dtype, np.integer)):
        raise ValueError(f"{name} must be (n,) integers; got {keys.dtype} of shape {keys.shape}.")
    return keys.astype(np.int64)
