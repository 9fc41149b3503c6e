"""Threshold policies: where the height comes from at which a map becomes a box.

fixed       Wang et al.'s two levels, 60 and 180 of 255, for every map, chosen before anything was measured here.
validation  one box around the peak, at the height that serves the boxes of other patients best: films are in two halves
            by patient, and each half's boxes choose the height that the other half is measured with. A finding of which
            a half has no box takes there the height that serves that half's boxes of all findings best.
oracle      the same, but the height is chosen on the very boxes it is measured with: a bound, not a result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cxrlocus.data.records import Index
from cxrlocus.data.splits import kfold_of_patients
from cxrlocus.errors import DataError, PredictionsError
from cxrlocus.prediction.boxing import find_boxes
from cxrlocus.prediction.store import Predictions
from cxrlocus.protocols.shared import boxed_films
from cxrlocus.regions.boxes import iou
from cxrlocus.regions.detections import Detections
from cxrlocus.regions.rules import BoxRule, FixedThresholds, PeakComponent
from cxrlocus.types import POLICIES, BoolArray, Findings, Policy

HEIGHTS = tuple(round(0.1 * k, 1) for k in range(1, 10))
"""The heights that a policy chooses from: shares of the way from a map's least value to its greatest."""

CHOOSING_IOU = 0.3
"""The height is chosen for the most boxes hit at IoU > .3."""


WANG_LEVELS = (FixedThresholds(), "levels 60 and 180 of 255")
"""The default of the fixed policy: a rule, and what a note says of it."""


def boxes_by_policy(
    predictions: Predictions,
    index: Index,
    policy: Policy,
    *,
    seed: int = 0,
    progress: Callable[[int], object] | None = None,
    gate: BoolArray | None = None,
    fixed: tuple[BoxRule, str] = WANG_LEVELS,
    rule: Callable[[float], BoxRule] = PeakComponent,
) -> tuple[Detections, str]:
    """The boxes of predicted maps under a policy, and a note of the heights that were chosen.

    Args:
        predictions: films x findings.
        index: the evaluated films with their boxes; predicted films that it does not have are left as they are.
        policy: "fixed", "validation" or "oracle".
        seed: of the halves.
        progress: called with the number of films done, once a height.
        gate: (N, C), where False no box is drawn; None draws all.
        fixed: the rule of the fixed policy, and what the note says of it.
        rule: from one of ``HEIGHTS`` to a rule, for the policies that choose.

    Raises:
        PredictionsError: the policy is unknown.
        DataError: "validation" of films of a single patient.
    """
    if policy not in POLICIES:
        raise PredictionsError(f"policy must be one of {', '.join(POLICIES)}; got {policy!r}.")
    if policy == "fixed":
        return find_boxes(predictions, fixed[0], progress, gate=gate), fixed[1]
    by_height = [find_boxes(predictions, rule(height), progress, gate=gate) for height in HEIGHTS]
    hits = np.stack([hits_by_film(d, index, CHOOSING_IOU) for d in by_height])
    boxed = boxed_films(predictions.images, predictions.findings, index)
    choice = choose(hits, boxed, predictions.images, index, policy, seed)
    told = heights_told(choice, [f"{height:g}" for height in HEIGHTS], predictions.findings, policy)
    return pick(by_height, choice.at), told


class Choice(NamedTuple):
    """What was chosen.

    Args:
        at: (N, C) the candidate that serves each film and finding.
        by_all: (C,) the findings of which a half has boxes and the other none: the boxes there of all findings chose.
    """

    at: NDArray[np.int64]
    by_all: BoolArray


def choose(
    hits: NDArray[np.int64], boxed: BoolArray, images: tuple[str, ...], index: Index, policy: Policy, seed: int
) -> Choice:
    """Which of K candidates serves each film and finding: the first of those with the most true boxes hit.

    Args:
        hits: (K, N, C) true boxes hit under each candidate.
        boxed: (N, C) which films have a box of which finding.
        images: the N films.
        index: knows their patients; a film that it does not have stands for its own.
        policy: "validation" (the other half of the patients chooses) or "oracle" (these films choose).
        seed: of the halves.

    Raises:
        DataError: "validation" of films of a single patient.
    """
    at, by_all = np.zeros(boxed.shape, np.int64), np.zeros(boxed.shape[1], np.bool_)
    if policy == "oracle":
        return Choice(at + hits.sum(axis=1).argmax(axis=0), by_all)
    _, fold = dealt(images, index, seed)
    for half in (0, 1):
        mine, others = fold == half, hits[:, fold != half].sum(axis=1)
        none = ~boxed[~mine].any(axis=0)
        others[:, none] = others.sum(axis=1, keepdims=True)
        at[mine] = others.argmax(axis=0)
        by_all |= none & boxed[mine].any(axis=0)
    return Choice(at, by_all)


def check_halves(images: Sequence[str], findings: Findings, index: Index, seed: int) -> None:
    """See that policy "validation" has boxes of other patients to choose by: films without any box ask for none.

    Raises:
        DataError: all boxes are on one half of the patients.
    """
    boxed = boxed_films(images, findings, index).any(axis=1)
    of = {index.records[index.position[images[i]]].patient for i in np.flatnonzero(boxed).tolist()}
    if len(of) == 1 or (of and len(set(dealt(images, index, seed)[1][boxed].tolist())) == 1):
        raise DataError(
            f"{index.root}: policy validation chooses by the boxes of other patients, so both halves of the patients "
            f"must have boxes; all are in one, of {len(of)} patient(s). Take policy fixed, or boxes of more patients."
        )


def dealt(images: Sequence[str], index: Index, seed: int) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """The patient of each of N films, and the half (N,) that it is dealt to; an unknown film stands for its own.

    Raises:
        DataError: the films are of a single patient.
    """
    patients = tuple(index.records[index.position[i]].patient if i in index.position else i for i in images)
    return patients, kfold_of_patients(patients, 2, seed=seed)


def hits_by_film(detections: Detections, index: Index, threshold: float) -> NDArray[np.int64]:
    """How many truth boxes of each film and finding (N, C) some detection overlaps with IoU > threshold."""
    hits = np.zeros((len(detections.images), len(detections.findings)), np.int64)
    boxes: dict[tuple[int, int], list[int]] = {}
    for k, pair in enumerate(zip(detections.image.tolist(), detections.finding.tolist(), strict=True)):
        boxes.setdefault(pair, []).append(k)
    for i, name in enumerate(detections.images):
        for truth in index.records[index.position[name]].boxes if name in index.position else ():
            if truth.finding in detections.findings:
                pair = (i, detections.findings.index(truth.finding))
                found = detections.xyxy[boxes.get(pair, [])]
                hits[pair] += bool((iou(found, np.array([truth.xyxy])) > threshold).any())
    return hits


def pick(candidates: Sequence[Detections], chosen: NDArray[np.int64]) -> Detections:
    """The boxes of several candidates on the same films, of each film and finding those of the one chosen (N, C)."""
    first = candidates[0]
    keep = [chosen[d.image, d.finding] == k for k, d in enumerate(candidates)]

    def joined(name: str) -> NDArray[np.float64]:
        return np.concatenate([getattr(d, name)[mask] for d, mask in zip(candidates, keep, strict=True)])

    return Detections(
        first.images,
        first.findings,
        joined("image").astype(np.int64),
        joined("finding").astype(np.int64),
        joined("xyxy"),
        joined("score"),
    )


def heights_told(choice: Choice, names: Sequence[str], findings: Iterable[str], policy: Policy) -> str:
    """A note of what was chosen among candidates of these names, and by whose boxes."""
    of_finding = [" ".join(names[k] for k in sorted(set(column))) for column in choice.at.T.tolist()]
    by = [" (by all findings' boxes, there being none of it)" if alone else "" for alone in choice.by_all.tolist()]
    told = "; ".join(
        f"{finding} {heights}{whose}" for finding, heights, whose in zip(findings, of_finding, by, strict=True)
    )
    source = "these test boxes" if policy == "oracle" else "the boxes of the other half of the patients"
    return f"heights from {source}: {told}"
