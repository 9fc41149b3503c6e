"""The protocol of Wang et al. 2017 (ChestX-ray8): accuracy and average false positives of boxes, and AUROC.

    Acc_c(T) = true boxes of c that some detected box of c on that film overlaps by more than T  /  true boxes of c
    AFP_c(T) = detected boxes of c that overlap no true box of c by more than T  /  true boxes of all findings

Overlap is IoU, or IoBB (intersection over the detected box). The reading, and what the paper leaves open, stands in
docs/protocols/wang2017.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxrlocus.data.records import Index
from cxrlocus.errors import PredictionsError
from cxrlocus.metrics.bootstrap import interval, nanmean, resampled_ratio
from cxrlocus.metrics.overlap import best, passes, same_key_pairs, tally
from cxrlocus.metrics.ranking import auroc, weighted_auroc
from cxrlocus.protocols.result import Result
from cxrlocus.protocols.shared import (
    FilmBoxes,
    RunLabel,
    detected_boxes,
    film_positions,
    patient_draws,
    true_boxes,
)
from cxrlocus.regions.boxes import paired_iobb, paired_iou
from cxrlocus.regions.detections import Detections
from cxrlocus.types import BoolArray, FloatArray

__all__ = ["IOBB", "IOU", "NAME", "RunLabel", "wang2017"]

NAME = "wang2017"

IOU = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
"""T of the paper's Table 7 (IoU)."""

IOBB = (0.1, 0.25, 0.5, 0.75, 0.9)
"""T of the paper's Table 4 (IoBB)."""


def wang2017(
    detections: Detections,
    index: Index,
    *,
    prob: NDArray[np.floating] | None = None,
    label: RunLabel,
    seed: int = 0,
    resamples: int = 1000,
) -> list[Result]:
    """Measure boxes, and probabilities if there are any, by the protocol of Wang et al. 2017.

    Args:
        detections: boxes in pixels of the original film; ``detections.images`` are the films that were looked at.
        index: the films to evaluate on, with their boxes and labels.
        prob: (N, C), aligned with ``detections.images`` and ``detections.findings``; None leaves AUROC out.
        label: what the rows call the run.
        seed: of the bootstrap.
        resamples: of the bootstrap, over patients; 0 leaves intervals out.

    Returns:
        Rows of the quantities ``accuracy_iou``, ``accuracy_iobb``, ``afp``, ``afp_iobb`` and ``afp_labelled`` for each
        finding that has boxes, and of ``auroc`` for each finding; then "mean" (of these findings), and for accuracies
        "pooled" (all boxes). Intervals hold 95 %.

    Raises:
        PredictionsError: a film stands twice in the detections, is not in the index, or ``prob`` has another shape.
        DataError: a true box is empty or not finite.
        ConfigError: ``seed`` or ``resamples`` is negative.

    Example:
        >>> from pathlib import Path
        >>> from cxrlocus.data.records import Record, TruthBox
        >>> from cxrlocus.types import Findings
        >>> truth = Record("a.png", Path("a.png"), "7", boxes=(TruthBox("Mass", (0.0, 0.0, 10.0, 10.0)),))
        >>> index = Index("toy", Path("."), Findings(("Mass",)), (truth,))
        >>> found = Detections(("a.png",), Findings(("Mass",)), [0], [0], [[0.0, 0.0, 10.0, 6.0]], [1.0])
        >>> rows = wang2017(found, index, label=RunLabel("hand", "", "toy"), resamples=0)
        >>> [(r.threshold, r.value) for r in rows if r.quantity == "accuracy_iou" and r.finding == "Mass"][4:6]
        [(0.5, 1.0), (0.6, 0.0)]
    """
    shape = (len(detections.images), len(detections.findings))
    if prob is not None and np.shape(prob) != shape:
        raise PredictionsError(f"prob must be (films, findings) = {shape}; got {np.shape(prob)}. Predict again.")
    rows = _boxes(_case(detections, index, label, seed, resamples), index)
    if prob is not None:
        rows += _auroc(detections, index, np.asarray(prob, dtype=np.float64), label, seed, resamples)
    return rows


@dataclass(frozen=True)
class _Case:
    """One evaluation on the boxed films of an index.

    Args:
        label: what the rows call the run.
        names: the F findings that have boxes and that the detections know of.
        strange: the findings that have boxes but that the detections do not know of.
        missing: number of boxed films that were not looked at.
        truth: the true boxes, all of them.
        detected: the detected boxes on boxed films.
        patient: position of each film's patient among the P that have boxes; -1 for films without.
        column: position of each finding among ``names``; -1 for the others.
        draws: (R, P), the bootstrap's.
    """

    label: RunLabel
    names: tuple[str, ...]
    strange: tuple[str, ...]
    missing: int
    truth: FilmBoxes
    detected: FilmBoxes
    patient: NDArray[np.int64]
    column: NDArray[np.int64]
    draws: FloatArray

    def by_patient(self, events: BoolArray, boxes: FilmBoxes) -> FloatArray:
        """Events (B, T) of boxes summed to (P, F, T); those of other findings are left out."""
        column = self.column[boxes.finding]
        kept = column >= 0
        shape = (self.draws.shape[1], len(self.names))
        return tally(events[kept], self.patient[boxes.film[kept]], column[kept], shape)


def _case(detections: Detections, index: Index, label: RunLabel, seed: int, resamples: int) -> _Case:
    truth, detected = true_boxes(index), detected_boxes(detections, index)
    films = np.unique(truth.film)
    # Patients are numbered by name, so that the draws do not depend on the order of the films.
    patients, numbers = np.unique([index.patients[i] for i in films.tolist()], return_inverse=True)
    patient = np.full(len(index), -1)
    patient[films] = numbers
    boxed = [index.findings.names[c] for c in np.unique(truth.finding).tolist()]
    names = tuple(name for name in boxed if name in detections.findings)
    column = np.array([names.index(f) if f in names else -1 for f in index.findings], dtype=np.int64)
    kept = patient[detected.film] >= 0
    return _Case(
        label,
        names,
        strange=tuple(name for name in boxed if name not in names),
        missing=len(np.setdiff1d(films, film_positions(detections, index))),
        truth=truth,
        detected=FilmBoxes(detected.film[kept], detected.finding[kept], detected.xyxy[kept]),
        patient=patient,
        column=column,
        draws=patient_draws(len(patients), resamples, seed),
    )


def _boxes(case: _Case, index: Index) -> list[Result]:
    hit, false = _judge(case, paired_iou, IOU)
    hit_iobb, false_iobb = _judge(case, paired_iobb, IOBB)
    labelled = index.target[case.detected.film, case.detected.finding] == 1
    return [
        *_accuracy(case, "accuracy_iou", IOU, hit),
        *_false_positives(case, "afp", IOU, false),
        *_false_positives(case, "afp_labelled", IOU, false & labelled[:, None]),
        *_accuracy(case, "accuracy_iobb", IOBB, hit_iobb),
        *_false_positives(case, "afp_iobb", IOBB, false_iobb),
    ]


def _judge(
    case: _Case, overlap: Callable[[ArrayLike, ArrayLike], FloatArray], thresholds: tuple[float, ...]
) -> tuple[BoolArray, BoolArray]:
    """Which true boxes are hit, (M, T), and which detected boxes hit nothing, (K, T)."""
    truth, detected, c = case.truth, case.detected, len(case.column)
    i, j = same_key_pairs(detected.film * c + detected.finding, truth.film * c + truth.finding)
    value = overlap(detected.xyxy[i], truth.xyxy[j])
    return passes(best(j, value, len(truth)), thresholds), ~passes(best(i, value, len(detected)), thresholds)


def _accuracy(case: _Case, quantity: str, thresholds: tuple[float, ...], hit: BoolArray) -> list[Result]:
    hits, boxes = case.by_patient(hit, case.truth), case.by_patient(np.ones_like(hit), case.truth)
    each, pooled = _measure(case, hits, boxes), _measure(case, hits.sum(axis=1), boxes.sum(axis=1))
    # One more row for the mean of findings and one for all boxes; the first sample is the value itself.
    samples = np.concatenate([each, nanmean(each, axis=1)[:, None], pooled[:, None]], axis=1)
    count = boxes[..., 0].sum(axis=0).astype(int).tolist()
    return _rows(case, quantity, thresholds, samples, [*count, sum(count), sum(count)])


def _false_positives(case: _Case, quantity: str, thresholds: tuple[float, ...], false: BoolArray) -> list[Result]:
    counts = case.by_patient(false, case.detected)
    every = np.bincount(case.patient[case.truth.film], minlength=case.draws.shape[1])
    each = _measure(case, counts, every[:, None, None])
    samples = np.concatenate([each, nanmean(each, axis=1)[:, None]], axis=1)
    return _rows(case, quantity, thresholds, samples, [len(case.truth)] * samples.shape[1])


def _measure(case: _Case, above: FloatArray, below: FloatArray | NDArray[np.int64]) -> FloatArray:
    """Ratios of sums over patients, (1 + R, ...): with everybody once, then resampled."""
    once = np.ones((1, case.draws.shape[1]))
    return resampled_ratio(above, below, np.concatenate([once, case.draws]))


def _rows(case: _Case, quantity: str, thresholds: tuple[float, ...], samples: FloatArray, n: list[int]) -> list[Result]:
    label, (lo, hi) = case.label, interval(samples[1:])
    missing = f"{case.missing} boxed films were not looked at" if case.missing else ""
    only = "only boxes on films whose label names the finding" if quantity == "afp_labelled" else ""
    mean = f"mean of the {len(case.names)} findings that have boxes"
    rows = []
    for i, finding in enumerate([*case.names, "mean", "pooled"][: len(n)]):
        note = _join(label.note, only, mean if finding == "mean" else "", missing)
        for k, t in enumerate(thresholds):
            rows.append(_row(label, finding, quantity, t, samples[0, i, k], lo[i, k], hi[i, k], n[i], note))
    unknown = _join(label.note, "not measured: the predictions do not know this finding")
    nan = float("nan")
    return rows + [_row(label, f, quantity, t, nan, nan, nan, 0, unknown) for f in case.strange for t in thresholds]


def _auroc(
    detections: Detections, index: Index, prob: FloatArray, label: RunLabel, seed: int, resamples: int
) -> list[Result]:
    films = film_positions(detections, index)
    patients, unit = np.unique([index.patients[i] for i in films.tolist()], return_inverse=True)
    draws = patient_draws(len(patients), resamples, seed)
    names = [f for f in index.findings if f in detections.findings]
    samples = np.full((1 + len(draws), len(names)), np.nan)
    rows = []
    for k, finding in enumerate(names):
        c = index.findings.index(finding)
        target, known = index.target[films, c], index.known[films, c]
        score = prob[:, detections.findings.index(finding)]
        samples[0, k] = auroc(target, score, known)
        samples[1:, k] = weighted_auroc(target, score, draws, unit, known)
        lo, hi = interval(samples[1:, k])
        note = _join(label.note, f"{int(target[known].sum())} positive films")
        rows.append(_row(label, finding, "auroc", float("nan"), samples[0, k], lo, hi, int(known.sum()), note))
    defined = ~np.isnan(samples[0])
    mean = nanmean(samples[:, defined], axis=1)
    lo, hi = interval(mean[1:])
    note = _join(label.note, f"mean of the {int(defined.sum())} findings with positive and negative films")
    return [*rows, _row(label, "mean", "auroc", float("nan"), mean[0], lo, hi, len(films), note)]


def _join(*parts: str) -> str:
    return "; ".join(part for part in parts if part)


def _row(
    label: RunLabel,
    finding: str,
    quantity: str,
    threshold: float,
    value: float,
    lo: float | FloatArray,
    hi: float | FloatArray,
    n: int,
    note: str,
) -> Result:
    return Result(
        NAME,
        label.method,
        label.variant,
        label.dataset,
        finding,
        quantity,
        float(threshold),
        label.policy,
        float(value),
        float(lo),
        float(hi),
        n,
        note=note,
    )
