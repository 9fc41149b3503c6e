"""Films on the page: which ones, and each as a picture with its map and boxes in the film's own pixels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from cxrlocus.data.records import Index, Record
from cxrlocus.prediction.store import Predictions
from cxrlocus.regions.boxes import iou
from cxrlocus.regions.detections import Detections
from cxrlocus.report.pictures import film_extent, film_picture, map_overlay
from cxrlocus.types import FloatArray


@dataclass(frozen=True)
class Case:
    """One film and one finding that it has true boxes for.

    Args:
        image, finding: names.
        truth: (m, 4) true boxes, pixels of the original film.
        predicted: (k, 4) found boxes, best score first.
        score: (k,) their scores.
        iou: greatest IoU of the best-scoring found box with a true one; NaN if no box was found.
        touches: whether any found box meets a true one at all.
    """

    image: str
    finding: str
    truth: FloatArray
    predicted: FloatArray
    score: FloatArray
    iou: float
    touches: bool


@dataclass(frozen=True)
class Tile:
    """A case as the page shows it.

    Args:
        case: the case.
        caption: why it is shown: "best", "median", "worst" or "nothing found".
        width, height: the original film's size, in pixels; the drawing's coordinates.
        film: the picture as a data URI, empty if it cannot be read.
        reason: why it cannot be read, else empty.
        overlay: the map as a data URI, empty if there is none.
        low, high: the map's least and greatest raw value on the film, NaN if there is none.
        prob: the film's probability, NaN if there is none.
    """

    case: Case
    caption: str
    width: float
    height: float
    film: str
    reason: str
    overlay: str
    low: float
    high: float
    prob: float


def cases(index: Index, detections: Detections) -> list[Case]:
    """Every (film, finding) with true boxes among the films that were looked at, in the index's order.

    Example:
        >>> from pathlib import Path
        >>> from cxrlocus.data.records import TruthBox
        >>> from cxrlocus.types import Findings
        >>> film = Record("a", Path("a"), "p", boxes=(TruthBox("Mass", (0.0, 0.0, 4.0, 4.0)),))
        >>> index = Index("d", Path("."), Findings(("Mass",)), (film,))
        >>> [case] = cases(index, Detections(("a",), index.findings, [0], [0], [[0.0, 0.0, 4.0, 2.0]], [0.5]))
        >>> case.iou, case.touches
        (0.5, True)
    """
    found = _by_case(detections)
    looked_at = set(detections.images)
    out = []
    for record in index.records:
        if record.image not in looked_at:
            continue
        for finding in index.findings:
            truth = np.array([box.xyxy for box in record.boxes if box.finding == finding], dtype=np.float64)
            if len(truth):
                rows = found.get((record.image, finding), [])
                out.append(_case(record.image, finding, truth, detections.xyxy[rows], detections.score[rows]))
    return out


def choose(all_cases: Sequence[Case], finding: str) -> list[tuple[str, Case]]:
    """The best, the median and the worst case of a finding by IoU, among those in which a box was found.

    Equal IoUs are ordered by film name, so the choice does not depend on the order of the index. With one or two
    cases there are no more to show: one is "best", the other "worst".
    """
    rated = sorted((c for c in all_cases if c.finding == finding and len(c.predicted)), key=lambda c: (-c.iou, c.image))
    if len(rated) < 3:
        return list(zip(("best", "worst"), rated, strict=False))
    return [("best", rated[0]), ("median", rated[(len(rated) - 1) // 2]), ("worst", rated[-1])]


def missed(all_cases: Iterable[Case]) -> list[Case]:
    """The cases in which nothing was found: no box at all, or none that meets a true one."""
    return [c for c in all_cases if not c.touches]


def spread(some: Sequence[Case], findings: Iterable[str], most: int) -> list[Case]:
    """At most ``most`` of the cases, one of each finding in turn, by film name; they come back finding by finding."""
    by_finding: dict[str, list[Case]] = {}
    for case in sorted(some, key=lambda c: c.image):
        by_finding.setdefault(case.finding, []).append(case)
    turns = max((len(group) for group in by_finding.values()), default=0)
    order = [f for f in findings if f in by_finding]
    picked = [by_finding[f][turn] for turn in range(turns) for f in order if turn < len(by_finding[f])]
    return sorted(picked[:most], key=lambda c: (order.index(c.finding), c.image))


def tile(case: Case, caption: str, record: Record, predictions: Predictions | None) -> Tile:
    """Draw a case; a film that cannot be read becomes a grey tile with the reason."""
    pixels, film, reason = film_picture(record)
    width, height = film_extent(record, predictions, pixels, np.concatenate([case.truth, case.predicted]))
    prob, overlay, low, high = float("nan"), "", float("nan"), float("nan")
    if predictions is not None and case.finding in predictions.findings and case.image in predictions.images:
        i, c = predictions.images.index(case.image), predictions.findings.index(case.finding)
        prob = float(predictions.prob[i, c])
        overlay, low, high = map_overlay(predictions.maps[i, c], predictions.frames[i], (round(width), round(height)))
    return Tile(case, caption, width, height, film, reason, overlay, low, high, prob)


def _by_case(detections: Detections) -> dict[tuple[str, str], list[int]]:
    names = detections.findings.names
    rows: dict[tuple[str, str], list[int]] = {}
    for k in np.argsort(-detections.score, kind="stable").tolist():
        rows.setdefault((detections.images[detections.image[k]], names[detections.finding[k]]), []).append(k)
    return rows


def _case(image: str, finding: str, truth: FloatArray, predicted: FloatArray, score: FloatArray) -> Case:
    if not len(predicted):
        return Case(image, finding, truth, predicted, score, float("nan"), touches=False)
    overlap = iou(predicted, truth)
    return Case(image, finding, truth, predicted, score, float(overlap[0].max()), touches=bool(overlap.max() > 0))
