"""Weights of a consensus: equal, given, or chosen by boxes, and then never by the boxes of the film they serve."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cxrlocus.data.records import Index
from cxrlocus.errors import ConfigError, DataError
from cxrlocus.prediction.boxing import find_boxes
from cxrlocus.prediction.consensus import Members
from cxrlocus.prediction.store import Predictions
from cxrlocus.protocols.policies import CHOOSING_IOU, HEIGHTS, choose, dealt, hits_by_film
from cxrlocus.protocols.shared import boxed_films
from cxrlocus.regions.rules import PeakComponent
from cxrlocus.regions.shares import Scale, weighted_mean
from cxrlocus.types import Findings, FloatArray, Frame

MOST_FOR_ALL = 5
"""Members up to which every subset is a candidate; beyond, only all, all but one, and each alone."""

KNOWS: Mapping[str, str] = {
    "validation": "weights chosen on boxes of other patients",
    "oracle": "weights chosen on the test boxes",
}
"""What a scheme takes beyond labels."""


@dataclass(frozen=True)
class Weights:
    """Weights of K members.

    Args:
        values: (N, C, K), not negative, summing to 1 over K.
        told: "scheme", and what the weights are, for the record.
        knows: what choosing them took beyond labels; "" for nothing.
    """

    values: FloatArray
    told: Mapping[str, Any]
    knows: str = ""


def fixed_weights(members: Members, given: Sequence[float] | None = None) -> Weights:
    """The same weights for every film and finding: equal, or in the proportions given.

    Raises:
        ConfigError: not one number a member, or one is negative or not finite, or all are 0.
    """
    each = np.ones(len(members)) if given is None else np.asarray(given, dtype=np.float64)
    if each.shape != (len(members),) or not (np.isfinite(each) & (each >= 0)).all() or not each.any():
        raise ConfigError(
            f"weights must be {len(members)} numbers of at least 0, one a member and not all 0; got {each.tolist()}."
        )
    each = each / each.sum()
    shape = (len(members.images), len(members.findings), len(members))
    told = {"scheme": "equal" if given is None else "given", "weights": each.tolist()}
    return Weights(np.broadcast_to(each, shape), told)


def chosen_weights(
    members: Members,
    index: Index,
    policy: Literal["validation", "oracle"],
    *,
    cells: int,
    scale: Scale,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Weights:
    """For each finding the members whose mean, cut at its best height, hits the most boxes at IoU > .3.

    Candidates are subsets of the members in equal parts, the whole first, so that a tie leaves all in: with the few
    boxes there are of a finding, finer weights would follow their noise. Films are dealt into the halves of
    ``protocols.policies``; under "validation" each half's subset is chosen on the boxes of the other half, under
    "oracle" both by all. A finding without boxes has equal weights.

    Args:
        members: what is combined.
        index: knows boxes and patients.
        policy: whose boxes choose.
        cells: side of the common grid.
        scale: of the maps.
        seed: of the halves: that of the later evaluation, so that both deal alike.
        progress: called with (findings done, findings in all).

    Raises:
        DataError: no film of the members has a box of their findings, or all are of one patient.
    """
    subsets = candidates(len(members))
    values = np.full((len(members.images), len(members.findings), len(members)), 1 / len(members))
    _, fold = dealt(members.images, index, seed)
    boxed = boxed_films(members.images, members.findings, index)
    halves: list[dict[str, list[float]]] = [{}, {}]
    boxes = 0
    for c, finding in enumerate(members.findings):
        hits, count = _hits(members, index, c, subsets, cells, scale)
        boxes += count
        if count:
            best = choose(hits, boxed[:, [c]], members.images, index, policy, seed).at[:, 0] // len(HEIGHTS)
            values[:, c] = subsets[best]
        for half in (0, 1):
            halves[half][finding] = values[fold == half][0, c].round(6).tolist()
        if progress is not None:
            progress(c + 1, len(members.findings))
    if not boxes:
        raise DataError(f"{index.root}: no predicted film has a box of {', '.join(members.findings)} to choose by.")
    told = {"scheme": policy, "seed": seed, "boxes": boxes, "halves": halves}
    return Weights(values, told, KNOWS[policy])


def candidates(members: int) -> FloatArray:
    """Weights (S, K) of subsets in equal parts, larger subsets first.

    Example:
        >>> candidates(2).tolist()
        [[0.5, 0.5], [1.0, 0.0], [0.0, 1.0]]
    """
    every = range(members, 0, -1) if members <= MOST_FOR_ALL else (members, members - 1, 1)
    rows = []
    for size in every:
        for chosen in combinations(range(members), size):
            row = np.zeros(members)
            row[list(chosen)] = 1 / size
            rows.append(row)
    return np.array(rows)


def _hits(
    members: Members, index: Index, finding: int, subsets: FloatArray, cells: int, scale: Scale
) -> tuple[NDArray[np.int64], int]:
    """Boxes of one finding hit by each subset at each height, (S * heights, N, 1), and how many boxes there are."""
    name = members.findings.names[finding]
    boxed = {r.image: sum(b.finding == name for b in r.boxes) for r in index.records}
    films = [i for i, image in enumerate(members.images) if boxed.get(image, 0)]
    hits = np.zeros((len(subsets) * len(HEIGHTS), len(members.images), 1), np.int64)
    if not films:
        return hits, 0
    maps = np.stack([members.scaled(i, finding, cells, scale).astype(np.float32) for i in films])
    for s, subset in enumerate(subsets):
        mean = np.stack([weighted_mean(each, subset) for each in maps])
        predictions = _as_predictions(members, films, name, mean)
        for h, height in enumerate(HEIGHTS):
            found = find_boxes(predictions, PeakComponent(height))
            hits[s * len(HEIGHTS) + h, films] = hits_by_film(found, index, CHOOSING_IOU)
    return hits, sum(boxed[members.images[i]] for i in films)


def _as_predictions(members: Members, films: Sequence[int], finding: str, maps: NDArray[np.float32]) -> Predictions:
    sizes = members.sizes[list(films)]
    meta = {"method": "", "variant": "", "dataset": ""}
    frames = np.stack([Frame.of_size(*size).matrix for size in sizes.tolist()])
    images, prob = tuple(members.images[i] for i in films), np.zeros((len(films), 1), np.float32)
    return Predictions(meta, images, Findings((finding,)), prob, maps[:, None], frames, sizes, "logit")
