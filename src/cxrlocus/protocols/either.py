"""Boxes by heights or by places, whichever serves a finding better on other patients.

A map that says where (masses, effusions) is best cut at a height; one that says little (of pneumothorax) is best led by
where other patients' boxes lie. For each half of the patients and each finding, the other half chooses: each of its
patients is boxed both ways by the others of that half, and the way that hits more true boxes is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from cxrlocus.data.records import Index
from cxrlocus.prediction.boxing import find_boxes
from cxrlocus.prediction.store import Predictions
from cxrlocus.protocols.places import boxes_by_guides, guide, known_boxes
from cxrlocus.protocols.policies import CHOOSING_IOU, HEIGHTS, choose, dealt, hits_by_film, pick
from cxrlocus.protocols.shared import boxed_films
from cxrlocus.regions.detections import Detections
from cxrlocus.regions.rules import PeakComponent
from cxrlocus.types import BoolArray, FloatArray


def boxes_by_either(
    predictions: Predictions,
    index: Index,
    *,
    seed: int = 0,
    gate: BoolArray | None = None,
    progress: Callable[[int], object] | None = None,
) -> tuple[Detections, str]:
    """The boxes of both ways, film by film and finding by finding from the chosen one, and a note of what was chosen.

    Args, raises: as ``places.boxes_by_places``.
    """
    by_height = [find_boxes(predictions, PeakComponent(height), progress, gate=gate) for height in HEIGHTS]
    hits = np.stack([hits_by_film(d, index, CHOOSING_IOU) for d in by_height])
    boxed = boxed_films(predictions.images, predictions.findings, index)
    by_heights = pick(by_height, choose(hits, boxed, predictions.images, index, "validation", seed).at)
    patients, fold = dealt(predictions.images, index, seed)
    guides = [guide(predictions, known_boxes(predictions, index, fold != half), patients) for half in (0, 1)]
    by_places = boxes_by_guides(predictions, guides, fold, gate=gate)
    takes_places = np.zeros((2, len(predictions.findings)), dtype=np.int64)
    for half, one in enumerate(guides):
        others = np.flatnonzero(fold != half)
        heights = left_out_hits(hits[:, others], [patients[i] for i in others.tolist()])
        for c, boxes in one.known.items():
            takes_places[half, c] = one.accuracy[c] > heights[c] / len(boxes.boxes)
    told = "; ".join(
        f"{name} {' '.join(sorted({('heights', 'places')[way] for way in takes_places[:, c]}))}"
        for c, name in enumerate(predictions.findings)
    )
    return pick([by_heights, by_places], takes_places[fold]), f"by the other half's boxes: {told}"


def left_out_hits(hits: NDArray[np.int64], patients: Sequence[str]) -> FloatArray:
    """True boxes hit (C,) when each patient's height is the one that serves the other patients best.

    Args:
        hits: (K, N, C) true boxes hit at each height.
        patients: of the N films.

    Example:
        >>> hits = np.array([[[1], [0], [1]], [[0], [1], [0]]])
        >>> left_out_hits(hits, ["a", "b", "c"]).tolist()  # the first height serves a and c, and would be b's
        [2.0]
    """
    total = np.zeros(hits.shape[2])
    owner = np.array(patients)
    for patient in np.unique(owner):
        own = owner == patient
        best = hits[:, ~own].sum(axis=1).argmax(axis=0)
        total += np.take_along_axis(hits[:, own].sum(axis=1), best[None], axis=0)[0]
    return total
