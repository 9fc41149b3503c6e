"""The protocol of Cai et al. 2018 (attention mining): boxes read in order until a bound of false positives is reached.

A map gives up to three boxes, ranked by the mean heat inside. Those of a finding on the films that have a true box of
it make one list: every film's first box, film after film, then every second, then every third. For a T it is read from
the top, and reading stops before the false positives would exceed what Wang et al. report for that finding and T:

    Acc_c(T) = true boxes of c that some box read overlaps with IoU > T  /  true boxes of c
    AFP_c(T) = boxes read that overlap no true box of c with IoU > T  /  films with a true box of c

and the same with the whole list read. The rows' ``detail`` says which: "capped=true", "capped=false". The reading, and
what the paper leaves open, stands in docs/protocols/cai2018.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cxrlocus.data.records import Index
from cxrlocus.errors import ConfigError
from cxrlocus.metrics.overlap import best
from cxrlocus.prediction.boxing import find_boxes
from cxrlocus.prediction.store import Predictions
from cxrlocus.protocols.hits import BoxCase, accuracy_rows, box_case, false_rows, only_findings, overlaps
from cxrlocus.protocols.policies import CHOOSING_IOU, HEIGHTS, choose, heights_told
from cxrlocus.protocols.result import Result
from cxrlocus.protocols.shared import (
    RunLabel,
    auroc_rows,
    boxed_pairs,
    check_prob,
    chosen_rows,
    film_positions,
    joined,
    ranks,
)
from cxrlocus.regions.boxes import paired_iou
from cxrlocus.regions.detections import Detections
from cxrlocus.regions.rules import PeakComponent, SeveralThresholds
from cxrlocus.types import BoolArray, FloatArray

NAME = "cai2018"

IOU = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
"""T of the paper's Table 2; Tables 1 and 3 have .1 and .3 alone."""

BOXES = 3
"""Boxes a film and finding."""

CAPPED, WHOLE = "capped=true", "capped=false"
"""Reading up to the bound, and to the end, as the rows' ``detail``."""

FIXED: tuple[float, ...] = SeveralThresholds().levels
"""The three heights of the fixed policy, from a map's least value to its greatest; the paper prints none."""

TRIPLES = (FIXED, *(three for three in combinations(HEIGHTS, BOXES) if three != FIXED))
"""What the other policies choose from; of equals the first."""

WANG_AFP: dict[str, tuple[float, ...]] = {
    "Atelectasis": (0.89, 0.98, 1.04, 1.08, 1.09, 1.09, 1.10),
    "Cardiomegaly": (0.59, 0.72, 0.78, 0.81, 0.84, 0.85, 0.86),
    "Effusion": (0.83, 0.91, 0.95, 0.97, 0.99, 1.00, 1.01),
    "Infiltration": (0.62, 0.68, 0.72, 0.75, 0.76, 0.76, 0.77),
    "Mass": (0.67, 0.69, 0.71, 0.72, 0.72, 0.72, 0.72),
    "Nodule": (0.61, 0.62, 0.62, 0.62, 0.62, 0.62, 0.62),
    "Pneumonia": (1.02, 1.08, 1.11, 1.12, 1.13, 1.13, 1.13),
    "Pneumothorax": (0.49, 0.52, 0.53, 0.54, 0.55, 0.55, 0.55),
}
"""Wang et al.'s average false positives at each T of ``IOU``, as Cai et al. print them (Table 2, "ref.") but for one
number: Atelectasis at .3 is printed as 1.40 between .98 and 1.08, which can only be 1.04 with its digits exchanged."""

PRINTED_AFP: dict[str, tuple[float, ...]] = {
    **WANG_AFP,
    "Atelectasis": (0.89, 0.98, 1.40, 1.08, 1.09, 1.09, 1.10),
}
"""The same with 1.40 as printed, under which Cai et al. seem to have read: their own AFP in that cell is 1.38."""

Bounds = Literal["wang", "printed"]
"""Which of the two tables bounds the reading."""

BOUNDS: dict[Bounds, Mapping[str, tuple[float, ...]]] = {"wang": WANG_AFP, "printed": PRINTED_AFP}


def cai2018(
    found: Predictions | Detections,
    index: Index,
    *,
    prob: NDArray[np.floating] | None = None,
    label: RunLabel,
    seed: int = 0,
    resamples: int = 1000,
    sizes: NDArray[np.int64] | None = None,  # noqa: ARG001 (protocols that look at maps are all called alike)
    bounds: Bounds = "wang",
) -> list[Result]:
    """Measure maps, or boxes as they are given, by the protocol of Cai et al. 2018.

    Args:
        found: maps to be boxed at three heights under ``label.policy``, or boxes, of which each film's three with the
            best scores are taken; ``found.images`` are the films that were looked at.
        index: the films to evaluate on, with their boxes and labels; the list follows their order.
        prob: (N, C), aligned with ``found.images`` and ``found.findings``; None leaves AUROC out.
        label: what the rows call the run, and the policy of the heights.
        seed: of the bootstrap and of the halves.
        resamples: of the bootstrap, over patients; 0 leaves intervals out. What was read stays as it is in each.
        sizes: not needed.
        bounds: of the reading, "wang" or as "printed" (they differ in Atelectasis at .3).

    Returns:
        Rows of ``accuracy_iou`` and ``afp`` with ``detail`` "capped=true" and "capped=false" for each finding that has
        boxes and their "mean", of accuracies also "pooled"; rows of ``auroc`` for each finding. A finding that Wang et
        al. do not report has no bound: its capped rows are NaN. Intervals hold 95 %.

    Raises:
        PredictionsError: a film stands twice or is not in the index, or ``prob`` has another shape.
        DataError: a true box is empty or not finite, or "validation" of films of a single patient.
        ConfigError: ``bounds`` is unknown, or ``seed`` or ``resamples`` is negative.
        ValueError: a map is not finite.

    Example:
        >>> from pathlib import Path
        >>> from cxrlocus.data.records import Record, TruthBox
        >>> from cxrlocus.types import Findings
        >>> truth = Record("a.png", Path("a.png"), "7", boxes=(TruthBox("Mass", (0.0, 0.0, 8.0, 8.0)),))
        >>> index = Index("toy", Path("."), Findings(("Mass",)), (truth,))
        >>> boxes = [[20.0, 0.0, 28.0, 8.0], [0.0, 0.0, 8.0, 7.0]]
        >>> given = Detections(("a.png",), index.findings, [0, 0], [0, 0], boxes, [0.9, 0.1])
        >>> rows = cai2018(given, index, label=RunLabel("hand", "", "toy"), resamples=0)
        >>> [(r.quantity, r.detail, r.value) for r in rows if r.finding == "Mass" and r.threshold == 0.1]
        ... # doctest: +NORMALIZE_WHITESPACE
        [('accuracy_iou', 'capped=true', 0.0), ('afp', 'capped=true', 0.0),
         ('accuracy_iou', 'capped=false', 1.0), ('afp', 'capped=false', 1.0)]
    """
    check_prob(prob, found)
    if bounds not in BOUNDS:
        raise ConfigError(f"bounds must be one of {', '.join(get_args(Bounds))}; got {bounds!r}.")
    boxes, note = _boxes(found, index, label, seed)
    case = box_case(aggregated(boxes, index), index, replace(label, note=joined(label.note, note)), seed, resamples)
    rows = [*_rows(case, BOUNDS[bounds]), *_rows(case, None)]
    if prob is not None:
        rows += auroc_rows(NAME, found, index, prob, label, seed, resamples)
    return rows


def aggregated(boxes: Detections, index: Index) -> Detections:
    """The boxes on their finding's own boxed films in the order in which they are read.

    By rank (``shared.ranks``), within a rank by the film's place in the index. Findings are mixed; each one's boxes
    taken by themselves are its list.

    Raises:
        PredictionsError: a film stands twice, or is not in the index.

    Example:
        >>> from pathlib import Path
        >>> from cxrlocus.data.records import Record, TruthBox
        >>> from cxrlocus.types import Findings
        >>> mass = (TruthBox("Mass", (0.0, 0.0, 8.0, 8.0)),)
        >>> films = tuple(Record(name, Path(name), name, boxes=mass) for name in "ab")
        >>> index = Index("toy", Path("."), Findings(("Mass",)), films)
        >>> found = Detections(("b", "a"), index.findings, [0, 0, 1], [0, 0, 0], [[0, 0, 9, 9]] * 3, [0.5, 0.7, 0.2])
        >>> aggregated(found, index).score.tolist()
        [0.2, 0.7, 0.5]
    """
    own = chosen_rows(boxes, boxed_pairs(boxes, index)[boxes.image, boxes.finding])
    film = film_positions(own, index)[own.image]
    return chosen_rows(own, np.lexsort((film, ranks(own))))


def _boxes(found: Predictions | Detections, index: Index, label: RunLabel, seed: int) -> tuple[Detections, str]:
    if isinstance(found, Detections):
        kept = ranks(found) < BOXES
        left = int((~kept).sum())
        return chosen_rows(found, kept), f"{left} given boxes beyond a film's {BOXES} best left out" if left else ""
    gate = boxed_pairs(found, index)
    triples = (FIXED,) if label.policy == "fixed" else TRIPLES
    heights = sorted({height for three in triples for height in three})
    at_height = [find_boxes(found, PeakComponent(h, mean_of="box"), gate=gate) for h in heights]
    member = np.array([[height in three for height in heights] for three in triples])
    if label.policy == "fixed":
        chosen, note = np.zeros(gate.shape, dtype=np.int64), "heights " + " ".join(f"{h:g}" for h in FIXED)
    else:
        hits = _hits(at_height, member, index, found)
        choice = choose(hits, gate, found.images, index, label.policy, seed)
        names = [", ".join(f"{h:g}" for h in three) for three in triples]
        chosen, note = choice.at, heights_told(choice, names, found.findings, label.policy)
    return _merged(at_height, member, chosen), note


def _hits(at_height: list[Detections], member: BoolArray, index: Index, found: Predictions) -> NDArray[np.int64]:
    """True boxes of each film and finding (K, N, C) that some box at the heights of each triple (K, H) overlaps."""
    label = RunLabel("", "", "")
    cases = [box_case(boxes, index, label, 0, 0) for boxes in at_height]
    truth = cases[0].truth
    hit = np.stack([_best(case) > CHOOSING_IOU for case in cases])
    place = np.full(len(index), -1)
    place[film_positions(found, index)] = np.arange(len(found.images))
    known = [found.findings.index(f) if f in found.findings else -1 for f in index.findings]
    row, column = place[truth.film], np.array(known, dtype=np.int64)[truth.finding]
    there = (row >= 0) & (column >= 0)
    hits = np.zeros((len(member), len(found.images), len(found.findings)), dtype=np.int64)
    for k, three in enumerate(member):
        np.add.at(hits[k], (row[there], column[there]), hit[three].any(axis=0)[there])
    return hits


def _best(case: BoxCase) -> FloatArray:
    _, j, value = overlaps(case, paired_iou)
    return best(j, value, len(case.truth))


def _merged(at_height: list[Detections], member: BoolArray, chosen: NDArray[np.int64]) -> Detections:
    """The boxes at the three heights chosen for each film and finding; a box that two heights share stands once."""
    kept = [
        chosen_rows(boxes, member[chosen[boxes.image, boxes.finding], h]) for h, boxes in enumerate(at_height)
    ]  # fmt: skip
    first = kept[0]
    image, finding, score = (
        np.concatenate([getattr(boxes, name) for boxes in kept]) for name in ("image", "finding", "score")
    )
    xyxy = np.concatenate([boxes.xyxy for boxes in kept])
    once = np.unique(np.column_stack([image, finding, xyxy]), axis=0, return_index=True)[1]
    return Detections(first.images, first.findings, image[once], finding[once], xyxy[once], score[once])


def _rows(case: BoxCase, bounds: Mapping[str, tuple[float, ...]] | None) -> list[Result]:
    """Accuracy and false positives of what is read: all, or up to the bounds."""
    detail = WHOLE if bounds is None else CAPPED
    if bounds is not None:
        case = only_findings(case, bounds, "not measured: no bound, Wang et al. do not report this finding")
    films = _films(case)
    i, j, value = overlaps(case, paired_iou)
    met = best(i, value, len(case.detected))
    hit = np.zeros((len(case.truth), len(IOU)), dtype=np.bool_)
    false = np.zeros((len(case.detected), len(IOU)), dtype=np.bool_)
    for k, t in enumerate(IOU):
        wasted = ~(met > t)
        read = np.ones(len(wasted), dtype=np.bool_) if bounds is None else _read(case, wasted, films, bounds, k)
        hit[:, k] = best(j, np.where(read[i], value, 0.0), len(case.truth)) > t
        false[:, k] = wasted & read
    return [
        *accuracy_rows(NAME, case, "accuracy_iou", IOU, hit, detail=detail),
        *false_rows(NAME, case, "afp", IOU, false, films, detail=detail),
    ]


def _films(case: BoxCase) -> FloatArray:
    """Films with a true box of each finding, by patient (P, F)."""
    once = np.unique(case.key(case.truth), return_index=True)[1]
    counted = np.zeros((len(case.truth), 1), dtype=np.bool_)
    counted[once] = True
    return np.asarray(case.by_patient(counted, case.truth)[..., 0])


def _read(
    case: BoxCase, wasted: BoolArray, films: FloatArray, bounds: Mapping[str, tuple[float, ...]], k: int
) -> BoolArray:
    """Which boxes (K,) are read before a finding's false positives would exceed its bound at the k-th T."""
    read = np.zeros(len(wasted), dtype=np.bool_)
    column = case.column[case.detected.finding]
    for c, name in enumerate(case.names):
        mine = column == c
        # Bounds have two digits; in hundredths the comparison is exact.
        read[mine] = 100 * np.cumsum(wasted[mine]) <= round(100 * bounds[name][k]) * films[:, c].sum()
    return read
