"""Boxes ranked over a data set by their scores: FROC and average precision, also under many weightings at once.

A weighting counts each patient's films some number of times; a bootstrap is a thousand weightings that share one
matching. Boxes of one score are taken in together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxrlocus.types import BoolArray, FloatArray

RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False positives a film at which FROC curves are read, as in LUNA16 (Setio et al. 2017)."""


def greedy_hits(score: ArrayLike, box: ArrayLike, truth: ArrayLike, overlap: ArrayLike, threshold: float) -> BoolArray:
    """Which of K boxes hit, when each true box may be hit once: (K,).

    Boxes choose in the order of their scores, best first: each takes the true box that it overlaps most among those
    that it overlaps by more than the threshold and that none has taken. (COCO's matching; boxes of one score choose in
    the order in which they stand.)

    Args:
        score: (K,).
        box: (Q,) positions of the boxes of Q pairs; pairs of a box and a true box of its film and finding.
        truth: (Q,) positions of their true boxes, below any number.
        overlap: (Q,).
        threshold: to be exceeded.

    Raises:
        ValueError: lengths differ, a position is out of range, or a score is NaN.

    Example:
        >>> greedy_hits([0.2, 0.9, 0.5], [0, 1, 2], [0, 0, 0], [0.9, 0.4, 0.8], 0.3).tolist()
        [False, True, False]
    """
    ranked, i, j, value = _scores(score), np.asarray(box), np.asarray(truth), np.asarray(overlap, dtype=np.float64)
    if not i.shape == j.shape == value.shape or i.ndim != 1:
        raise ValueError(f"box, truth and overlap must be (Q,) alike; got {i.shape}, {j.shape} and {value.shape}.")
    if i.size and not 0 <= i.min() <= i.max() < len(ranked):
        raise ValueError(f"box must be a position below {len(ranked)}; got {i.min()} to {i.max()}.")
    hit = np.zeros(len(ranked), dtype=np.bool_)
    close = np.flatnonzero(value > threshold)
    order = close[np.lexsort((-value[close], i[close], -ranked[i[close]]))] if close.size else close
    taken: set[int] = set()
    for k, m in zip(i[order].tolist(), j[order].tolist(), strict=True):
        if not hit[k] and m not in taken:
            hit[k] = True
            taken.add(m)
    return hit


def found_at(
    box: ArrayLike, truth: ArrayLike, overlap: ArrayLike, score: ArrayLike, n: int, threshold: float
) -> FloatArray:
    """The best score of the boxes that hit each of n true boxes, (n,): where a sweep finds it; -inf where none does.

    Args:
        box: (Q,) positions of the boxes of Q pairs.
        truth: (Q,) positions of their true boxes.
        overlap: (Q,).
        score: (K,).
        n: number of true boxes.
        threshold: to be exceeded.

    Raises:
        ValueError: a position is out of range, or a score is NaN.

    Example:
        >>> found_at([0, 1], [0, 0], [0.9, 0.4], [0.2, 0.9], 2, 0.5).tolist()
        [0.2, -inf]
    """
    ranked, i, j = _scores(score), np.asarray(box, dtype=np.int64), np.asarray(truth, dtype=np.int64)
    for name, place, size in (("box", i, len(ranked)), ("truth", j, n)):
        if place.size and not 0 <= place.min() <= place.max() < size:
            raise ValueError(f"{name} must be a position below {size}; got {place.min()} to {place.max()}.")
    best = np.full(n, -np.inf)
    close = np.asarray(overlap, dtype=np.float64) > threshold
    np.maximum.at(best, j[close], ranked[i[close]])
    return best


@dataclass(frozen=True)
class Ranking:
    """K boxes with scores on films of P patients, and how the patients are weighed.

    Args:
        score: (K,).
        unit: (K,) each box's patient.
        draws: (R, P), how often each patient is drawn in each of R weightings; not negative.

    Raises:
        ValueError: lengths differ, a score is NaN, or a patient has no weight.
    """

    score: FloatArray
    unit: NDArray[np.int64]
    draws: FloatArray

    def __post_init__(self) -> None:
        _scores(self.score)
        if self.draws.ndim != 2 or not (self.draws >= 0).all():
            raise ValueError(f"draws must be (R, P) and not negative; got shape {self.draws.shape}.")
        check_units(self.unit, len(self.score), self.draws.shape[1], "unit")

    def taken(self, score: FloatArray, unit: NDArray[np.int64], cuts: FloatArray) -> FloatArray:
        """The weight of things with a score and a patient (n,) that score at least each of V descending cuts: (R, V).

        Counted by patient first, then weighed: a thousand weightings cost one product of matrices.

        Example:
            >>> Ranking(np.array([0.9]), np.array([0]), np.array([[1.0, 2.0]])).taken(
            ...     np.array([0.9, 0.5]), np.array([0, 1]), np.array([0.8, 0.4])
            ... ).tolist()
            [[1.0, 3.0]]
        """
        place = np.searchsorted(-cuts, -score, side="left")
        counts = np.zeros((self.draws.shape[1], len(cuts)))
        inside = place < len(cuts)
        np.add.at(counts, (unit[inside], place[inside]), 1.0)
        return np.asarray(np.cumsum(self.draws @ counts, axis=1))


def check_units(unit: NDArray[np.int64], n: int, patients: int, name: str) -> None:
    """Check that each of n things has one of P patients.

    Raises:
        ValueError: lengths differ, or a patient is not below P.

    Example:
        >>> check_units(np.array([0, 1]), 2, 2, "unit")
    """
    if unit.shape != (n,) or (n and not 0 <= unit.min() <= unit.max() < patients):
        raise ValueError(f"{name} must give each of {n} one of {patients} patients; got shape {unit.shape}.")


def weighted_froc(
    ranking: Ranking,
    false: BoolArray,
    found: FloatArray,
    truth_unit: NDArray[np.int64],
    films: ArrayLike,
    rates: ArrayLike = RATES,
) -> FloatArray:
    """Sensitivity at given rates of false positives a film, under R weightings: (R, F).

    At a score s the curve has the point (false boxes of at least s / films, true boxes found at at least s / true
    boxes). It starts at (0, 0), points are joined by straight lines (a rate between two cuts is that of drawing
    between them at random), and beyond its last point it stays level. Of several points at one rate the highest counts.

    Args:
        ranking: the boxes and weightings.
        false: (K,) boxes that hit nothing. A second hit of a true box is neither false nor another hit.
        found: (M,) the score at which each true box is found, one of ``ranking.score``; -inf where it never is.
        truth_unit: (M,) each true box's patient.
        films: (P,) number of films of each patient.
        rates: (F,) false positives a film.

    Returns:
        The sensitivities; NaN where a weighting leaves no true box or no film.

    Raises:
        ValueError: lengths differ, or a patient has no weight.

    Example:
        >>> boxes = Ranking(np.array([0.9, 0.8, 0.7]), np.array([0, 1, 1]), np.ones((1, 2)))
        >>> curve = weighted_froc(boxes, np.array([False, True, False]), np.array([0.9, 0.7]), np.array([0, 1]), [1, 1])
        >>> curve[0, :4].tolist()
        [0.5, 0.5, 1.0, 1.0]
    """
    wasted, patients = np.asarray(false, dtype=np.bool_), np.asarray(films, dtype=np.float64)
    check_units(truth_unit, len(found), ranking.draws.shape[1], "truth_unit")
    if len(wasted) != len(ranking.score) or patients.shape != (ranking.draws.shape[1],):
        raise ValueError(f"false and films must be (K,) and (P,); got {wasted.shape} and {patients.shape}.")
    cuts = _corners(ranking.score, found)
    seen = found > -np.inf
    x = ranking.taken(ranking.score[wasted], ranking.unit[wasted], cuts)
    y = ranking.taken(found[seen], truth_unit[seen], cuts)
    every = np.bincount(truth_unit, minlength=len(patients)).astype(np.float64)
    # Each curve begins at (0, 0): nothing taken in, nothing found.
    x, y = (np.concatenate([np.zeros((len(part), 1)), part], axis=1) for part in (x, y))
    return _read(_divided(x, ranking.draws @ patients), _divided(y, ranking.draws @ every), np.asarray(rates))


def weighted_detection_ap(ranking: Ranking, hit: BoolArray, truths: ArrayLike) -> FloatArray:
    """Average precision of ranked boxes under R weightings: (R,).

        AP = sum over cuts k of (R_k - R_{k-1}) max over l >= k of P_l          (Everingham et al. 2010, VOC 2010)

    Args:
        ranking: the boxes and weightings.
        hit: (K,) boxes that hit a true box of their own (``greedy_hits``); all others are false.
        truths: (P,) number of true boxes of each patient.

    Returns:
        Areas in [0, 1]; NaN where a weighting leaves no true box.

    Raises:
        ValueError: lengths differ.

    Example:
        >>> boxes = Ranking(np.array([0.9, 0.8, 0.7]), np.array([0, 1, 1]), np.ones((1, 2)))
        >>> weighted_detection_ap(boxes, np.array([True, False, True]), [1, 1]).round(4).tolist()
        [0.8333]
    """
    right, counts = np.asarray(hit, dtype=np.bool_), np.asarray(truths, dtype=np.float64)
    if len(right) != len(ranking.score) or counts.shape != (ranking.draws.shape[1],):
        raise ValueError(f"hit and truths must be (K,) and (P,); got {right.shape} and {counts.shape}.")
    # Precision only falls between two hits, so cuts at hits alone have all of its maxima.
    cuts = np.unique(ranking.score[right])[::-1]
    kept = ranking.taken(ranking.score[right], ranking.unit[right], cuts)
    taken = ranking.taken(ranking.score, ranking.unit, cuts)
    precision = np.divide(kept, taken, out=np.zeros_like(kept), where=taken > 0)
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    gained = np.diff(kept, axis=1, prepend=0.0)
    return _divided((gained * envelope).sum(axis=1), ranking.draws @ counts)


def _corners(score: FloatArray, found: FloatArray) -> FloatArray:
    """The scores (V,), descending, at which a curve may turn: where something is found, just before, and the last."""
    levels = np.unique(score)[::-1]
    turns = np.searchsorted(-levels, -found[found > -np.inf])
    ends = [len(levels) - 1] if len(levels) else []
    kept = np.unique(np.concatenate([turns, np.maximum(turns - 1, 0), np.array(ends, dtype=np.int64)]))
    return np.asarray(levels[kept.astype(np.int64)])


def _scores(score: ArrayLike) -> FloatArray:
    given = np.asarray(score, dtype=np.float64)
    if given.ndim != 1 or np.isnan(given).any():
        raise ValueError(f"score must be (K,) numbers; got shape {given.shape}, {int(np.isnan(given).sum())} NaN.")
    return given


def _divided(above: FloatArray, below: FloatArray) -> FloatArray:
    by = below.reshape(-1, *(1,) * (above.ndim - 1))
    return np.asarray(np.divide(above, by, out=np.full_like(above, np.nan), where=by > 0))


def _read(x: FloatArray, y: FloatArray, rates: FloatArray) -> FloatArray:
    """Curves (R, 1 + V), x not descending, at F rates: (R, F)."""
    left = (x[:, :, None] <= rates).sum(axis=1) - 1
    right = np.minimum(left + 1, x.shape[1] - 1)
    (x0, x1), (y0, y1) = ([np.take_along_axis(part, at, axis=1) for at in (left, right)] for part in (x, y))
    share = np.divide(rates - x0, x1 - x0, out=np.zeros_like(x0), where=x1 > x0)
    # A weighting without films has no rate at all, whatever it found.
    return np.asarray(np.where(np.isnan(x[:, :1]), np.nan, y0 + share * (y1 - y0)))
