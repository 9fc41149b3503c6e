"""The protocol of Kim et al. 2021 (disease masks): accuracy of boxes at three overlaps, and AUROC.

    Acc_c(T) = true boxes of c that the (or a) box of c on that film overlaps with IoU > T  /  true boxes of c

The paper does not say whether a finding has one box a film or several: both are measured, and the rows' ``detail``
says which. The reading, and what else the paper leaves open, stands in docs/protocols/kim2021.md.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cxrlocus.data.records import Index
from cxrlocus.prediction.store import Predictions
from cxrlocus.protocols.hits import accuracy_rows, box_case, judge
from cxrlocus.protocols.policies import WANG_LEVELS, boxes_by_policy
from cxrlocus.protocols.result import Result
from cxrlocus.protocols.shared import RunLabel, auroc_rows, boxed_pairs, check_prob, chosen_rows, joined, ranks
from cxrlocus.regions.boxes import paired_iou
from cxrlocus.regions.detections import Detections
from cxrlocus.regions.rules import PeakComponent, isolated_regions

NAME = "kim2021"

IOU = (0.3, 0.5, 0.7)
"""T of the paper's Tables 1 and 2."""

ONE, SEVERAL = "boxes=one", "boxes=several"
"""The two readings, as the rows' ``detail``."""

SHARE = 0.5
"""Height of the one box under the fixed policy, from the map's least value to its greatest; the paper prints none."""


def kim2021(
    found: Predictions | Detections,
    index: Index,
    *,
    prob: NDArray[np.floating] | None = None,
    label: RunLabel,
    seed: int = 0,
    resamples: int = 1000,
    sizes: NDArray[np.int64] | None = None,  # noqa: ARG001 (protocols that look at maps are all called alike)
    share: float = SHARE,
) -> list[Result]:
    """Measure maps, or boxes as they are given, by the protocol of Kim et al. 2021.

    Args:
        found: maps to be boxed under ``label.policy``, or boxes; ``found.images`` are the films that were looked at.
        index: the films to evaluate on, with their boxes and labels.
        prob: (N, C), aligned with ``found.images`` and ``found.findings``; None leaves AUROC out.
        label: what the rows call the run, and the policy of the height at which maps are boxed.
        seed: of the bootstrap and of the halves.
        resamples: of the bootstrap, over patients; 0 leaves intervals out.
        sizes: not needed.
        share: height of the one box under the fixed policy, in [0, 1).

    Returns:
        Rows of ``accuracy_iou`` at T = .3, .5 and .7 for each finding that has boxes, "mean" and "pooled", with
        ``detail`` "boxes=one" (around the peak; of given boxes the one with the best score) and "boxes=several" (each
        isolated region; all given boxes); rows of ``auroc`` for each finding. Intervals hold 95 %.

    Raises:
        PredictionsError: a film stands twice or is not in the index, or ``prob`` has another shape.
        DataError: a true box is empty or not finite, or "validation" of films of a single patient.
        ConfigError: ``seed`` or ``resamples`` is negative.
        ValueError: ``share`` is not in [0, 1), or a map is not finite.

    Example:
        >>> from pathlib import Path
        >>> from cxrlocus.data.records import Record, TruthBox
        >>> from cxrlocus.types import Findings
        >>> truth = Record("a.png", Path("a.png"), "7", boxes=(TruthBox("Mass", (0.0, 0.0, 8.0, 8.0)),))
        >>> index = Index("toy", Path("."), Findings(("Mass",)), (truth,))
        >>> boxes = [[0.0, 0.0, 8.0, 5.0], [0.0, 0.0, 8.0, 7.0]]
        >>> given = Detections(("a.png",), index.findings, [0, 0], [0, 0], boxes, [0.9, 0.1])
        >>> rows = kim2021(given, index, label=RunLabel("hand", "", "toy"), resamples=0)
        >>> [(r.detail, r.threshold, r.value) for r in rows if r.finding == "Mass" and r.threshold > 0.5]
        [('boxes=one', 0.7, 0.0), ('boxes=several', 0.7, 1.0)]
    """
    check_prob(prob, found)
    rows = []
    for detail in (ONE, SEVERAL):
        detections, note = _boxes(found, index, label, seed, share, detail)
        noted = replace(label, note=joined(label.note, note))
        case = box_case(detections, index, noted, seed, resamples)
        hit, _ = judge(case, paired_iou, IOU)
        rows += accuracy_rows(NAME, case, "accuracy_iou", IOU, hit, detail=detail)
    if prob is not None:
        rows += auroc_rows(NAME, found, index, prob, label, seed, resamples)
    return rows


def _boxes(
    found: Predictions | Detections, index: Index, label: RunLabel, seed: int, share: float, detail: str
) -> tuple[Detections, str]:
    """The boxes of one reading, and what a note says of them."""
    if isinstance(found, Detections):
        if detail == ONE:
            return chosen_rows(found, ranks(found) == 0), "of given boxes the one with the best score"
        return found, "all given boxes"
    fixed = (PeakComponent(share), f"height {share:g}") if detail == ONE else WANG_LEVELS
    gate = boxed_pairs(found, index)
    rule = PeakComponent if detail == ONE else isolated_regions
    return boxes_by_policy(found, index, label.policy, seed=seed, gate=gate, fixed=fixed, rule=rule)
