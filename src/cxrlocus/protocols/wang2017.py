"""The protocol of Wang et al. 2017 (ChestX-ray8): accuracy and average false positives of boxes, and AUROC.

    Acc_c(T) = true boxes of c that some detected box of c on that film overlaps by more than T  /  true boxes of c
    AFP_c(T) = detected boxes of c that overlap no true box of c by more than T  /  true boxes of all findings

Overlap is IoU, or IoBB (intersection over the detected box). The reading, and what the paper leaves open, stands in
docs/protocols/wang2017.md.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cxrlocus.data.records import Index
from cxrlocus.protocols.hits import BoxCase, accuracy_rows, box_case, false_rows, judge
from cxrlocus.protocols.result import Result
from cxrlocus.protocols.shared import RunLabel, auroc_rows, check_prob
from cxrlocus.regions.boxes import paired_iobb, paired_iou
from cxrlocus.regions.detections import Detections

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
    check_prob(prob, detections)
    rows = _boxes(box_case(detections, index, label, seed, resamples), index)
    if prob is not None:
        rows += auroc_rows(NAME, detections, index, prob, label, seed, resamples)
    return rows


def _boxes(case: BoxCase, index: Index) -> list[Result]:
    hit, false = judge(case, paired_iou, IOU)
    hit_iobb, false_iobb = judge(case, paired_iobb, IOBB)
    labelled = index.target[case.detected.film, case.detected.finding] == 1
    # Average false positives are over all true boxes, of whatever finding.
    every = np.bincount(case.patient[case.truth.film], minlength=case.draws.shape[1])[:, None]
    only = "only boxes on films whose label names the finding"
    return [
        *accuracy_rows(NAME, case, "accuracy_iou", IOU, hit),
        *false_rows(NAME, case, "afp", IOU, false, every),
        *false_rows(NAME, case, "afp_labelled", IOU, false & labelled[:, None], every, note=only),
        *accuracy_rows(NAME, case, "accuracy_iobb", IOBB, hit_iobb),
        *false_rows(NAME, case, "afp_iobb", IOBB, false_iobb, every),
    ]
