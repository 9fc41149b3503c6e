"""Intervals by resampling patients: films of one patient are drawn together, since they err together.

The draws are an argument: (R, P), how often each of P patients is drawn in each of R resamples. Nothing here is random.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from cxrlocus.types import FloatArray


def resampled_ratio(numerator: ArrayLike, denominator: ArrayLike, draws: ArrayLike) -> FloatArray:
    """A ratio of sums in every resample: (R, ...).

        ratio_r = sum_p d_rp a_p / sum_p d_rp b_p

    Args:
        numerator: (P, ...) per patient, e.g. hits.
        denominator: (P, ...), of the numerator's shape or of one that broadcasts to it, e.g. boxes.
        draws: (R, P) counts.

    Returns:
        The ratios; NaN where a resample has a denominator of 0.

    Raises:
        ValueError: the three do not agree on P.

    Example:
        >>> resampled_ratio([1.0, 0.0], [1.0, 1.0], [[1, 1], [2, 0]]).tolist()
        [0.5, 1.0]
    """
    above, below, counts = (np.asarray(x, dtype=np.float64) for x in (numerator, denominator, draws))
    if counts.ndim != 2 or not above.ndim or not below.ndim or not len(above) == len(below) == counts.shape[1]:
        raise ValueError(
            f"numerator, denominator and draws must be (P, ...), (P, ...) and (R, P); "
            f"got {above.shape}, {below.shape} and {counts.shape}."
        )
    top, bottom = np.tensordot(counts, above, axes=1), np.tensordot(counts, below, axes=1)
    bottom = np.broadcast_to(bottom, top.shape)
    return np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom > 0)


def interval(samples: ArrayLike, level: float = 0.95) -> tuple[FloatArray, FloatArray]:
    """The middle ``level`` of R resampled values (R, ...), by percentiles: (lo, hi), each (...).

    Resamples in which a value is undefined are left out of its interval; without two that are defined it is NaN.

    Raises:
        ValueError: level is not in (0, 1).

    Example:
        >>> [round(float(x), 3) for x in interval(np.arange(1001) / 1000)]
        [0.025, 0.975]
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1; got {level}.")
    values = np.asarray(samples, dtype=np.float64)
    if not len(values):
        return np.full(values.shape[1:], np.nan), np.full(values.shape[1:], np.nan)
    columns = values.reshape(len(values), -1)
    defined = (~np.isnan(columns)).sum(axis=0) >= 2
    edges = np.full((2, columns.shape[1]), np.nan)
    if defined.any():
        edges[:, defined] = np.nanpercentile(columns[:, defined], [50 * (1 - level), 50 * (1 + level)], axis=0)
    lo, hi = edges.reshape(2, *values.shape[1:])
    return lo, hi


def nanmean(values: ArrayLike, axis: int) -> FloatArray:
    """Mean over ``axis`` of what is defined; NaN where nothing is.

    Example:
        >>> nanmean([[1.0, np.nan], [3.0, np.nan]], axis=0).tolist()
        [2.0, nan]
    """
    given = np.asarray(values, dtype=np.float64)
    count = np.asarray((~np.isnan(given)).sum(axis=axis))
    total = np.asarray(np.nansum(given, axis=axis))
    return np.asarray(np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0))


def share_beyond_zero(samples: ArrayLike) -> FloatArray:
    """The two-sided share of R resampled differences (R, ...) that lie on the other side of 0: (...) in [0, 1].

        min(1, 2 min(#(d <= 0), #(d >= 0)) / R)

    The bootstrap's achieved significance level: .05 where 0 is an end of the 95 % interval. A share of 0 says less than
    2 / R. Undefined resamples are left out; without two that are defined it is NaN.

    Example:
        >>> share_beyond_zero([-0.1, 0.2, 0.3, 0.4]).tolist(), share_beyond_zero([0.0, 0.0]).tolist()
        (0.5, 1.0)
    """
    values = np.asarray(samples, dtype=np.float64)
    count = (~np.isnan(values)).sum(axis=0)
    fewer = np.minimum((values <= 0).sum(axis=0), (values >= 0).sum(axis=0))
    share = np.divide(2.0 * fewer, count, out=np.full(count.shape, np.nan), where=count >= 2)
    return np.asarray(np.minimum(share, 1.0))
