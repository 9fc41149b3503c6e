"""Arithmetic of boxes: half-open ``xyxy`` in pixels, so a box from 10 to 12 is two pixels wide (no +1 anywhere)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cxrlocus.types import FloatArray


def as_boxes(boxes: ArrayLike, name: str = "boxes") -> FloatArray:
    """Check boxes and return them as float64 (n, 4).

    Raises:
        ValueError: not (n, 4), not finite, or a box whose area is not positive.

    Example:
        >>> as_boxes([[0, 0, 2, 3]]).tolist()
        [[0.0, 0.0, 2.0, 3.0]]
    """
    checked = np.asarray(boxes, dtype=np.float64)
    if checked.size == 0:
        return checked.reshape(0, 4)
    if checked.ndim != 2 or checked.shape[1] != 4:
        raise ValueError(f"{name} must be (n, 4) xyxy; got shape {checked.shape}. Stack one box a row.")
    with np.errstate(over="ignore", invalid="ignore"):
        size = checked[:, 2:] - checked[:, :2]
        positive = (size > 0).all(axis=1) & (np.prod(size, axis=1) > 0) & np.isfinite(np.prod(size, axis=1))
    if not positive.all():
        raise ValueError(
            f"{name} must be finite with x1 > x0 and y1 > y0; got {checked[~positive][0].tolist()}. Leave it out."
        )
    return checked


def area(boxes: ArrayLike) -> FloatArray:
    """Areas (n,) of boxes (n, 4), in square pixels.

    Raises:
        ValueError: a box is empty or not finite.

    Example:
        >>> area([[10, 10, 12, 13]]).tolist()
        [6.0]
    """
    checked = as_boxes(boxes)
    return np.asarray((checked[:, 2] - checked[:, 0]) * (checked[:, 3] - checked[:, 1]))


def clip(boxes: ArrayLike, size: tuple[float, float]) -> FloatArray:
    """Boxes (n, 4) cut to a film of ``size`` = (width, height) pixels.

    A box wholly outside comes back empty (x1 = x0 or y1 = y0): the caller decides what becomes of it.

    Raises:
        ValueError: a box is empty or not finite, or the film has no size.

    Example:
        >>> clip([[-5, 10, 20, 200]], (100, 100)).tolist()
        [[0.0, 10.0, 20.0, 100.0]]
    """
    width, height = size
    if not (width > 0 and height > 0):
        raise ValueError(f"size must be a positive (width, height); got {size}.")
    return np.clip(as_boxes(boxes), 0.0, np.array([width, height, width, height], dtype=np.float64))


def iou(a: ArrayLike, b: ArrayLike) -> FloatArray:
    """Intersection over union, (n, m) in [0, 1], of every box of ``a`` (n, 4) with every box of ``b`` (m, 4).

        IoU = |A and B| / |A or B|

    Raises:
        ValueError: a box is empty or not finite.

    Example:
        >>> iou([[0, 0, 2, 2]], [[1, 0, 3, 2], [5, 5, 6, 6]]).round(4).tolist()
        [[0.3333, 0.0]]
    """
    rows, columns = as_boxes(a, "a"), as_boxes(b, "b")
    return _iou(rows[:, None], columns[None])


def iobb(detected: ArrayLike, truth: ArrayLike) -> FloatArray:
    """Intersection over the *detected* box, (n, m) in [0, 1], for detected boxes (n, 4) and true boxes (m, 4).

        IoBB = |D and T| / |D|          (Wang et al. 2017)

    A detected box of one pixel inside the truth scores 1. InfoMask's IoP is the same ratio on the pixels of a mask.

    Raises:
        ValueError: a box is empty or not finite.

    Example:
        >>> iobb([[0, 0, 2, 2]], [[1, 0, 30, 20]]).tolist()
        [[0.5]]
    """
    rows, columns = as_boxes(detected, "detected"), as_boxes(truth, "truth")
    return _iobb(rows[:, None], columns[None])


def paired_iou(a: ArrayLike, b: ArrayLike) -> FloatArray:
    """As ``iou``, but of row i of ``a`` with row i of ``b`` alone: (n,).

    Raises:
        ValueError: lengths differ, or a box is empty or not finite.

    Example:
        >>> paired_iou([[0, 0, 2, 2]], [[0, 0, 2, 1]]).tolist()
        [0.5]
    """
    return _iou(*_same_length(as_boxes(a, "a"), as_boxes(b, "b")))


def paired_iobb(detected: ArrayLike, truth: ArrayLike) -> FloatArray:
    """As ``iobb``, but of row i of ``detected`` with row i of ``truth`` alone: (n,).

    Raises:
        ValueError: lengths differ, or a box is empty or not finite.

    Example:
        >>> paired_iobb([[0, 0, 2, 1]], [[0, 0, 2, 2]]).tolist()
        [1.0]
    """
    return _iobb(*_same_length(as_boxes(detected, "detected"), as_boxes(truth, "truth")))


def _same_length(a: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray]:
    if len(a) != len(b):
        raise ValueError(f"pairs of boxes must be as many on both sides; got {len(a)} and {len(b)}.")
    return a, b


def _area(boxes: FloatArray) -> FloatArray:
    return np.asarray((boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1]))


def _intersection(a: FloatArray, b: FloatArray) -> FloatArray:
    size = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    return np.asarray(np.prod(np.maximum(size, 0.0), axis=-1))


def _iou(a: FloatArray, b: FloatArray) -> FloatArray:
    common = _intersection(a, b)
    # Halves keep the sum of two areas near the largest float from overflowing.
    return np.asarray(0.5 * common / (0.5 * _area(a) + 0.5 * (_area(b) - common)))


def _iobb(detected: FloatArray, truth: FloatArray) -> FloatArray:
    return np.asarray(_intersection(detected, truth) / _area(detected))
