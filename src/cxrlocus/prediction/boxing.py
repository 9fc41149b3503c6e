"""Boxes of predicted maps, by one box rule."""

from __future__ import annotations

from collections.abc import Callable

from cxrlocus.prediction.store import Predictions
from cxrlocus.regions.detect import detect
from cxrlocus.regions.detections import Detections
from cxrlocus.regions.rules import BoxRule, PeakComponent
from cxrlocus.types import BoolArray


def find_boxes(
    predictions: Predictions,
    rule: BoxRule | None = None,
    progress: Callable[[int], object] | None = None,
    *,
    gate: BoolArray | None = None,
) -> Detections:
    """The boxes that a rule draws on predicted maps, in pixels of the original films.

    Args:
        predictions: N films x C findings.
        rule: what to draw on one map; by default PeakComponent(), a box at half the map's height.
        progress: called with the number of films done.
        gate: (N, C), where False no box is drawn; None draws all.

    Returns:
        Boxes on ``predictions.images``; scores are the rule's.
    """
    p = predictions
    return detect(
        rule or PeakComponent(), p.maps, p.frames, p.sizes, p.images, p.findings, gate=gate, progress=progress
    )
