"""Places: where other films' boxes of a finding lie, and which of them a map speaks for.

A weak map says little of a box's size and, at best, something of its side and height. Boxes of other patients say the
rest. So each of them (and its mirror image, for what occurs on both sides) is a place where this film's box may be,
weighted by the map, and the box drawn is the one that is most likely to count as a hit. Of few boxes, no one lies just
where this film's does: each place may be spread, and then stands for the places around it too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxrlocus.regions.boxes import as_boxes, clip, iou
from cxrlocus.regions.maps import to_film, value_range
from cxrlocus.regions.rules import ScoredBoxes
from cxrlocus.types import FloatArray


def mirrored(boxes: ArrayLike) -> FloatArray:
    """Boxes (n, 4) on the film's unit square, seen in a mirror: x becomes 1 - x.

    Raises:
        ValueError: a box is empty or not finite.

    Example:
        >>> mirrored([[0.125, 0.5, 0.25, 1.0]]).tolist()
        [[0.75, 0.5, 0.875, 1.0]]
    """
    checked = as_boxes(boxes)
    return np.stack([1 - checked[:, 2], checked[:, 1], 1 - checked[:, 0], checked[:, 3]], axis=1)


class Spread(NamedTuple):
    """K places and those around: boxes (M, 4), their weights (M,), 1 for a place itself, and whose they are (M,)."""

    boxes: FloatArray
    weights: FloatArray
    source: NDArray[np.int64]


def spread_places(places: ArrayLike, spread: float, steps: int = 2) -> Spread:
    """Places, and copies of each moved by up to ``steps`` times ``spread`` to either side, up and down.

        w = exp(-(dx^2 + dy^2) / (2 spread^2))

    Args:
        places: (K, 4) boxes on the film's unit square.
        spread: in sides of the film, at least 0; 0 leaves the places alone.
        steps: at least 0.

    Returns:
        The places first; a copy that does not lie on the film as a whole is left out.

    Raises:
        ValueError: a place is empty or not finite, or a number is out of range.

    Example:
        >>> around = spread_places([[0.0, 0.25, 0.5, 0.75]], spread=0.25, steps=1)
        >>> around.boxes[:2].tolist(), around.weights[:2].round(3).tolist(), len(around.boxes)
        ([[0.0, 0.25, 0.5, 0.75], [0.0, 0.0, 0.5, 0.5]], [1.0, 0.607], 6)
    """
    checked = as_boxes(places, "places")
    if not (0 <= spread < np.inf and steps >= 0):
        raise ValueError(f"spread must be a number of at least 0, and steps at least 0; got {spread} and {steps}.")
    own = np.arange(len(checked))
    if not spread:
        return Spread(checked, np.ones(len(checked)), own)
    moves = np.array([(x, y) for x in range(-steps, steps + 1) for y in range(-steps, steps + 1) if x or y])
    moved = (checked[:, None] + np.tile(moves.reshape(-1, 2), 2) * spread).reshape(-1, 4)
    on_film = ((moved >= 0) & (moved <= 1)).all(axis=1)
    weights = np.tile(np.exp(-0.5 * (moves.reshape(-1, 2) ** 2).sum(axis=1)), len(checked))
    return Spread(
        np.concatenate([checked, moved[on_film]]),
        np.concatenate([np.ones(len(checked)), weights[on_film]]),
        np.concatenate([own, np.repeat(own, len(moves))[on_film]]),
    )


def box_means(grid: NDArray[np.floating], boxes: ArrayLike) -> FloatArray:
    """The mean of a grid (h, w) within each box (n, 4), the boxes on its unit square; cells are taken by their share.

    What lies outside the grid of a box is left out; a box wholly outside has NaN.

    Raises:
        ValueError: the grid is not (h, w), or a box is empty or not finite.

    Example:
        >>> box_means(np.array([[0.0, 4.0]]), [[0.25, 0.0, 0.75, 0.5], [0.5, 0.5, 2.0, 2.0]]).tolist()
        [2.0, 4.0]
    """
    if grid.ndim != 2 or not grid.size:
        raise ValueError(f"grid must be (h, w) with at least one cell; got shape {grid.shape}.")
    h, w = grid.shape
    x0, y0, x1, y1 = (np.clip(as_boxes(boxes), 0.0, 1.0) * np.array([w, h, w, h])).T
    sums = np.zeros((h + 1, w + 1))
    sums[1:, 1:] = np.asarray(grid, dtype=np.float64).cumsum(axis=0).cumsum(axis=1)

    def below(x: FloatArray, y: FloatArray) -> FloatArray:
        """The sum of all that lies left of x and above y: between corners of cells it is bilinear."""
        column, row = np.minimum(x.astype(np.int64), w - 1), np.minimum(y.astype(np.int64), h - 1)
        u, v = x - column, y - row
        upper = (1 - u) * sums[row, column] + u * sums[row, column + 1]
        lower = (1 - u) * sums[row + 1, column] + u * sums[row + 1, column + 1]
        return np.asarray((1 - v) * upper + v * lower)

    total = below(x1, y1) - below(x0, y1) - below(x1, y0) + below(x0, y0)
    cells = (x1 - x0) * (y1 - y0)
    return np.asarray(np.divide(total, cells, out=np.full_like(total, np.nan), where=cells > 0))


class Said(NamedTuple):
    """What a map has in K places: its mean in each (K,), NaN out of its reach; its mean and deviation on the film."""

    means: FloatArray
    middle: float
    spread: float

    @property
    def evidence(self) -> FloatArray:
        """How far the map rises in each place, (K,): z = (means - middle) / spread; 0 out of its reach.

        A map times a positive number, or plus a number, says the same.

        Example:
            >>> Said(np.array([3.0, np.nan]), 1.0, 2.0).evidence.tolist()
            [1.0, 0.0]
        """
        return np.nan_to_num((self.means - self.middle) / self.spread)


def read_places(
    values: NDArray[np.floating],
    frame: NDArray[np.float64],
    size: tuple[int, int],
    places: ArrayLike,
    raster: int = 64,
) -> Said | None:
    """What a map has in each place.

    Args:
        values: the map (h, w), raw.
        frame: (2, 3), the map's unit square to pixels of the film.
        size: (width, height) of the film in pixels.
        places: (K, 4) boxes on the film's unit square.
        raster: cells along the film's longest side.

    Returns:
        Means over what the map covers of each place; None for a map that is constant or NaN throughout on the film.

    Raises:
        ValueError: the map, the frame or a place is not what it may be.

    Example:
        >>> film = np.array([[8.0, 0, 0], [0, 8.0, 0]])
        >>> said = read_places(np.array([[0.0, 2.0]]), film, (8, 8), [[0.5, 0, 1, 1], [0, 0, 1, 1]], raster=2)
        >>> said.means.tolist(), said.evidence.tolist()
        ([2.0, 1.0], [1.0, 0.0])
    """
    grid, inside = to_film(values, frame, size, raster)
    if value_range(grid, inside) is None:
        return None
    known = grid if inside is None else grid[inside]
    middle, spread = float(known.mean(dtype=np.float64)), float(known.std(dtype=np.float64))
    if inside is None:
        return Said(box_means(grid, places), middle, spread)
    covered = box_means(np.asarray(inside, dtype=np.float64), places)
    within = box_means(np.where(inside, grid, np.float32(0)), places)
    return Said(np.divide(within, covered, out=np.full_like(within, np.nan), where=covered > 0), middle, spread)


def expected_hits(
    evidence: ArrayLike, hits: NDArray[np.floating], trust: float, weights: ArrayLike | None = None
) -> FloatArray:
    """How likely each of n boxes is to be a hit, when the true box is one of K places.

        p_j = w_j exp(trust z_j) / sum over k of w_k exp(trust z_k),        E_b = sum over j of p_j hits_bj

    Args:
        evidence: (K,) z, what a map says for each place.
        hits: (n, K), 1 where box b would be a hit if the truth were place j, else 0.
        trust: at least 0; with 0 the map has no say, the greater it is the more the best place alone counts.
        weights: (K,) w, positive, of the places before the map is seen; None weighs all alike.

    Raises:
        ValueError: there is no place, or a number that is not finite, or ``trust`` is negative or not finite, or a
            weight is not positive.

    Example:
        >>> expected_hits([0.0, 0.0, np.log(2.0)], np.eye(3), trust=1.0).tolist()
        [0.25, 0.25, 0.5]
    """
    z = np.asarray(evidence, dtype=np.float64)
    if not (0 <= trust < np.inf):
        raise ValueError(f"trust must be a number of at least 0; got {trust}.")
    if not z.size or not np.isfinite(z).all():
        raise ValueError("evidence must have a finite number for each of one or more places. Leave the others out.")
    w = np.ones(len(z)) if weights is None else np.asarray(weights, dtype=np.float64)
    if w.shape != z.shape or not (np.isfinite(w) & (w > 0)).all():
        raise ValueError("weights must have a positive number for each place. Leave places without weight out.")
    logs = trust * z + np.log(w)
    likely = np.exp(logs - logs.max())
    return np.asarray(hits @ (likely / likely.sum()))


def best_place(
    evidence: FloatArray,
    hits: NDArray[np.floating],
    trust: float,
    weights: ArrayLike | None = None,
) -> int:
    """Which of K places is the likeliest to be a hit, the first of several, by :func:`expected_hits`.

    Example:
        >>> z = np.array([0.0, 1.0])
        >>> best_place(z, np.eye(2), 1.0), best_place(z, np.eye(2), 1.0, weights=[9.0, 1.0])
        (1, 0)
    """
    return int(expected_hits(evidence, hits, trust, weights).argmax())


@dataclass(frozen=True, eq=False)
class LikeliestPlace:
    """One box: of the places where other films' boxes lie, the one most likely to be a hit, as the map has it.

    Args:
        places: (K, 4) boxes on the film's unit square, at least one. What lies beyond the film is cut off.
        trust: what a standard deviation of the map is worth, in natural log odds.
        overlap: a box is a hit of a place at IoU above this.
        raster: cells along the film's longest side.
        spread: each place stands for those around it too, weighted by a Gaussian this wide, in sides of the film.

    Raises:
        ValueError: no place, a place that is empty, or an option out of range; on a call, a map that is not finite.

    Example:
        >>> film = np.array([[8.0, 0, 0], [0, 8.0, 0]])
        >>> rule = LikeliestPlace([[0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0]])
        >>> rule(np.array([[0.0, 2.0]]), film, (8, 8)).xyxy.tolist()
        [[4.0, 0.0, 8.0, 8.0]]
    """

    places: FloatArray
    trust: float = 4.0
    overlap: float = 0.3
    raster: int = 64
    spread: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "places", as_boxes(clip(self.places, (1.0, 1.0)), "places"))
        if not len(self.places):
            raise ValueError("places must have at least one box; got none.")
        if not (0 <= self.trust < np.inf and 0 <= self.overlap < 1 and self.raster >= 1):
            raise ValueError(
                "trust must be a number of at least 0, overlap in [0, 1) and raster at least 1; "
                f"got {self.trust}, {self.overlap} and {self.raster}."
            )
        if not 0 <= self.spread < np.inf:
            raise ValueError(f"spread must be a number of at least 0; got {self.spread}.")

    @cached_property
    def around(self) -> Spread:
        """The places, and those around them that they stand for.

        Example:
            >>> LikeliestPlace([[0.25, 0.25, 0.75, 0.75]], spread=0.25).around.boxes.shape
            (9, 4)
        """
        return spread_places(self.places, self.spread)

    @cached_property
    def hits(self) -> NDArray[np.float32]:
        """(M, M): 1 where a box at the row's place, of those of ``around``, would be a hit of the column's.

        Example:
            >>> LikeliestPlace([[0.0, 0.0, 0.5, 1.0], [0.5, 0.0, 1.0, 1.0]]).hits.tolist()
            [[1.0, 0.0], [0.0, 1.0]]
        """
        boxes = self.around.boxes
        return np.asarray(iou(boxes, boxes) > self.overlap, dtype=np.float32)

    def __call__(self, values: NDArray[np.floating], frame: NDArray[np.float64], size: tuple[int, int]) -> ScoredBoxes:
        """The box of one map; none for a map that is constant or NaN throughout."""
        boxes, weights, _ = self.around
        said = read_places(values, frame, size, boxes, self.raster)
        if said is None:
            return ScoredBoxes(np.zeros((0, 4)), np.zeros(0))
        best = best_place(said.evidence, self.hits, self.trust, weights)
        return ScoredBoxes(boxes[best : best + 1] * np.tile(size, 2), np.nan_to_num(said.means[best : best + 1]))
