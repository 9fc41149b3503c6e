"""True boxes hit and detected boxes wasted, patient by patient, as rows of accuracy and of average false positives.

What the protocols of boxes share: which boxes are compared and how overlaps are judged is a protocol's own business;
adding up by patient, resampling, means and what a row tells of what it leaves out is done here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxrlocus.data.records import Index
from cxrlocus.metrics.bootstrap import interval, nanmean, resampled_ratio
from cxrlocus.metrics.overlap import best, passes, same_key_pairs, tally
from cxrlocus.protocols.result import Result
from cxrlocus.protocols.shared import (
    FilmBoxes,
    RunLabel,
    detected_boxes,
    film_positions,
    joined,
    patient_draws,
    result_row,
    true_boxes,
)
from cxrlocus.regions.detections import Detections
from cxrlocus.types import BoolArray, FloatArray

Overlap = Callable[[ArrayLike, ArrayLike], FloatArray]
"""Overlap of row i of detected boxes with row i of true ones, e.g. ``regions.boxes.paired_iou``."""

UNKNOWN = "not measured: the predictions do not know this finding"


@dataclass(frozen=True)
class BoxCase:
    """One evaluation on the boxed films of an index.

    Args:
        label: what the rows call the run.
        names: the F findings that are measured.
        unmeasured: findings that have boxes but are not measured, each with why.
        missing: number of boxed films that were not looked at.
        truth: the M true boxes, all of them.
        detected: the K detected boxes on boxed films, in the order of the detections.
        patient: position of each film's patient among the P that have boxes; -1 for films without.
        column: position of each finding of the index among ``names``; -1 for the others.
        draws: (R, P), the bootstrap's.
    """

    label: RunLabel
    names: tuple[str, ...]
    unmeasured: tuple[tuple[str, str], ...]
    missing: int
    truth: FilmBoxes
    detected: FilmBoxes
    patient: NDArray[np.int64]
    column: NDArray[np.int64]
    draws: FloatArray

    def key(self, boxes: FilmBoxes) -> NDArray[np.int64]:
        """One number (B,) for each box's film and finding."""
        return boxes.film * len(self.column) + boxes.finding

    def by_patient(self, events: NDArray[np.bool_] | FloatArray, boxes: FilmBoxes) -> FloatArray:
        """Events (B, T) of boxes summed to (P, F, T); those of findings that are not measured are left out."""
        column = self.column[boxes.finding]
        kept = column >= 0
        shape = (self.draws.shape[1], len(self.names))
        return tally(events[kept], self.patient[boxes.film[kept]], column[kept], shape)

    def ratio(self, above: FloatArray, below: FloatArray | NDArray[np.int64]) -> FloatArray:
        """Ratios of sums over patients, (1 + R, ...): with everybody once, then resampled."""
        once = np.ones((1, self.draws.shape[1]))
        return resampled_ratio(above, below, np.concatenate([once, self.draws]))


def box_case(detections: Detections, index: Index, label: RunLabel, seed: int, resamples: int) -> BoxCase:
    """Set up an evaluation of detections on the boxed films of an index.

    Raises:
        PredictionsError: a film stands twice in the detections, or is not in the index.
        DataError: a true box is empty or not finite.
        ConfigError: ``seed`` or ``resamples`` is negative.
    """
    truth, detected = true_boxes(index), detected_boxes(detections, index)
    films = np.unique(truth.film)
    # Patients are numbered by name, so that the draws do not depend on the order of the films.
    patients, numbers = np.unique([index.patients[i] for i in films.tolist()], return_inverse=True)
    patient = np.full(len(index), -1)
    patient[films] = numbers
    boxed = [index.findings.names[c] for c in np.unique(truth.finding).tolist()]
    kept = patient[detected.film] >= 0
    case = BoxCase(
        label,
        tuple(boxed),
        unmeasured=(),
        missing=len(np.setdiff1d(films, film_positions(detections, index))),
        truth=truth,
        detected=FilmBoxes(detected.film[kept], detected.finding[kept], detected.xyxy[kept]),
        patient=patient,
        column=np.array([boxed.index(f) if f in boxed else -1 for f in index.findings], dtype=np.int64),
        draws=patient_draws(len(patients), resamples, seed),
    )
    return only_findings(case, detections.findings.names, UNKNOWN)


def only_findings(case: BoxCase, kept: Collection[str], why: str) -> BoxCase:
    """The same case with these of its findings alone; the others are listed as not measured, and why."""
    names = tuple(name for name in case.names if name in kept)
    place = np.array([names.index(name) if name in names else -1 for name in case.names], dtype=np.int64)
    column = np.where(case.column >= 0, place[case.column] if len(place) else -1, -1)
    others = tuple((name, why) for name in case.names if name not in kept)
    return replace(case, names=names, column=column, unmeasured=(*case.unmeasured, *others))


def overlaps(case: BoxCase, overlap: Overlap) -> tuple[NDArray[np.intp], NDArray[np.intp], FloatArray]:
    """Every pair of a detected and a true box of one film and finding: their positions (Q,) and overlap (Q,)."""
    i, j = same_key_pairs(case.key(case.detected), case.key(case.truth))
    return i, j, overlap(case.detected.xyxy[i], case.truth.xyxy[j])


def judge(case: BoxCase, overlap: Overlap, thresholds: Sequence[float]) -> tuple[BoolArray, BoolArray]:
    """Which true boxes are hit, (M, T), and which detected boxes hit nothing, (K, T); an overlap of T is no hit."""
    i, j, value = overlaps(case, overlap)
    hit = passes(best(j, value, len(case.truth)), thresholds)
    return hit, ~passes(best(i, value, len(case.detected)), thresholds)


def accuracy_rows(
    protocol: str,
    case: BoxCase,
    quantity: str,
    thresholds: Sequence[float],
    hit: BoolArray,
    *,
    note: str = "",
    detail: str = "",
) -> list[Result]:
    """Rows of true boxes hit (M, T) over true boxes: a finding each, their mean, and "pooled", all boxes together."""
    return mean_rows(protocol, case, quantity, thresholds, hit.astype(np.float64), case.truth, note=note, detail=detail)


def mean_rows(
    protocol: str,
    case: BoxCase,
    quantity: str,
    thresholds: Sequence[float],
    value: FloatArray,
    of: FilmBoxes,
    *,
    note: str = "",
    detail: str = "",
) -> list[Result]:
    """Rows of the mean value (B, T) of boxes, or of films and findings, ``of``; those that are NaN are left out.

    A finding each, the mean of the findings, and "pooled", the mean of all B together.
    """
    there = ~np.isnan(value)
    above, below = case.by_patient(np.where(there, value, 0.0), of), case.by_patient(there, of)
    each, pooled = case.ratio(above, below), case.ratio(above.sum(axis=1), below.sum(axis=1))
    # One more row for the mean of findings and one for all boxes; the first sample is the value itself.
    samples = np.concatenate([each, nanmean(each, axis=1)[:, None], pooled[:, None]], axis=1)
    count = below[..., 0].sum(axis=0).astype(int).tolist()
    n = [*count, sum(count), sum(count)]
    return box_rows(protocol, case, quantity, thresholds, samples, n, note=note, detail=detail)


def false_rows(
    protocol: str,
    case: BoxCase,
    quantity: str,
    thresholds: Sequence[float],
    false: BoolArray,
    below: FloatArray | NDArray[np.int64],
    *,
    note: str = "",
    detail: str = "",
) -> list[Result]:
    """Rows of wasted boxes (K, T) over ``below``, counts by patient (P, 1) for all findings or (P, F): and the mean."""
    each = case.ratio(case.by_patient(false, case.detected), below[..., None])
    samples = np.concatenate([each, nanmean(each, axis=1)[:, None]], axis=1)
    count = below.sum(axis=0).astype(int).tolist()
    n = count * (len(case.names) + 1) if below.shape[1] == 1 else [*count, sum(count)]
    return box_rows(protocol, case, quantity, thresholds, samples, n, note=note, detail=detail)


def box_rows(
    protocol: str,
    case: BoxCase,
    quantity: str,
    thresholds: Sequence[float],
    samples: FloatArray,
    n: Sequence[int],
    *,
    note: str = "",
    detail: str = "",
) -> list[Result]:
    """Rows of samples (1 + R, F + 1 or F + 2, T): findings, "mean", perhaps "pooled", and what is not measured."""
    label, (lo, hi) = case.label, interval(samples[1:])
    missing = f"{case.missing} boxed films were not looked at" if case.missing else ""
    mean = f"mean of the {len(case.names)} findings that have boxes"
    rows = []
    for i, finding in enumerate([*case.names, "mean", "pooled"][: len(n)]):
        told = joined(label.note, note, mean if finding == "mean" else "", missing)
        for k, t in enumerate(thresholds):
            values = (samples[0, i, k], lo[i, k], hi[i, k])
            rows.append(result_row(protocol, label, finding, quantity, values, n[i], told, threshold=t, detail=detail))
    none = (float("nan"),) * 3
    return rows + [
        result_row(protocol, label, f, quantity, none, 0, joined(label.note, why), threshold=t, detail=detail)
        for f, why in case.unmeasured
        for t in thresholds
    ]
