"""Boxes from maps and from where other patients' boxes lie: labels for the maps, box statistics for the boxes.

The films are in two halves by patient, as for the policy "validation". The boxes of a half, and their mirror images for
what occurs on both sides, are the places of the other half's boxes (``regions.places``). How far a map is trusted, one
number for all findings, is chosen on the half that gives the places: each of its patients is boxed by the places of the
others, and the trust with the highest mean accuracy is taken.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

from cxrlocus.data.records import Index
from cxrlocus.metrics.bootstrap import nanmean
from cxrlocus.prediction.store import Predictions
from cxrlocus.protocols.policies import CHOOSING_IOU, dealt
from cxrlocus.regions.boxes import clip, iou
from cxrlocus.regions.detections import Detections
from cxrlocus.regions.places import LikeliestPlace, best_place, mirrored, read_places, spread_places
from cxrlocus.types import BoolArray, FloatArray

TRUSTS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
"""What a half chooses from; 0 takes the best place of a finding for every film."""

SPREAD = 0.06
"""How widely a place stands for those around it, in sides of the film: of the thirty boxes that half the patients of
NIH ChestX-ray14 have of a finding, none is the box of another patient. Chosen on one half of the boxed patients.
"""

ONE_SIDED = frozenset({"Cardiomegaly"})
"""Findings whose mirror image is no place of theirs."""

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Known:
    """The boxes of one finding that are known: (M, 4) on the film's unit square, and the film (M,) of each."""

    boxes: FloatArray
    film: Ints
    one_sided: bool

    @property
    def places(self) -> FloatArray:
        """The boxes (K, 4), and behind them their mirror images where the finding has them."""
        return self.boxes if self.one_sided else np.concatenate([self.boxes, mirrored(self.boxes)])

    @property
    def place_film(self) -> Ints:
        """The film (K,) that each place is from."""
        return self.film if self.one_sided else np.tile(self.film, 2)


@dataclass(frozen=True)
class Guide:
    """What one half of the patients says for the other.

    Args:
        known: its boxes, by the finding's position.
        trust: how far maps are trusted.
        accuracy: by finding, the share of its own boxes that are hit so; NaN where no other patient has the finding.
    """

    known: Mapping[int, Known]
    trust: float
    accuracy: Mapping[int, float]


def boxes_by_places(
    predictions: Predictions,
    index: Index,
    *,
    seed: int = 0,
    gate: BoolArray | None = None,
    progress: Callable[[int], object] | None = None,
) -> tuple[Detections, str]:
    """One box a film and finding, and a note of what was chosen; a finding without a box in the other half gets none.

    Args:
        predictions: films x findings.
        index: the evaluated films with their boxes; predicted films that it does not have are boxed, and give no place.
        seed: of the halves.
        gate: (N, C), where False no box is drawn; None draws all.
        progress: called with the number of films done.

    Raises:
        DataError: the films are of a single patient.
    """
    patients, fold = dealt(predictions.images, index, seed)
    guides = [guide(predictions, known_boxes(predictions, index, fold != half), patients) for half in (0, 1)]
    told = " and ".join(f"{one.trust:g}" for one in guides)
    detections = boxes_by_guides(predictions, guides, fold, gate=gate, progress=progress)
    return detections, f"boxes from the places of the other half's boxes, maps trusted {told}"


def boxes_by_guides(
    predictions: Predictions,
    guides: Sequence[Guide],
    fold: Ints,
    *,
    gate: BoolArray | None = None,
    progress: Callable[[int], object] | None = None,
) -> Detections:
    """The boxes of each half (N,) of the films at the likeliest of its guide's places."""
    found: list[tuple[int, int, FloatArray, float]] = []
    done = count(1)
    for half, one in enumerate(guides):
        rules = {c: LikeliestPlace(boxes.places, one.trust, spread=SPREAD) for c, boxes in one.known.items()}
        for i in np.flatnonzero(fold == half).tolist():
            for c, rule in rules.items():
                if gate is None or gate[i, c]:
                    said = rule(*_map(predictions, i, c))
                    found += [(i, c, box, score) for box, score in zip(said.xyxy, said.score.tolist(), strict=True)]
            if progress is not None:
                progress(next(done))
    found.sort(key=lambda row: row[:2])
    image, finding, xyxy, score = zip(*found, strict=True) if found else ((), (), (), ())
    return Detections(
        predictions.images,
        predictions.findings,
        np.array(image),
        np.array(finding),
        np.array(xyxy),
        np.array(score),
    )


def known_boxes(predictions: Predictions, index: Index, chosen: BoolArray) -> dict[int, Known]:
    """The boxes of the chosen films (N,), by the finding's position; findings without one are left out."""
    of: dict[int, list[tuple[int, FloatArray]]] = {}
    for i in np.flatnonzero(chosen).tolist():
        name = predictions.images[i]
        for box in index.records[index.position[name]].boxes if name in index.position else ():
            if box.finding in predictions.findings:
                unit = np.array(box.xyxy) / np.tile(predictions.sizes[i], 2)
                of.setdefault(predictions.findings.index(box.finding), []).append((i, unit))
    return {
        c: Known(
            np.array([unit for _, unit in rows]),
            np.array([i for i, _ in rows], dtype=np.int64),
            predictions.findings.names[c] in ONE_SIDED,
        )
        for c, rows in sorted(of.items())
    }


def guide(predictions: Predictions, known: Mapping[int, Known], patients: Sequence[str]) -> Guide:
    """What known boxes say for the films of others, each of their patients boxed by the places of the rest.

    The trust is that with the highest mean accuracy, the least of several; 0 where no two patients share a finding.
    """
    owner = np.array(patients)
    by_finding = {c: _accuracy(predictions, c, boxes, owner) for c, boxes in known.items()}
    means = nanmean(np.stack([*by_finding.values()]), axis=0) if by_finding else np.full(len(TRUSTS), np.nan)
    best = 0 if np.isnan(means).all() else int(means.argmax())
    return Guide(known, TRUSTS[best], {c: float(each[best]) for c, each in by_finding.items()})


def _accuracy(predictions: Predictions, c: int, known: Known, owner: NDArray[np.str_]) -> FloatArray:
    """The share of a finding's boxes that are hit under each trust; NaN where no patient has others' places."""
    places, weights, source = spread_places(clip(known.places, (1.0, 1.0)), SPREAD)
    films = known.place_film[source]
    agree = np.asarray(iou(places, places) > CHOOSING_IOU, dtype=np.float32)
    right = iou(places, known.boxes) > CHOOSING_IOU
    hits = []
    for i in np.unique(known.film).tolist():
        others = owner[films] != owner[i]
        if not others.any():
            continue
        values, frame, size = _map(predictions, i, c)
        said, own = read_places(values, frame, size, places), known.film == i
        if said is None:
            hits.append(np.zeros((len(TRUSTS), int(own.sum()))))
            continue
        allowed, rest = np.flatnonzero(others), agree[np.ix_(others, others)]
        picked = allowed[[best_place(said.evidence[others], rest, trust, weights[others]) for trust in TRUSTS]]
        hits.append(right[picked][:, own].astype(np.float64))
    return np.concatenate(hits, axis=1).mean(axis=1) if hits else np.full(len(TRUSTS), np.nan)


def _map(predictions: Predictions, i: int, c: int) -> tuple[NDArray[np.float32], FloatArray, tuple[int, int]]:
    width, height = predictions.sizes[i].tolist()
    return np.asarray(predictions.maps[i, c], dtype=np.float32), predictions.frames[i], (width, height)
