"""What protocol modern takes from ranked boxes: FROC, average precision, films on which nothing is found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cxrlocus.data.records import Index
from cxrlocus.metrics.bootstrap import interval, nanmean
from cxrlocus.metrics.froc import RATES, Ranking, found_at, greedy_hits, weighted_detection_ap, weighted_froc
from cxrlocus.metrics.overlap import same_key_pairs
from cxrlocus.protocols.result import Result
from cxrlocus.protocols.shared import (
    FilmBoxes,
    Looked,
    RunLabel,
    detected_boxes,
    film_positions,
    joined,
    patient_draws,
    result_row,
    true_boxes,
)
from cxrlocus.regions.boxes import paired_iou
from cxrlocus.regions.detections import Detections
from cxrlocus.types import BoolArray, FloatArray

IOU = (0.3, 0.5)
"""T of FROC and of average precision."""

Films = Literal["boxed", "all"]
"""The films of FROC and of average precision: those with a box of any finding, or all that were looked at besides."""

NONE = (float("nan"),) * 3


def counted_films(found: Looked, index: Index, films: Films) -> BoolArray:
    """Which film counts for which finding, (len(index), findings of the index).

    One that has a true box of it does, and one whose label says that it is absent. A film that is labelled with it and
    has no box of it (boxes are not exhaustive), or of which the label says nothing, does not.

    Raises:
        PredictionsError: a film stands twice, or is not in the index.
    """
    boxed = np.zeros((len(index), len(index.findings)), dtype=np.bool_)
    truth = true_boxes(index)
    boxed[truth.film, truth.finding] = True
    chosen: BoolArray = np.asarray(boxed.any(axis=1))
    if films == "all":
        chosen[film_positions(found, index)] = True
    absent = index.known & (index.target == 0)
    return np.asarray(chosen[:, None] & (boxed | absent))


@dataclass(frozen=True)
class _Ranked:
    """The boxes of one finding on its counted films, and their pairs with its true boxes of the same film.

    ``score``, ``unit`` (K,); ``box``, ``truth``, ``overlap`` (Q,); ``truth_unit`` (M,); ``films`` (P,) by patient.
    """

    ranking: Ranking
    box: NDArray[np.intp]
    truth: NDArray[np.intp]
    overlap: FloatArray
    truth_unit: NDArray[np.int64]
    films: FloatArray


def ranked_rows(
    protocol: str,
    detections: Detections,
    index: Index,
    counted: BoolArray,
    label: RunLabel,
    *,
    seed: int,
    resamples: int,
    rates: Sequence[float] = RATES,
) -> list[Result]:
    """Rows of ``froc``, ``froc_sensitivity`` and ``average_precision`` of each finding with true boxes, and means.

    Args:
        protocol: the rows' protocol.
        detections: scored boxes.
        index: the films.
        counted: which film counts for which finding, see ``counted_films``.
        label: what the rows call the run.
        seed: of the bootstrap.
        resamples: of the bootstrap, over the patients of counted films.
        rates: false positives a film at which the curves are read.

    Raises:
        PredictionsError: a film stands twice, or is not in the index.
        ConfigError: ``seed`` or ``resamples`` is negative.
    """
    films = np.flatnonzero(counted.any(axis=1))
    patients, number = np.unique([index.patients[i] for i in films.tolist()], return_inverse=True)
    unit = np.full(len(index), -1)
    unit[films] = number
    once = np.ones((1, len(patients)))
    draws = np.concatenate([once, patient_draws(len(patients), resamples, seed)])
    detected, truth = detected_boxes(detections, index), true_boxes(index)
    known = [c for c in np.unique(truth.finding).tolist() if index.findings.names[c] in detections.findings]
    curves = np.full((len(draws), len(known), len(IOU), len(rates)), np.nan)
    areas = np.full((len(draws), len(known), len(IOU)), np.nan)
    for k, c in enumerate(known):
        one = _ranked(detected, detections.score[_kept(detections, index)], truth, c, counted[:, c], unit, draws)
        for t, threshold in enumerate(IOU):
            curves[:, k, t], areas[:, k, t] = _curve(one, threshold, rates), _area(one, threshold)
    return _rows(protocol, label, index, counted, known, (curves, areas), rates)


def found_nothing(
    detections: Detections, index: Index, film: NDArray[np.int64], finding: NDArray[np.int64]
) -> tuple[FloatArray, FloatArray]:
    """Whether (1 or 0) each of B pairs of film and finding (of the index) has no box, or none that meets a true one.

    Returns:
        (B,), no box at all; (B,), none that has anything in common with a true box of the finding.

    Raises:
        PredictionsError: a film stands twice, or is not in the index.
    """
    boxes, truth = detected_boxes(detections, index), true_boxes(index)
    there, meets = np.zeros((2, len(index), len(index.findings)), dtype=np.bool_)
    there[boxes.film, boxes.finding] = True
    keys = [part.film * len(index.findings) + part.finding for part in (boxes, truth)]
    i, j = same_key_pairs(*keys)
    close = i[paired_iou(boxes.xyxy[i], truth.xyxy[j]) > 0]
    meets[boxes.film[close], boxes.finding[close]] = True
    none, missed = (np.asarray(~which[film, finding], dtype=np.float64) for which in (there, meets))
    return none, missed


def _kept(detections: Detections, index: Index) -> BoolArray:
    """The boxes whose finding the index knows, as ``detected_boxes`` keeps them."""
    known = np.array([name in index.findings for name in detections.findings], dtype=np.bool_)
    return np.asarray(known[detections.finding])


def _ranked(
    detected: FilmBoxes,
    score: FloatArray,
    truth: FilmBoxes,
    c: int,
    counted: BoolArray,
    unit: NDArray[np.int64],
    draws: FloatArray,
) -> _Ranked:
    mine = (detected.finding == c) & counted[detected.film]
    own = truth.finding == c
    box, true = same_key_pairs(detected.film[mine], truth.film[own])
    overlap = paired_iou(detected.xyxy[mine][box], truth.xyxy[own][true])
    films = np.bincount(unit[np.flatnonzero(counted)], minlength=draws.shape[1]).astype(np.float64)
    ranking = Ranking(score[mine], unit[detected.film[mine]], draws)
    return _Ranked(ranking, box, true, overlap, unit[truth.film[own]], films)


def _curve(one: _Ranked, threshold: float, rates: Sequence[float]) -> FloatArray:
    false = np.ones(len(one.ranking.score), dtype=np.bool_)
    false[one.box[one.overlap > threshold]] = False
    found = found_at(one.box, one.truth, one.overlap, one.ranking.score, len(one.truth_unit), threshold)
    return weighted_froc(one.ranking, false, found, one.truth_unit, one.films, rates)


def _area(one: _Ranked, threshold: float) -> FloatArray:
    hit = greedy_hits(one.ranking.score, one.box, one.truth, one.overlap, threshold)
    return weighted_detection_ap(one.ranking, hit, np.bincount(one.truth_unit, minlength=one.ranking.draws.shape[1]))


def _rows(
    protocol: str,
    label: RunLabel,
    index: Index,
    counted: BoolArray,
    known: Sequence[int],
    measured: tuple[FloatArray, FloatArray],
    rates: Sequence[float],
) -> list[Result]:
    curves, areas = measured
    truth = true_boxes(index)
    boxes = np.bincount(truth.finding, minlength=len(index.findings))
    strange = [c for c in np.unique(truth.finding).tolist() if c not in known]
    each = [(index.findings.names[c], int(boxes[c]), _films_told(counted, c), k) for k, c in enumerate(known)]
    rows = []
    for quantity, detail, samples in [
        ("froc", "", curves.mean(axis=-1)),
        *(("froc_sensitivity", f"fp={rate:g}", curves[..., k]) for k, rate in enumerate(rates)),
        ("average_precision", "", areas),
    ]:
        for t, threshold in enumerate(IOU):
            at = samples[:, :, t]
            mean = nanmean(at, axis=1)[:, None]
            told = f"mean of the {len(known)} findings that have boxes"
            summary = ("mean", int(sum(boxes[c] for c in known)), told, len(known))
            for name, n, note, k in (*each, summary):
                values = np.concatenate([at, mean], axis=1)[:, k]
                cell = (values[0], *interval(values[1:]))
                told = joined(label.note, note)
                rows.append(
                    result_row(protocol, label, name, quantity, cell, n, told, threshold=threshold, detail=detail)
                )
            for c in strange:
                told = joined(label.note, "not measured: the predictions do not know this finding")
                name = index.findings.names[c]
                rows.append(
                    result_row(protocol, label, name, quantity, NONE, 0, told, threshold=threshold, detail=detail)
                )
    return rows


def _films_told(counted: BoolArray, c: int) -> str:
    looked = counted.any(axis=1)
    left = int((looked & ~counted[:, c]).sum())
    lost = f"{left} without a box of it whose label does not exclude it left out" if left else ""
    return joined(f"{int(counted[:, c].sum())} films", lost)
