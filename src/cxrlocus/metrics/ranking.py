"""How well a score ranks positives above negatives: AUROC and average precision, also under many weightings at once.

A weighting counts each film some number of times; a bootstrap is a thousand weightings, and they share one sort.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxrlocus.types import BoolArray, FloatArray

CHUNK = 4_000_000
"""Weights held at a time (32 MB): more resamples than fit are taken in turn."""


def auroc(target: ArrayLike, score: ArrayLike, known: ArrayLike | None = None) -> float:
    """Area under the ROC curve: the chance that a positive scores above a negative, a tie counting half.

        AUROC = mean over pairs (p, n) of [s_p > s_n] + [s_p = s_n] / 2         (Mann and Whitney)

    Args:
        target: (N,), 0 or 1.
        score: (N,), any scale.
        known: (N,) bool, films to count; None counts all.

    Returns:
        The area in [0, 1]; NaN without a positive or without a negative.

    Raises:
        ValueError: shapes differ, a target is not 0 or 1, or a score is NaN.

    Example:
        >>> auroc([0, 0, 1, 1], [0.1, 0.4, 0.4, 0.8]), auroc([1, 1], [0.1, 0.2])
        (0.875, nan)
    """
    return _plain(_auroc_sums, target, score, known)


def average_precision(target: ArrayLike, score: ArrayLike, known: ArrayLike | None = None) -> float:
    """Area under the precision-recall curve as a sum of steps; films of one score are taken in together.

        AP = sum over thresholds k of (R_k - R_{k-1}) P_k

    Args:
        target: (N,), 0 or 1.
        score: (N,), any scale.
        known: (N,) bool, films to count; None counts all.

    Returns:
        The area in [0, 1]; NaN without a positive.

    Raises:
        ValueError: shapes differ, a target is not 0 or 1, or a score is NaN.

    Example:
        >>> round(average_precision([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]), 4)
        0.8333
    """
    return _plain(_precision_sums, target, score, known)


def weighted_auroc(
    target: ArrayLike, score: ArrayLike, weights: ArrayLike, unit: ArrayLike, known: ArrayLike | None = None
) -> FloatArray:
    """``auroc`` under R weightings: film i counts ``weights[r, unit[i]]`` times.

    Args:
        target: (N,), 0 or 1.
        score: (N,), any scale.
        weights: (R, P), not negative; how often each unit (patient) was drawn.
        unit: (N,), each film's column of ``weights``.
        known: (N,) bool, films to count; None counts all.

    Returns:
        (R,) areas; NaN where a weighting leaves no positive or no negative.

    Raises:
        ValueError: as ``auroc``, or weights are negative, or a unit has no column.

    Example:
        >>> weighted_auroc([0, 1, 1], [0.5, 0.9, 0.1], [[1, 1, 1], [1, 3, 1], [0, 1, 1]], [0, 1, 2]).tolist()
        [0.5, 0.75, nan]
    """
    return _weighted(_auroc_sums, target, score, weights, unit, known)


def weighted_average_precision(
    target: ArrayLike, score: ArrayLike, weights: ArrayLike, unit: ArrayLike, known: ArrayLike | None = None
) -> FloatArray:
    """``average_precision`` under R weightings: film i counts ``weights[r, unit[i]]`` times.

    Args:
        target: (N,), 0 or 1.
        score: (N,), any scale.
        weights: (R, P), not negative; how often each unit (patient) was drawn.
        unit: (N,), each film's column of ``weights``.
        known: (N,) bool, films to count; None counts all.

    Returns:
        (R,) areas; NaN where a weighting leaves no positive.

    Raises:
        ValueError: as ``average_precision``, or weights are negative, or a unit has no column.

    Example:
        >>> weighted_average_precision([0, 1], [0.9, 0.1], [[1, 1], [1, 3], [1, 0]], [0, 1]).tolist()
        [0.5, 0.75, nan]
    """
    return _weighted(_precision_sums, target, score, weights, unit, known)


# How films are weighed, given their places in the ascending order: (n,) -> (R, n).
Weigh = Callable[[NDArray[np.intp]], FloatArray]
# From targets and scores in ascending order of score, and the weighing, to (R,) areas.
Sums = Callable[[BoolArray, FloatArray, Weigh], FloatArray]


def _auroc_sums(positive: BoolArray, score: FloatArray, weigh: Weigh) -> FloatArray:
    ups, downs = np.flatnonzero(positive), np.flatnonzero(~positive)
    up, down = weigh(ups), weigh(downs)
    below = np.zeros((len(down), len(downs) + 1))
    np.cumsum(down, axis=1, out=below[:, 1:])
    left = np.searchsorted(score[downs], score[ups], side="left")
    right = np.searchsorted(score[downs], score[ups], side="right")
    wins = 0.5 * (np.einsum("rp,rp->r", up, below[:, left]) + np.einsum("rp,rp->r", up, below[:, right]))
    return _ratio(wins, up.sum(axis=1) * below[:, -1])


def _precision_sums(positive: BoolArray, score: FloatArray, weigh: Weigh) -> FloatArray:
    ups = np.flatnonzero(positive)
    up, everyone = weigh(ups), weigh(np.arange(len(score)))
    # Weight of all films, and of positives, that score at least as much as each positive does.
    least = np.searchsorted(score, score[ups], side="left")
    taken = np.cumsum(everyone[:, ::-1], axis=1)[:, ::-1][:, least]
    gained = np.cumsum(up[:, ::-1], axis=1)[:, ::-1][:, np.searchsorted(score[ups], score[ups], side="left")]
    steps = up * np.divide(gained, taken, out=np.zeros_like(taken), where=taken > 0)
    return _ratio(steps.sum(axis=1), up.sum(axis=1))


def _ratio(above: FloatArray, below: FloatArray) -> FloatArray:
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)


def _plain(sums: Sums, target: ArrayLike, score: ArrayLike, known: ArrayLike | None) -> float:
    positive, values, _ = _sorted(target, score, known)
    if not len(values):
        return math.nan
    return float(sums(positive, values, lambda films: np.ones((1, len(films))))[0])


def _weighted(
    sums: Sums, target: ArrayLike, score: ArrayLike, weights: ArrayLike, unit: ArrayLike, known: ArrayLike | None
) -> FloatArray:
    positive, values, order = _sorted(target, score, known)
    table, column = np.asarray(weights, dtype=np.float64), np.asarray(unit, dtype=np.intp)
    if table.ndim != 2 or not (table >= 0).all():
        raise ValueError(f"weights must be (R, P) and not negative; got shape {table.shape}.")
    if column.shape != np.shape(target) or (column.size and not 0 <= column.min() <= column.max() < table.shape[1]):
        raise ValueError(f"unit must give each film a column of weights, 0 to {table.shape[1] - 1}; got {column}.")
    column = column[order]
    step = max(1, CHUNK // max(1, len(values)))
    parts = []
    for start in range(0, len(table), step):
        rows = table[start : start + step]
        parts.append(sums(positive, values, partial(_columns, rows, column)))
    return np.concatenate([np.zeros(0), *parts]) if len(values) else np.full(len(table), np.nan)


def _columns(rows: FloatArray, column: NDArray[np.intp], films: NDArray[np.intp]) -> FloatArray:
    return np.asarray(rows[:, column[films]])


def _sorted(
    target: ArrayLike, score: ArrayLike, known: ArrayLike | None
) -> tuple[BoolArray, FloatArray, NDArray[np.intp]]:
    label, value = np.asarray(target), np.asarray(score, dtype=np.float64)
    counted = np.ones(label.shape, dtype=np.bool_) if known is None else np.asarray(known, dtype=np.bool_)
    if label.ndim != 1 or not label.shape == value.shape == counted.shape:
        raise ValueError(
            f"target, score and known must be (N,) alike; got {label.shape}, {value.shape} and {counted.shape}."
        )
    films = np.flatnonzero(counted)
    if not np.isin(label[films], (0, 1)).all():
        raise ValueError("target must be 0 or 1 wherever it is known; mark the others as unknown.")
    if np.isnan(value[films]).any():
        raise ValueError("score must be a number wherever the target is known; got NaN.")
    order = films[np.argsort(value[films], kind="stable")]
    return label[order] == 1, value[order], order
